//! Results, as a table for people and as JSON for programs.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::statistics::Summary;

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// What was measured; the spread of `x` is `x_spread`.
    pub(super) name: String,
    /// How much.
    pub(super) value: f64,
    /// Of what; `ratio` if of nothing.
    pub(super) unit: &'static str,
}

/// All results, in their order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rows: Vec<(Row, Option<f64>)>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a median with its spread.
    ///
    /// # Errors
    ///
    /// Fails if nothing was measured.
    pub(super) fn add(
        &mut self,
        name: &str,
        summary: Option<Summary>,
        unit: &'static str,
    ) -> Result<()> {
        let summary = summary.with_context(|| format!("nothing was measured for {name}"))?;
        let row = Row { name: name.to_owned(), value: summary.median, unit };
        self.rows.push((row, Some(summary.spread)));
        Ok(())
    }

    /// Adds what was measured once.
    pub(super) fn add_single(&mut self, name: &str, value: f64, unit: &'static str) {
        self.rows.push((Row { name: name.to_owned(), value, unit }, None));
    }

    /// Adds a remark for people.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// What was measured under this name.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|(row, _)| row.name == name).map(|(row, _)| row.value)
    }

    /// For programs: spreads are rows of their own.
    #[must_use]
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (row, spread) in &self.rows {
            rows.push(row.clone());
            if let Some(value) = *spread {
                rows.push(Row { name: format!("{}_spread", row.name), value, unit: row.unit });
            }
        }
        rows
    }

    /// Writes [`Self::rows`] as a JSON array.
    ///
    /// # Errors
    ///
    /// Fails if the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&self.rows())?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {path:?}"))
    }

    /// For people.
    pub fn print(&self) {
        println!("{:<34} {:>12} {:>10}  unit", "result", "median", "spread");
        for (Row { name, value, unit }, spread) in &self.rows {
            let spread = spread.map_or(String::new(), |spread| format!("{spread:.3}"));
            println!("{name:<34} {value:>12.3} {spread:>10}  {unit}");
        }
        for note in &self.notes {
            println!("note: {note}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_an_array_of_name_value_and_unit() -> Result<()> {
        let mut report = Report::default();
        report.add("tcp", Some(Summary { median: 0.5, spread: 0.25 }), "ratio")?;
        report.add_single("memory", 3.0, "MiB");
        report.note("for people");
        let json = serde_json::to_value(report.rows())?;
        let expected = serde_json::json!([
            { "name": "tcp", "value": 0.5, "unit": "ratio" },
            { "name": "tcp_spread", "value": 0.25, "unit": "ratio" },
            { "name": "memory", "value": 3.0, "unit": "MiB" },
        ]);
        assert_eq!(json, expected);
        Ok(())
    }

    #[test]
    fn what_was_not_measured_is_no_row() {
        assert!(Report::default().add("tcp", None, "ratio").is_err());
    }
}
