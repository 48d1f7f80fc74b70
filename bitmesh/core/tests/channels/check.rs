//! What must hold after every step, whatever happened; and what the chain must say in the end.

use std::collections::BTreeMap;

use bitcoin::{Amount, Transaction};
use bitmesh_core::channel::{CooperativePlan, Funded, Opened, SpendPath};
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{
    AccountView, ChannelEnd, ChannelPhase, ChannelState, CreditKind, Mac, MilliSat, Purpose,
    SpendKind, Transfer, Units,
};

use crate::world::{Violation, World};

macro_rules! hold {
    ($what:expr, $($why:tt)*) => {
        if !$what {
            return Err(format!($($why)*));
        }
    };
}

/// What is charged to a channel, in whole satoshi.
pub fn charges(state: &ChannelState) -> Amount {
    let charged = state.frozen.map_or(Units(0), |frozen| frozen.charged);
    Amount::from_sat(charged.ceil().0.div_ceil(1_000))
}

impl World {
    pub fn check(&self) -> Result<(), Violation> {
        self.check_disk_and_kernel()?;
        self.check_all_books()
    }

    /// After each change of what is on disk or in the kernel: whatever the agent believes.
    pub fn check_disk_and_kernel(&self) -> Result<(), Violation> {
        self.check_kernel()?;
        self.check_promises()?;
        self.check_one_channel()
    }

    /// After each input of the agent.
    pub fn check_all_books(&self) -> Result<(), Violation> {
        let Some(gateway) = &self.gateway else { return Ok(()) };
        for account in gateway.accounts() {
            self.check_books(&account)?;
        }
        Ok(())
    }

    pub fn credit(&self, id: ChannelId) -> MilliSat {
        self.credit_of(&self.store.channels[&id])
    }

    fn credit_of(&self, state: &ChannelState) -> MilliSat {
        self.store.updates.get(&state.id).map_or(MilliSat(0), |update| state.credit(update))
    }

    fn channels_of(&self, mac: Mac) -> impl Iterator<Item = &ChannelState> {
        self.store.channels.values().filter(move |state| self.station(state) == mac)
    }

    /// Whose account a channel pays for.
    fn station(&self, state: &ChannelState) -> Mac {
        let last = self.transfers_of(state.id).last();
        last.map_or(state.agreement.mac, |transfer| transfer.to)
    }

    fn transfers_of(&self, id: ChannelId) -> impl Iterator<Item = &Transfer> {
        self.store.transfers.range((id, 0)..=(id, u32::MAX)).map(|(_, transfer)| transfer)
    }

    /// What of a channel's credit stays with accounts that it left.
    fn kept_of(&self, id: ChannelId) -> MilliSat {
        MilliSat(self.transfers_of(id).map(|transfer| transfer.kept.0).sum())
    }

    /// What channels that left this account paid there.
    fn kept_by(&self, mac: Mac) -> MilliSat {
        let left = self.store.transfers.values().filter(|transfer| transfer.from == mac);
        MilliSat(left.map(|transfer| transfer.kept.0).sum())
    }

    /// All that the subscriber may use, by what is on disk.
    fn usable(&self, mac: Mac) -> Units {
        let others = self.store.credited(mac, None).units();
        let others = others.saturating_add(self.kept_by(mac).units());
        self.channels_of(mac).fold(others, |sum, state| {
            let credit = self.credit_of(state);
            let of_this = match (state.frozen, state.end) {
                (None, _) => credit.units(),
                (Some(frozen), Some(end)) if end.buried && end.kind != SpendKind::Other => {
                    let paid = Amount::from_sat(credit.0 / 1_000);
                    let gone = charges(state) + end.returned + end.payer_fee;
                    let kept = paid.checked_sub(gone).unwrap();
                    frozen.charged.saturating_add(MilliSat(kept.to_sat() * 1_000).units())
                }
                (Some(frozen), _) => frozen.charged,
            };
            let here = of_this.saturating_sub(self.kept_of(state.id).units());
            sum.saturating_add(here)
        })
    }

    /// Invariants 1 and 2: the kernel never holds more than is durable, nor is more spent.
    fn check_kernel(&self) -> Result<(), Violation> {
        for (image, reading) in self.kernel.open_gates() {
            let mac = image.mac;
            let usable = self.usable(mac);
            hold!(image.prepaid <= usable, "{image:?}, but {usable:?} is durable");
            hold!(reading.spent <= image.prepaid, "{mac:?} has spent more than {image:?}");
        }
        Ok(())
    }

