//! One account: what is durable, what the kernel holds, what was charged.

use bitmesh_common::abi::Mac;
use bitmesh_common::money::bytes_cost;

use crate::channel_record::{ChannelUpdate, Meter, Transfer};
use crate::io::{AccountImage, Reading};
use crate::ledger::{Charges, Credits, Statement, Withdrawals};
use crate::record::{AccountState, Credit, CreditKind, Epoch, Record, Usage};
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat, Units};
use crate::wire::ChannelId;

/// The kernel announces a low balance when this fraction of what was left is left: one eighth.
pub(crate) const LOW_FRACTION: u64 = 8;

/// Who can't pay for so many bytes, the largest packet of Ethernet, has nothing left.
const LARGEST_PACKET_BYTES: u64 = 1_500;

/// An account whose state and credits are durable.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// As it is on disk.
    pub(crate) state: AccountState,
    /// As they are on disk: all that ever came in.
    pub(crate) credits: Credits,
    /// What closes of channels took out, as it is on disk.
    pub(crate) withdrawals: Withdrawals,
    /// The sum of earlier epochs, as it is on disk. Its `spent` was charged then.
    pub(crate) earlier: Reading,
    /// The newest reading of this epoch.
    pub(crate) reading: Reading,
    /// All charges for time, ever, at the newest reading.
    pub(crate) time_charged: Units,
    /// The gate as the kernel has it; `None` if it is closed or the kernel has none.
    pub(crate) held: Option<AccountImage>,
    /// The reading and the charges for time that are on disk for this epoch.
    pub(crate) persisted: (Reading, Units),
    /// When it was last found to have used something.
    pub(crate) active: BootTime,
    /// Since when there is this account. What a meter said before is a former account's of this
    /// address, which was forgotten.
    pub(crate) since: BootTime,
    /// Whether the kernel has a meter of it.
    pub(crate) is_metered: bool,
}

/// A change of an account that takes effect when it is durable, and not before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draft {
    /// The new state, if it changes.
    pub(crate) state: Option<AccountState>,
    /// The new money, if there is some.
    pub(crate) money: Option<Money>,
    /// The usage up to the change, if it is settled.
    pub(crate) usage: Option<Usage>,
    /// The channel that takes no updates from then on.
    pub(crate) freeze: Option<Freeze>,
    /// The channel that leaves, and pays for another account from then on.
    pub(crate) leave: Option<Leave>,
    /// The account that is no more.
    pub(crate) forget: Option<Mac>,
}

/// Money that comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Money {
    /// A credit of its own.
    Credit(Credit),
    /// A channel's newest update, and how much more it credits than the one before.
    Update {
        /// The update.
        update: ChannelUpdate,
        /// What it adds.
        added: MilliSat,
    },
    /// What a channel had left at another account, whose draft has the record.
    Moved(MilliSat),
}

impl Money {
    const fn kind_and_amount(&self) -> (CreditKind, MilliSat) {
        match self {
            Self::Credit(credit) => (credit.kind, credit.amount),
            Self::Update { added, .. } | Self::Moved(added) => (CreditKind::Channel, *added),
        }
    }

    const fn record(&self) -> Option<Record> {
        match self {
            Self::Credit(credit) => Some(Record::Credit(*credit)),
            Self::Update { update, .. } => Some(Record::Update(*update)),
            Self::Moved(_) => None,
        }
    }
}

/// What a channel owes in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freeze {
    /// Which channel.
    pub(crate) channel: ChannelId,
    /// What it pays of the charges.
    pub(crate) charged: Units,
    /// What the meter said.
    pub(crate) meter: Meter,
}

/// What a channel takes along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leave {
    /// The line in the ledger.
    pub(crate) transfer: Transfer,
    /// What is no longer this account's.
    pub(crate) taken: MilliSat,
}

impl Draft {
    /// What has to be durable, but for the row of a channel.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        let state = self.state.map(Record::Account);
        let usage = self.usage.map(Record::Usage);
        let money = self.money.as_ref().and_then(Money::record);
        let transfer = self.leave.map(|leave| Record::Transfer(leave.transfer));
        let forget = self.forget.map(Record::ForgetAccount);
        [state, usage, money, transfer, forget].into_iter().flatten()
    }
}

