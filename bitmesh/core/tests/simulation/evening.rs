//! One evening of subscribers, from one seed.

use std::time::Duration;

use bitmesh_common::gate::Direction;
use bitmesh_core::{
    AccountState, BootTime, Credit, CreditId, CreditKind, Epoch, Gateway, Input, Mac, MilliSat,
    Record, RequestId, Tariff, Units,
};
use rand::RngExt as _;

use crate::check::DEAREST_MINUTE;
use crate::seen::Seen;
use crate::world::{ALLOWANCE, Asked, Fault, Violation, World};

/// Things that happen in an evening.
const STEPS: u32 = 250;

const TARIFFS: [Tariff; 5] = [
    Tariff {
        uplink_msat_per_mib: 1_000_000,
        downlink_msat_per_mib: 2_000_001,
        msat_per_minute: 0,
        ..Tariff::FREE
    },
    Tariff {
        uplink_msat_per_mib: 0,
        downlink_msat_per_mib: 0,
        msat_per_minute: DEAREST_MINUTE,
        ..Tariff::FREE
    },
    Tariff {
        uplink_msat_per_mib: 500_003,
        downlink_msat_per_mib: 0,
        msat_per_minute: 7_001,
        ..Tariff::FREE
    },
    Tariff { uplink_msat_per_mib: 3, downlink_msat_per_mib: 1, msat_per_minute: 1, ..Tariff::FREE },
    Tariff { uplink_msat_per_mib: 0, downlink_msat_per_mib: 0, msat_per_minute: 0, ..Tariff::FREE },
];

/// Runs the evening of this seed.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Seen, Violation> {
    let mut world = World::new(seed, fault)?;
    world.inherit()?;
    for _ in 0..STEPS {
        world.something_happens()?;
    }
    world.all_is_well_again()?;
    Ok(world.seen)
}

const fn mac(who: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, who])
}

impl World {
    /// A subscriber comes with money of every kind, left from another evening.
    fn inherit(&mut self) -> Result<(), Violation> {
        let state = AccountState {
            mac: mac(0),
            revision: 4,
            session: 2,
            open: false,
            tariff: TARIFFS[0],
            epoch: Epoch(1),
            start: BootTime(5),
            time_settled: Units(0),
        };
        self.store.write(Record::Account(state));
        let kinds = [CreditKind::Grant, CreditKind::TopUp, CreditKind::Channel];
        for (id, kind) in (1..).map(CreditId).zip(kinds) {
            let credit = Credit { id, mac: mac(0), kind, amount: MilliSat(50 + 10 * id.0 as u64) };
            self.store.write(Record::Credit(credit));
        }
        self.start_agent()
    }

    fn random_mac(&mut self) -> Mac {
        mac(self.rng.random_range(0..7))
    }

    pub fn random_packet(&mut self) {
        let mac = self.random_mac();
        let up = self.rng.random_bool(0.5);
        let direction = if up { Direction::Uplink } else { Direction::Downlink };
        let bytes = self.rng.random_range(20..66_000);
        let passed = self.kernel.packet(self.now, mac, direction, bytes);
        self.seen.packets += u64::from(passed);
        self.seen.denied += u64::from(!passed);
    }

    fn something_happens(&mut self) -> Result<(), Violation> {
        match self.rng.random_range(0..100) {
            0..40 => self.traffic()?,
            40..58 => self.grant()?,
            58..64 => self.stop()?,
            64..82 => self.pass_some_time()?,
            82..84 => self.strangers()?,
            84..88 => self.repeat_something()?,
            88..91 => self.store.full = self.rng.random_bool(0.4),
            91..93 => self.kernel.room = self.rng.random_range(2..9),
            93..96 => self.crash_and_return()?,
            96..97 => self.crash_unseen()?,
            97..98 => self.reboot()?,
            98..99 => self.tell(Input::Tick)?,
            _ => self.strangers()?,
        }
        if self.gateway.is_none() {
            self.crash_and_return()?;
        }
        self.check()
    }

    fn traffic(&mut self) -> Result<(), Violation> {
        for _ in 0..self.rng.random_range(1..20) {
            self.random_packet();
            let gap = Duration::from_micros(self.rng.random_range(1..20_000));
            self.pass(gap)?;
        }
        Ok(())
    }

    fn pass_some_time(&mut self) -> Result<(), Violation> {
        let most_ms = [10, 500, 5_000, 30_000][self.rng.random_range(0..4)];
        let span = Duration::from_millis(self.rng.random_range(0..most_ms));
        if self.rng.random_bool(0.3) {
            self.random_packet();
        }
        self.pass(span)
    }

