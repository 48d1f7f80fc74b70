//! What was counted, what was metered, what was charged, and what each must be.

use bitmesh_common::abi::{Account, Meter};
use bitmesh_common::money::UNITS_PER_MSAT;
use serde_json::{Value, json};

use super::Trade;
use crate::counter::Counts;
use crate::pins::cost;

/// The end of the demonstration.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What left the subscriber for the internet, counted by nftables in its namespace.
    pub uplink: Counts,
    /// What came from the internet to the subscriber, counted by nftables in its namespace.
    pub downlink: Counts,
    /// What the kernel metered.
    pub meter: Meter,
    /// What was prepaid, and the prices.
    pub account: Account,
    /// What the agent's books say was charged, in msat.
    pub charged_msat: u64,
    /// IP bytes of the packets that the balance ran dry on: what may be left unused.
    pub last_packet_bytes: u64,
    /// What the channels came to.
    pub trade: Trade,
}

impl Outcome {
    /// What the counted bytes cost, in units of 2⁻²⁰ msat.
    #[must_use]
    pub fn due_units(&self) -> u64 {
        cost(self.uplink.bytes, self.downlink.bytes, &self.account)
    }

    /// What the counted bytes cost, rounded up.
    #[must_use]
    pub fn due_msat(&self) -> u64 {
        self.due_units().div_ceil(UNITS_PER_MSAT)
    }

    /// What was prepaid.
    #[must_use]
    pub fn prepaid_msat(&self) -> u64 {
        self.account.prepaid / UNITS_PER_MSAT
    }

    /// Downlink bytes that passed beyond what was paid for.
    #[must_use]
    pub fn overshoot_bytes(&self) -> u64 {
        let beyond = self.due_units().saturating_sub(self.account.prepaid);
        beyond.div_ceil(self.account.downlink_msat_per_mib.max(1))
    }

    /// Everything that differs from what it must be.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let Self { uplink, downlink, meter, account, .. } = self;
        let metered_up = Counts { bytes: meter.uplink_bytes, packets: meter.uplink_packets };
        let metered_down = Counts { bytes: meter.downlink_bytes, packets: meter.downlink_packets };
        let unused = account.prepaid.saturating_sub(self.due_units());
        let last_packet = cost(0, self.last_packet_bytes, account);
        let checks = [
            (uplink.packets > 0 && downlink.packets > 0, "nothing moved".to_owned()),
            (*uplink == metered_up, format!("uplink: counted {uplink:?}, metered {metered_up:?}")),
            (
                *downlink == metered_down,
                format!("downlink: counted {downlink:?}, metered {metered_down:?}"),
            ),
            (meter.spent == self.due_units(), format!("spent is {} units", meter.spent)),
            (
                self.charged_msat == self.due_msat(),
                format!("{} msat charged, {} due", self.charged_msat, self.due_msat()),
            ),
            (self.overshoot_bytes() == 0, format!("{} bytes too many", self.overshoot_bytes())),
            (unused < last_packet, format!("closed too early: {unused} units were left")),
            (meter.dropped_unpaid > 0, "the gate never closed".to_owned()),
        ];
        let wrong = checks.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault);
        wrong.chain(self.trade.faults.iter().cloned()).collect()
    }

    /// The last line of `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        let faults = self.faults();
        json!({
            "result": if faults.is_empty() { "pass" } else { "fail" },
            "counted_bytes": self.uplink.bytes + self.downlink.bytes,
            "counted_uplink_bytes": self.uplink.bytes,
            "counted_downlink_bytes": self.downlink.bytes,
            "metered_bytes": self.meter.uplink_bytes + self.meter.downlink_bytes,
            "metered_uplink_bytes": self.meter.uplink_bytes,
            "metered_downlink_bytes": self.meter.downlink_bytes,
            "prepaid_msat": self.prepaid_msat(),
            "due_msat": self.due_msat(),
            "charged_msat": self.charged_msat,
            "overshoot_bytes": self.overshoot_bytes(),
            "dropped_packets": self.meter.dropped_unpaid,
            "funded_sat": self.trade.funded_sat,
            "settled_sat": self.trade.settled_sat,
            "returned_sat": self.trade.returned_sat,
            "fee_sat": self.trade.fee_sat,
            "updates": self.trade.updates,
            "faults": faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSAT_PER_MIB: u64 = 1_000_000;

    /// Three packets up and seven down, prepaid with a little to spare.
    fn right() -> Outcome {
        let uplink = Counts { bytes: 3_000, packets: 3 };
        let downlink = Counts { bytes: 7_000, packets: 7 };
        let account = Account {
            prepaid: 10_500 * MSAT_PER_MIB,
            uplink_msat_per_mib: MSAT_PER_MIB,
            downlink_msat_per_mib: MSAT_PER_MIB,
            ..Account::default()
        };
        let meter = Meter {
            uplink_bytes: 3_000,
            uplink_packets: 3,
            downlink_bytes: 7_000,
            downlink_packets: 7,
            spent: 10_000 * MSAT_PER_MIB,
            dropped_unpaid: 1,
            ..Meter::default()
        };
        let charged_msat = (10_000 * MSAT_PER_MIB).div_ceil(UNITS_PER_MSAT);
        Outcome {
            uplink,
            downlink,
            meter,
            account,
            charged_msat,
            last_packet_bytes: 1_000,
            trade: Trade::default(),
        }
    }

    #[test]
    fn the_right_numbers_have_no_fault() {
        assert_eq!(right().faults(), Vec::<String>::new());
        assert_eq!(right().json()["result"], "pass");
        assert_eq!(right().overshoot_bytes(), 0);
    }

    #[test]
    fn a_meter_that_is_off_by_a_header_is_a_fault() {
        let mut outcome = right();
        outcome.meter.downlink_bytes += 14;
        assert_eq!(outcome.json()["result"], "fail");
        let mut outcome = right();
        outcome.meter.uplink_bytes += 14;
        assert_eq!(outcome.faults().len(), 1);
    }

    #[test]
    fn a_byte_that_was_not_paid_for_is_a_fault() {
        let mut outcome = right();
        outcome.account.prepaid = 9_999 * MSAT_PER_MIB;
        assert_eq!(outcome.overshoot_bytes(), 1);
        assert_eq!(outcome.faults().len(), 1);
    }

    #[test]
    fn a_gate_that_closes_too_early_or_never_is_a_fault() {
        let mut outcome = right();
        outcome.account.prepaid = 11_000 * MSAT_PER_MIB;
        assert_eq!(outcome.faults().len(), 1);
        let mut outcome = right();
        outcome.meter.dropped_unpaid = 0;
        assert_eq!(outcome.faults().len(), 1);
    }

    #[test]
    fn what_a_block_pays_otherwise_is_a_fault() {
        let mut outcome = right();
        outcome.trade.faults.push("the block pays less".to_owned());
        assert_eq!(outcome.json()["result"], "fail");
    }

    #[test]
    fn a_charge_that_is_a_millisatoshi_off_is_a_fault() {
        let mut outcome = right();
        outcome.charged_msat += 1;
        assert_eq!(outcome.faults().len(), 1);
    }
}
