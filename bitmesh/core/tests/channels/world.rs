//! A gateway that sells channels, with its kernel, its disk, its node and its subscribers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Network, ScriptBuf, Txid};
use bitmesh_core::bargain::BargainPolicy;
use bitmesh_core::channel::{OutputScript, Seed, TermsError};
use bitmesh_core::wire::{ApiError, ChannelId};
use bitmesh_core::{
    AccountImage, Answer, BatchId, BootTime, ChannelAnswer, ChannelCommand, ChannelInput,
    ChannelPolicy, ChannelResult, Command, EarlyCredit, Entropy, Epoch, Gateway, Input, Payout,
    Purpose, Record, Refusal, RequestId, Sample,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_xorshift::XorShiftRng;

use crate::chain::{Chain, Paid};
use crate::kernel::Kernel;
use crate::store::Store;
use crate::subscriber::Subscriber;

/// What went wrong.
pub type Violation = String;

/// A part of the world that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk says that a batch is durable before it is.
    EarlyAck,
    /// The disk keeps no updates.
    LostUpdates,
    /// The gate is not closed when the core says so.
    GateLeftOpen,
    /// The disk keeps no transfers.
    LostTransfers,
    /// The node is never given a close.
    LostBroadcasts,
}

/// How often each thing happened: a simulation in which it never does proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub opened: u64,
    pub accepted: u64,
    pub overtaken: u64,
    pub stale: u64,
    pub unconfirmed: u64,
    pub resumed: u64,
    pub not_resumed: u64,
    pub not_durable: u64,
    pub one_channel: u64,
    pub crashes: u64,
    pub reorgs: u64,
    /// Blocks that left the chain at once, at most.
    pub deepest: u64,
    pub lost: u64,
    pub together: u64,
    pub alone: u64,
    pub returned: u64,
    pub kept: u64,
    pub forgotten: u64,
    pub packets: u64,
    pub denied: u64,
}

/// What the agent's node has told it of one script.
struct Watched {
    script: ScriptBuf,
    paid: BTreeMap<bitcoin::OutPoint, Paid>,
    spent: Option<(Txid, Option<u32>)>,
}

pub struct World {
    pub rng: XorShiftRng,
    pub now: BootTime,
    pub kernel: Kernel,
    pub store: Store,
    pub gateway: Option<Gateway>,
    pub chain: Chain,
    pub subscribers: Vec<Subscriber>,
    pub fault: Option<Fault>,
    trace: bool,
    pub crash_chance: f64,
    pub seen: Seen,
    /// The node does not answer.
    pub is_chain_down: bool,
    /// When the newest block was made, if others may be withheld.
    pub block_unix_s: Option<u64>,
    pub feerate: FeeRate,
    pub confirmations: u32,
    pub early: Option<EarlyCredit>,
    /// Where closes pay the gateway.
    pub payout: Payouts,
    pub bargaining: Option<BargainPolicy>,
    watched: BTreeMap<ChannelId, Watched>,
    next_request: u64,
    /// Requests of this life of the agent that are not answered.
    open_requests: BTreeSet<RequestId>,
    pub answers: BTreeMap<RequestId, ChannelResult>,
    /// What the operator was told.
    pub operator: BTreeMap<RequestId, Result<Answer, Refusal>>,
    pub broadcasts: Vec<(Purpose, Txid)>,
    /// The least change of all updates that were acknowledged.
    pub promised: BTreeMap<ChannelId, u64>,
    /// Fundings that were double-spent.
    pub undone: BTreeSet<ChannelId>,
}

/// What the operator gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payouts {
    One,
    /// A script for each index.
    Ranged,
}

impl Payouts {
    fn build(self) -> Box<dyn Payout> {
        match self {
            Self::One => Box::new(script(0xbb)),
            Self::Ranged => Box::new(self),
        }
    }
}

impl Payout for Payouts {
    fn script(&self, index: u32) -> Result<OutputScript, TermsError> {
        Ok(script(0x80 + u8::try_from(index).expect("few channels")))
    }
}

