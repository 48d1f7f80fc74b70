//! A gateway with its kernel, its disk and its shell, under a clock of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bitmesh_core::{
    AccountImage, AccountState, AllowancePolicy, Answer, BatchId, BootTime, Command, CreditId,
    CreditKind, Epoch, Gateway, Held, Input, Mac, MilliSat, Reading, Record, Refusal, RequestId,
    Sample, Tariff, Units,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_xorshift::XorShiftRng;

use crate::kernel::Kernel;
use crate::seen::Seen;
use crate::store::Store;

/// What went wrong.
pub type Violation = String;

/// A part of the world that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk says that a batch is durable before it is.
    EarlyAck,
    /// The kernel is told a balance that forgets what was settled for time.
    ForgottenTime,
    /// The disk keeps no usage.
    LostUsage,
    /// The gate is not closed when the core says so.
    GateLeftOpen,
    /// A repeated credit gets a new identity.
    CreditTwice,
    /// A restarting agent takes every open session for served all the time.
    BlindRestart,
    /// A new meter begins from nothing.
    MeterFromZero,
    /// An allowance is given to whoever asks.
    NoTotal,
}

/// What is given to who can't pay, but for how much in total.
pub const ALLOWANCE: AllowancePolicy = AllowancePolicy {
    amount: MilliSat(100_000),
    total: MilliSat(300_000),
    tariff: Tariff {
        uplink_msat_per_mib: 1_000_003,
        downlink_msat_per_mib: 1_000_003,
        ..Tariff::FREE
    },
    every: Duration::from_secs(20),
};

/// What a subscriber was served in earlier epochs, by the kernel's own count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    pub reading: Reading,
    pub time: Units,
}

/// What was asked for and not yet answered.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    Credit(CreditId, Mac, MilliSat),
    Stop(Mac),
}

/// How much had been charged when: for the promise that a reboot loses a second at most.
pub type Past = VecDeque<(BootTime, BTreeMap<Mac, (Units, Units)>)>;

pub struct World {
    pub rng: XorShiftRng,
    pub now: BootTime,
    pub kernel: Kernel,
    pub store: Store,
    pub gateway: Option<Gateway>,
    pub fault: Option<Fault>,
    pub crash_chance: f64,
    pub seen: Seen,
    pub served_before: BTreeMap<Mac, Served>,
    pub asked: BTreeMap<RequestId, Asked>,
    /// What was ever asked for: no more than this may be credited.
    pub paid: BTreeMap<CreditId, (Mac, MilliSat)>,
    /// Credits whose grant was answered with success.
    pub promised: BTreeSet<CreditId>,
    pub past: Past,
    /// Since when the agent has been alive and the disk well.
    pub well_since: BootTime,
    /// Time that was served and will never be charged: it was not written when the machine lost
    /// its power, or when the agent died between closing a gate and writing it down.
    pub lost_time: BTreeMap<Mac, Units>,
    pub old_samples: VecDeque<(BootTime, Vec<Sample>)>,
    last_batch: Option<BatchId>,
    /// Whether every input and command is printed.
    trace: bool,
    /// The highest counts that the agent has shown.
    pub shown: BTreeMap<Mac, Reading>,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> Result<Self, Violation> {
        let mut rng = XorShiftRng::seed_from_u64(seed);
        let epoch = Epoch(rng.random());
        let room = rng.random_range(3..6);
        let crash_chance = [0.0, 0.002, 0.02][rng.random_range(0..3)];
        let mut store = Store::default();
        store.forgets_usage = fault == Some(Fault::LostUsage);
        let mut world = Self {
            rng,
            now: BootTime(1_000_000_000),
            kernel: Kernel::new(epoch, room),
            store,
            gateway: None,
            fault,
            crash_chance,
            seen: Seen::default(),
            served_before: BTreeMap::new(),
            asked: BTreeMap::new(),
            paid: BTreeMap::new(),
            promised: BTreeSet::new(),
            past: VecDeque::new(),
            well_since: BootTime(0),
            lost_time: BTreeMap::new(),
            old_samples: VecDeque::new(),
            last_batch: None,
            trace: std::env::var_os("BITMESH_TRACE").is_some(),
            shown: BTreeMap::new(),
        };
        world.start_agent()?;
        Ok(world)
    }

