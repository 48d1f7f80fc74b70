//! The gateway's evening on its disk: the seed, the database, grants, usage, channels, a restart.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint, Txid};
use bitmesh::seed;
use bitmesh::store::conformance::channels::{channel, update};
use bitmesh::store::conformance::{account, credit};
use bitmesh::store::{Report, Store};
use bitmesh_core::{
    AccountImage, BatchId, BootTime, ChannelState, Command, CreditId, Epoch, Funding, Gateway,
    Input, Mac, Meter, MilliSat, Reading, Record, RequestId, Sample, Snapshot, Tariff, Transfer,
    Units,
};

use super::session::{Said, Session};

/// Rounds of each of the two lives of the gateway.
const ROUNDS: u64 = 110;

/// Bytes of the chain's cursor, many more than a real one has: so SQLite's log reaches the 1,000
/// pages in each life at which it is taken into the database while the gateway goes on.
const CURSOR_BYTES: usize = 300_000;

/// Subscribers whose usage grows.
const SUBSCRIBERS: u8 = 3;

const TARIFF: Tariff = Tariff {
    uplink_msat_per_mib: 3_000,
    downlink_msat_per_mib: 20_000,
    msat_per_minute: 0,
    ..Tariff::FREE
};

/// What a packet of this session has in bytes.
const PACKET_BYTES: u64 = 1_500;

/// What each channel holds.
const CAPACITY_SAT: u64 = 200_000;

/// All that is durable in the gateway's folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Durable {
    snapshot: Snapshot,
    epoch: Option<Epoch>,
    cursor: Option<u64>,
}

/// The gateway.
#[derive(Debug)]
pub struct GatewaySession;

impl Session for GatewaySession {
    type State = Durable;

    const NAME: &'static str = "gateway";

    fn run(folder: &Path, said: Said<'_, Durable>) -> Result<()> {
        let mut life = Life::begin(folder, Epoch(7), said)?;
        for round in 0..ROUNDS {
            life.round(round, said)?;
        }
        drop(life);
        // The meters are new; what was used before is settled.
        let mut life = Life::begin(folder, Epoch(8), said)?;
        for round in ROUNDS..2 * ROUNDS {
            life.round(round, said)?;
        }
        Ok(())
    }

    fn restart(folder: &Path) -> Result<Durable> {
        seed::load_or_create(&folder.join("seed"))?;
        let found = look(&Store::open(&database(folder))?)?;
        balance(&found)?;
        Ok(found)
    }
}

fn database(folder: &Path) -> std::path::PathBuf {
    folder.join("data/bitmesh.db")
}

fn look(store: &Store) -> Result<Durable> {
    let (snapshot, epoch, cursor) = (store.load()?, store.current_epoch()?, store.cursor()?);
    // A number with many zeros: one that was torn is none.
    let whole = |text: String| {
        ensure!(text.len() == CURSOR_BYTES, "the cursor is torn");
        Ok(text.parse()?)
    };
    Ok(Durable { snapshot, epoch, cursor: cursor.map(whole).transpose()? })
}

/// The books that follow from the disk balance, and nothing is charged that was not credited.
fn balance(found: &Durable) -> Result<()> {
    let epoch = found.epoch.unwrap_or(Epoch(1));
    let snapshot = found.snapshot.clone();
    let gateway = Gateway::restore(BootTime(1), epoch, snapshot, Vec::<Sample>::new())?;
    for account in gateway.accounts() {
        let lines = [
            account.balance,
            account.charged_for_bytes,
            account.charged_for_time,
            account.settling,
            account.returned,
            account.close_fees,
            account.undone,
            account.rounding,
        ];
        let sum: u64 = lines.iter().map(|line| line.0).sum();
        ensure!(sum == account.credited.0, "the books do not balance: {account:?}");
        ensure!(account.charged() <= account.credited, "charged too much: {account:?}");
    }
    Ok(())
}

/// One life of the gateway, with a kernel that counts.
struct Life {
    store: Store,
    gateway: Gateway,
    held: BTreeMap<Mac, AccountImage>,
    meters: BTreeMap<Mac, Reading>,
    now: BootTime,
}

impl Life {
    fn begin(folder: &Path, epoch: Epoch, said: Said<'_, Durable>) -> Result<Self> {
        seed::load_or_create(&folder.join("seed"))?;
        let mut store = Store::open(&database(folder))?;
        store.begin_epoch(epoch)?;
        said(&|| look(&store))?;
        let snapshot = store.load()?;
        let gateway = Gateway::restore(BootTime(1), epoch, snapshot, Vec::<Sample>::new())?;
        let (held, meters) = (BTreeMap::new(), BTreeMap::new());
        let mut life = Self { store, gateway, held, meters, now: BootTime(1) };
        life.obey(said)?;
        Ok(life)
    }

    fn input(&mut self, input: Input) {
        self.gateway.handle_input(self.now, input);
    }

