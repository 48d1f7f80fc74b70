//! What the portal is told of a visitor, and what follows from it.

use bitcoin::Network;
use bitmesh_core::{AccountView, BootTime, StateWord, Tariff};

/// The largest whole number that every reader of JSON holds exactly (RFC 8259 §6).
const MAX_NUMBER: u64 = (1 << 53) - 1;

const BYTES_PER_MIB: u128 = 1 << 20;
/// What a download is made of: packets as long as Ethernet carries (RFC 894).
const PACKET_BYTES: u128 = 1_500;
const SECONDS_PER_MINUTE: u128 = 60;

/// One visitor, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// What a new session costs.
    pub price: Tariff,
    /// The chain that payment channels are sold on. Without one, the operator grants.
    pub sells_channels: Option<Network>,
    /// Whether bids are taken.
    pub bargains: bool,
    /// The visitor's account, if there is one.
    pub account: Option<AccountView>,
    /// When this was so.
    pub now: BootTime,
}

impl Visit {
    /// The prices that hold: those of the open session, else those of a new one.
    pub(super) fn tariff(&self) -> Tariff {
        self.open().map_or(self.price, |account| account.tariff)
    }

    /// How the visitor is served: as its account says, but that a rest which pays for no packet of
    /// [`PACKET_BYTES`] is as good as nothing: no page loads with it.
    pub(super) fn state(&self) -> Option<StateWord> {
        let account = self.account.as_ref()?;
        let is_rest = account.state == StateWord::Open && account.balance.0 < packet_msat(account);
        Some(if is_rest { StateWord::Exhausted } else { account.state })
    }

    /// Whether the visitor's packets pass, for money. An allowance is there to pay with: a device
    /// that believes itself online would close the page.
    pub(super) fn is_online(&self) -> bool {
        let given = self.account.is_some_and(|account| account.is_allowance());
        self.state() == Some(StateWord::Open) && !given
    }

    /// The account, if its session is open.
    pub(super) fn open(&self) -> Option<&AccountView> {
        self.account.as_ref().filter(|account| account.open)
    }

    /// Bytes until the balance is used up, both ways together, if bytes cost something: what the
    /// balance buys at the dearer of the two prices, so that no less than this passes. Time that
    /// costs, too, is not taken off: nobody knows how long the bytes will take.
    pub(super) fn bytes_remaining(&self) -> Option<u64> {
        let account = self.account.filter(|_| self.is_online())?;
        let dearer = account.tariff.uplink_msat_per_mib.max(account.tariff.downlink_msat_per_mib);
        bought(account.balance.0, BYTES_PER_MIB, dearer)
    }

    /// Seconds until the balance is used up, if time costs something and nothing else is used.
    pub(super) fn seconds_remaining(&self) -> Option<u64> {
        let account = self.account.filter(|_| self.is_online())?;
        bought(account.balance.0, SECONDS_PER_MINUTE, account.tariff.msat_per_minute)
    }

    /// Seconds since the session began, as long as it is open.
    pub(super) fn seconds_online(&self) -> Option<u64> {
        self.open().map(|account| self.now.since(account.start).as_secs())
    }
}

/// What a packet of [`PACKET_BYTES`] costs in the dearer direction, rounded up.
fn packet_msat(account: &AccountView) -> u64 {
    let tariff = &account.tariff;
    let dearer = tariff.uplink_msat_per_mib.max(tariff.downlink_msat_per_mib);
    let cost = (u128::from(dearer) * PACKET_BYTES).div_ceil(BYTES_PER_MIB);
    u64::try_from(cost).unwrap_or(u64::MAX)
}

/// How many the balance buys, rounded down, if `parts` of them have this price. None if free.
fn bought(balance_msat: u64, parts: u128, price_msat: u64) -> Option<u64> {
    let many = (u128::from(balance_msat) * parts).checked_div(u128::from(price_msat))?;
    Some(u64::try_from(many).unwrap_or(MAX_NUMBER).min(MAX_NUMBER))
}

#[cfg(test)]
pub(super) mod tests {
    use bitmesh_core::{Credits, Mac, MilliSat, Reading};

    use super::*;

