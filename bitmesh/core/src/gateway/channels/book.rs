//! The channels of a gateway, in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use bitmesh_common::abi::Mac;

use super::haggle::Bargains;
use super::operator::ClosingOperator;
use super::refusal::Refused;
use super::resume::{Challenges, Moving, Place};
use super::view::ChannelLine;
use super::{ChannelPolicy, Entropy};
use crate::channel::{
    CooperativePlan, Payee, PayeeClosing, PayeeSigning, PublicKey, SessionSecret, SpendPath,
    VerifiedUpdate,
};
use crate::channel_record::{ChannelPhase, ChannelState, ChannelUpdate, Transfer};
use crate::io::RequestId;
use crate::units::{BootTime, MilliSat};
use crate::wire::ChannelId;

/// The feerate until the shell has said one.
const FEERATE_AT_FIRST: FeeRate = FeeRate::from_sat_per_vb_u32(5);

/// All channels.
#[derive(Debug)]
pub(in crate::gateway) struct Channels {
    /// Without it, channels are in the books only.
    pub(super) shop: Option<Shop>,
    pub(super) all: BTreeMap<ChannelId, Channel>,
    pub(super) of_station: BTreeMap<Mac, BTreeSet<ChannelId>>,
    /// Every C that was used.
    pub(super) payer_keys: BTreeMap<PublicKey, ChannelId>,
    /// Channels that wait for their account to be free.
    pub(super) due: BTreeSet<(Mac, ChannelId)>,
    /// Channels that are on their way from another account, by where they go.
    pub(super) arriving: BTreeMap<Mac, ChannelId>,
    /// Channels that are on their way to the disk for the first time, by their C.
    pub(super) opening: BTreeMap<PublicKey, Mac>,
    pub(super) next_index: u32,
    pub(super) chain: Chain,
    /// What is to be looked at again, and when.
    pub(super) alarms: BTreeSet<(BootTime, ChannelId)>,
    /// Channels whose unilateral close waits for others that are about to be closed.
    pub(super) ready: BTreeSet<ChannelId>,
    /// The newest of those that came to nothing.
    pub(super) lapsed: VecDeque<ChannelLine>,
    /// Bids on offers.
    pub(super) bargains: Bargains,
    /// Who waits until closes are durable.
    pub(super) operators: Vec<ClosingOperator>,
    /// Counts the nonces that were drawn: each has a seed of its own, whatever the shell does.
    pub(super) draws: u64,
}

/// What selling needs.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) policy: ChannelPolicy,
    pub(super) offer_secret: SessionSecret,
}

/// What is known of the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) tip: Option<u32>,
    /// When the shell last spoke of it.
    pub(super) heard: BootTime,
    /// When the height last changed.
    pub(super) news: BootTime,
    /// How old the newest block was when the shell last spoke of it, if newer ones may be withheld.
    pub(super) tip_age: Option<Duration>,
    /// The height that closes were last looked at for.
    pub(super) looked_at: u32,
    pub(super) is_up: bool,
    pub(super) feerate: FeeRate,
    /// The latest that the shell said, in seconds since 1970.
    pub(super) unix_s: u64,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    /// As it is on disk.
    pub(super) state: ChannelState,
    /// As it is to be on disk, if that is another.
    pub(super) next: Option<Box<ChannelState>>,
    /// The row that goes to the disk with a change of the account.
    pub(super) freezing: Option<Box<ChannelState>>,
    /// As it is on disk.
    pub(super) newest: Option<ChannelUpdate>,
    /// By what is on disk.
    pub(super) place: Place,
    pub(super) side: Side,
    /// The update that is on its way to the disk.
    pub(super) in_flight: Option<Paying>,
    /// The newest of those that came meanwhile.
    pub(super) pending: Option<Paying>,
    /// It is to take no updates any more, and what it is to become.
    pub(super) to_freeze: Option<ChannelPhase>,
    /// It is to pay for another account.
    pub(super) moving: Option<Moving>,
    pub(super) talk: Talk,
}

