//! Paying while traffic flows.

use std::time::Duration;

use bitmesh_common::abi::Tally;
use bitmesh_core::channel::Payer;
use bitmesh_core::payer::{Purse, Spending, Used};
use bitmesh_core::wire::{ApiError, ChannelView, ChannelWord, UpdateBody};
use rustix::time::{ClockId, clock_gettime};

use super::connect::{Agent, id_of, refund_block};
use super::counter::CounterError;
use super::error::PayerError;
use super::event::{Event, Standing};
use super::funding::is_unknown;
use super::http::HttpError;
use super::state::{ChannelRecord, Phase};

/// How often the own count is read.
const TICK: Duration = Duration::from_millis(50);
/// How often the gateway's statement is asked for.
const LOOK_NS: u64 = 2_000_000_000;
/// How often the subscriber is told where it stands.
const SHOW_NS: u64 = 1_000_000_000;
/// How often the count is stored, if no update stores it.
const SAVE_NS: u64 = 5_000_000_000;
/// The pause after the first failure; it doubles up to the longest.
const FIRST_PAUSE_NS: u64 = 100_000_000;
/// The longest pause between two tries.
const LONGEST_PAUSE_NS: u64 = 5_000_000_000;

/// Reasons of a gateway that takes no more updates on a channel.
const NO_MORE: &[&str] = &["closing", "closed", "expiring"];

/// The own count of the traffic through the gateway.
pub trait Meter {
    /// What was counted since it started.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn read(&mut self) -> Result<Tally, CounterError>;
}

/// Why no more is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Stopped,
    Spent,
    Ending,
}

impl Why {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Stopped => "it was asked for",
            Self::Spent => "the budget is used up",
            Self::Ending => "the gateway takes no more payments on this channel",
        }
    }
}

/// A purse that pays no more, and is to be closed.
#[derive(Debug)]
pub(super) struct Paused {
    pub(super) why: Why,
    pub(super) purse: Purse,
}

/// What the gateway's statement leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    GoOn,
    Close(Why),
    Over,
}

/// Failures in a row, and when to try again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    not_before_ns: u64,
}

impl Backoff {
    /// The pause after this failure.
    pub(super) fn fail(&mut self, now_ns: u64) -> Duration {
        let doubled = FIRST_PAUSE_NS.saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(LONGEST_PAUSE_NS);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ns = now_ns.saturating_add(pause);
        Duration::from_nanos(pause)
    }

    const fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.not_before_ns
    }
}

/// One run of paying.
struct Run {
    purse: Purse,
    /// What was counted before this run.
    before: Used,
    /// What the meter said when this run began.
    tally: Tally,
    /// Since when time is counted: from the first payment on.
    since_ns: Option<u64>,
    /// Until the gateway was heard for the first time.
    is_new: bool,
    backoff: Backoff,
    look_ns: u64,
    show_ns: u64,
    save_ns: u64,
    updates: u64,
}

