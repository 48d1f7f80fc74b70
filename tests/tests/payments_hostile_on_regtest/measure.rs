//! How an honest payer fares, with and without an attack beside it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use bitmesh_tests::crowd::{memory_kib, put_first};
use bitmesh_tests::payments::{Customer, Market};
use bitmesh_tests::scale::of_soak;
use nix::unistd::{Pid, gettid};

use crate::PAUSE;
use crate::attacks::Tally;

/// How long a window is; one without the attack is followed by one with it.
const WINDOW: Duration = Duration::from_secs(2);
const ROUNDS: (u64, u64) = (20, 3);

/// What an answer may take under attack, against what it takes without one.
const MAX_MEDIAN_RATIO: f64 = 3.0;
const MAX_P99_RATIO: f64 = 6.0;

/// Below it a ratio says more of the machine's other work than of the attack.
const LEAST: Duration = Duration::from_millis(20);

/// Looks at one attack, at most: a busy machine spoils a measurement.
const MAX_TRIES: usize = 3;

/// What the gateway may hold of memory, at its peak.
const MAX_RSS_KIB: u64 = 96 << 10;

/// What each payment adds.
const STEP_SAT: u64 = 7;

/// An honest payer.
pub(crate) struct Honest<'a> {
    customer: Customer<'a>,
}

/// Stops an attack, also when the measurement fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Honest<'a> {
    /// Puts it and the gateway before what else the machine has to do.
    pub(crate) fn new(customer: Customer<'a>, agent: Pid) -> Result<Self> {
        for measured in [agent, gettid()] {
            put_first(measured)?;
        }
        Ok(Self { customer })
    }

    /// Pays once, and says how long the answer took.
    pub(crate) fn pays_on(&mut self) -> Result<Duration> {
        let credit = self.customer.signed() + STEP_SAT;
        let body = self.customer.sign(credit)?;
        let asked = Instant::now();
        let answer = self.customer.post("/updates", &body)?;
        let took = asked.elapsed();
        ensure!(answer.status == 200, "an honest payer is refused: {:?}", answer.error()?);
        Ok(took)
    }

    fn window(&mut self, answers: &mut Vec<Duration>) -> Result<()> {
        let until = Instant::now() + WINDOW;
        while Instant::now() < until {
            answers.push(self.pays_on()?);
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Measures without and with the attack, in turns. Gives what the attack was answered.
    pub(crate) fn is_unharmed_by(
        &mut self,
        name: &str,
        mut attack: impl FnMut(&AtomicBool) -> Result<Tally> + Send,
    ) -> Result<Tally> {
        let mut tally = Tally::new();
        let mut said = String::new();
        for _ in 0..MAX_TRIES {
            let (mut quiet, mut attacked) = (Vec::new(), Vec::new());
            for _ in 0..of_soak(ROUNDS.0, ROUNDS.1) {
                self.window(&mut quiet)?;
                let answers = self.beside(&mut attack, &mut attacked)?;
                for (answer, count) in answers {
                    *tally.entry(answer).or_default() += count;
                }
            }
            let (is_fine, numbers) = compare(&mut quiet, &mut attacked);
            said = format!("{name}: {numbers}; answered {tally:?}");
            eprintln!("{said}");
            if is_fine {
                return Ok(tally);
            }
        }
        Err(anyhow!("an honest payer is delayed, {MAX_TRIES} times: {said}"))
    }

    fn beside(
        &mut self,
        attack: &mut (impl FnMut(&AtomicBool) -> Result<Tally> + Send),
        attacked: &mut Vec<Duration>,
    ) -> Result<Tally> {
        let stop = AtomicBool::new(false);
        thread::scope(|threads| {
            let attacking = threads.spawn(|| attack(&stop));
            let measured = {
                let _stop = Stop(&stop);
                self.window(attacked)
            };
            let tally = attacking.join().map_err(|_| anyhow!("the attack panicked"))?;
            measured?;
            tally
        })
    }
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place).or(sorted.last()).copied().unwrap_or_default()
}

fn compare(quiet: &mut [Duration], attacked: &mut [Duration]) -> (bool, String) {
    quiet.sort();
    attacked.sort();
    let ratio =
        |share| at(attacked, share).as_secs_f64() / at(quiet, share).max(LEAST).as_secs_f64();
    let is_fine = ratio(0.5) <= MAX_MEDIAN_RATIO && ratio(0.99) <= MAX_P99_RATIO;
    let of = |all: &[Duration]| {
        format!("{:.1?} and {:.1?} of {}", at(all, 0.5), at(all, 0.99), all.len())
    };
    (is_fine, format!("median and p99 {} without, {} with it", of(quiet), of(attacked)))
}

/// The gateway's memory at its peak.
pub(crate) fn is_small(market: &Market) -> Result<()> {
    let peak = memory_kib(market.agent.pid()?, "VmHWM:")?;
    eprintln!("the gateway held {peak} KiB at its peak");
    ensure!(peak <= MAX_RSS_KIB, "the gateway held {peak} KiB: {MAX_RSS_KIB} at most");
    Ok(())
}

/// Adds up answers.
pub(crate) fn count(tally: &mut BTreeMap<String, u64>, answer: &str) {
    *tally.entry(answer.to_owned()).or_default() += 1;
}