/// What is between a channel and its payer, its node and the clock. All of it may be forgotten.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// Who waits for the countersignature to be durable.
    pub(super) funders: Vec<RequestId>,
    /// The funding to be relayed then.
    pub(super) relay: Option<Box<Transaction>>,
    /// What there is to say about it: the node's words, or why it is none.
    pub(super) notice: Option<String>,
    /// Other payments to the channel's address.
    pub(super) strays: BTreeMap<OutPoint, Amount>,
    pub(super) challenges: Challenges,
    pub(super) closer: Option<Closer>,
    pub(super) signing: Option<Signing>,
    /// Who waits for the cooperative close to be durable.
    pub(super) completer: Option<RequestId>,
    /// The close that was last given to the node.
    pub(super) sent: Option<Txid>,
    /// Whether the node refused it.
    pub(super) close_refused: bool,
    /// When the payer was last heard of.
    pub(super) heard: Option<BootTime>,
    /// Until when the payer may close together before the gateway closes alone.
    pub(super) grace_until: Option<BootTime>,
    /// A confirmed spend that waits for the charges to be final.
    pub(super) spend: Option<Box<(Transaction, u32)>>,
    /// Whether the end on disk was seen on the chain since the agent started.
    pub(super) end_seen: bool,
    /// The first block that was looked at for it.
    pub(super) end_sought: Option<u32>,
    pub(super) is_forgotten: bool,
}

/// The state of the channel's own code.
#[derive(Debug)]
pub(super) enum Side {
    /// No funding yet, or no policy, or over.
    None,
    Paying(Box<Payee>),
    Closing(Box<PayeeClosing>),
}

/// An update and those who want to know.
#[derive(Debug, Default)]
pub(super) struct Paying {
    /// Taken when the update is durable.
    pub(super) verified: Option<VerifiedUpdate>,
    pub(super) change_sat: u64,
    pub(super) askers: Vec<RequestId>,
}

/// A payer that asked for a close and waits for the plan.
#[derive(Clone, Debug)]
pub(super) struct Closer {
    pub(super) request: RequestId,
    pub(super) path: SpendPath,
    pub(super) entropy: Entropy,
}

/// A close that the payer may sign.
#[derive(Debug)]
pub(super) enum Signing {
    KeyPath(Box<PayeeSigning>),
    PayLeaf(Box<CooperativePlan>),
}

impl Signing {
    pub(super) fn plan(&self) -> &CooperativePlan {
        match self {
            Self::KeyPath(signing) => signing.plan(),
            Self::PayLeaf(plan) => plan,
        }
    }
}

impl Channels {
    pub(in crate::gateway) fn new(now: BootTime) -> Self {
        let chain = Chain {
            tip: None,
            heard: now,
            news: now,
            tip_age: None,
            looked_at: 0,
            is_up: false,
            feerate: FEERATE_AT_FIRST,
            unix_s: 0,
        };
        Self {
            shop: None,
            all: BTreeMap::new(),
            of_station: BTreeMap::new(),
            payer_keys: BTreeMap::new(),
            due: BTreeSet::new(),
            arriving: BTreeMap::new(),
            opening: BTreeMap::new(),
            next_index: 0,
            chain,
            alarms: BTreeSet::new(),
            ready: BTreeSet::new(),
            lapsed: VecDeque::new(),
            bargains: Bargains::default(),
            operators: Vec::new(),
            draws: 0,
        }
    }

    pub(super) fn insert(&mut self, channel: Channel) {
        let (id, mac) = (channel.state.id, channel.mac());
        self.of_station.entry(mac).or_default().insert(id);
        self.payer_keys.insert(channel.state.agreement.terms.payer_key, id);
        self.all.insert(id, channel);
    }

    pub(super) fn remove(&mut self, id: ChannelId) {
        let Some(channel) = self.all.remove(&id) else { return };
        self.payer_keys.remove(&channel.state.agreement.terms.payer_key);
        self.due.remove(&(channel.mac(), id));
        self.ready.remove(&id);
        self.leave_station(channel.mac(), id);
    }

    fn leave_station(&mut self, mac: Mac, id: ChannelId) {
        if let Some(channels) = self.of_station.get_mut(&mac) {
            channels.remove(&id);
            if channels.is_empty() {
                self.of_station.remove(&mac);
            }
        }
    }

    /// A channel pays for another account; what waits for its turn waits there.
    pub(super) fn rehome(&mut self, transfer: &Transfer) {
        let Transfer { channel: id, from, to, .. } = *transfer;
        let Some(channel) = self.all.get_mut(&id) else { return };
        channel.place.follow(transfer);
        self.leave_station(from, id);
        self.of_station.entry(to).or_default().insert(id);
        if self.due.remove(&(from, id)) {
            self.due.insert((to, id));
        }
    }

