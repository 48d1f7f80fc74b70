//! What became of each tier.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Tests that held.
    pub(crate) passed: u64,
    /// Tests that did not.
    pub(crate) failed: u64,
}

impl Outcome {
    /// Adds what a line of a test run says, if it is a closing line of Rust's test harness.
    pub(crate) fn read(&mut self, line: &str) {
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            match part.split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse::<u64>().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// One line of the table.
struct Row {
    name: &'static str,
    outcome: Outcome,
    trouble: Option<String>,
    took: Duration,
}

/// The table at the end.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Runs one step and notes what became of it.
    pub(crate) fn time(&mut self, name: &'static str, step: impl FnOnce() -> Result<Outcome>) {
        let started = Instant::now();
        let (outcome, trouble) = match step() {
            Ok(outcome) => (outcome, None),
            Err(error) => (Outcome { passed: 0, failed: 1 }, Some(format!("{error:#}"))),
        };
        if let Some(trouble) = &trouble {
            eprintln!("{name}: {trouble}");
        }
        self.rows.push(Row { name, outcome, trouble, took: started.elapsed() });
    }

    /// Whether anything failed.
    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|row| row.outcome.failed > 0)
    }

    /// Prints a line for each step, and the sum.
    pub(crate) fn print(&self) {
        println!(
            "\n{:<12} {:<7} {:>7} {:>7} {:>8}",
            "tier", "result", "passed", "failed", "seconds"
        );
        for row in &self.rows {
            let result = if row.outcome.failed == 0 { "ok" } else { "FAILED" };
            let Outcome { passed, failed } = row.outcome;
            let seconds = row.took.as_secs_f64();
            println!("{:<12} {result:<7} {passed:>7} {failed:>7} {seconds:>8.0}", row.name);
            if let Some(trouble) = &row.trouble {
                println!("             {trouble}");
            }
        }
        let sum = |count: fn(&Outcome) -> u64| -> u64 {
            self.rows.iter().map(|row| count(&row.outcome)).sum()
        };
        println!("\n{} passed, {} failed", sum(|o| o.passed), sum(|o| o.failed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_test_runs_are_added_up() {
        let mut outcome = Outcome::default();
        outcome.read("running 3 tests");
        outcome.read("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; finished in 1s");
        outcome.read("test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured");
        assert_eq!(outcome, Outcome { passed: 7, failed: 2 });
    }

    #[test]
    fn a_step_that_cannot_run_has_failed() {
        let mut report = Report::default();
        report.time("fine", || Ok(Outcome { passed: 1, failed: 0 }));
        assert!(!report.failed());
        report.time("broken", || anyhow::bail!("missing"));
        assert!(report.failed());
    }
}