impl Account {
    /// An account that has just become durable.
    pub(crate) fn new(state: AccountState) -> Self {
        Self {
            state,
            credits: Credits::default(),
            withdrawals: Withdrawals::default(),
            earlier: Reading::default(),
            reading: Reading::default(),
            time_charged: state.time_settled,
            held: None,
            persisted: (Reading::default(), state.time_settled),
            active: state.start,
            since: BootTime(0),
            is_metered: false,
        }
    }

    /// All charges at the newest reading. Never above the credits.
    pub(crate) const fn charges(&self) -> Charges {
        Charges {
            bytes: self.earlier.spent.saturating_add(self.reading.spent),
            time: self.time_charged,
        }
    }

    /// The books at the newest reading.
    pub(crate) fn statement(&self) -> Statement {
        Statement::new(&self.credits, self.charges(), self.withdrawals)
    }

    /// All that ever came in and was not taken out again: charges are at most this.
    pub(crate) fn covered(&self) -> Units {
        self.credits.total().units().saturating_sub(self.withdrawals.total())
    }

    /// What an open channel with this credit here pays of the charges: what nothing else covers.
    pub(crate) fn charged_to_channel(&self, credit: MilliSat) -> Units {
        let others = self.covered().saturating_sub(credit.units());
        self.charges().total().saturating_sub(others).min(credit.units())
    }

    /// What was used by the newest reading.
    pub(crate) const fn meter(&self) -> Meter {
        let all = self.earlier.plus(&self.reading);
        Meter {
            uplink_bytes: all.uplink_bytes,
            downlink_bytes: all.downlink_bytes,
            time_charged: self.time_charged,
        }
    }

    /// The image that the kernel holds of the session as it is on disk.
    pub(crate) fn held_session(&self) -> Option<&AccountImage> {
        let state = &self.state;
        self.held
            .as_ref()
            .filter(|held| state.open && held.start == state.start && held.tariff == state.tariff)
    }

    /// Takes a reading and what was due for time at `now`, an instant before the meter was read.
    /// An older reading than the newest, or than the account, is ignored.
    pub(crate) fn observe(&mut self, now: BootTime, reading: Reading) {
        if now >= self.since && reading.is_since(&self.reading) {
            if reading != self.reading {
                self.active = now;
            }
            self.reading = reading;
            self.time_charged = self.time_at(now);
        }
    }

    /// All charges for time at `now`. Time that the kernel did not serve is not charged: it
    /// stops at what the image in the kernel had left.
    fn time_at(&self, now: BootTime) -> Units {
        let settled = self.state.time_settled;
        let served = self.held_session().map_or(self.time_charged, |held| {
            let due = held.tariff.time_due(held.start, now);
            let left = held.prepaid.saturating_sub(self.reading.spent);
            self.time_charged.max(settled.saturating_add(due)).min(settled.saturating_add(left))
        });
        let spent = self.earlier.spent.saturating_add(self.reading.spent);
        served.min(self.covered().saturating_sub(spent))
    }

    /// Whether the session in the kernel sells time, so that being cut off must stop the clock.
    pub(crate) fn is_timed(&self) -> bool {
        self.held_session().is_some_and(|held| held.tariff.msat_per_minute > 0)
    }

    /// Whether time and bytes have used up what the kernel holds, so that it serves nothing.
    pub(crate) fn is_consumed(&self, now: BootTime) -> bool {
        self.held_session().is_some_and(|held| {
            let due = held.tariff.time_due(held.start, now);
            self.is_timed() && self.reading.spent.saturating_add(due) >= held.prepaid
        })
    }

    /// Whether not even a packet's price is left.
    pub(crate) fn is_spent(&self) -> bool {
        let Tariff { uplink_msat_per_mib, downlink_msat_per_mib, .. } = self.state.tariff;
        let price = uplink_msat_per_mib.max(downlink_msat_per_mib);
        let left = self.covered().saturating_sub(self.charges().total());
        left < MilliSat(1).units().max(Units(bytes_cost(LARGEST_PACKET_BYTES, price)))
    }

    /// Whether there is no more credit than the kernel knows of: what is consumed stays so.
    pub(crate) fn stays_consumed(&self) -> bool {
        self.held_session().is_some_and(|held| held.prepaid >= self.prepaid())
    }

    /// All that this epoch's meter may spend, by what is on disk.
    pub(crate) fn prepaid(&self) -> Units {
        self.covered().saturating_sub(self.earlier.spent).saturating_sub(self.state.time_settled)
    }

