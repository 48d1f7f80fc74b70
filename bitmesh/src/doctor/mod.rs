//! Looks at the machine, and says what is wrong and how to mend it. Changes nothing.

mod backup;
mod bypass;
mod fence;
mod interface;
mod owners;
mod system;

use std::path::Path;

use serde::Serialize;

pub(crate) use self::bypass::{Ground, bypasses, uplinks_in_lan};

use crate::agent::examine_chain;
use crate::config::{Config, DEFAULT_BPFFS};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The gateway works, but not as well as it could.
    Warning,
    /// The gateway does not work like this.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// How to mend it; there is one for everything that is not [`Verdict::Ok`].
    pub cure: Option<String>,
}

impl Check {
    fn ok(check: &str, detail: impl Into<String>) -> Self {
        let verdict = Verdict::Ok;
        Self { check: check.to_owned(), verdict, detail: detail.into(), cure: None }
    }

    fn warning(check: &str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        let cure = Some(cure.into());
        Self { check: check.to_owned(), verdict: Verdict::Warning, detail: detail.into(), cure }
    }

    fn problem(check: &str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(check, detail, cure) }
    }
}

/// Looks at everything. Without a configuration, no interface is looked at.
#[must_use]
pub fn examine(configuration: Option<&Path>) -> Vec<Check> {
    let (config, mut checks) = read_configuration(configuration);
    let bpffs = config.as_ref().map_or(Path::new(DEFAULT_BPFFS), |config| &config.bpffs);
    checks.extend(system::examine(bpffs));
    for lan in config.iter().flat_map(|config| &config.lans) {
        checks.extend(interface::examine(&lan.interface));
    }
    if let Some(config) = &config {
        let ground = Ground::look();
        checks.extend(uplinks_in_lan(config, &ground));
        checks.extend(bypasses(config, &ground).into_iter().map(|found| allowed(config, found)));
        checks.extend(fence::examine(config));
        checks.push(owners::examine(config));
        checks.extend(backup::examine(config));
    }
    if let Some(payments) = config.and_then(|config| config.payments) {
        checks.extend(examine_chain(&payments.chain));
    }
    checks
}

/// What the operator knows of is no problem.
fn allowed(config: &Config, found: Check) -> Check {
    if config.allow_bypass { Check { verdict: Verdict::Warning, ..found } } else { found }
}

fn read_configuration(path: Option<&Path>) -> (Option<Config>, Vec<Check>) {
    const CHECK: &str = "configuration";
    let Some(path) = path else {
        let detail = "none given, so no interface is looked at";
        return (None, vec![Check::warning(CHECK, detail, "give it with --config FILE")]);
    };
    match Config::load(path) {
        Ok(config) => (Some(config), vec![Check::ok(CHECK, path.display().to_string())]),
        Err(error) => (None, vec![Check::problem(CHECK, error.to_string(), "mend the file")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_has_its_cure() {
        for check in examine(None) {
            assert_eq!(check.cure.is_none(), check.verdict == Verdict::Ok, "{check:?}");
            assert!(!check.detail.contains('\n'), "{check:?}");
        }
    }

    #[test]
    fn a_bad_configuration_is_a_problem_and_the_rest_is_still_looked_at() {
        let checks = examine(Some(Path::new("/no/such/file")));
        assert_eq!(checks[0].verdict, Verdict::Problem);
        assert!(checks.len() > 5, "{checks:?}");
    }

    #[test]
    fn an_interface_that_does_not_exist_is_a_problem() {
        let checks = interface::examine("no-such-if");
        assert_eq!(checks[0].verdict, Verdict::Problem);
        assert_eq!(checks.len(), 1);
    }
}