    /// An account of Bob with this much left.
    pub(in crate::portal) fn account(
        state: StateWord,
        tariff: Tariff,
        balance_msat: u64,
    ) -> AccountView {
        AccountView {
            mac: Mac::new([2, 0, 0, 0, 0, 0x0b]),
            state,
            open: state != StateWord::Closed,
            session: 1,
            start: BootTime(1_000_000_000),
            tariff,
            reading: Reading {
                uplink_bytes: 1_000_000,
                downlink_bytes: 3 << 20,
                ..Reading::default()
            },
            credited: MilliSat(balance_msat),
            credits: Credits::default(),
            balance: MilliSat(balance_msat),
            charged_for_bytes: MilliSat(0),
            charged_for_time: MilliSat(0),
            settling: MilliSat(0),
            returned: MilliSat(0),
            close_fees: MilliSat(0),
            undone: MilliSat(0),
            rounding: MilliSat(0),
        }
    }

    /// A visit of Bob's.
    pub(in crate::portal) fn visit(account: Option<AccountView>) -> Visit {
        let price = Tariff { uplink_msat_per_mib: 1, ..Tariff::default() };
        Visit {
            price,
            sells_channels: Some(Network::Regtest),
            bargains: true,
            account,
            now: BootTime(62_000_000_000),
        }
    }

    fn open(tariff: Tariff, balance_msat: u64) -> Visit {
        visit(Some(account(StateWord::Open, tariff, balance_msat)))
    }

    #[test]
    fn bytes_remaining_are_what_the_dearer_price_buys_rounded_down() {
        let both = Tariff {
            uplink_msat_per_mib: 3,
            downlink_msat_per_mib: 2,
            msat_per_minute: 0,
            ..Tariff::FREE
        };
        assert_eq!(open(both, 10).bytes_remaining(), Some(10 * (1 << 20) / 3));
        let swapped = Tariff { uplink_msat_per_mib: 2, downlink_msat_per_mib: 3, ..both };
        assert_eq!(open(swapped, 10).bytes_remaining(), Some(10 * (1 << 20) / 3));
        assert_eq!(open(both, 10).seconds_remaining(), None);
    }

    #[test]
    fn seconds_remaining_are_what_the_balance_buys_and_free_things_have_no_end() {
        let timed = Tariff { msat_per_minute: 7, ..Tariff::default() };
        assert_eq!(open(timed, 10).seconds_remaining(), Some(85));
        assert_eq!(open(timed, 10).bytes_remaining(), None);
        assert_eq!(open(Tariff::default(), 10).seconds_remaining(), None);
    }

    #[test]
    fn numbers_stay_within_what_json_holds_exactly() {
        let cheap = Tariff { uplink_msat_per_mib: 1, msat_per_minute: 1, ..Tariff::default() };
        let rich = open(cheap, MilliSat::MAX.0);
        assert_eq!(rich.bytes_remaining(), Some(MAX_NUMBER));
        assert_eq!(rich.seconds_remaining(), Some(MilliSat::MAX.0 * 60));
    }

    #[test]
    fn a_rest_that_pays_for_no_whole_packet_is_as_good_as_nothing() {
        // A msat a byte down, nothing up.
        let down = Tariff { downlink_msat_per_mib: 1 << 20, ..Tariff::default() };
        assert_eq!(open(down, 1_500).state(), Some(StateWord::Open));
        let rest = open(down, 1_499);
        assert_eq!(rest.state(), Some(StateWord::Exhausted));
        assert!(!rest.is_online() && rest.bytes_remaining().is_none());
        assert!(open(Tariff::default(), 0).is_online(), "what is free needs no balance");
    }

    #[test]
    fn who_is_not_served_has_nothing_remaining() {
        let timed = Tariff { uplink_msat_per_mib: 1, msat_per_minute: 7, ..Tariff::default() };
        for state in [StateWord::Closed, StateWord::Exhausted, StateWord::Waiting] {
            let visit = visit(Some(account(state, timed, 5)));
            assert!(!visit.is_online());
            assert_eq!((visit.bytes_remaining(), visit.seconds_remaining()), (None, None));
        }
        assert!(!visit(None).is_online() && visit(None).seconds_online().is_none());
        assert_eq!(open(timed, 5).seconds_online(), Some(61));
    }
}