    /// The image that the kernel must hold.
    pub(crate) fn image(&self, now: BootTime) -> AccountImage {
        let AccountState { mac, tariff, start, .. } = self.state;
        let prepaid = self.prepaid();
        let low_mark = match self.held_session() {
            Some(held) if held.prepaid == prepaid => held.low_mark,
            _ => {
                let used = self.reading.spent.saturating_add(tariff.time_due(start, now));
                let left = prepaid.saturating_sub(used);
                prepaid.saturating_sub(Units(left.0 / LOW_FRACTION))
            }
        };
        AccountImage { mac, prepaid, tariff, start, low_mark }
    }

    /// The usage at the newest reading.
    pub(crate) const fn usage(&self, epoch: Epoch) -> Usage {
        let (reading, time_charged) = (self.reading, self.time_charged);
        Usage { mac: self.state.mac, epoch, reading, time_charged }
    }

    /// Whether the newest reading is not on disk.
    pub(crate) fn is_dirty(&self) -> bool {
        self.persisted != (self.reading, self.time_charged)
    }

    /// The state in which time starts anew at `start`; what was due before is settled.
    pub(crate) const fn settled(&self, epoch: Epoch, start: BootTime) -> AccountState {
        let revision = self.state.revision.saturating_add(1);
        AccountState { revision, epoch, start, time_settled: self.time_charged, ..self.state }
    }

    /// The state of a new session.
    pub(crate) const fn reopened(
        &self,
        epoch: Epoch,
        start: BootTime,
        tariff: Tariff,
    ) -> AccountState {
        let session = self.state.session.saturating_add(1);
        AccountState { session, open: true, tariff, ..self.settled(epoch, start) }
    }

    /// The books take over what has become durable.
    pub(crate) fn apply(&mut self, draft: &Draft) {
        if let Some(state) = draft.state {
            self.state = state;
            self.time_charged = self.time_charged.max(state.time_settled);
        }
        if let Some(money) = draft.money {
            let (kind, amount) = money.kind_and_amount();
            // The sum was checked when the credit was asked for, and nothing came between.
            self.credits = self.credits.with(kind, amount).unwrap_or(self.credits);
        }
        if let Some(leave) = draft.leave {
            let channel = self.credits.channel.0.saturating_sub(leave.taken.0);
            self.credits.channel = MilliSat(channel);
        }
        if let Some(usage) = draft.usage {
            self.persisted = (usage.reading, usage.time_charged);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::ByKind;
    use crate::units::MilliSat;

    const EPOCH: Epoch = Epoch(1);

    fn account(credited: u64, settled: u64, msat_per_minute: u64) -> Account {
        let tariff = Tariff { msat_per_minute, ..Tariff::default() };
        let mut account = Account::new(AccountState {
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            revision: 1,
            session: 1,
            open: true,
            tariff,
            epoch: EPOCH,
            start: BootTime(0),
            time_settled: Units(settled),
        });
        account.credits = ByKind { grants: MilliSat(credited), ..ByKind::default() };
        account.held = Some(account.image(BootTime(0)));
        account
    }

    #[test]
    fn a_balance_is_low_when_an_eighth_of_what_was_left_is_left() {
        let mut account = account(80, 0, 0);
        assert_eq!(account.image(BootTime(0)).low_mark, MilliSat(70).units());
        account.reading.spent = MilliSat(40).units();
        account.held = None;
        assert_eq!(account.image(BootTime(0)).low_mark, MilliSat(75).units());
    }

    proptest! {
        /// Whatever the meter says and when, and however much was settled before.
        #[test]
        fn charges_only_grow_and_never_exceed_the_credits(
            credited in 1..1_000_000_u64,
            settled in 0..=1_000_u64,
            msat_per_minute in 0..10_000_000_u64,
            samples in prop::collection::vec((0..100_000_000_000_u64, 0..1_u64 << 40), 1..20),
        ) {
            let settled = settled.min(credited) << 20;
            let mut account = account(credited, settled, msat_per_minute);
            let prepaid = account.prepaid();
            let mut last = account.charges().total();
            for (now, spent) in samples {
                // The kernel never spends more than it holds.
                let reading = Reading { spent: Units(spent).min(prepaid), ..Reading::default() };
                account.observe(BootTime(now), reading);
                let total = account.charges().total();
                prop_assert!(total >= last, "{total:?} after {last:?}");
                prop_assert!(total <= account.credits.total().units());
                last = total;
            }
        }
    }
}
