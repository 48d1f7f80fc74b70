//! `bitmesh doctor`

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output;
use super::table::{Align, Table, Tone};
use crate::doctor::{Check, Verdict, examine};

/// Look at this machine: kernel, hooks, interfaces; say what is wrong and how to mend it
///
/// Ends with 1 if there is a problem. Run it as root: others can't look at everything.
#[derive(Args)]
pub(super) struct Doctor {
    /// The configuration whose interfaces are looked at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        let checks = examine(self.config.as_deref());
        if self.json {
            output::write_json(&checks)?;
        } else {
            output::write(&show(&checks, output::wants_colour()))?;
        }
        let bad = checks.iter().any(|check| check.verdict == Verdict::Problem);
        if bad { Err(Failure::Silent) } else { Ok(()) }
    }
}

fn show(checks: &[Check], colour: bool) -> String {
    let columns = [("", Align::Left), ("CHECK", Align::Left), ("FOUND", Align::Left)];
    let mut table = Table::new(&columns);
    for check in checks {
        let (word, tone) = match check.verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warning => ("warning", Tone::Careful),
            Verdict::Problem => ("PROBLEM", Tone::Bad),
        };
        table.push(tone, vec![word.to_owned(), check.check.clone(), check.detail.clone()]);
        if let Some(cure) = &check.cure {
            table.push(Tone::Plain, vec![String::new(), String::new(), format!("→ {cure}")]);
        }
    }
    table.render(colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_stands_under_its_complaint() {
        let check = |verdict, cure: Option<&str>| Check {
            check: "kernel".into(),
            verdict,
            detail: "old".into(),
            cure: cure.map(Into::into),
        };
        let checks = [check(Verdict::Ok, None), check(Verdict::Problem, Some("a newer one"))];
        let expected = "         CHECK   FOUND\n\
                        ok       kernel  old\n\
                        PROBLEM  kernel  old\n                 → a newer one\n";
        assert_eq!(show(&checks, false), expected);
    }
}