    fn grant(&mut self) -> Result<(), Violation> {
        let mac = self.random_mac();
        let known = self.paid.iter().filter(|(_, (of, _))| *of == mac);
        let known: Vec<_> = known.map(|(id, (_, amount))| (*id, *amount)).collect();
        let repeated = !known.is_empty() && self.rng.random_bool(0.2);
        let (id, amount) = if repeated {
            known[self.rng.random_range(0..known.len())]
        } else {
            let most = [50, 5_000, 200_000][self.rng.random_range(0..3)];
            (CreditId(self.rng.random()), MilliSat(self.rng.random_range(1..most)))
        };
        let open = self.store.accounts.get(&mac).filter(|account| account.open);
        let same = open.map(|account| account.tariff).filter(|_| self.rng.random_bool(0.7));
        let tariff = same.unwrap_or_else(|| TARIFFS[self.rng.random_range(0..TARIFFS.len())]);
        self.seen.switched += u64::from(open.is_some_and(|account| account.tariff != tariff));
        if self.gateway.is_none() {
            return Ok(());
        }
        let request = RequestId(self.rng.random());
        let given = if repeated && self.fault == Some(Fault::CreditTwice) {
            CreditId(self.rng.random())
        } else {
            id
        };
        self.asked.insert(request, Asked::Credit(id, mac, amount));
        self.paid.insert(id, (mac, amount));
        self.tell(Input::Grant { request, id: given, mac, amount, tariff })?;
        if self.rng.random_bool(0.5) {
            self.pass(Duration::from_millis(300))?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Violation> {
        if self.gateway.is_none() {
            return Ok(());
        }
        let mac = self.random_mac();
        let request = RequestId(self.rng.random());
        self.asked.insert(request, Asked::Stop(mac));
        self.tell(Input::Stop { request, mac })
    }

    /// Stations try to send, some of them with ever new addresses.
    fn strangers(&mut self) -> Result<(), Violation> {
        let many = self.rng.random_range(1..8);
        let macs = (0..many).map(|_| mac(self.rng.random_range(0..60))).collect();
        self.tell(Input::Knocked(macs))
    }

    /// The agent dies, and comes back after a while in which traffic goes on.
    fn crash_and_return(&mut self) -> Result<(), Violation> {
        self.kill_agent();
        for _ in 0..self.rng.random_range(0..10) {
            self.random_packet();
            self.now = self.now.after(Duration::from_millis(self.rng.random_range(0..2_000)));
        }
        if self.rng.random_bool(0.1) {
            self.reboot()?;
        }
        self.start_agent()?;
        self.obey()
    }

    /// The agent dies between two steps, and its successor shows the same books.
    fn crash_unseen(&mut self) -> Result<(), Violation> {
        let crash_chance = std::mem::take(&mut self.crash_chance);
        self.store.full = false;
        self.pass(Duration::from_secs(2))?;
        let samples = self.kernel.sample();
        self.tell_of(self.now, Input::Sampled(samples))?;
        let busy = self.gateway.as_ref().is_none_or(|gateway| {
            let summary = gateway.summary();
            summary.changing > 0 || summary.waiting > 0
        });
        if !busy {
            let before = self.gateway.as_ref().map(Gateway::accounts).unwrap_or_default();
            self.kill_agent();
            self.start_agent()?;
            let after = self.gateway.as_ref().map(Gateway::accounts).unwrap_or_default();
            self.seen.compared += 1;
            if before.len() != after.len() {
                return Err("a crash changed the number of accounts".to_owned());
            }
            if let Some((old, new)) = before.iter().zip(&after).find(|(old, new)| old != new) {
                return Err(format!("the books changed in a crash: {old:?}, then {new:?}"));
            }
        }
        self.obey()?;
        self.crash_chance = crash_chance;
        Ok(())
    }

    /// The disk works, there is room, nobody dies any more.
    fn all_is_well_again(&mut self) -> Result<(), Violation> {
        self.crash_chance = 0.0;
        self.store.full = false;
        self.kernel.room = 100;
        if self.gateway.is_none() {
            self.start_agent()?;
        }
        self.pass(Duration::from_secs(15))?;
        // Allowances lapse at any time: not just now.
        for _ in 0..ALLOWANCE.every.as_secs() {
            if self.gateway.as_ref().is_some_and(|gateway| gateway.summary().changing > 0) {
                self.pass(Duration::from_secs(1))?;
            }
        }
        let samples = self.kernel.sample();
        self.tell_of(self.now, Input::Sampled(samples))?;
        self.check_at_rest()
    }
}