pub fn script(byte: u8) -> OutputScript {
    OutputScript::new(ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat())).unwrap()
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> Result<Self, Violation> {
        let mut rng = XorShiftRng::seed_from_u64(seed);
        let epoch = Epoch(rng.random());
        let mut world = Self {
            rng,
            now: BootTime(1_000_000_000),
            kernel: Kernel::new(epoch, 100),
            store: Store::default(),
            gateway: None,
            chain: Chain::default(),
            subscribers: Vec::new(),
            fault,
            trace: std::env::var_os("BITMESH_TRACE").is_some(),
            crash_chance: 0.0,
            seen: Seen::default(),
            is_chain_down: false,
            block_unix_s: None,
            feerate: FeeRate::from_sat_per_vb_u32(1),
            confirmations: 1,
            early: None,
            payout: Payouts::One,
            bargaining: None,
            watched: BTreeMap::new(),
            next_request: 1,
            open_requests: BTreeSet::new(),
            answers: BTreeMap::new(),
            operator: BTreeMap::new(),
            broadcasts: Vec::new(),
            promised: BTreeMap::new(),
            undone: BTreeSet::new(),
        };
        world.chain.mine_empty(10);
        world.start_agent()?;
        Ok(world)
    }

    pub fn policy(&self) -> ChannelPolicy {
        ChannelPolicy {
            network: Network::Regtest,
            seed: Seed::new([0x5e; 32]),
            payout: self.payout.build(),
            min_capacity: Amount::from_sat(20_000),
            max_capacity: Amount::from_sat(1_000_000),
            min_first_update: Amount::from_sat(1_000),
            headroom: 2,
            max_close_fee: Amount::from_sat(2_000),
            lock_blocks: 144,
            margin_blocks: 36,
            confirmations: self.confirmations,
            early: self.early,
        }
    }

    pub fn unix_s(&self) -> u64 {
        1_700_000_000 + self.now.0 / 1_000_000_000
    }

    pub fn start_agent(&mut self) -> Result<(), Violation> {
        let (epoch, held) = (self.kernel.epoch, self.kernel.held());
        let restored = Gateway::restore(self.now, epoch, self.store.snapshot(), held);
        let gateway = restored.map_err(|error| error.to_string())?;
        let gateway = gateway.with_channels(self.policy()).map_err(|error| error.to_string())?;
        self.gateway = Some(gateway.with_bargaining(self.bargaining.clone()));
        self.watched.clear();
        self.obey()?;
        self.poll_chain()
    }

    pub fn kill_agent(&mut self) {
        if self.gateway.take().is_some() {
            if self.trace {
                println!("the agent dies");
            }
            self.seen.crashes += 1;
            self.open_requests.clear();
            self.store.crash(&mut self.rng);
        }
    }

    /// Tells the agent, if it is alive, and does what it then demands.
    pub fn tell(&mut self, input: Input) -> Result<(), Violation> {
        self.tell_of(self.now, input)?;
        self.obey()
    }

    fn tell_of(&mut self, at: BootTime, input: Input) -> Result<(), Violation> {
        if self.trace {
            println!("{at:?} tip {}: {input:?}", self.chain.tip());
        }
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_input(at, input);
        }
        self.check_all_books()
    }

    pub fn fact(&mut self, fact: ChannelInput) -> Result<(), Violation> {
        self.tell(Input::Channel(fact))
    }

    pub fn request(&mut self) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        if self.gateway.is_some() {
            self.open_requests.insert(request);
        }
        request
    }

    pub fn entropy(&mut self) -> Entropy {
        Entropy(self.rng.random())
    }

    /// Asks, and lets time pass until there is an answer; none if the agent dies meanwhile.
    pub fn ask(
        &mut self,
        input: impl FnOnce(RequestId) -> ChannelInput,
    ) -> Result<Option<ChannelResult>, Violation> {
        let request = self.request();
        self.fact(input(request))?;
        for _ in 0..200 {
            if let Some(answer) = self.answers.remove(&request) {
                return Ok(Some(answer));
            }
            if self.gateway.is_none() {
                return Ok(None);
            }
            self.pass(Duration::from_millis(100))?;
        }
        Err(format!("{request:?} was never answered"))
    }

    fn dies(&mut self) -> bool {
        let dies = self.rng.random_bool(self.crash_chance);
        if dies {
            self.kill_agent();
        }
        dies
    }

    /// Carries out the agent's commands; it may die before and after each.
    pub fn obey(&mut self) -> Result<(), Violation> {
        for _ in 0..10_000 {
            let Some(command) = self.gateway.as_mut().and_then(Gateway::poll_command) else {
                return Ok(());
            };
            if self.trace {
                println!("    {command:?}");
            }
            if self.dies() {
                return Ok(());
            }
            self.carry_out(command)?;
        }
        Err("the core never stops commanding".to_owned())
    }

    fn set_account(&mut self, image: AccountImage) -> Option<u64> {
        let reading = self.gateway.as_ref().map(|gateway| gateway.reading(image.mac));
        self.kernel.set(self.now, image, reading.unwrap_or_default())
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Violation> {
        let input = match command {
            Command::Persist { batch, records } => {
                return self.persist(batch, records);
            }
            Command::DropMeter(mac) => {
                self.kernel.drop_meter(mac);
                Input::MeterDropped(mac)
            }
            Command::SetAccount(image) => match self.set_account(image) {
                Some(_) => Input::AccountSet(image.mac),
                None => Input::NoRoom(image.mac),
            },
            Command::CloseAccount(mac) if self.fault == Some(Fault::GateLeftOpen) => {
                Input::Closed(Sample { mac, reading: self.kernel.reading(mac) })
            }
            Command::CloseAccount(mac) => Input::Closed(self.kernel.close(self.now, mac)),
            Command::Sample => Input::Sampled(self.kernel.sample()),
            Command::Reply { request, result } => {
                self.operator.insert(request, result);
                return self.answered(request);
            }
            Command::ChannelReply { request, result } => {
                self.note(&result);
                if let Ok(ChannelAnswer::Closing(told)) = result.as_ref().map(|answer| &**answer) {
                    self.check_closing(told)?;
                }
                self.answers.insert(request, result);
                return self.answered(request);
            }
            Command::Channel(command) => return self.chain_command(command),
        };
        self.check_disk_and_kernel()?;
        if self.dies() { Ok(()) } else { self.tell_of(self.now, input) }
    }

    fn answered(&mut self, request: RequestId) -> Result<(), Violation> {
        match self.open_requests.remove(&request) {
            true => Ok(()),
            false => Err(format!("{request:?} is answered twice, or was never asked")),
        }
    }

    fn note(&mut self, result: &ChannelResult) {
        let seen = &mut self.seen;
        match result.as_ref().map(|answer| &**answer) {
            Ok(ChannelAnswer::Opened(_)) => seen.opened += 1,
            Ok(ChannelAnswer::Accepted(_)) => seen.accepted += 1,
            Ok(_) => {}
            Err(ApiError { reason, .. }) => match reason.as_str() {
                "stale" => seen.stale += 1,
                "unconfirmed" => seen.unconfirmed += 1,
                "not_durable" => seen.not_durable += 1,
                "one_channel" => seen.one_channel += 1,
                _ => {}
            },
        }
    }

    fn persist(&mut self, batch: BatchId, mut records: Vec<Record>) -> Result<(), Violation> {
        let forgets = records.iter().filter(|record| matches!(record, Record::Forget(_))).count();
        self.seen.forgotten += u64::try_from(forgets).unwrap();
        records.retain(|record| match record {
            Record::Update(_) => self.fault != Some(Fault::LostUpdates),
            Record::Transfer(_) => self.fault != Some(Fault::LostTransfers),
            _ => true,
        });
        self.store.submit(&mut self.rng, self.now, batch, records);
        match self.fault == Some(Fault::EarlyAck) {
            true => self.tell_of(self.now, Input::Persisted(batch)),
            false => Ok(()),
        }
    }

    fn chain_command(&mut self, command: ChannelCommand) -> Result<(), Violation> {
        match command {
            ChannelCommand::Watch { channel, script, outpoint, since_height } => {
                if since_height > self.chain.tip() {
                    return Err(format!("{channel} is watched from the future on"));
                }
                let (value, height) = (Amount::ZERO, None);
                let known = |outpoint| (outpoint, Paid { outpoint, value, height });
                let paid = outpoint.into_iter().map(known).collect();
                self.watched.insert(channel, Watched { script, paid, spent: None });
            }
            ChannelCommand::Unwatch { channel } => drop(self.watched.remove(&channel)),
            ChannelCommand::Broadcast {
                purpose: Purpose::CooperativeClose | Purpose::UnilateralClose,
                ..
            } if self.fault == Some(Fault::LostBroadcasts) => {}
            ChannelCommand::Broadcast { channel, purpose, tx } => {
                self.check_broadcast(channel, purpose, &tx)?;
                self.broadcasts.push((purpose, tx.compute_txid()));
                if self.is_chain_down {
                    return Ok(());
                }
                if let Err(why) = self.chain.submit(*tx) {
                    let refused = ChannelInput::BroadcastRefused { channel, purpose, why };
                    return self.tell_of(self.now, Input::Channel(refused));
                }
            }
        }
        Ok(())
    }

    /// The agent's node says what changed since it last did.
    pub fn poll_chain(&mut self) -> Result<(), Violation> {
        if self.is_chain_down {
            return self.fact(ChannelInput::ChainDown);
        }
        let (height, unix_s) = (self.chain.tip(), self.unix_s());
        self.fact(ChannelInput::FeeRate(self.feerate))?;
        let ids: Vec<ChannelId> = self.watched.keys().copied().collect();
        for id in ids {
            for fact in self.news(id) {
                self.fact(fact)?;
            }
        }
        let block_unix_s = self.block_unix_s;
        self.fact(ChannelInput::Tip { height, unix_s, block_unix_s })
    }

    fn news(&mut self, channel: ChannelId) -> Vec<ChannelInput> {
        let Some(watched) = self.watched.get_mut(&channel) else { return Vec::new() };
        let mut news = Vec::new();
        let paid = self.chain.paid(&watched.script);
        for paid in &paid {
            if watched.paid.insert(paid.outpoint, *paid) != Some(*paid) {
                let Paid { outpoint, value: capacity, height } = *paid;
                news.push(ChannelInput::FundingSeen { channel, outpoint, capacity, height });
            }
        }
        let there: BTreeSet<_> = paid.iter().map(|paid| paid.outpoint).collect();
        watched.paid.retain(|outpoint, _| {
            if !there.contains(outpoint) {
                news.push(ChannelInput::FundingGone { channel, outpoint: *outpoint });
            }
            there.contains(outpoint)
        });
        let spend = there.iter().find_map(|outpoint| self.chain.spend(*outpoint));
        let now = spend.map(|(tx, height)| (tx.compute_txid(), height));
        if now != watched.spent {
            match (watched.spent, spend) {
                (_, Some((tx, height @ Some(_)))) => {
                    let tx = Box::new(tx.clone());
                    news.push(ChannelInput::SpendSeen { channel, tx, height });
                }
                (Some((txid, Some(_))), _) => {
                    news.push(ChannelInput::SpendGone { channel, txid });
                }
                _ => {}
            }
            watched.spent = now;
        }
        news
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

    fn settle_now(&mut self) -> Result<(), Violation> {
        for _ in 0..1_000 {
            self.obey()?;
            if let Some((batch, durable)) = self.store.done(self.now) {
                self.check_disk_and_kernel()?;
                match durable {
                    true if self.fault == Some(Fault::EarlyAck) => {}
                    true => self.tell(Input::Persisted(batch))?,
                    false => self.tell(Input::PersistFailed(batch))?,
                }
                continue;
            }
            let alarm = self.gateway.as_ref().and_then(Gateway::poll_timeout);
            if alarm.is_none_or(|alarm| alarm > self.now) {
                return Ok(());
            }
            self.tell(Input::Tick)?;
        }
        Err("the core asks for the time again and again".to_owned())
    }

    /// A block with all that waits; the agent hears of it.
    pub fn mine(&mut self, blocks: u32) -> Result<(), Violation> {
        for _ in 0..blocks {
            self.chain.mine();
            self.poll_chain()?;
            self.pass(Duration::from_millis(400))?;
        }
        Ok(())
    }
}
