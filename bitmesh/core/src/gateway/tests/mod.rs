//! The promises of the state machine, one by one.

mod allowing;
mod crediting;
mod metering;
mod refusing;
mod restarting;
mod stopping;

use std::time::Duration;

use super::*;
use crate::io::{AccountImage, Answer, BatchId, Reading, Refusal, RequestId, Sample};
use crate::record::{AccountState, Record, Snapshot};
use crate::tariff::Tariff;
use crate::units::Units;
use crate::view::AccountView;

const EPOCH: Epoch = Epoch(7);
const ALICE: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const BOB: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
const REQUEST: RequestId = RequestId(1);

/// 1 msat a byte, either way.
const BYTES: Tariff = Tariff {
    uplink_msat_per_mib: 1 << 20,
    downlink_msat_per_mib: 1 << 20,
    msat_per_minute: 0,
    ..Tariff::FREE
};

/// 1 msat a millisecond.
const TIME: Tariff = Tariff {
    uplink_msat_per_mib: 0,
    downlink_msat_per_mib: 0,
    msat_per_minute: 60_000,
    ..Tariff::FREE
};

/// A gateway with a shell that does nothing by itself.
struct Desk {
    gateway: Gateway,
    now: BootTime,
}

impl Desk {
    fn new() -> Self {
        let now = BootTime(1_000_000_000);
        let gateway =
            Gateway::restore(now, EPOCH, Snapshot::default(), Vec::<Sample>::new()).unwrap();
        Self { gateway, now }
    }

    fn tell(&mut self, input: Input) {
        self.gateway.handle_input(self.now, input);
    }

    /// All commands that wait; those to read the meters are left out.
    fn commands(&mut self) -> Vec<Command> {
        let all = std::iter::from_fn(|| self.gateway.poll_command());
        all.filter(|command| *command != Command::Sample).collect()
    }

    /// The only command that waits.
    fn command(&mut self) -> Command {
        let mut commands = self.commands();
        assert_eq!(commands.len(), 1, "{commands:?}");
        commands.remove(0)
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    fn ask(&mut self, id: u128, mac: Mac, msat: u64, tariff: Tariff) {
        let (id, amount) = (CreditId(id), MilliSat(msat));
        self.tell(Input::Grant { request: REQUEST, id, mac, amount, tariff });
    }

    fn stop(&mut self, mac: Mac) {
        self.tell(Input::Stop { request: REQUEST, mac });
    }

    fn expect_persist(&mut self) -> (BatchId, Vec<Record>) {
        match self.command() {
            Command::Persist { batch, records } => (batch, records),
            other => panic!("{other:?} instead of a batch"),
        }
    }

    fn expect_set(&mut self) -> AccountImage {
        match self.command() {
            Command::SetAccount(image) => image,
            other => panic!("{other:?} instead of an image"),
        }
    }

    fn expect_reply(&mut self) -> Result<Answer, Refusal> {
        match self.command() {
            Command::Reply { request: REQUEST, result } => result,
            other => panic!("{other:?} instead of a reply"),
        }
    }

    fn persist(&mut self) -> Vec<Record> {
        let (batch, records) = self.expect_persist();
        self.tell(Input::Persisted(batch));
        records
    }

    fn fail(&mut self) {
        let (batch, _) = self.expect_persist();
        self.tell(Input::PersistFailed(batch));
    }

    fn set(&mut self) -> AccountImage {
        let image = self.expect_set();
        self.tell(Input::AccountSet(image.mac));
        image
    }

    /// A grant to the end: its image.
    fn grant(&mut self, id: u128, mac: Mac, msat: u64, tariff: Tariff) -> AccountImage {
        self.ask(id, mac, msat, tariff);
        self.persist();
        let image = self.set();
        assert!(matches!(self.expect_reply(), Ok(Answer::Granted { .. })));
        image
    }

    fn sample(&mut self, mac: Mac, reading: Reading) {
        self.tell(Input::Sampled(vec![Sample { mac, reading }]));
    }

    fn view(&self, mac: Mac) -> AccountView {
        self.gateway.account(mac).unwrap()
    }
}

/// A reading of one packet up, at [`BYTES`].
fn up(bytes: u64) -> Reading {
    let spent = MilliSat(bytes).units();
    Reading { uplink_bytes: bytes, uplink_packets: 1, spent, ..Reading::default() }
}

fn state_of(records: &[Record]) -> AccountState {
    let state = |record: &Record| match record {
        Record::Account(state) => Some(*state),
        _ => None,
    };
    records.iter().find_map(state).unwrap()
}