impl Agent<'_> {
    /// Pays until somebody stops it, the budget is used, or the gateway closes. None if the channel
    /// is over.
    pub(super) fn pay(&mut self, record: &mut ChannelRecord) -> Result<Option<Paused>, PayerError> {
        let mut run = self.begin(record)?;
        let why = loop {
            let now = now_ns();
            self.observe(&mut run, now)?;
            if self.stop.asked() > 0 {
                break Why::Stopped;
            }
            if !self.pay_what_is_due(record, &mut run, now)? {
                break Why::Ending;
            }
            match self.look_when_due(record, &mut run, now)? {
                Looked::GoOn => {}
                Looked::Close(why) => break why,
                Looked::Over => return Ok(None),
            }
            self.show_and_save(record, &mut run, now)?;
            self.stop.wait(TICK, 1);
        };
        self.observe(&mut run, now_ns())?;
        self.show(&run);
        Ok(Some(Paused { why, purse: run.purse }))
    }

    /// The purse of a channel that is only to be closed. None if it is over.
    pub(super) fn take_stock(
        &mut self,
        record: &mut ChannelRecord,
    ) -> Result<Option<Paused>, PayerError> {
        let mut run = self.begin(record)?;
        match self.look_when_due(record, &mut run, now_ns())? {
            Looked::Over => Ok(None),
            Looked::GoOn | Looked::Close(_) => {
                Ok(Some(Paused { why: Why::Stopped, purse: run.purse }))
            }
        }
    }

    fn begin(&mut self, record: &mut ChannelRecord) -> Result<Run, PayerError> {
        let agreement = record.agreed()?;
        let spending =
            Spending { tariff: agreement.tariff, budget: record.budget, step: self.setup.step };
        let payer =
            Payer::new(record.funded()?, record.secret(&self.state)?, record.newest_update()?)?;
        let is_paid = record.newest.is_some();
        let mut run = Run {
            purse: Purse::new(payer, spending, record.used, record.unseen_msat),
            before: record.used,
            tally: self.meter.read()?,
            since_ns: is_paid.then(now_ns),
            is_new: true,
            backoff: Backoff::default(),
            look_ns: 0,
            show_ns: 0,
            save_ns: 0,
            updates: 0,
        };
        run.purse.see(now_ns(), record.used);
        Ok(run)
    }

    fn observe(&mut self, run: &mut Run, now: u64) -> Result<(), PayerError> {
        let tally = self.meter.read()?;
        let seen = Used {
            uplink_bytes: tally.uplink_bytes.saturating_sub(run.tally.uplink_bytes),
            downlink_bytes: tally.downlink_bytes.saturating_sub(run.tally.downlink_bytes),
            time_ns: run.since_ns.map_or(0, |since| now.saturating_sub(since)),
        };
        if run.since_ns.is_some() {
            run.purse.see(now, run.before.plus(&seen));
        }
        Ok(())
    }

    /// Signs, stores and sends what is due. Gives whether the gateway takes payments.
    fn pay_what_is_due(
        &mut self,
        record: &mut ChannelRecord,
        run: &mut Run,
        now: u64,
    ) -> Result<bool, PayerError> {
        // The first look tells of updates that a restored state has forgotten.
        if !run.is_new
            && let Some(update) = run.purse.pay()?
        {
            record.newest = Some(UpdateBody::from(&update));
            self.save_count(record, run)?;
            run.updates += 1;
            if run.since_ns.is_none() {
                // Before the first payment nothing is served.
                run.tally = self.meter.read()?;
                run.since_ns = Some(now);
            }
        }
        let Some(update) = run.purse.unacknowledged() else { return Ok(true) };
        if !run.backoff.is_over(now) {
            return Ok(true);
        }
        let body = UpdateBody::from(update);
        match self.setup.gateway.update(id_of(record)?, &body) {
            Ok(accepted) => {
                run.backoff = Backoff::default();
                if run.purse.acknowledge(&accepted) {
                    // The gateway holds one that is not known here: its view has it.
                    run.look_ns = 0;
                }
                Ok(true)
            }
            Err(error) => self.not_paid(record, run, error, now),
        }
    }

    fn not_paid(
        &mut self,
        record: &mut ChannelRecord,
        run: &mut Run,
        error: HttpError,
        now: u64,
    ) -> Result<bool, PayerError> {
        if error.is_transient() {
            run.backoff.fail(now);
            self.warn(error);
            return Ok(true);
        }
        match error {
            HttpError::Refused(ApiError { reason, newest: Some(newest), .. })
                if reason == "stale" =>
            {
                self.adopt(record, run, &newest)?;
                Ok(true)
            }
            HttpError::Refused(error) if NO_MORE.contains(&error.reason.as_str()) => Ok(false),
            error => Err(self.left(record, &error.to_string())),
        }
    }

    /// Takes up an update that the gateway holds and this side has forgotten.
    fn adopt(
        &mut self,
        record: &mut ChannelRecord,
        run: &mut Run,
        newest: &UpdateBody,
    ) -> Result<(), PayerError> {
        if run.purse.adopt(newest)? {
            record.newest = Some(*newest);
            run.since_ns.get_or_insert_with(now_ns);
            self.save_count(record, run)?;
        }
        Ok(())
    }

    /// Hears the gateway's statement.
    fn look_when_due(
        &mut self,
        record: &mut ChannelRecord,
        run: &mut Run,
        now: u64,
    ) -> Result<Looked, PayerError> {
        if now < run.look_ns || !run.backoff.is_over(now) {
            return Ok(Looked::GoOn);
        }
        run.look_ns = now.saturating_add(LOOK_NS);
        match self.setup.gateway.view(id_of(record)?) {
            Ok(view) => {
                let view = self.follow(record, view)?;
                self.hear(record, run, &view)
            }
            Err(error) if error.is_transient() => {
                run.backoff.fail(now);
                self.warn(error);
                Ok(Looked::GoOn)
            }
            Err(error) if is_unknown(&error) => {
                record.phase = Phase::Abandoned;
                self.state.save(record)?;
                let (id, block) = (id_of(record)?.to_string(), refund_block(record));
                Err(PayerError::Forgotten { id, block })
            }
            Err(error) => Err(self.left(record, &error.to_string())),
        }
    }

    fn hear(
        &mut self,
        record: &mut ChannelRecord,
        run: &mut Run,
        view: &ChannelView,
    ) -> Result<Looked, PayerError> {
        if let Some(newest) = &view.newest {
            self.adopt(record, run, newest)?;
        }
        if std::mem::take(&mut run.is_new) {
            // Since the last run nobody counted.
            run.purse.concede(view.charged_msat);
            self.save_count(record, run)?;
        }
        self.observe(run, now_ns())?;
        if let Some(warning) = run.purse.compare(view.charged_msat) {
            self.warn(warning);
        }
        match view.state {
            ChannelWord::Open if run.purse.is_spent(view.charged_msat) => {
                Ok(Looked::Close(Why::Spent))
            }
            ChannelWord::Open => Ok(Looked::GoOn),
            ChannelWord::Opened | ChannelWord::Unconfirmed => {
                self.warn("the funding is not confirmed any more: waiting for the next block");
                Ok(Looked::GoOn)
            }
            ChannelWord::Closing => Ok(Looked::Close(Why::Ending)),
            ChannelWord::FundingLost => {
                record.phase = Phase::Abandoned;
                self.state.save(record)?;
                Err(PayerError::FundingLost(id_of(record)?.to_string()))
            }
            ChannelWord::ClosedTogether
            | ChannelWord::ClosedAlone
            | ChannelWord::Refunded
            | ChannelWord::Lapsed
            | ChannelWord::SpentOtherwise => {
                let counted = (run.purse.used(), run.purse.unseen());
                (record.used, record.unseen_msat) = counted;
                self.is_over(record, view)?;
                Ok(Looked::Over)
            }
        }
    }

    fn show_and_save(
        &mut self,
        record: &mut ChannelRecord,
        run: &mut Run,
        now: u64,
    ) -> Result<(), PayerError> {
        if now >= run.show_ns {
            run.show_ns = now.saturating_add(SHOW_NS);
            self.show(run);
        }
        if now >= run.save_ns && record.used != run.purse.used() {
            self.save_count(record, run)?;
        }
        Ok(())
    }

    /// Stores the record with the newest count.
    fn save_count(&mut self, record: &mut ChannelRecord, run: &mut Run) -> Result<(), PayerError> {
        record.used = run.purse.used();
        record.unseen_msat = run.purse.unseen();
        run.save_ns = now_ns().saturating_add(SAVE_NS);
        Ok(self.state.save(record)?)
    }

    fn show(&mut self, run: &Run) {
        let Run { purse, .. } = run;
        let (used, signed) = (purse.used(), purse.payer().signed());
        self.watch.tell(&Event::Paying(Standing {
            uplink_bytes: used.uplink_bytes,
            downlink_bytes: used.downlink_bytes,
            seconds: used.time_ns / 1_000_000_000,
            used_msat: purse.counted().0,
            paid_sat: signed.to_sat(),
            left_sat: purse.spendable().to_sat().saturating_sub(signed.to_sat()),
            step_sat: purse.count().step.to_sat(),
            msat_per_second: purse.msat_per_second(),
            updates: run.updates,
        }));
    }
}

/// CLOCK_BOOTTIME in ns: it goes on while the machine sleeps, as the gateway's does.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_failures_doubles_up_to_its_limit() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.fail(0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert!(!backoff.is_over(4_999_999_999) && backoff.is_over(5_000_000_000));
        for _ in 0..100 {
            backoff.fail(u64::MAX);
        }
    }
}
