//! What must hold after every step, whatever happened.

use std::collections::BTreeMap;
use std::time::Duration;

use bitmesh_core::{AccountImage, AccountView, BootTime, CreditKind, Mac, Units};

use crate::world::{ALLOWANCE, Violation, World};

/// What may be lost at a reboot.
const MAX_LOSS: Duration = Duration::from_secs(1);

/// For how long a subscriber may be billed for time that was not served, when bytes are sold too:
/// what was spent since the last sample is not known.
const MAX_GAP_MS: u64 = 300;

/// The same when only time is sold: what the agent takes from one step to the next.
const MAX_TIMED_GAP_MS: u64 = 2;

/// The highest price of time in the simulation.
pub const DEAREST_MINUTE: u64 = 60_000;

macro_rules! hold {
    ($what:expr, $($why:tt)*) => {
        if !$what {
            return Err(format!($($why)*));
        }
    };
}

impl World {
    pub fn check(&mut self) -> Result<(), Violation> {
        self.check_kernel()?;
        self.check_allowances()?;
        let Some(gateway) = &self.gateway else { return Ok(()) };
        for account in gateway.accounts() {
            self.check_books(&account)?;
            self.check_charges(&account)?;
        }
        Ok(())
    }

    /// Invariants 1 and 2: the kernel never holds more than is durable, nor is more spent.
    fn check_kernel(&self) -> Result<(), Violation> {
        for (image, reading) in self.kernel.open_gates() {
            let mac = image.mac;
            let credited = self.store.credited(mac, None).units();
            let before = self.store.spent_before(mac, self.kernel.epoch);
            let held = image.prepaid.saturating_add(before);
            hold!(held <= credited, "{mac:?} holds {held:?}, but {credited:?} is durable");
            hold!(reading.spent <= image.prepaid, "{mac:?} has spent more than {image:?}");
        }
        Ok(())
    }

    /// Whoever knocks: a station is given one allowance in its time, and all of them the total.
    fn check_allowances(&self) -> Result<(), Violation> {
        let every_ms = ALLOWANCE.every.as_millis();
        let given = self.store.credits.values().filter(|credit| {
            let of_epoch = credit.id.0 >> 96 == u128::from(self.kernel.epoch.0) & 0xffff_ffff;
            credit.kind == CreditKind::Allowance && of_epoch
        });
        let mut given: Vec<_> =
            given.map(|credit| (credit.id.0 >> 48 & 0xffff_ffff_ffff, credit)).collect();
        given.sort_by_key(|(at, _)| *at);
        for (n, (at, credit)) in given.iter().enumerate() {
            // The identity says the millisecond, rounded down.
            let later = given[n..].iter().take_while(|(other, _)| other + 1 < at + every_ms);
            let sum: u64 = later.clone().map(|(_, credit)| credit.amount.0).sum();
            hold!(sum <= ALLOWANCE.total.0, "{sum} msat are given from {at} ms on");
            let twice = later.skip(1).any(|(_, other)| other.mac == credit.mac);
            hold!(!twice, "{:?} is given too much", credit.mac);
        }
        Ok(())
    }

    /// Invariant 1, exactly: an image leaves out all that was charged before.
    pub fn check_image(&self, image: &AccountImage) -> Result<(), Violation> {
        let mac = image.mac;
        let settled = self.store.accounts.get(&mac).map(|account| account.time_settled);
        let before = self.store.spent_before(mac, self.kernel.epoch);
        let all = image.prepaid.saturating_add(before).saturating_add(settled.unwrap_or_default());
        let credited = self.store.credited(mac, None).units();
        hold!(all <= credited, "{image:?} with what was settled is more than {credited:?}");
        hold!(image.low_mark <= image.prepaid, "{image:?} is never low");
        Ok(())
    }

    /// Invariant 5: time in which nothing was served is not billed.
    pub fn check_gap(&self, image: &AccountImage, gap_ms: u64) -> Result<(), Violation> {
        let sells_bytes = (image.tariff.uplink_msat_per_mib, image.tariff.downlink_msat_per_mib);
        let most = if sells_bytes == (0, 0) { MAX_TIMED_GAP_MS } else { MAX_GAP_MS };
        // What a disk that refuses can't settle is billed.
        let was_well = self.well_since.after(MAX_LOSS) < self.now;
        hold!(
            gap_ms <= most || !was_well,
            "{image:?} bills {gap_ms} ms in which nothing was served"
        );
        Ok(())
    }

    /// No credit that was answered for is ever lost, and none counts that nobody paid.
    pub fn check_promises(&self) -> Result<(), Violation> {
        let asked = self.store.credits.values().filter(|credit| {
            credit.id.0 > u128::from(u8::MAX) && credit.kind != CreditKind::Allowance
        });
        for credit in asked {
            let paid = self.paid.get(&credit.id);
            hold!(paid == Some(&(credit.mac, credit.amount)), "{credit:?} was never paid");
        }
        let lost = self.promised.iter().find(|id| !self.store.credits.contains_key(id));
        hold!(lost.is_none(), "{lost:?} was promised, but is lost");
        Ok(())
    }

