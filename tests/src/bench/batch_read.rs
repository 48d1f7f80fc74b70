//! Reading all meters: in place, and by a call of the kernel for each.

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
    let (mut in_place, mut singles) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let start = Instant::now();
        let read_in_place = meters.read_all().len();
        in_place.push(start.elapsed().as_secs_f64() * 1_000.0);
        let start = Instant::now();
        let one_by_one = meters.read_one_by_one()?.len();
        singles.push(start.elapsed().as_secs_f64() * 1_000.0);
        let there = usize::from(contender.clients) + 1;
        ensure!(read_in_place == there && one_by_one == there, "a meter is missing");
    }
    report.add("batch_read", Summary::of(&in_place), "ms")?;
    report.add("one_by_one_read", Summary::of(&singles), "ms")?;
    report.add("batch_read_speedup", Summary::of_ratios(&singles, &in_place), "ratio")
}
