//! The accounts as operators see them.

use std::collections::BTreeMap;

use bitmesh_common::abi::Meter;
use bitmesh_core::{AccountView, StateWord, Tariff};

use crate::control::{AccountLine, State, Unbilled};
use crate::mac::MacText;

/// One account with the name of its prices.
pub(super) fn line_of(
    account: &AccountView,
    tariffs: &BTreeMap<String, Tariff>,
    unbilled: Unbilled,
) -> AccountLine {
    let Tariff {
        uplink_msat_per_mib,
        downlink_msat_per_mib,
        msat_per_minute,
        uplink_kbit_per_s,
        downlink_kbit_per_s,
        throttle_kbit_per_s,
    } = account.tariff;
    let name = tariffs.iter().find(|(_, tariff)| **tariff == account.tariff);
    AccountLine {
        mac: MacText(account.mac),
        state: state_of(account.state),
        session: account.session,
        tariff: name.map(|(name, _)| name.clone()),
        uplink_msat_per_mib,
        downlink_msat_per_mib,
        msat_per_minute,
        uplink_kbit_per_s,
        downlink_kbit_per_s,
        throttle_kbit_per_s,
        credited_msat: account.credited.0,
        balance_msat: account.balance.0,
        charged_msat: account.charged().0,
        charged_for_bytes_msat: account.charged_for_bytes.0,
        charged_for_time_msat: account.charged_for_time.0,
        rounding_msat: account.rounding.0,
        uplink_bytes: account.reading.uplink_bytes,
        uplink_packets: account.reading.uplink_packets,
        downlink_bytes: account.reading.downlink_bytes,
        downlink_packets: account.reading.downlink_packets,
        unbilled,
    }
}

/// What this meter counted and did not bill.
pub(super) const fn unbilled_of(meter: &Meter) -> Unbilled {
    Unbilled {
        dropped_closed: meter.dropped_closed,
        dropped_unpaid: meter.dropped_unpaid,
        dropped_limited: meter.dropped_limited,
        dropped_spoofed: meter.dropped_spoofed,
        dropped_malformed: meter.dropped_malformed,
        dropped_contended: meter.dropped_contended,
        uplink_throttled_bytes: meter.uplink_throttled_bytes,
        downlink_throttled_bytes: meter.downlink_throttled_bytes,
    }
}

const fn state_of(word: StateWord) -> State {
    match word {
        StateWord::Open => State::Open,
        StateWord::Closed => State::Closed,
        StateWord::Exhausted => State::Exhausted,
        StateWord::Waiting => State::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use bitmesh_core::{
        AccountState, BootTime, Credit, CreditId, CreditKind, Epoch, Gateway, Mac, MilliSat,
        Reading, Sample, Snapshot, Units,
    };

    use super::*;

    #[test]
    fn a_line_adds_up_and_names_the_tariff() {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let tariff = Tariff { downlink_msat_per_mib: 1, ..Tariff::default() };
        let account = AccountState {
            mac,
            revision: 1,
            session: 1,
            open: true,
            tariff,
            epoch: Epoch(1),
            start: BootTime(0),
            time_settled: Units(0),
        };
        let (id, kind, amount) = (CreditId(1), CreditKind::Grant, MilliSat(10));
        let credits = vec![Credit { id, mac, kind, amount }];
        let snapshot = Snapshot { credits, accounts: vec![account], ..Snapshot::default() };
        // Half a msat is spent: the balance is rounded down, and the rounding is shown.
        let reading =
            Reading { downlink_bytes: 1 << 19, spent: Units(1 << 19), ..Reading::default() };
        let held = vec![Sample { mac, reading }];
        let gateway = Gateway::restore(BootTime(1), Epoch(1), snapshot, held).expect("restored");
        let tariffs = BTreeMap::from([("night".to_owned(), tariff)]);
        let line = line_of(&gateway.accounts()[0], &tariffs, Unbilled::default());
        assert_eq!(line.tariff.as_deref(), Some("night"));
        assert_eq!(line.balance_msat, 9);
        assert_eq!(line.charged_msat, 1);
        let lines = line.charged_for_bytes_msat + line.charged_for_time_msat + line.rounding_msat;
        assert_eq!(line.credited_msat, line.balance_msat + lines);
        assert_eq!(line.downlink_bytes, 1 << 19);
        let unbilled = unbilled_of(&Meter { dropped_spoofed: 3, ..Meter::default() });
        let line = line_of(&gateway.accounts()[0], &BTreeMap::new(), unbilled);
        assert_eq!((line.tariff, line.unbilled.dropped_spoofed), (None, 3));
        assert_eq!(unbilled.plus(unbilled).dropped(), 6);
    }
}
