//! Closing all channels on a machine that has no gate: from the seed and what there is of the
//! books, a copy of the database or a backup.

use std::collections::BTreeMap;

use bitmesh_core::backup::{BackupError, BackupLine};
use bitmesh_core::channel::Seed;
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{
    BatchId, ChannelInput, ChannelLine, Command, Epoch, FromBackup, Gateway, Held, Input, Reading,
    RequestId, Sample,
};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::chain::{ChainWorker, MAX_UNREAD_NEWS, News};
use super::event_loop::MAX_SLEEP;
use super::stations::is_over;
use super::{AgentError, now, policy};
use crate::config::{Config, Payments};
use crate::control::ChainStatus;
use crate::seed;
use crate::store::{Full, MAX_UNREAD_REPORTS, Report, Store, Writer};

/// The one request of the operator's: to close all.
const CLOSE_ALL: RequestId = RequestId(0);

/// What there is to tell on the way.
#[derive(Debug)]
pub enum Recovering {
    /// A channel of the backup is of no use.
    Refused(ChannelId, BackupError),
    /// So many channels were newer in the backup than in the database, or only there.
    Taken(usize),
    /// A channel is somewhere else than before. Nothing may be left of it to claim.
    Channel(ChannelLine),
    /// The chain is seen otherwise than before.
    Chain(ChainStatus),
    /// The disk refused: it is tried again.
    NotWritten(String),
}

/// Takes a backup into the database, and closes every channel on which something was paid. Gives
/// the channels when their closes are in blocks; `None` if a signal came before.
///
/// # Errors
///
/// Fails without the seed, the database or the chain's address, and on a machine with a gate: its
/// own database is newer than any copy.
pub fn recover(
    config: &Config,
    lines: Vec<BackupLine>,
    tell: &mut dyn FnMut(Recovering),
) -> Result<Option<Vec<ChannelLine>>, AgentError> {
    let payments = config.payments.as_ref().ok_or(AgentError::NoChannels)?;
    if config.bpffs.is_dir() {
        return Err(AgentError::GateHere(config.bpffs.clone()));
    }
    let seed = seed::load(&payments.channels.seed_file)?;
    let mut store = Store::open(&config.database)?;
    // As after a reboot: no meter of this machine counted anything of what was sold.
    let epoch = new_epoch()?;
    store.begin_epoch(epoch)?;
    take_backup(&mut store, epoch, lines, &seed, tell)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AgentError::Runtime)?;
    runtime.block_on(async { Recovery::start(payments, store, epoch)?.run(tell).await })
}

fn new_epoch() -> Result<Epoch, AgentError> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| AgentError::NoEntropy(error.into()))?;
    Ok(Epoch(u64::from_le_bytes(bytes)))
}

fn restored(store: &Store, epoch: Epoch) -> Result<Gateway, AgentError> {
    Ok(Gateway::restore(now(), epoch, store.load()?, Vec::<Held>::new())?)
}

fn take_backup(
    store: &mut Store,
    epoch: Epoch,
    lines: Vec<BackupLine>,
    seed: &Seed,
    tell: &mut dyn FnMut(Recovering),
) -> Result<(), AgentError> {
    if lines.is_empty() {
        return Ok(());
    }
    let FromBackup { records, taken, refused } =
        restored(store, epoch)?.taken_from_backup(lines, seed);
    for (id, error) in refused {
        tell(Recovering::Refused(id, error));
    }
    let reports = store.commit(&[(BatchId(0), records)]);
    if let Some(Report::Failed(_, error)) = reports.into_iter().next() {
        return Err(AgentError::NotRecovered(error.to_string()));
    }
    tell(Recovering::Taken(taken.len()));
    Ok(())
}

/// The core with a disk and a chain, and no kernel.
struct Recovery {
    gateway: Gateway,
    writer: Writer,
    /// The batch that the writer had no room for: nothing overtakes it.
    stalled: Option<Command>,
    reports: mpsc::Receiver<Report>,
    chain: ChainWorker,
    news: mpsc::Receiver<News>,
    told: BTreeMap<ChannelId, String>,
    chain_told: Option<ChainStatus>,
    terminated: Signal,
    interrupted: Signal,
}

