//! One evening of subscribers who pay, from one seed.

use std::time::Duration;

use bitcoin::{FeeRate, Transaction};
use bitmesh_common::gate::Direction;
use bitmesh_core::gateway::channels::BURIED_BLOCKS;
use bitmesh_core::wire::ResumeBody;
use bitmesh_core::{ChannelInput, CreditId, Input, Mac, MilliSat, Tariff};
use rand::RngExt as _;

use crate::chain::outside;
use crate::world::{Fault, Seen, Violation, World};

/// Things that happen in an evening.
const STEPS: u32 = 150;

/// Blocks of a rare reorganisation, at most.
const MAX_DEPTH: u32 = 100;

/// From any open past the last call, the close and its burial.
const LAST_BLOCKS: u32 = 144 - 36 + BURIED_BLOCKS + 20;

const TARIFFS: [Tariff; 3] = [
    Tariff {
        uplink_msat_per_mib: 9_000_000,
        downlink_msat_per_mib: 20_000_001,
        msat_per_minute: 0,
        ..Tariff::FREE
    },
    Tariff {
        uplink_msat_per_mib: 0,
        downlink_msat_per_mib: 0,
        msat_per_minute: 60_000,
        ..Tariff::FREE
    },
    Tariff {
        uplink_msat_per_mib: 1_000_003,
        downlink_msat_per_mib: 0,
        msat_per_minute: 7_001,
        ..Tariff::FREE
    },
];

/// Runs the evening of this seed.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Seen, Violation> {
    let mut world = World::new(seed, fault)?;
    world.crash_chance = [0.0, 0.001, 0.01][world.rng.random_range(0..3)];
    for _ in 0..3 {
        world.subscriber();
    }
    for _ in 0..STEPS {
        world.something_happens()?;
        if world.gateway.is_none() {
            world.start_agent()?;
        }
    }
    world.all_is_well_again()?;
    Ok(world.seen)
}

impl World {
    fn something_happens(&mut self) -> Result<(), Violation> {
        let who = self.rng.random_range(0..self.subscribers.len());
        match self.rng.random_range(0..100) {
            0..22 => self.traffic(who)?,
            22..26 => self.come_back(who)?,
            26..55 => self.use_channel(who)?,
            55..65 => self.pass_some_time()?,
            65..78 => self.chain_goes_on()?,
            78..82 => self.pay_in_a_rush(who)?,
            82..84 => self.grant(who)?,
            84..86 => self.close_by_operator(who)?,
            86..88 => self.go_back(who)?,
            88..90 => self.store.full = self.rng.random_bool(0.4),
            90..91 => self.is_chain_down = self.rng.random_bool(0.3),
            91..93 => {
                self.kill_agent();
                self.start_agent()?;
            }
            93..95 => self.stop(who)?,
            95..97 => {
                let rate = [1, 2, 5, 40][self.rng.random_range(0..4)];
                self.feerate = FeeRate::from_sat_per_vb_u32(rate);
                self.poll_chain()?;
            }
            _ => self.reorganise()?,
        }
        self.check()
    }

    fn traffic(&mut self, who: usize) -> Result<(), Violation> {
        let me = &self.subscribers[who];
        let mac = if self.rng.random_bool(0.9) { me.mac } else { me.earlier };
        for _ in 0..self.rng.random_range(1..30) {
            let up = self.rng.random_bool(0.5);
            let direction = if up { Direction::Uplink } else { Direction::Downlink };
            let bytes = self.rng.random_range(20..66_000);
            let passed = self.kernel.packet(self.now, mac, direction, bytes);
            self.seen.packets += u64::from(passed);
            self.seen.denied += u64::from(!passed);
            let gap = Duration::from_micros(self.rng.random_range(1..20_000));
            self.pass(gap)?;
        }
        Ok(())
    }

    fn pass_some_time(&mut self) -> Result<(), Violation> {
        let most_ms = [10, 500, 5_000, 40_000][self.rng.random_range(0..4)];
        let span = Duration::from_millis(self.rng.random_range(0..most_ms));
        self.pass(span)
    }