    /// No update that was acknowledged is ever lost.
    fn check_promises(&self) -> Result<(), Violation> {
        for (id, promised) in &self.promised {
            let durable = self.store.updates.get(id).map(|update| update.change_sat);
            let kept = durable.is_some_and(|durable| durable <= *promised);
            hold!(kept, "{id} promised {promised} sat of change, {durable:?} is durable");
        }
        Ok(())
    }

    /// What an operator was told is being closed is closed by whoever has the disk.
    pub fn check_closing(&self, told: &[ChannelId]) -> Result<(), Violation> {
        for row in told.iter().filter_map(|id| self.store.channels.get(id)) {
            let closing = row.phase > ChannelPhase::Live && row.frozen.is_some();
            hold!(closing, "{} is said to be closing, and is open on the disk", row.id);
        }
        Ok(())
    }

    fn check_one_channel(&self) -> Result<(), Violation> {
        let mut paying: BTreeMap<Mac, ChannelId> = BTreeMap::new();
        for state in self.store.channels.values() {
            let paid = self.store.updates.contains_key(&state.id);
            if paid && state.frozen.is_none() {
                let other = paying.insert(self.station(state), state.id);
                hold!(other.is_none(), "{other:?} and {} are both in use", state.id);
            }
        }
        Ok(())
    }

    /// Invariant 4: every msat that was credited is in one line.
    fn check_books(&self, account: &AccountView) -> Result<(), Violation> {
        let lines = [
            account.balance,
            account.charged_for_bytes,
            account.charged_for_time,
            account.settling,
            account.returned,
            account.close_fees,
            account.undone,
            account.rounding,
        ];
        let sum: u64 = lines.iter().map(|line| line.0).sum();
        hold!(sum == account.credited.0, "the lines of {account:?} sum up to {sum}");
        let mac = account.mac;
        let closed = self.channels_of(mac).filter(|state| state.frozen.is_some()).count();
        let most = 2 + 1_001 * u64::try_from(closed).unwrap();
        hold!(account.rounding.0 <= most, "too much is rounded in {account:?}");
        let here = |state: &ChannelState| self.credit_of(state).0 - self.kept_of(state.id).0;
        let updates: u64 = self.channels_of(mac).map(here).sum();
        let updates = updates + self.kept_by(mac).0;
        let shown = account.credits.channel.0;
        hold!(shown <= updates, "{account:?} shows more than {updates} msat of updates");
        hold!(shown == updates || !self.store.is_idle(), "{account:?} misses some of {updates}");
        let granted = self.store.credited(mac, Some(CreditKind::Grant));
        hold!(account.credits.grants <= granted, "{account:?} shows grants that are not durable");
        Ok(())
    }

    /// A close is on disk, gate closed and charges final, before the node has it.
    pub fn check_broadcast(
        &self,
        id: ChannelId,
        purpose: Purpose,
        tx: &Transaction,
    ) -> Result<(), Violation> {
        if purpose == Purpose::Funding {
            return Ok(());
        }
        let state = self.store.channels.get(&id).ok_or("a close of no channel")?;
        let durable = state.close.as_ref().is_some_and(|close| close.tx == *tx);
        hold!(durable, "{id} is closed by a transaction that is not durable");
        hold!(state.frozen.is_some(), "{id} is closed before its charges are final");
        Ok(())
    }

    fn funded(&self, id: ChannelId) -> Option<Funded> {
        let state = self.store.channels.get(&id)?;
        let funding = state.funding?;
        let opened = Opened::new(state.agreement.terms.clone()).ok()?;
        opened.pinned(funding.outpoint, funding.capacity).ok()
    }

