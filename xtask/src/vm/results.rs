//! What became of each test in a machine, read from its console.

use super::tests_in_kernel::Test;
use crate::test::Outcome;

/// The tests that were asked for, in their order.
pub(super) struct Results {
    rows: Vec<Row>,
}

struct Row {
    test: Test,
    /// What Rust's test harness counted, one test at a time.
    counted: Outcome,
    /// Seconds in the machine, and its exit status; nothing if it came to no end.
    ended: Option<(f64, i32)>,
    began: f64,
}

impl Row {
    /// Passed is what ran, alone, and ended well. All else has failed, also what never ran.
    fn passed(&self) -> bool {
        let alone = Outcome { passed: 1, failed: 0 };
        self.counted == alone && self.ended.is_some_and(|(_, status)| status == 0)
    }
}

impl Results {
    /// Nothing ran yet.
    pub(super) fn of(tests: &[Test]) -> Self {
        let row =
            |test: &Test| Row { test: *test, counted: Outcome::default(), ended: None, began: 0.0 };
        Self { rows: tests.iter().map(row).collect() }
    }

    /// Reads a line: `@@ begin NUMBER UPTIME`, `@@ end NUMBER UPTIME STATUS`, or of a test's own.
    pub(super) fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
        let row = words.get(2).and_then(|at| self.rows.get_mut(at.parse::<usize>().ok()?));
        match (words.as_slice(), row) {
            (["@@", "begin", _, uptime], Some(row)) => row.began = number(uptime),
            (["@@", "end", _, uptime, status], Some(row)) => {
                row.ended = Some((number(uptime) - row.began, status.parse().unwrap_or(-1)));
            }
            _ => {
                // Begun, and not ended: the tests run one after another.
                let running = self.rows.iter_mut().find(|row| row.ended.is_none());
                if let Some(row) = running {
                    row.counted.read(line);
                }
            }
        }
    }

    /// How many passed and failed.
    pub(super) fn outcome(&self) -> Outcome {
        let passed = self.rows.iter().filter(|row| row.passed()).count() as u64;
        Outcome { passed, failed: self.rows.len() as u64 - passed }
    }

    /// Prints a line for each.
    pub(super) fn print(&self, kernel: &str) {
        println!("\n{kernel:<14} {:>8}  test", "seconds");
        for row in &self.rows {
            let (file, name) = row.test;
            let result = if row.passed() { "passed" } else { "FAILED" };
            let seconds = row.ended.map_or("no end".to_owned(), |(took, _)| format!("{took:.0}"));
            println!("{result:<14} {seconds:>8}  {file}: {name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &[Test] = &[("unpaid", "nothing_passes"), ("fence", "stands")];

    fn read(lines: &[&str]) -> Outcome {
        let mut results = Results::of(TESTS);
        lines.iter().for_each(|line| results.read(line));
        results.outcome()
    }

    #[test]
    fn what_ran_and_ended_well_has_passed() {
        let ok = "test result: ok. 1 passed; 0 failed; 0 ignored";
        let both = ["@@ begin 0 1.5", ok, "@@ end 0 9.5 0", "@@ begin 1 9.6", ok, "@@ end 1 20 0"];
        assert_eq!(read(&both), Outcome { passed: 2, failed: 0 });
    }

    #[test]
    fn what_did_not_run_or_not_end_or_ended_badly_has_failed() {
        let ok = "test result: ok. 1 passed; 0 failed; 0 ignored";
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored";
        assert_eq!(read(&[]), Outcome { passed: 0, failed: 2 });
        assert_eq!(read(&["@@ begin 0 1", ok]), Outcome { passed: 0, failed: 2 });
        assert_eq!(read(&["@@ begin 0 1", none, "@@ end 0 2 0"]), Outcome { passed: 0, failed: 2 });
        assert_eq!(read(&["@@ begin 0 1", ok, "@@ end 0 2 101"]), Outcome { passed: 0, failed: 2 });
    }
}
