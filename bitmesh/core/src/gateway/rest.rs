//! Meters that are given back, so that the kernel has room for others.
//!
//! ```text
//! close the gate → make the last reading durable → give the meter up → (forget the account)
//! ```
//!
//! Should the account need a meter again in the same life of the maps, the new one goes on from
//! the last reading ([`Gateway::reading`]): so the counts of an epoch only ever grow.

use std::time::Duration;

use bitmesh_common::abi::Mac;

use super::change::{Asker, Change, Goal, Step};
use super::{Gateway, MAX_CHANGES};
use crate::account::Account;
use crate::io::Reading;

/// An open account that has nothing left may lose its meter after so long without use.
pub const IDLE_AFTER: Duration = Duration::from_secs(600);

/// Meters that are given up for one account that has none.
pub const MAX_RESTS: usize = 16;

impl Gateway {
    /// What a new meter of this account begins with: what the last one of this life of the maps
    /// ended with.
    #[must_use]
    pub fn reading(&self, mac: Mac) -> Reading {
        self.accounts.get(&mac).map(|account| account.reading).unwrap_or_default()
    }

    /// Ends a session, gives its meter up and, if so, forgets the account.
    pub(super) fn rest(&mut self, mac: Mac, forget: bool) {
        let change = Change::new(Asker::Nobody, Goal::Rest { forget });
        self.go_on(mac, change, self.moment());
    }

    /// Gives meters up that nobody needs: of closed accounts first, then of those that have long
    /// had nothing left.
    pub(super) fn make_room(&mut self) {
        let room = MAX_CHANGES.saturating_sub(self.changes.len()).min(MAX_RESTS);
        let closed = self.accounts.iter().filter(|(_, account)| !account.state.open);
        let open = self.accounts.iter().filter(|(mac, account)| self.is_idle(**mac, account));
        let free = closed
            .chain(open)
            .filter(|(mac, account)| account.is_metered && !self.changes.contains_key(mac));
        let some: Vec<Mac> = free.take(room).map(|(mac, _)| *mac).collect();
        for mac in some {
            self.rest(mac, false);
        }
    }

    /// Whether an open account has long had nothing left, and no channel that may change that.
    fn is_idle(&self, mac: Mac, account: &Account) -> bool {
        account.state.open
            && account.is_spent()
            && self.now.since(account.active) >= IDLE_AFTER
            && !self.channels.is_paying(mac)
    }

    pub(super) fn meter_dropped(&mut self, mac: Mac) {
        let change = self.changes.get(&mac).filter(|change| change.step == Step::Dropping);
        let Some(mut change) = change.copied() else { return };
        if let Some(account) = self.accounts.get_mut(&mac) {
            account.is_metered = false;
        }
        change.meter_is_gone = true;
        self.go_on(mac, change, self.moment());
        // Whoever waits for room has it now.
        if let Some((_, waiting)) = self.waiting.pop_first() {
            self.waiting.insert((self.now, waiting));
        }
    }
}