    /// The next step of this subscriber's channel, or a wrong one.
    fn use_channel(&mut self, who: usize) -> Result<(), Violation> {
        let Some(own) = &self.subscribers[who].channel else { return self.new_channel(who) };
        let (id, asked) = (own.id, own.close_asked);
        let is_gone = self.store.channels.get(&id).is_none_or(|state| state.frozen.is_some());
        if own.payer.is_none() || (is_gone && !asked && self.rng.random_bool(0.5)) {
            return self.new_channel(who);
        }
        if asked || self.rng.random_bool(0.08) {
            let closed = self.close(who)?;
            if closed.is_some_and(|closed| closed.is_ok()) || self.rng.random_bool(0.3) {
                self.subscribers[who].channel = None;
            }
            return Ok(());
        }
        let more = self.rng.random_range(1..20_000);
        self.pay(who, more).map(drop)
    }

    /// The subscriber is back under another address, or the same, and takes its channel along; or
    /// it does not.
    fn come_back(&mut self, who: usize) -> Result<(), Violation> {
        let number = u8::try_from(who + 1).unwrap();
        let mac = Mac::new([2, 0, 0, 0, self.rng.random_range(0..3), number]);
        self.moves_to(who, mac);
        let own = self.subscribers[who].channel.as_ref();
        if own.is_none_or(|own| own.payer.is_none()) || self.rng.random_bool(0.1) {
            return Ok(());
        }
        let Some(Ok(body)) = self.proof(who)? else { return Ok(()) };
        if self.rng.random_bool(0.2) {
            // An update is under way meanwhile.
            let Some(update) = self.sign(who, 50) else { return Ok(()) };
            let (id, request) = (self.own(who).id, self.send(who, update)?);
            self.come_back_with(who, body)?;
            self.pass(Duration::from_secs(2))?;
            let answer = self.answers.remove(&request);
            return self.take_pay_answer(id, answer).map(drop);
        }
        self.come_back_with(who, body)
    }

    fn come_back_with(&mut self, who: usize, body: ResumeBody) -> Result<(), Violation> {
        let mac = self.subscribers[who].mac;
        let answer = self.resume_with(who, body.clone())?;
        let Some(answer) = answer else { return Ok(()) };
        match answer {
            Ok(view) if view.mac != mac => return Err(format!("{view:?} is not at {mac:?}")),
            Ok(_) => self.seen.resumed += 1,
            Err(_) => self.seen.not_resumed += 1,
        }
        if let Some(Ok(view)) = self.resume_with(who, body)? {
            return Err(format!("a proof was taken twice: {view:?}"));
        }
        Ok(())
    }

    fn new_channel(&mut self, who: usize) -> Result<(), Violation> {
        let tariff = TARIFFS[self.rng.random_range(0..TARIFFS.len())];
        let opened = self.open(who, tariff)?;
        if opened.is_some_and(|opened| opened.is_ok()) && self.rng.random_bool(0.9) {
            let capacity = self.rng.random_range(20_000..200_000);
            self.fund(who, capacity)?;
        }
        Ok(())
    }

    /// Updates one after another, whatever else is under way.
    fn pay_in_a_rush(&mut self, who: usize) -> Result<(), Violation> {
        if self.subscribers[who].channel.as_ref().is_none_or(|own| own.payer.is_none()) {
            return Ok(());
        }
        let mut sent = Vec::new();
        for _ in 0..self.rng.random_range(2..12) {
            let Some(body) = self.sign(who, 50) else { break };
            sent.push((self.send(who, body)?, body));
        }
        self.pass(Duration::from_secs(2))?;
        let id = self.own(who).id;
        for (request, body) in sent {
            let answer = self.answers.remove(&request);
            if let Some(Ok(answer)) = &answer
                && let bitmesh_core::ChannelAnswer::Accepted(accepted) = &**answer
            {
                self.seen.overtaken += u64::from(accepted.change_sat < body.change_sat);
            }
            self.take_pay_answer(id, answer)?;
        }
        Ok(())
    }

    fn grant(&mut self, who: usize) -> Result<(), Violation> {
        let (mac, id) = (self.subscribers[who].mac, CreditId(self.rng.random()));
        let amount = MilliSat(self.rng.random_range(1..500_000));
        let tariff = TARIFFS[self.rng.random_range(0..TARIFFS.len())];
        let request = self.request();
        self.tell(Input::Grant { request, id, mac, amount, tariff })
    }

    fn stop(&mut self, who: usize) -> Result<(), Violation> {
        let (request, mac) = (self.request(), self.subscribers[who].mac);
        self.tell(Input::Stop { request, mac })
    }

