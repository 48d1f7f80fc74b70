//! Tables for people.
//!
//! Cells are plain ASCII but for a few symbols of one column each, so widths are counted in
//! characters and no library is needed.

/// Blanks between columns.
const GAP: &str = "  ";

/// To which side the cells of a column lean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// How a row is shown on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Dim,
    Good,
    Careful,
    Bad,
}

impl Tone {
    /// SGR parameters (ECMA-48 §8.3.117).
    const fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Dim => Some("2"),
            Self::Good => Some("32"),
            Self::Careful => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// Rows under a head.
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<(Tone, Vec<String>)>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(super) fn push(&mut self, tone: Tone, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push((tone, cells));
    }

    /// The table as text; each line ends.
    pub(super) fn render(&self, colour: bool) -> String {
        let widths = self.widths();
        let head: Vec<_> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let mut text = self.line(&head, &widths, if colour { Some("1") } else { None });
        for (tone, cells) in &self.rows {
            text += &self.line(cells, &widths, if colour { tone.sgr() } else { None });
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let cell = |row: &[String], at: usize| row.get(at).map_or(0, |text| text.chars().count());
        self.columns
            .iter()
            .enumerate()
            .map(|(at, (title, _))| {
                let widest = self.rows.iter().map(|(_, row)| cell(row, at)).max();
                widest.unwrap_or(0).max(title.len())
            })
            .collect()
    }

    fn line(&self, cells: &[String], widths: &[usize], sgr: Option<&str>) -> String {
        let padded =
            cells.iter().zip(widths).zip(&self.columns).map(
                |((cell, &width), column)| match column.1 {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                },
            );
        let line = padded.collect::<Vec<_>>().join(GAP);
        let line = line.trim_end();
        match sgr {
            Some(sgr) => format!("\x1b[{sgr}m{line}\x1b[0m\n"),
            None => format!("{line}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("NAME", Align::Left), ("LEFT", Align::Right)]);
        table.push(Tone::Plain, vec!["Alice".into(), "10 B".into()]);
        table.push(Tone::Bad, vec!["Bob".into(), "1,000 B".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_numbers_lean_right() {
        assert_eq!(table().render(false), "NAME      LEFT\nAlice     10 B\nBob    1,000 B\n");
    }

    #[test]
    fn colours_come_only_when_they_are_wanted() {
        assert!(!table().render(false).contains('\x1b'));
        assert!(table().render(true).contains("\x1b[31mBob    1,000 B\x1b[0m\n"));
    }
}
