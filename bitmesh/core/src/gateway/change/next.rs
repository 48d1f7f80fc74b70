//! What comes next for a change: a pure function of the account, the goal and the moment.

use bitmesh_common::abi::Mac;

use super::{Change, Goal};
use crate::account::{Account, Draft, Freeze, Money};
use crate::channel_record::Meter;
use crate::record::{AccountState, Epoch};
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat, Units};
use crate::wire::ChannelId;

/// The next thing to do for a change.
#[derive(Clone, Debug)]
pub(super) enum Next {
    Read,
    Close,
    Drop,
    Persist(Box<Draft>),
    /// Persist, together with what the account gets that the channel goes to.
    Leave(Box<Leaving>),
    /// Let the channel leave the account that it is at.
    Depart(ChannelId),
    Set,
    Finish,
}

/// When and with how fresh a reading a change is decided.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Moment {
    /// The life of the meters.
    pub(in crate::gateway) epoch: Epoch,
    /// Now: when a new session starts.
    pub(in crate::gateway) now: BootTime,
    /// An instant before the meter was read, if it has just been.
    pub(in crate::gateway) read_at: Option<BootTime>,
}

/// A channel that goes to another account, and the draft of the one that it leaves.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Leaving {
    pub(in crate::gateway) channel: ChannelId,
    /// What it pays of the charges here.
    pub(in crate::gateway) kept: MilliSat,
    pub(in crate::gateway) meter: Meter,
    pub(in crate::gateway) draft: Draft,
}

impl Change {
    pub(super) fn next(&self, account: Option<&Account>, at: Moment) -> Next {
        match (account, self.goal) {
            (None, Goal::Credit(mac, money, tariff)) => {
                Next::Persist(Box::new(opening(mac, money, tariff, at)))
            }
            (None, Goal::Freeze(..) | Goal::Stop | Goal::Hold | Goal::Rest { .. }) => Next::Finish,
            (None, Goal::Leave(channel, _)) => Next::Leave(Box::new(Leaving::unused(channel))),
            (Some(account), Goal::Leave(channel, credit)) => leaving(account, channel, credit, at),
            (account, Goal::Arrive(channel, tariff)) => match account {
                Some(account) if tariff.is_some_and(|tariff| is_elsewhere(account, &tariff)) => {
                    Next::Close
                }
                _ => Next::Depart(channel),
            },
            (Some(account), Goal::Credit(_, money, tariff)) => {
                crediting(account, money, tariff, at)
            }
            (Some(account), Goal::Freeze(channel, credit)) => {
                freezing(account, channel, credit, at)
            }
            (Some(account), Goal::Stop) => stopping(account, at),
            (Some(account), Goal::Hold) => self.holding(account, at),
            (Some(account), Goal::Rest { forget }) => self.resting(account, forget, at),
        }
    }

    /// As in [`stopping`]; then the meter goes, whose last reading is durable, and the account.
    fn resting(&self, account: &Account, forget: bool, at: Moment) -> Next {
        if account.held.is_some() || account.state.open {
            return stopping(account, at);
        }
        if account.is_dirty() {
            let usage = Some(account.usage(at.epoch));
            return Next::Persist(Box::new(Draft { usage, ..Draft::default() }));
        }
        if account.is_metered && !self.meter_is_gone {
            return Next::Drop;
        }
        if forget && account.credits.are_allowances() {
            let forget = Some(account.state.mac);
            return Next::Persist(Box::new(Draft { forget, ..Draft::default() }));
        }
        Next::Finish
    }

    fn holding(&self, account: &Account, at: Moment) -> Next {
        if !account.state.open {
            return Next::Finish;
        }
        if self.start_stands {
            return Next::Set;
        }
        match cut_off(account, at) {
            CutOff::Unknown if account.is_consumed(at.now) => Next::Read,
            CutOff::Yes if !account.stays_consumed() => {
                let state = account.settled(at.epoch, at.now);
                settling(None, account, state, at)
            }
            _ => Next::Set,
        }
    }
}

/// Whether the kernel serves nothing to this open session.
enum CutOff {
    No,
    Yes,
    /// The meter must be read first.
    Unknown,
}

