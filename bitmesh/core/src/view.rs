//! The books as people and programs see them.

use bitmesh_common::abi::Mac;
use serde::{Serialize, Serializer};

use crate::account::Account;
use crate::gateway::Gateway;
use crate::io::Reading;
use crate::ledger::Credits;
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat};

/// What an account is in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// The session is open and less than the whole prepaid is used.
    Open,
    /// There is no session; what is left stays on the account.
    Closed,
    /// The session is open, but not a whole msat is left.
    Exhausted,
    /// The session is open, but the kernel does not hold it yet: it has no room, or is about to.
    Waiting,
}

/// One account, as of the newest reading of its meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AccountView {
    /// Whose account; as text, six pairs of hexadecimal digits with colons.
    #[serde(serialize_with = "serialize_mac")]
    pub mac: Mac,
    /// What it is in a word.
    pub state: StateWord,
    /// Whether its session is open.
    pub open: bool,
    /// Number of the session, from 1.
    pub session: u64,
    /// From when on time is due: the start of the session, or of what a restart left of it.
    #[serde(rename = "start_ns")]
    pub start: BootTime,
    /// The prices of the session.
    pub tariff: Tariff,
    /// What was billed in all epochs.
    #[serde(flatten)]
    pub reading: Reading,
    /// All that was ever credited.
    #[serde(rename = "credited_msat")]
    pub credited: MilliSat,
    /// The same by where it came from, in msat.
    #[serde(rename = "credits_msat")]
    pub credits: Credits,
    /// What is left, rounded down.
    #[serde(rename = "balance_msat")]
    pub balance: MilliSat,
    /// What the bytes cost, rounded down.
    #[serde(rename = "charged_for_bytes_msat")]
    pub charged_for_bytes: MilliSat,
    /// What the time cost, rounded down.
    #[serde(rename = "charged_for_time_msat")]
    pub charged_for_time: MilliSat,
    /// Prepaid and not used, and on its way back with a close that is not final yet.
    #[serde(rename = "settling_msat")]
    pub settling: MilliSat,
    /// Prepaid and not used, and returned by a close.
    #[serde(rename = "returned_msat")]
    pub returned: MilliSat,
    /// Prepaid and not used, and taken by the payer's share of a close's fee.
    #[serde(rename = "close_fees_msat")]
    pub close_fees: MilliSat,
    /// Credited and not used, and gone with a funding that was undone.
    #[serde(rename = "undone_msat")]
    pub undone: MilliSat,
    /// What rounding took from the lines above, so that they sum up to the credits: to the msat,
    /// and in closes to the satoshi.
    #[serde(rename = "rounding_msat")]
    pub rounding: MilliSat,
}

/// All accounts together, as of the newest readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Accounts, closed ones included.
    pub accounts: usize,
    /// Accounts with an open session.
    pub open: usize,
    /// Accounts with an open session that the kernel does not hold.
    pub waiting: usize,
    /// Accounts that are being changed.
    pub changing: usize,
    /// All that was ever credited.
    #[serde(rename = "credited_msat")]
    pub credited: MilliSat,
    /// What is left, rounded down account by account.
    #[serde(rename = "balance_msat")]
    pub balance: MilliSat,
}

impl AccountView {
    /// Whether all that it ever had is an allowance: its subscriber has paid nothing yet.
    #[must_use]
    pub fn is_allowance(&self) -> bool {
        self.credits.allowances.0 > 0 && self.credits.are_allowances()
    }

    /// What was charged for bytes and time, and what rounding took.
    #[must_use]
    pub fn charged(&self) -> MilliSat {
        add(add(self.charged_for_bytes, self.charged_for_time), self.rounding)
    }

    fn new(account: &Account) -> Self {
        let statement = account.statement();
        let state = match (account.state.open, account.held_session(), statement.balance) {
            (false, _, _) => StateWord::Closed,
            (true, None, _) => StateWord::Waiting,
            (true, Some(_), MilliSat(0)) => StateWord::Exhausted,
            (true, Some(_), _) => StateWord::Open,
        };
        Self {
            mac: account.state.mac,
            state,
            open: account.state.open,
            session: account.state.session,
            start: account.state.start,
            tariff: account.state.tariff,
            reading: account.earlier.plus(&account.reading),
            credited: account.credits.total(),
            credits: account.credits,
            balance: statement.balance,
            charged_for_bytes: statement.charged_for_bytes,
            charged_for_time: statement.charged_for_time,
            settling: statement.withdrawals.settling,
            returned: statement.withdrawals.returned,
            close_fees: statement.withdrawals.fees,
            undone: statement.withdrawals.undone,
            rounding: statement.rounding,
        }
    }
}

impl Gateway {
    /// All accounts, closed ones included, in the order of their addresses.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountView> {
        self.books().map(AccountView::new).collect()
    }

    /// One account.
    #[must_use]
    pub fn account(&self, mac: Mac) -> Option<AccountView> {
        self.book(mac).map(AccountView::new)
    }

    /// All accounts together.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let empty = Summary { changing: self.changing(), ..Summary::default() };
        self.books().map(AccountView::new).fold(empty, |sum, account| Summary {
            accounts: sum.accounts + 1,
            open: sum.open + usize::from(account.open),
            waiting: sum.waiting + usize::from(account.state == StateWord::Waiting),
            changing: sum.changing,
            credited: add(sum.credited, account.credited),
            balance: add(sum.balance, account.balance),
        })
    }
}

/// 2^16 accounts of 2^44 msat each fit in 64 bits.
const fn add(a: MilliSat, b: MilliSat) -> MilliSat {
    MilliSat(a.0.saturating_add(b.0))
}

/// An address as people write it.
pub(crate) fn mac_text(mac: Mac) -> String {
    mac.octets.map(|octet| format!("{octet:02x}")).join(":")
}

pub(crate) fn serialize_mac<S: Serializer>(mac: &Mac, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&mac_text(*mac))
}
