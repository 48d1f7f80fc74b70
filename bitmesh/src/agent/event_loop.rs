//! The loop: facts in, obligations out.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bitmesh_common::abi::{EVENT_EXHAUSTED, EVENT_LOW, EVENT_STRANGER, Meter};
use bitmesh_core::{
    BatchId, BootTime, Command, Gateway, Input, Mac, Reading, Record, Sample, Tariff,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::chain::{ChainWorker, News};
use super::copies::Copies;
use super::guard::Guard;
use super::owners::Owners;
use super::requests::{Asker, Grant, Requests, shown, tariff_of};
use super::{AgentError, book, guard, now};
use crate::chain::Cursor;
use crate::config::Config;
use crate::control::{Asked, ChainStatus, Request, Response, Status, Unbilled};
use crate::meter::{AttachmentView, MeterError, Meters};
use crate::portal;
use crate::store::{Full, Report, Writer};

/// The LAN interfaces are looked at anew this often, if nothing was heard of them.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// Stations without an account are looked for among those that were heard in this time.
const STRANGER_WITHIN: Duration = Duration::from_secs(10);

/// The core hears of the time at least this often: timers stand still while a machine sleeps.
pub(super) const MAX_SLEEP: Duration = Duration::from_secs(1);

/// How long an agent that ends waits for the disk.
const MAX_LAST_WRITE: Duration = Duration::from_secs(5);

/// Hints of the kernel that are read before something else has its turn.
const MAX_EVENTS_PER_TURN: usize = 256;

/// The core, and the shells that serve it.
pub(super) struct EventLoop {
    pub(super) config: Config,
    pub(super) gateway: Gateway,
    meters: Meters,
    guard: Guard,
    owners: Owners,
    writer: Writer,
    copies: Copies,
    heard: Heard,
    /// The thread that follows the chain, if channels are sold.
    chain: Option<ChainWorker>,
    pub(super) chain_status: Option<ChainStatus>,
    pub(super) requests: Requests,
    events: AsyncFd<OwnedFd>,
    /// The kernel says only once that there are hints; some of them may be left.
    more_events: bool,
    /// The batch that the writer had no room for: nothing overtakes it.
    stalled: Option<(BatchId, Vec<Record>)>,
    /// Batches that were given to the writer and not reported on.
    unwritten: u64,
    started: BootTime,
    terminated: Signal,
    interrupted: Signal,
}

/// Where the loop hears from.
pub(super) struct Heard {
    /// What became of batches.
    pub(super) reports: mpsc::Receiver<Report>,
    /// Operators.
    pub(super) asked: mpsc::Receiver<Asked>,
    /// Stations.
    pub(super) stations: mpsc::Receiver<portal::Asked>,
    /// The chain; nothing ever comes if none is followed.
    pub(super) news: mpsc::Receiver<News>,
}

/// What the loop woke up for.
enum Woken {
    Asked(Asked),
    Station(portal::Asked),
    News(News),
    Reported(Report),
    Event,
    Time,
    Neighbours,
    Refresh,
    End(&'static str),
}

impl EventLoop {
    /// A loop that is ready to run.
    pub(super) fn new(
        config: Config,
        gateway: Gateway,
        (meters, guard): (Meters, Guard),
        writer: Writer,
        heard: Heard,
        chain: Option<ChainWorker>,
        started: BootTime,
    ) -> Result<Self, AgentError> {
        let owners = Owners::new(config.anti_spoof, config.dhcp_leases.as_deref(), &meters)?;
        let copies = Copies::start(config.backup.as_ref(), &gateway)?;
        let events = meters.events_fd().try_clone_to_owned().map_err(AgentError::Runtime)?;
        let listen = |kind| signal(kind).map_err(AgentError::Runtime);
        Ok(Self {
            config,
            gateway,
            meters,
            guard,
            owners,
            writer,
            copies,
            heard,
            chain_status: chain.is_some().then(ChainStatus::starting),
            chain,
            requests: Requests::default(),
            events: watch(events)?,
            more_events: false,
            stalled: None,
            unwritten: 0,
            started,
            terminated: listen(SignalKind::terminate())?,
            interrupted: listen(SignalKind::interrupt())?,
        })
    }

    /// Runs until a signal comes.
    pub(super) async fn run(mut self) -> Result<(), AgentError> {
        self.announce()?;
        self.owners.look(&mut self.meters, now());
        let mut refresh = interval(REFRESH_EVERY);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.carry_out()?;
        if let Some(chain) = &self.chain {
            chain.begin();
        }
        loop {
            self.carry_out()?;
            let pause = self.pause();
            let woken = tokio::select! {
                biased;
                _ = self.terminated.recv() => Woken::End("SIGTERM"),
                _ = self.interrupted.recv() => Woken::End("SIGINT"),
                report = self.heard.reports.recv() => match report {
                    Some(report) => Woken::Reported(report),
                    None => return Err(AgentError::WriterEnded),
                },
                () = sleep(pause) => Woken::Time,
                ready = self.events.readable() => {
                    ready.map_err(AgentError::Runtime)?.clear_ready();
                    Woken::Event
                }
                stirred = self.guard.stirred() => {
                    stirred?;
                    Woken::Refresh
                }
                stirred = self.owners.stirred() => {
                    stirred?;
                    Woken::Neighbours
                }
                _ = refresh.tick() => Woken::Refresh,
                Some(news) = self.heard.news.recv() => Woken::News(news),
                Some(asked) = self.heard.asked.recv() => Woken::Asked(asked),
                Some(asked) = self.heard.stations.recv() => Woken::Station(asked),
                () = std::future::ready(()), if self.more_events => Woken::Event,
            };
            match woken {
                Woken::End(signal) => return self.end(signal).await,
                woken => self.handle(woken)?,
            }
        }
    }

    fn announce(&self) -> Result<(), AgentError> {
        let gate = if self.meters.is_new() { "new" } else { "taken over" };
        for AttachmentView { interface, uplink, downlink, .. } in self.meters.attachments()? {
            if let (Some(uplink), Some(downlink)) = (uplink, downlink) {
                tracing::info!(%interface, %uplink, %downlink, gate, "metering");
            }
        }
        tracing::info!(socket = %self.config.socket.display(), "ready");
        Ok(())
    }

    /// Until when the core need not hear of the time.
    fn pause(&self) -> Duration {
        match self.gateway.poll_timeout() {
            Some(at) => at.since(now()).min(MAX_SLEEP),
            None => MAX_SLEEP,
        }
    }

    fn handle(&mut self, woken: Woken) -> Result<(), AgentError> {
        match woken {
            Woken::Asked(asked) => return self.answer(asked),
            Woken::Station(asked) => self.station_asks(asked),
            Woken::News(news) => self.take_news(news),
            Woken::Reported(report) => self.take_report(report),
            Woken::Event => return self.read_events(),
            Woken::Time => self.gateway.handle_input(now(), Input::Tick),
            Woken::Neighbours => self.owners.look(&mut self.meters, now()),
            Woken::Refresh => {
                self.guard.look(&mut self.meters, &self.config);
                self.owners.look_for_leases(&mut self.meters, now());
                return self.look_for_strangers();
            }
            Woken::End(_) => {}
        }
        Ok(())
    }

    fn take_report(&mut self, report: Report) {
        self.unwritten = self.unwritten.saturating_sub(1);
        match report {
            Report::Persisted(batch) => {
                self.gateway.handle_input(now(), Input::Persisted(batch));
                self.copies.durable(batch, &self.gateway);
            }
            Report::Failed(batch, error) => {
                tracing::error!(%error, "a batch was not written");
                self.copies.failed(batch);
                self.gateway.handle_input(now(), Input::PersistFailed(batch));
            }
        }
    }

    /// Hints only: what they are about is read from the meters, those that are hinted at.
    fn read_events(&mut self) -> Result<(), AgentError> {
        let (mut hinted, mut knocking) = (BTreeSet::new(), BTreeSet::new());
        self.more_events = true;
        for _ in 0..MAX_EVENTS_PER_TURN {
            let Some(event) = self.meters.next_event() else {
                self.more_events = false;
                break;
            };
            let mac = shown(event.mac);
            match event.kind {
                EVENT_LOW => tracing::info!(%mac, "the balance runs low"),
                EVENT_EXHAUSTED => tracing::info!(%mac, "the balance is used up"),
                kind => tracing::debug!(%mac, kind, "heard from"),
            }
            if event.kind == EVENT_LOW || event.kind == EVENT_EXHAUSTED {
                hinted.insert(event.mac);
            }
            if event.kind == EVENT_EXHAUSTED || event.kind == EVENT_STRANGER {
                knocking.insert(event.mac);
            }
        }
        if !hinted.is_empty() {
            let before = now();
            let samples = self.meters.sample_some(&hinted);
            self.gateway.handle_input(before, Input::Sampled(samples));
        }
        self.knock(knocking.into_iter().collect());
        Ok(())
    }

    /// Who sends and can't pay may be given an allowance.
    fn knock(&mut self, macs: Vec<Mac>) {
        if self.config.allowance.is_some() && !macs.is_empty() {
            self.gateway.handle_input(now(), Input::Knocked(macs));
        }
    }

    /// The kernel says only once that a station is new, and says nothing if the ring is full.
    fn look_for_strangers(&mut self) -> Result<(), AgentError> {
        if self.config.allowance.is_none() {
            return Ok(());
        }
        let since = BootTime(now().0.saturating_sub(STRANGER_WITHIN.as_nanos() as u64));
        let strangers = self.meters.strangers_since(since)?;
        self.knock(strangers);
        Ok(())
    }

    /// The time of a sample is before its first reading.
    fn sample(&mut self) -> Result<(), AgentError> {
        let before = now();
        let samples = self.meters.sample();
        self.meters.flush_log();
        self.gateway.handle_input(before, Input::Sampled(samples));
        Ok(())
    }

    fn answer(&mut self, asked: Asked) -> Result<(), AgentError> {
        let Asked { request, answer } = asked;
        let input = match request {
            Request::Grant { mac, msat, tariff, id } => {
                let grant = Grant { mac, msat, tariff, id };
                match self.tariff(&grant) {
                    Ok(tariff) => self.requests.grant(&grant, tariff, answer),
                    Err(why) => {
                        drop(answer.send(Response::refused(why)));
                        return Ok(());
                    }
                }
            }
            Request::Stop { mac } => self.requests.stop(mac, Asker::Operator(answer)),
            Request::Status {} => {
                drop(answer.send(Response::Status(Box::new(self.status()?))));
                return Ok(());
            }
            Request::Accounts {} => {
                self.sample()?;
                drop(answer.send(self.accounts()?));
                return Ok(());
            }
            Request::Channels {} => {
                self.sample()?;
                drop(answer.send(self.channel_rows()));
                return Ok(());
            }
            Request::Receipt { channel } => {
                drop(answer.send(self.receipt(channel)));
                return Ok(());
            }
            Request::Close { channel } => self.close_channels(channel, answer),
        };
        self.gateway.handle_input(now(), input);
        Ok(())
    }

    /// The prices that a grant is to be sold at: those of the open session, unless all it has is an
    /// allowance, which has prices of its own.
    fn tariff(&self, grant: &Grant) -> Result<Tariff, String> {
        let account = self.gateway.account(grant.mac.0);
        let session = account.filter(|account| account.open && !account.is_allowance());
        let session = session.map(|account| account.tariff);
        tariff_of(grant.tariff.as_deref(), session, &self.config.tariffs)
    }

    fn accounts(&self) -> Result<Response, AgentError> {
        let meters = self.meters.read().into_iter().map(|meter| (meter.mac, meter));
        let meters: BTreeMap<Mac, Meter> = meters.collect();
        let accounts = self.gateway.accounts();
        let lines = accounts.iter().map(|account| {
            let unbilled = meters.get(&account.mac).map(book::unbilled_of);
            book::line_of(account, &self.config.tariffs, unbilled.unwrap_or_default())
        });
        Ok(Response::Accounts { at_ns: now().0, accounts: lines.collect() })
    }

    fn status(&self) -> Result<Status, AgentError> {
        let books = self.gateway.summary();
        let attachments = self.meters.attachments()?;
        let meters = self.meters.read();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: now().since(self.started).as_secs(),
            epoch: format!("{:016x}", self.meters.epoch().0),
            adopted: !self.meters.is_new(),
            bpffs: self.config.bpffs.display().to_string(),
            database: self.config.database.display().to_string(),
            attachments: attachments.into_iter().map(guard::shown).collect(),
            bypasses: self.guard.bypasses(),
            accounts: books.accounts as u64,
            open: books.open as u64,
            waiting: books.waiting as u64,
            unbilled: meters
                .iter()
                .fold(Unbilled::default(), |sum, meter| sum.plus(book::unbilled_of(meter))),
            unwritten_batches: self.unwritten + u64::from(self.stalled.is_some()),
            chain: self.chain_told(),
            channels: self.live_channels(),
            backup: self.copies.status(),
        })
    }

    /// Carries out what the core demands, in its order.
    fn carry_out(&mut self) -> Result<(), AgentError> {
        if let Some((batch, records)) = self.stalled.take()
            && !self.persist(batch, records)?
        {
            return Ok(());
        }
        while let Some(command) = self.gateway.poll_command() {
            let input = match command {
                Command::Persist { batch, records } => {
                    if self.persist(batch, records)? {
                        continue;
                    }
                    return Ok(());
                }
                Command::SetAccount(image) => {
                    let reading = self.gateway.reading(image.mac);
                    match self.meters.set_account(&image, reading) {
                        Ok(()) => Input::AccountSet(image.mac),
                        Err(MeterError::NoRoom) => Input::NoRoom(image.mac),
                        Err(error) => return Err(error.into()),
                    }
                }
                Command::DropMeter(mac) => {
                    self.meters.drop_meter(mac)?;
                    Input::MeterDropped(mac)
                }
                Command::CloseAccount(mac) => Input::Closed(self.close(mac)?),
                Command::Sample => {
                    self.sample()?;
                    continue;
                }
                Command::Reply { request, result } => {
                    self.requests.reply(request, result);
                    continue;
                }
                Command::ChannelReply { request, result } => {
                    self.requests.channel_reply(request, result);
                    continue;
                }
                Command::Channel(command) => {
                    if let Some(chain) = &self.chain {
                        chain.order(command);
                    }
                    continue;
                }
            };
            self.gateway.handle_input(now(), input);
        }
        Ok(())
    }

    /// `false` if the writer has no room: the next report tells when it has.
    fn persist(&mut self, batch: BatchId, records: Vec<Record>) -> Result<bool, AgentError> {
        self.copies.note(batch, &records);
        match self.writer.persist(batch, records) {
            Ok(()) => {
                self.unwritten += 1;
                Ok(true)
            }
            Err(Full::Waiting(records)) => {
                self.stalled = Some((batch, records));
                Ok(false)
            }
            Err(Full::Ended(_)) => Err(AgentError::WriterEnded),
        }
    }

    /// Keeps where the chain was read to, for the next start.
    pub(super) fn keep_cursor(&self, cursor: &Cursor) {
        match serde_json::to_string(cursor) {
            Ok(blocks) => self.writer.keep_cursor(blocks),
            Err(error) => tracing::warn!(%error, "where the chain was read to is not kept"),
        }
    }

    /// A subscriber whom the kernel never held has used nothing.
    fn close(&mut self, mac: Mac) -> Result<Sample, AgentError> {
        match self.meters.close_account(mac) {
            Err(MeterError::NoMeter) => Ok(Sample { mac, reading: Reading::default() }),
            closed => Ok(closed?),
        }
    }

    /// Writes what was used to the last, and leaves the gate as it is.
    async fn end(mut self, signal: &str) -> Result<(), AgentError> {
        self.heard.asked.close();
        self.heard.stations.close();
        self.sample()?;
        let deadline = Instant::now() + MAX_LAST_WRITE;
        self.carry_out()?;
        while self.unwritten > 0 || self.stalled.is_some() {
            match timeout_at(deadline, self.heard.reports.recv()).await {
                Ok(Some(report)) => self.take_report(report),
                Ok(None) => return Err(AgentError::WriterEnded),
                Err(_) => {
                    tracing::warn!("the disk is too slow: the usage of the last moment is lost");
                    break;
                }
            }
            self.carry_out()?;
        }
        if self.unwritten == 0 {
            drop(self.writer.finish());
        }
        self.copies.finish();
        tracing::info!(
            signal,
            "ending; the gate stays in place and goes on metering, `bitmesh teardown` removes it"
        );
        Ok(())
    }
}

/// Tells when there are hints.
pub(super) fn watch(events: OwnedFd) -> Result<AsyncFd<OwnedFd>, AgentError> {
    // SAFETY: the descriptor is owned, and nobody closes or replaces it while it is watched.
    #[allow(unsafe_code)]
    let watched = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
    watched.map_err(|error| AgentError::Runtime(error.into()))
}