    pub(super) fn of(&self, mac: Mac) -> impl Iterator<Item = &Channel> {
        let ids = self.of_station.get(&mac).into_iter().flatten();
        ids.filter_map(|id| self.all.get(id))
    }

    /// Has a channel looked at again, at this time at the latest: one alarm at a time is kept for
    /// it, the soonest.
    pub(super) fn alarm(&mut self, at: BootTime, id: ChannelId) {
        let others = self.alarms.iter().filter(|(_, other)| *other == id).copied();
        let soonest = others.map(|(other, _)| other).chain([at]).min();
        self.alarms.retain(|(_, other)| *other != id);
        self.alarms.insert((soonest.unwrap_or(at), id));
    }

    /// When a channel is to be looked at again, the soonest.
    pub(in crate::gateway) fn next_alarm(&self) -> Option<BootTime> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whether there is a channel on which this station has paid and can pay on.
    pub(in crate::gateway) fn is_paying(&self, mac: Mac) -> bool {
        self.of(mac).any(|channel| channel.is_live() && channel.newest.is_some())
    }

    /// The next channel that waits for this account.
    pub(super) fn next_due(&self, mac: Mac) -> Option<ChannelId> {
        let all = (mac, ChannelId([0; 32]))..=(mac, ChannelId([u8::MAX; 32]));
        self.due.range(all).next().map(|(_, id)| *id)
    }
}

impl Channel {
    pub(super) fn new(state: ChannelState) -> Self {
        let place = Place::at(state.agreement.mac);
        Self {
            state,
            next: None,
            freezing: None,
            newest: None,
            place,
            side: Side::None,
            in_flight: None,
            pending: None,
            to_freeze: None,
            moving: None,
            talk: Talk::default(),
        }
    }

    /// As it is to be on disk.
    pub(super) fn wanted(&self) -> &ChannelState {
        self.next.as_deref().unwrap_or(&self.state)
    }

    /// Whose account it pays for.
    pub(super) const fn mac(&self) -> Mac {
        self.place.mac
    }

    /// All that is durable of what was paid.
    pub(super) fn credit(&self) -> MilliSat {
        self.newest.as_ref().map_or(MilliSat(0), |update| self.state.credit(update))
    }

    /// Whether it took an update, or is about to.
    pub(super) fn is_paid(&self) -> bool {
        self.newest.is_some() || self.in_flight.is_some() || self.pending.is_some()
    }

    /// Whether it was paid on and can be, by what is on disk or about to be.
    pub(super) fn is_in_payment(&self) -> bool {
        self.state.phase == ChannelPhase::Live && self.is_paid()
    }

    /// What must hold before a payer is listened to: both have signed, and nothing has ended it.
    pub(super) fn check_agreed_and_live(&self) -> Result<(), Refused> {
        if let Some(end) = self.wanted().end {
            return Err(Refused::Closed(end.txid));
        }
        if !self.is_live() || self.state.frozen.is_some() {
            return Err(Refused::Closing);
        }
        if self.state.payer_signature.is_none() {
            return Err(Refused::NotAgreed);
        }
        Ok(())
    }

    /// Whether nothing hints at an end.
    pub(super) fn is_live(&self) -> bool {
        self.wanted().phase == ChannelPhase::Live
            && self.to_freeze.is_none()
            && self.freezing.is_none()
            && !self.talk.is_forgotten
    }

    /// Whether it has a funding and nothing hints at an end: a station has one such channel.
    pub(super) fn is_in_use(&self, tip: u32) -> bool {
        let last_call = self.state.agreement.terms.last_call();
        self.is_live() && self.wanted().funding.is_some() && tip < last_call
    }

    /// Whether it still waits for its funding.
    pub(super) fn is_unfunded(&self) -> bool {
        self.wanted().phase == ChannelPhase::Live && self.wanted().funding.is_none()
    }

    /// Whether nothing will happen to it any more.
    pub(super) fn is_over(&self) -> bool {
        self.state.end.is_some_and(|end| end.buried)
    }

    /// Confirmations of its funding, seen from the newest block.
    pub(super) fn confirmations(&self, tip: u32) -> u32 {
        let height = self.wanted().funding.and_then(|funding| funding.height);
        height.map_or(0, |height| (tip + 1).saturating_sub(height))
    }
}