    /// A new agent goes on from what is durable and what the kernel holds.
    pub fn start_agent(&mut self) -> Result<(), Violation> {
        let cut: Vec<Mac> = self
            .store
            .accounts
            .values()
            .filter(|account| account.open && !self.serves(account))
            .map(|account| account.mac)
            .collect();
        cut.into_iter().for_each(|mac| self.lose_time(mac));
        self.note_forgotten();
        let held: Vec<Held> = if self.fault == Some(Fault::BlindRestart) {
            self.kernel.sample().into_iter().map(Held::from).collect()
        } else {
            self.kernel.held()
        };
        let restored = Gateway::restore(self.now, self.kernel.epoch, self.store.snapshot(), held);
        let restored = restored.map_err(|error| error.to_string())?;
        let restored = restored.with_allowance(self.allowance());
        self.gateway = Some(restored.map_err(|error| error.to_string())?);
        self.last_batch = None;
        self.old_samples.clear();
        self.well_since = self.now;
        self.check_promises()?;
        self.check()
    }

    /// What is given to who can't pay.
    fn allowance(&self) -> AllowancePolicy {
        let total = if self.fault == Some(Fault::NoTotal) { 100 } else { 3 };
        AllowancePolicy { total: MilliSat(total * ALLOWANCE.amount.0), ..ALLOWANCE }
    }

    /// What the disk has forgotten never was.
    fn note_forgotten(&mut self) {
        for mac in std::mem::take(&mut self.store.forgotten) {
            self.seen.forgotten += 1;
            self.kernel.forget(mac);
            self.shown.remove(&mac);
            self.served_before.remove(&mac);
            self.lost_time.remove(&mac);
            for (_, charged) in &mut self.past {
                charged.remove(&mac);
            }
        }
    }

    /// Whether the kernel serves this session.
    fn serves(&self, account: &AccountState) -> bool {
        let gate = self.kernel.gate(account.mac);
        gate.is_some_and(|gate| gate.start == account.start && gate.tariff == account.tariff)
    }

    /// What was served and is not durable will never be charged.
    fn lose_time(&mut self, mac: Mac) {
        let (_, served) = self.served(mac);
        let lost = served.saturating_sub(self.store.time_charged(mac));
        self.lost_time.insert(mac, lost);
    }

    /// The agent dies. The kernel goes on, and so does what the disk had begun.
    pub fn kill_agent(&mut self) {
        if self.gateway.take().is_some() {
            if self.trace {
                println!("{:>14} the agent dies", self.now.0);
            }
            self.seen.crashes += 1;
            self.asked.clear();
            self.store.crash(&mut self.rng);
        }
    }

    /// The machine loses its power.
    pub fn reboot(&mut self) -> Result<(), Violation> {
        let was_alive = self.gateway.is_some();
        self.kill_agent();
        if was_alive {
            self.check_loss()?;
        }
        if self.trace {
            println!("{:>14} the machine reboots", self.now.0);
        }
        self.seen.reboots += 1;
        for mac in self.kernel.known() {
            self.lose_time(mac);
            let served = self.served_before.entry(mac).or_default();
            served.reading = served.reading.plus(&self.kernel.reading(mac));
            served.time = served.time.saturating_add(self.kernel.served(self.now, mac));
        }
        let epoch = Epoch(self.rng.random());
        self.kernel = Kernel::new(epoch, self.kernel.room);
        self.now = BootTime(self.rng.random_range(1_000_000..1_000_000_000));
        self.past.clear();
        self.shown.clear();
        Ok(())
    }

    /// Tells the agent, if it is alive, and does what it then demands.
    pub fn tell(&mut self, input: Input) -> Result<(), Violation> {
        self.tell_of(self.now, input)?;
        self.obey()
    }

    pub fn tell_of(&mut self, at: BootTime, input: Input) -> Result<(), Violation> {
        if let Some(gateway) = &mut self.gateway {
            if self.trace {
                println!("{:>14} > {input:?}", at.0);
            }
            gateway.handle_input(at, input);
        }
        self.check()
    }