    /// Invariant 4: balance, charges and rounding are what was credited, and that is durable.
    fn check_books(&self, account: &AccountView) -> Result<(), Violation> {
        let lines = [
            account.balance,
            account.charged_for_bytes,
            account.charged_for_time,
            account.rounding,
        ];
        let sum: u64 = lines.iter().map(|line| line.0).sum();
        hold!(sum == account.credited.0, "the lines of {account:?} sum up to {sum}");
        hold!(account.rounding.0 <= 2, "too much is rounded in {account:?}");
        let kinds = [
            (CreditKind::Allowance, account.credits.allowances),
            (CreditKind::Grant, account.credits.grants),
            (CreditKind::TopUp, account.credits.top_ups),
            (CreditKind::Channel, account.credits.channel),
        ];
        for (kind, shown) in kinds {
            let durable = self.store.credited(account.mac, Some(kind));
            hold!(shown <= durable, "{account:?} shows credit that is not durable");
            let settled = self.store.is_idle();
            hold!(shown == durable || !settled, "{account:?} misses some of {durable:?}");
        }
        Ok(())
    }

    /// Nothing is charged that was not served, so nothing is charged twice; and counts only grow.
    fn check_charges(&mut self, account: &AccountView) -> Result<(), Violation> {
        let mac = account.mac;
        let served = self.served(mac);
        let total = self.served_bytes(mac);
        let shown = account.reading;
        hold!(total.is_since(&shown), "{account:?} counts more than {total:?}");
        let time = account.charged_for_time;
        hold!(time <= served.1.floor(), "{account:?} is charged for more time than {served:?}");
        let last = self.shown.entry(mac).or_default();
        hold!(shown.is_since(last), "{account:?} counts less than before: {last:?}");
        *last = shown;
        Ok(())
    }

    /// What the kernel has ever charged for bytes and for time.
    pub fn served(&self, mac: Mac) -> (Units, Units) {
        let before = self.served_before.get(&mac).copied().unwrap_or_default();
        let bytes = before.reading.spent.saturating_add(self.kernel.reading(mac).spent);
        (bytes, before.time.saturating_add(self.kernel.served(self.now, mac)))
    }

    fn served_bytes(&self, mac: Mac) -> bitmesh_core::Reading {
        let before = self.served_before.get(&mac).copied().unwrap_or_default();
        before.reading.plus(&self.kernel.reading(mac))
    }

    /// Notes what has been charged by now, for [`Self::check_loss`].
    pub fn remember(&mut self) {
        let macs = self.kernel.known().into_iter();
        let charged = |mac| (mac, (self.kernel.reading(mac).spent, self.served(mac).1));
        let charged: BTreeMap<_, _> = macs.map(charged).collect();
        self.past.push_back((self.now, charged));
        let old = |(at, _): &(BootTime, _)| at.after(MAX_LOSS * 2) < self.now;
        while self.past.front().is_some_and(old) {
            self.past.pop_front();
        }
    }

    /// At a reboot of a machine that was well, only the usage of the last second is lost.
    pub fn check_loss(&self) -> Result<(), Violation> {
        if self.well_since.after(MAX_LOSS) > self.now {
            return Ok(());
        }
        let old = |(at, _): &&(BootTime, _)| at.after(MAX_LOSS) <= self.now;
        let Some((_, charged)) = self.past.iter().rev().find(old) else { return Ok(()) };
        for (mac, (spent, time)) in charged {
            let durable = self.store.usages.get(&(*mac, self.kernel.epoch));
            let durable = durable.map(|usage| usage.reading.spent).unwrap_or_default();
            hold!(durable >= *spent, "{mac:?} lost usage: {durable:?} of {spent:?} is durable");
            let durable = self.store.time_charged(*mac);
            let short = time.saturating_sub(durable);
            hold!(short <= self.lost_time(*mac), "{mac:?} lost time: {durable:?} of {time:?}");
        }
        Ok(())
    }

    fn lost_time(&self, mac: Mac) -> Units {
        self.lost_time.get(&mac).copied().unwrap_or_default()
    }

    /// When all is well again, every account is whole.
    pub fn check_at_rest(&self) -> Result<(), Violation> {
        let Some(gateway) = &self.gateway else { return Err("no agent".to_owned()) };
        hold!(gateway.summary().changing == 0, "a change never ended: {:?}", gateway.summary());
        self.check_promises()?;
        hold!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        for account in gateway.accounts() {
            let gate = self.kernel.gate(account.mac);
            hold!(gate.is_some() == account.open, "{account:?} against {gate:?}");
            let credited = self.store.credited(account.mac, None);
            hold!(credited == account.credited, "{account:?} of {credited:?}");
            if let Some(image) = gate {
                let state = self.store.accounts[&account.mac];
                let before = self.store.spent_before(account.mac, self.kernel.epoch);
                let gone = before.saturating_add(state.time_settled);
                let prepaid = credited.units().saturating_sub(gone);
                hold!(image.prepaid == prepaid, "{image:?} instead of {prepaid:?}");
            }
            let (_, time) = self.served(account.mac);
            let charged = time.saturating_sub(self.lost_time(account.mac)).floor();
            hold!(account.charged_for_time >= charged, "{account:?} was served {time:?}");
        }
        Ok(())
    }
}
