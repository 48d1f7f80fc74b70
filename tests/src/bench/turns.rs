//! Runs that count only if nothing was lost, and what was measured in each turn.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::MAX_TRIES;

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Run {
    /// A measurement.
    Valid(f64),
    /// Something was lost; says what.
    Invalid(String),
}

/// What was measured, a value for each turn and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    values: BTreeMap<String, Vec<f64>>,
    invalid: usize,
}

impl Turns {
    /// Measures, again if the run is invalid, and keeps the value.
    ///
    /// # Errors
    ///
    /// Fails after [`MAX_TRIES`] invalid runs, and as the run does.
    pub(super) fn measure(
        &mut self,
        name: &str,
        mut run: impl FnMut() -> Result<Run>,
    ) -> Result<()> {
        for _ in 0..MAX_TRIES {
            match run()? {
                Run::Valid(value) => {
                    self.values.entry(name.to_owned()).or_default().push(value);
                    return Ok(());
                }
                Run::Invalid(why) => {
                    self.invalid += 1;
                    eprintln!("an invalid run of {name}: {why}");
                }
            }
        }
        bail!("{name}: {MAX_TRIES} runs were invalid one after another")
    }

    /// The values of all turns, in their order.
    #[must_use]
    pub(super) fn of(&self, name: &str) -> &[f64] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Runs that did not count.
    #[must_use]
    pub(super) const fn invalid(&self) -> usize {
        self.invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_run_is_repeated_and_counted() -> Result<()> {
        let mut turns = Turns::default();
        let mut runs = [Run::Invalid("lost one".to_owned()), Run::Valid(1.5)].into_iter();
        turns.measure("x", || Ok(runs.next().unwrap_or(Run::Valid(0.0))))?;
        assert_eq!((turns.of("x"), turns.invalid()), (&[1.5][..], 1));
        Ok(())
    }

    #[test]
    fn a_bench_that_always_loses_packets_fails() {
        let mut turns = Turns::default();
        assert!(turns.measure("x", || Ok(Run::Invalid("lost".to_owned()))).is_err());
        assert_eq!(turns.invalid(), MAX_TRIES);
    }
}