    /// What the chain says of a channel that is over is what was paid and used, to the satoshi.
    pub fn check_end(&mut self, id: ChannelId) -> Result<(), Violation> {
        let state = self.store.channels[&id].clone();
        let end = state.end.ok_or_else(|| {
            let spend = state.funding.and_then(|funding| self.chain.spend(funding.outpoint));
            let (phase, close) = (state.phase, state.close.as_ref().map(|close| close.height));
            let tip = self.chain.tip();
            format!("{id} never ended: {phase:?}, {:?}, close built at {close:?}, tip {tip}, on the chain: {:?}",
                state.funding, spend.map(|(tx, height)| (tx.compute_txid(), height)))
        })?;
        let funded = self.funded(id).ok_or("no funding")?;
        let confirmed = self.chain.confirmed();
        let tx = *confirmed.get(&end.txid).ok_or("the end is not on the chain")?;
        let out: Amount = tx.output.iter().map(|output| output.value).sum();
        let capacity = funded.capacity();
        let sum = end.payout + end.change + end.fee;
        hold!(sum == capacity, "{end:?} of {capacity} adds up to {sum}");
        if tx.input.len() == 1 {
            hold!(end.payout + end.change == out, "{end:?} where the block pays {out}");
        } else {
            self.check_batch(tx)?;
        }
        let credit = Amount::from_sat(self.credit(id).0 / 1_000);
        match end.kind {
            SpendKind::Together => check_together(&funded, &state, end)?,
            SpendKind::Alone => self.check_alone(&funded, &state, credit, end)?,
            SpendKind::Refund | SpendKind::Other => return Err(format!("{id} was not closed")),
        }
        hold!(end.buried, "{id} is not buried: {end:?}");
        match end.kind {
            SpendKind::Together => self.seen.together += 1,
            _ => self.seen.alone += 1,
        }
        self.seen.returned += u64::from(end.returned > Amount::ZERO);
        let gone = charges(&state) + end.returned + end.payer_fee;
        hold!(gone <= credit, "{end:?} took more than {credit} in all");
        self.seen.kept += u64::from(gone < credit);
        Ok(())
    }

    /// What the books say of all channels of a batch is what the block pays, to the satoshi.
    fn check_batch(&self, tx: &Transaction) -> Result<(), Violation> {
        let txid = tx.compute_txid();
        let ends = self.store.channels.values().filter_map(|state| state.end);
        let ends: Vec<ChannelEnd> = ends.filter(|end| end.txid == txid).collect();
        hold!(ends.len() == tx.input.len(), "{} ends of {tx:?}", ends.len());
        let paid: Amount = ends.iter().map(|end| end.payout + end.change).sum();
        let out: Amount = tx.output.iter().map(|output| output.value).sum();
        hold!(paid == out, "{ends:?} add up to {paid}, the block pays {out}");
        let fee: Amount = ends.iter().map(|end| end.fee).sum();
        hold!(Some(fee) == self.chain.fee(tx), "{ends:?} paid {fee} to miners");
        Ok(())
    }

    fn check_alone(
        &self,
        funded: &Funded,
        state: &ChannelState,
        credit: Amount,
        end: ChannelEnd,
    ) -> Result<(), Violation> {
        let change = funded.capacity() - credit;
        let returned = end.change.checked_sub(change).ok_or("the payer was robbed")?;
        let sum = end.payout + end.fee + returned;
        hold!(sum == credit, "{end:?} pays {sum}, the newest update {credit}");
        let unused = credit - charges(state);
        hold!(returned <= unused, "{end:?} returns more than {unused}");
        hold!(end.returned == returned, "{end:?} says {} where {returned}", end.returned);
        Ok(())
    }

    /// All is well and everything was closed: every channel is over, every gate shut.
    pub fn check_at_rest(&mut self) -> Result<(), Violation> {
        let ids: Vec<ChannelId> = self.store.updates.keys().copied().collect();
        for id in ids {
            let state = &self.store.channels[&id];
            if state.phase == ChannelPhase::Lost {
                hold!(self.undone.contains(&id), "{id} was lost, but nobody took its funding");
                self.seen.lost += 1;
            } else {
                self.check_end(id)?;
            }
        }
        let gateway = self.gateway.as_ref().ok_or("no agent")?;
        hold!(gateway.summary().changing == 0, "a change never ended: {:?}", gateway.summary());
        for account in gateway.accounts() {
            let on_its_way = account.settling.0;
            hold!(on_its_way == 0, "{account:?} still settles");
            let covered = account.credits.total().units();
            hold!(self.usable(account.mac) <= covered, "{account:?} may use more than came in");
        }
        Ok(())
    }
}

/// A cooperative close is the plan that charges and fee make.
fn check_together(funded: &Funded, state: &ChannelState, end: ChannelEnd) -> Result<(), Violation> {
    let path = SpendPath::KeyPath;
    let plan = CooperativePlan::new(funded, path, charges(state), end.fee);
    let settled = plan.map_err(|error| error.to_string())?.settlement();
    hold!(settled.payout == end.payout, "{end:?} instead of {settled:?}");
    hold!(settled.change == end.change, "{end:?} instead of {settled:?}");
    Ok(())
}