    /// Does what the core demands, batches that wait together in one transaction, until it rests.
    fn obey(&mut self, said: Said<'_, Durable>) -> Result<()> {
        loop {
            let mut group = Vec::new();
            while let Some(command) = self.gateway.poll_command() {
                match command {
                    Command::Persist { batch, records } => group.push((batch, records)),
                    Command::SetAccount(image) => {
                        self.held.insert(image.mac, image);
                        self.input(Input::AccountSet(image.mac));
                    }
                    Command::CloseAccount(mac) => {
                        self.held.remove(&mac);
                        let reading = self.meters.get(&mac).copied().unwrap_or_default();
                        self.input(Input::Closed(Sample { mac, reading }));
                    }
                    Command::DropMeter(mac) => {
                        self.meters.remove(&mac);
                        self.input(Input::MeterDropped(mac));
                    }
                    Command::Sample => {
                        let samples = self.meters.iter();
                        let sample = |(mac, reading): (&Mac, &Reading)| Sample {
                            mac: *mac,
                            reading: *reading,
                        };
                        let samples = samples.map(sample).collect();
                        self.input(Input::Sampled(samples));
                    }
                    Command::Reply { result, .. } => drop(result.context("refused")?),
                    Command::ChannelReply { .. } | Command::Channel(_) => {}
                }
            }
            if group.is_empty() {
                return Ok(());
            }
            self.commit(&group, said)?;
            for (batch, _) in group {
                self.input(Input::Persisted(batch));
            }
        }
    }

    fn commit(&mut self, group: &[(BatchId, Vec<Record>)], said: Said<'_, Durable>) -> Result<()> {
        let reports = self.store.commit(group);
        let failed = reports.iter().find(|report| matches!(report, Report::Failed(..)));
        ensure!(failed.is_none(), "not written: {failed:?}");
        said(&|| look(&self.store))
    }

    fn round(&mut self, round: u64, said: Said<'_, Durable>) -> Result<()> {
        self.now = self.now.after(bitmesh_core::gateway::SAMPLE_EVERY);
        for who in 1..=SUBSCRIBERS {
            if round % u64::from(SUBSCRIBERS) + 1 == u64::from(who) {
                self.grant(who, round);
            }
            self.traffic(who);
        }
        if round % 10 == 9 {
            let mac = account(SUBSCRIBERS, 1).mac;
            let request = RequestId(round);
            self.obey(said)?;
            self.input(Input::Stop { request, mac });
        }
        self.input(Input::Tick);
        self.obey(said)?;
        if round >= u64::from(SUBSCRIBERS) {
            self.channels(round, said)?;
        }
        if round.is_multiple_of(7) {
            let digits = round.to_string();
            let zeros = "0".repeat(CURSOR_BYTES - digits.len());
            self.store.keep_cursor(&(zeros + &digits))?;
            said(&|| look(&self.store))?;
        }
        Ok(())
    }

    fn grant(&mut self, who: u8, round: u64) {
        let (id, amount) = (CreditId(u128::from(round)), MilliSat(20_000));
        let mac = credit(0, who, 0).mac;
        self.input(Input::Grant { request: RequestId(round), id, mac, amount, tariff: TARIFF });
    }

    /// What the kernel lets pass: what is prepaid.
    fn traffic(&mut self, who: u8) {
        let mac = credit(0, who, 0).mac;
        let Some(image) = self.held.get(&mac) else { return };
        let meter = self.meters.entry(mac).or_default();
        for _ in 0..40 {
            let spent = Units(meter.spent.0 + PACKET_BYTES * image.tariff.downlink_msat_per_mib);
            if spent <= image.prepaid {
                meter.spent = spent;
                meter.downlink_bytes += PACKET_BYTES;
                meter.downlink_packets += 1;
            }
        }
    }

    /// A channel is opened, funded and paid through, one step a round; another is forgotten.
    fn channels(&mut self, round: u64, said: Said<'_, Durable>) -> Result<()> {
        let who = u8::try_from(round % 2)? + 1;
        let step = round / 2;
        let records = match step {
            2 => vec![Record::KeyIndex(who.into()), state(who, 1, false)],
            3 => vec![state(who, 2, true)],
            4 => vec![Record::KeyIndex(u32::from(who) + 8), state(who + 8, 1, false)],
            5 => vec![Record::Forget(channel(who + 8, 1).id)],
            // Its payer comes and goes between two addresses.
            6.. if step.is_multiple_of(5) => {
                let [here, there] = [who, SUBSCRIBERS].map(|who| account(who, 1).mac);
                let number = u32::try_from(step / 5)? - 1;
                let (from, to) = if number % 2 == 1 { (here, there) } else { (there, here) };
                let (used, began) = (Meter::default(), Some(Meter::default()));
                let channel = channel(who, 1).id;
                let kept = MilliSat(step);
                let first = Transfer { channel, number, from, to, kept, used, began };
                // One that comes again changes nothing.
                let again = Transfer { kept: MilliSat(0), ..first };
                let update = update(who, CAPACITY_SAT - step * 100);
                vec![Record::Update(update), Record::Transfer(first), Record::Transfer(again)]
            }
            6.. => vec![
                Record::Update(update(who, CAPACITY_SAT - step * 100)),
                // One that comes late changes nothing.
                Record::Update(update(who, CAPACITY_SAT - step * 50)),
            ],
            _ => return Ok(()),
        };
        self.commit(&[(BatchId(0), records)], said)
    }
}

fn state(who: u8, revision: u64, is_funded: bool) -> Record {
    let outpoint = OutPoint::new(Txid::from_byte_array([who; 32]), 0);
    let capacity = Amount::from_sat(CAPACITY_SAT);
    let funding = is_funded.then_some(Funding { outpoint, capacity, height: Some(101) });
    Record::Channel(Box::new(ChannelState { funding, ..channel(who, revision) }))
}
