//! Medians, which one slow run does not move.

/// A median and how far the values are from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    /// The middle value.
    pub(super) median: f64,
    /// The median of the distances from it (MAD).
    pub(super) spread: f64,
}

impl Summary {
    /// Of all these values; nothing of none.
    #[must_use]
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let median = median(values)?;
        let distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        Some(Self { median, spread: self::median(&distances)? })
    }

    /// Of the ratios of the values of the same turn.
    #[must_use]
    pub(super) fn of_ratios(values: &[f64], to: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = values.iter().zip(to).map(|(value, to)| value / to).collect();
        Self::of(&ratios)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_run_moves_neither_median_nor_spread() {
        let summary = Summary::of(&[10.0, 11.0, 9.0, 10.0, 1.0]);
        assert_eq!(summary, Some(Summary { median: 10.0, spread: 1.0 }));
        assert_eq!(Summary::of(&[1.0, 2.0]).map(|summary| summary.median), Some(1.5));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_turn() {
        // The machine was half as fast in the second turn.
        let ratio = Summary::of_ratios(&[9.0, 4.5], &[10.0, 5.0]);
        assert_eq!(ratio, Some(Summary { median: 0.9, spread: 0.0 }));
    }
}