fn cut_off(account: &Account, at: Moment) -> CutOff {
    if account.held_session().is_none() {
        return CutOff::Yes;
    }
    match at.read_at {
        _ if !account.is_timed() => CutOff::No,
        None => CutOff::Unknown,
        Some(read_at) if account.is_consumed(read_at) => CutOff::Yes,
        Some(_) => CutOff::No,
    }
}

/// The first credit of an account.
fn opening(mac: Mac, money: Money, tariff: Tariff, at: Moment) -> Draft {
    let state = AccountState {
        mac,
        revision: 1,
        session: 1,
        open: true,
        tariff,
        epoch: at.epoch,
        start: at.now,
        time_settled: Units(0),
    };
    Draft { state: Some(state), money: Some(money), ..Draft::default() }
}

fn crediting(account: &Account, money: Money, tariff: Tariff, at: Moment) -> Next {
    if !account.state.open || account.state.tariff != tariff {
        if account.held.is_some() {
            return Next::Close;
        }
        let state = account.reopened(at.epoch, at.now, tariff);
        return settling(Some(money), account, state, at);
    }
    match cut_off(account, at) {
        CutOff::Unknown => Next::Read,
        CutOff::No => {
            let money = Some(money);
            Next::Persist(Box::new(Draft { money, ..Draft::default() }))
        }
        CutOff::Yes => {
            let state = account.settled(at.epoch, at.now);
            settling(Some(money), account, state, at)
        }
    }
}

fn stopping(account: &Account, at: Moment) -> Next {
    if account.held.is_some() {
        return Next::Close;
    }
    if !account.state.open {
        return Next::Finish;
    }
    let state = AccountState { open: false, ..account.settled(at.epoch, at.now) };
    settling(None, account, state, at)
}

/// The session ends as in [`stopping`]; in the same batch the channel learns what it owes.
fn freezing(account: &Account, channel: ChannelId, credit: MilliSat, at: Moment) -> Next {
    if account.held.is_some() {
        return Next::Close;
    }
    let charged = account.charged_to_channel(credit);
    let freeze = Some(Freeze { channel, charged, meter: account.meter() });
    let ended = || AccountState { open: false, ..account.settled(at.epoch, at.now) };
    let state = account.state.open.then(ended);
    let usage = Some(account.usage(at.epoch));
    Next::Persist(Box::new(Draft { state, usage, freeze, ..Draft::default() }))
}

/// A new state, and in the same batch the usage up to it.
fn settling(money: Option<Money>, account: &Account, state: AccountState, at: Moment) -> Next {
    let usage = Some(account.usage(at.epoch));
    Next::Persist(Box::new(Draft { state: Some(state), money, usage, ..Draft::default() }))
}

/// Whether the kernel serves this account at other prices.
fn is_elsewhere(account: &Account, tariff: &Tariff) -> bool {
    account.held.is_some() && (!account.state.open || account.state.tariff != *tariff)
}

/// The session ends as in [`stopping`]; in the same batch the channel goes to another account.
fn leaving(account: &Account, channel: ChannelId, credit: MilliSat, at: Moment) -> Next {
    if account.held.is_some() {
        return Next::Close;
    }
    let kept = account.charged_to_channel(credit).ceil().min(credit);
    let ended = || AccountState { open: false, ..account.settled(at.epoch, at.now) };
    let state = account.state.open.then(ended);
    let usage = Some(account.usage(at.epoch));
    let draft = Draft { state, usage, ..Draft::default() };
    Next::Leave(Box::new(Leaving { channel, kept, meter: account.meter(), draft }))
}

/// What a channel brings along, and a session at its prices.
pub(in crate::gateway) fn arriving(
    account: Option<&Account>,
    mac: Mac,
    money: Money,
    tariff: Tariff,
    at: Moment,
) -> Draft {
    let Some(account) = account else { return opening(mac, money, tariff, at) };
    if account.state.open && account.state.tariff == tariff {
        return Draft { money: Some(money), ..Draft::default() };
    }
    let state = Some(account.reopened(at.epoch, at.now, tariff));
    let usage = Some(account.usage(at.epoch));
    Draft { state, money: Some(money), usage, ..Draft::default() }
}

impl Leaving {
    /// Of a channel on which nothing was paid, from a station without an account.
    fn unused(channel: ChannelId) -> Self {
        let (kept, meter, draft) = (MilliSat(0), Meter::default(), Draft::default());
        Self { channel, kept, meter, draft }
    }
}