impl Recovery {
    fn start(payments: &Payments, store: Store, epoch: Epoch) -> Result<Self, AgentError> {
        let policy = policy(payments, &store.load()?)?;
        let gateway = restored(&store, epoch)?.with_channels(policy)?;
        let (tell_news, news) = mpsc::channel(MAX_UNREAD_NEWS);
        // From the oldest channel on: where the chain was read to says nothing of those that only
        // the backup had.
        let chain = ChainWorker::start(&payments.chain, None, tell_news)?;
        let (tell, reports) = mpsc::channel(MAX_UNREAD_REPORTS);
        let writer = Writer::start(store, move |report| drop(tell.blocking_send(report)))?;
        let listen = |kind| signal(kind).map_err(AgentError::Runtime);
        Ok(Self {
            gateway,
            writer,
            stalled: None,
            reports,
            chain,
            news,
            told: BTreeMap::new(),
            chain_told: None,
            terminated: listen(SignalKind::terminate())?,
            interrupted: listen(SignalKind::interrupt())?,
        })
    }

    async fn run(
        mut self,
        tell: &mut dyn FnMut(Recovering),
    ) -> Result<Option<Vec<ChannelLine>>, AgentError> {
        self.obey()?;
        self.chain.begin();
        let close = ChannelInput::CloseByOperator { request: CLOSE_ALL, channel: None };
        self.hear(Input::Channel(close))?;
        loop {
            let paid = self.paid();
            self.tell_of(&paid, tell);
            if paid.iter().all(is_over) {
                drop(self.writer.finish());
                return Ok(Some(paid));
            }
            tokio::select! {
                _ = self.terminated.recv() => return Ok(None),
                _ = self.interrupted.recv() => return Ok(None),
                report = self.reports.recv() => {
                    self.take_report(report.ok_or(AgentError::WriterEnded)?, tell)?;
                }
                Some(news) = self.news.recv() => self.take_news(news, tell)?,
                () = sleep(MAX_SLEEP) => self.hear(Input::Tick)?,
            }
        }
    }

    /// Channels on which something was paid.
    fn paid(&self) -> Vec<ChannelLine> {
        let mut lines = self.gateway.channels();
        lines.retain(|line| line.credited_sat > 0);
        lines
    }

    fn tell_of(&mut self, lines: &[ChannelLine], tell: &mut dyn FnMut(Recovering)) {
        for line in lines {
            let before = self.told.insert(line.channel, line.sentence.clone());
            if before.as_ref() != Some(&line.sentence) {
                tell(Recovering::Channel(line.clone()));
            }
        }
    }

    fn take_report(
        &mut self,
        report: Report,
        tell: &mut dyn FnMut(Recovering),
    ) -> Result<(), AgentError> {
        match report {
            Report::Persisted(batch) => self.hear(Input::Persisted(batch)),
            Report::Failed(batch, error) => {
                tell(Recovering::NotWritten(error.to_string()));
                self.hear(Input::PersistFailed(batch))
            }
        }
    }

    fn take_news(
        &mut self,
        news: News,
        tell: &mut dyn FnMut(Recovering),
    ) -> Result<(), AgentError> {
        match news {
            News::Fact(fact) => self.hear(Input::Channel(*fact)),
            News::Status(status) => {
                if self.chain_told.as_ref().map(|told| told.state) != Some(status.state) {
                    tell(Recovering::Chain(status.clone()));
                }
                self.chain_told = Some(status);
                Ok(())
            }
            // The gateway that goes on with this database reads it anew.
            News::Settled(_) => Ok(()),
        }
    }

    fn hear(&mut self, input: Input) -> Result<(), AgentError> {
        self.gateway.handle_input(now(), input);
        self.obey()
    }

    fn obey(&mut self) -> Result<(), AgentError> {
        while let Some(command) = self.stalled.take().or_else(|| self.gateway.poll_command()) {
            let input = match command {
                Command::Persist { batch, records } => match self.writer.persist(batch, records) {
                    Ok(()) => continue,
                    Err(Full::Waiting(records)) => {
                        self.stalled = Some(Command::Persist { batch, records });
                        return Ok(());
                    }
                    Err(Full::Ended(_)) => return Err(AgentError::WriterEnded),
                },
                // Nobody is served here.
                Command::SetAccount(image) => Input::NoRoom(image.mac),
                Command::CloseAccount(mac) => {
                    Input::Closed(Sample { mac, reading: Reading::default() })
                }
                Command::DropMeter(mac) => Input::MeterDropped(mac),
                Command::Sample => Input::Sampled(Vec::new()),
                Command::Channel(command) => {
                    self.chain.order(command);
                    continue;
                }
                Command::Reply { .. } | Command::ChannelReply { .. } => continue,
            };
            self.gateway.handle_input(now(), input);
        }
        Ok(())
    }
}