    /// Carries out the agent's commands; it may die before and after each.
    pub fn obey(&mut self) -> Result<(), Violation> {
        for _ in 0..10_000 {
            let Some(command) = self.gateway.as_mut().and_then(Gateway::poll_command) else {
                return Ok(());
            };
            self.pass_a_moment();
            if self.trace {
                println!("{:>14} < {command:?}", self.now.0);
            }
            if self.dies() {
                return Ok(());
            }
            self.carry_out(command)?;
        }
        Err("the core never stops commanding".to_owned())
    }

    fn dies(&mut self) -> bool {
        let dies = self.rng.random_bool(self.crash_chance);
        if dies {
            self.kill_agent();
        }
        dies
    }

    /// Time passes and packets come between any two steps of the agent.
    fn pass_a_moment(&mut self) {
        if self.rng.random_bool(0.3) {
            self.now = self.now.after(Duration::from_nanos(self.rng.random_range(1..300_000)));
            self.random_packet();
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Violation> {
        let input = match command {
            Command::Persist { batch, records } => {
                let allowed = records.iter().filter(|record| {
                    matches!(record, Record::Credit(credit) if credit.kind == CreditKind::Allowance)
                });
                self.seen.allowed += allowed.count() as u64;
                self.store.submit(&mut self.rng, self.now, batch, records);
                if self.fault != Some(Fault::EarlyAck) {
                    return Ok(());
                }
                Input::Persisted(batch)
            }
            Command::SetAccount(image) => self.set_account(image)?,
            Command::CloseAccount(mac) if self.fault == Some(Fault::GateLeftOpen) => {
                Input::Closed(Sample { mac, reading: self.kernel.reading(mac) })
            }
            Command::CloseAccount(mac) => Input::Closed(self.kernel.close(self.now, mac)),
            Command::DropMeter(mac) => {
                if self.kernel.gate(mac).is_some() {
                    return Err(format!("{mac:?} is to lose its meter, but is open"));
                }
                let usage = self.store.usages.get(&(mac, self.kernel.epoch));
                let durable = usage.map(|usage| usage.reading).unwrap_or_default();
                if durable != self.kernel.reading(mac) && self.kernel.has_meter(mac) {
                    return Err(format!("{mac:?} loses its meter, but {durable:?} is durable"));
                }
                self.seen.rested += u64::from(self.kernel.has_meter(mac));
                self.kernel.drop_meter(mac);
                Input::MeterDropped(mac)
            }
            Command::Sample => return self.sample(),
            Command::Reply { request, result } => return self.take_reply(request, result),
            Command::Channel(_) | Command::ChannelReply { .. } => {
                return Err(format!("nobody asked for channels: {command:?}"));
            }
        };
        self.check()?;
        if self.dies() { Ok(()) } else { self.tell_of(self.now, input) }
    }

    fn set_account(&mut self, mut image: AccountImage) -> Result<Input, Violation> {
        if self.fault == Some(Fault::ForgottenTime) {
            let settled = self.store.accounts.get(&image.mac).map(|account| account.time_settled);
            image.prepaid = image.prepaid.saturating_add(settled.unwrap_or_default());
        }
        self.check_image(&image)?;
        let old = self.kernel.gate(image.mac);
        let reading = self.gateway.as_ref().map(|gateway| gateway.reading(image.mac));
        let mut reading = reading.unwrap_or_default();
        if self.fault == Some(Fault::MeterFromZero) {
            reading = Reading::default();
        }
        let counted = self.kernel.reading(image.mac);
        if !self.kernel.has_meter(image.mac) && counted != Reading::default() {
            self.seen.rested += 1;
        }
        let Some(gap_ms) = self.kernel.set(self.now, image, reading) else {
            return Ok(Input::NoRoom(image.mac));
        };
        self.check_gap(&image, gap_ms)?;
        if let Some(old) = old {
            self.seen.resumed += u64::from(old.start != image.start && old.tariff == image.tariff);
        }
        Ok(Input::AccountSet(image.mac))
    }

    pub fn sample(&mut self) -> Result<(), Violation> {
        let before = self.now;
        self.pass_a_moment();
        let samples = self.kernel.sample();
        if self.rng.random_bool(0.05) {
            // Lost on the way: then a second may not be enough.
            self.well_since = self.now;
            return Ok(());
        }
        self.old_samples.push_back((before, samples.clone()));
        self.old_samples.truncate(8);
        self.tell_of(before, Input::Sampled(samples))
    }

    /// Facts that the agent has heard before.
    pub fn repeat_something(&mut self) -> Result<(), Violation> {
        if self.rng.random_bool(0.5) {
            let Some(batch) = self.last_batch else { return Ok(()) };
            return self.tell(Input::Persisted(batch));
        }
        if self.old_samples.is_empty() {
            return Ok(());
        }
        let which = self.rng.random_range(0..self.old_samples.len());
        let (at, samples) = self.old_samples[which].clone();
        self.tell_of(at, Input::Sampled(samples))?;
        self.obey()
    }

    /// Lets time pass; the agent and the disk do what falls due meanwhile.
    pub fn pass(&mut self, span: Duration) -> Result<(), Violation> {
        let until = self.now.after(span);
        loop {
            self.settle_now()?;
            let alarm = self.gateway.as_ref().and_then(Gateway::poll_timeout);
            let next = alarm.into_iter().chain(self.store.next_done()).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
        }
        self.now = self.now.max(until);
        self.settle_now()
    }

    /// Everything that is due now.
    fn settle_now(&mut self) -> Result<(), Violation> {
        for _ in 0..1_000 {
            self.obey()?;
            if let Some((batch, durable)) = self.store.done(self.now) {
                self.note_forgotten();
                self.remember();
                self.last_batch = Some(batch);
                if !durable {
                    self.well_since = self.now;
                }
                let early = self.fault == Some(Fault::EarlyAck);
                match durable {
                    true if early => {}
                    true => self.tell(Input::Persisted(batch))?,
                    false => self.tell(Input::PersistFailed(batch))?,
                }
                continue;
            }
            let alarm = self.gateway.as_ref().and_then(Gateway::poll_timeout);
            if alarm.is_none_or(|alarm| alarm > self.now) {
                return Ok(());
            }
            self.remember();
            self.tell(Input::Tick)?;
        }
        Err("the core asks for the time again and again".to_owned())
    }

    fn take_reply(
        &mut self,
        request: RequestId,
        result: Result<Answer, Refusal>,
    ) -> Result<(), Violation> {
        let Some(asked) = self.asked.remove(&request) else {
            return Err(format!("{request:?} is answered twice, or was never asked"));
        };
        match (asked, result) {
            (Asked::Credit(id, mac, amount), Ok(Answer::Granted { .. })) => {
                self.seen.granted += 1;
                let credit = self.store.credits.get(&id);
                if !credit.is_some_and(|held| held.mac == mac && held.amount == amount) {
                    return Err(format!("{id:?} was granted, but is not durable"));
                }
                if !self.promised.insert(id) {
                    self.seen.repeated += 1;
                }
            }
            (Asked::Credit(id, ..), Err(Refusal::NoRoom)) => {
                self.seen.no_room += 1;
                if !self.store.credits.contains_key(&id) {
                    return Err(format!("{id:?} waits for room, but is not durable"));
                }
                self.promised.insert(id);
            }
            (Asked::Credit(id, ..), Err(Refusal::NotDurable)) => {
                self.seen.not_durable += 1;
                if self.store.credits.contains_key(&id) {
                    return Err(format!("{id:?} was refused, but is durable"));
                }
            }
            (Asked::Stop(_), Err(Refusal::NotDurable)) => self.seen.not_durable += 1,
            (Asked::Stop(mac), Ok(Answer::Stopped { .. })) => {
                self.seen.stopped += 1;
                let state = self.store.accounts.get(&mac);
                if self.kernel.gate(mac).is_some() || state.is_none_or(|state| state.open) {
                    return Err(format!("{mac:?} was stopped, but is open"));
                }
            }
            (_, Err(Refusal::Busy)) => self.seen.busy += 1,
            (Asked::Stop(_), Err(Refusal::NoAccount)) => {}
            (asked, result) => return Err(format!("{asked:?} was answered {result:?}")),
        }
        Ok(())
    }
}
