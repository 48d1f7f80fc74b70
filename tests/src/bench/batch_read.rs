//! Reading all meters: in batches, and one by one.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::contender::Contender;
use super::report::Report;
use super::statistics::Summary;

/// Reads the meters of a lab in turns, and adds what it took.
///
/// # Errors
///
/// Fails if the kernel refuses, and if a meter is missing.
pub(super) fn measure(contender: &Contender, turns: usize, report: &mut Report) -> Result<()> {
    let agent = contender.agent.as_ref().context("a lab with an agent")?;
    let meters = agent.pins()?.into_meters();
    let (mut batches, mut singles) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let start = Instant::now();
        let in_batches = meters.read_all().len();
        batches.push(start.elapsed().as_secs_f64() * 1_000.0);
        let start = Instant::now();
        let one_by_one = meters.read_one_by_one()?.len();
        singles.push(start.elapsed().as_secs_f64() * 1_000.0);
        let there = usize::from(contender.clients) + 1;
        ensure!(in_batches == there && one_by_one == there, "a meter is missing");
    }
    report.add("batch_read", Summary::of(&batches), "ms")?;
    report.add("one_by_one_read", Summary::of(&singles), "ms")?;
    report.add("batch_read_speedup", Summary::of_ratios(&singles, &batches), "ratio")
}