    fn close_by_operator(&mut self, who: usize) -> Result<(), Violation> {
        let own = self.subscribers[who].channel.as_ref().map(|own| own.id);
        let channel = own.filter(|_| self.rng.random_bool(0.8));
        self.ask(|request| ChannelInput::CloseByOperator { request, channel }).map(drop)
    }

    /// The payer is restored from an old state; what the gateway says tells it where to go on.
    fn go_back(&mut self, who: usize) -> Result<(), Violation> {
        let Some(own) = &self.subscribers[who].channel else { return Ok(()) };
        let Some(payer) = &own.payer else { return Ok(()) };
        let (id, signed) = (own.id, payer.newest().cloned());
        self.forget_updates(who);
        if let Some(Err(error)) = self.pay(who, 1)?
            && let Some(newest) = error.newest
        {
            self.adopt(who, &newest);
            let durable = self.store.updates.get(&id).map(|update| update.change_sat);
            if durable != Some(newest.change_sat) {
                return Err(format!("{newest:?} is not the newest of {id}: {durable:?}"));
            }
        }
        // Without an answer it asks until it has one: here, it remembers.
        if let (Some(signed), Some(payer)) = (signed, &mut self.own_mut(who).payer) {
            payer.adopt(signed).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn chain_goes_on(&mut self) -> Result<(), Violation> {
        if self.rng.random_bool(0.2) {
            return self.poll_chain();
        }
        let blocks = self.rng.random_range(1..4);
        self.mine(blocks)
    }

    /// Blocks leave the chain; a funding among them may be double-spent.
    fn reorganise(&mut self) -> Result<(), Violation> {
        self.seen.reorgs += 1;
        let most = if self.rng.random_bool(0.1) { MAX_DEPTH } else { 3 };
        let depth = self.rng.random_range(1..=most).min(self.chain.height());
        for _ in 0..depth {
            self.chain.disconnect();
        }
        self.seen.deepest = self.seen.deepest.max(depth.into());
        if self.rng.random_bool(0.4) {
            self.double_spend();
        }
        self.chain.mine_empty(u32::from(self.rng.random_bool(0.5)));
        self.poll_chain()?;
        self.chain.mine_empty(depth);
        self.poll_chain()
    }

    fn double_spend(&mut self) {
        let funding = |tx: &&Transaction| tx.version != bitcoin::transaction::Version(3);
        let Some(tx) = self.chain.mempool.iter().find(funding).cloned() else { return };
        let txid = tx.compute_txid();
        let lost = self
            .store
            .channels
            .values()
            .filter(|state| state.funding.is_some_and(|funding| funding.outpoint.txid == txid));
        let lost: Vec<_> = lost.map(|state| state.id).collect();
        self.undone.extend(lost);
        self.chain.evict(txid);
        let number = self.rng.random();
        let mut rival = tx;
        rival.output.clear();
        rival.input[0].previous_output = outside(number);
        self.chain.mempool.push(rival);
    }

    /// Disk and node work, nobody dies, and blocks come until every channel is over.
    fn all_is_well_again(&mut self) -> Result<(), Violation> {
        self.crash_chance = 0.0;
        self.store.full = false;
        self.is_chain_down = false;
        self.feerate = FeeRate::from_sat_per_vb_u32(2);
        self.kill_agent();
        self.start_agent()?;
        self.pass(Duration::from_secs(15))?;
        for _ in 0..LAST_BLOCKS {
            self.mine(1)?;
        }
        self.pass(Duration::from_secs(15))?;
        self.check()?;
        self.check_at_rest()
    }
}

impl Seen {
    fn each(&mut self) -> [&mut u64; 19] {
        [
            &mut self.opened,
            &mut self.accepted,
            &mut self.overtaken,
            &mut self.stale,
            &mut self.unconfirmed,
            &mut self.resumed,
            &mut self.not_resumed,
            &mut self.not_durable,
            &mut self.one_channel,
            &mut self.crashes,
            &mut self.reorgs,
            &mut self.lost,
            &mut self.together,
            &mut self.alone,
            &mut self.returned,
            &mut self.kept,
            &mut self.forgotten,
            &mut self.packets,
            &mut self.denied,
        ]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        self.deepest = self.deepest.max(other.deepest);
        self.each().into_iter().zip(other.each()).for_each(|(sum, more)| *sum += *more);
    }

    pub fn rarest(mut self) -> u64 {
        self.each().into_iter().map(|count| *count).min().unwrap_or(0)
    }
}
