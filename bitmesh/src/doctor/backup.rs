//! Whether a copy of the channels is kept where it helps.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Check;
use crate::backup::Target;
use crate::config::Config;

const CHECK: &str = "backup";

/// Looks at where the copy goes; nothing if no channels are sold.
pub(super) fn examine(config: &Config) -> Option<Check> {
    config.payments.as_ref()?;
    Some(match &config.backup {
        None => {
            let detail = "none: if this disk is lost, so is what open channels have paid";
            let cure = "name a directory of another disk, or a command, in [backup]";
            Check::warning(CHECK, detail, cure)
        }
        Some(Target::Directory(directory)) => directory_check(directory, &config.database),
        Some(Target::Command(words)) => command(words.first().map_or("", String::as_str)),
    })
}

fn directory_check(directory: &Path, database: &Path) -> Check {
    let shown = directory.display();
    if let Err(error) = access(directory, Access::EXISTS | Access::WRITE_OK | Access::EXEC_OK) {
        let cure =
            format!("make it (`mkdir -p {shown}`) and mount its disk, writable for the gateway");
        return Check::problem(CHECK, format!("{shown}: {error}"), cure);
    }
    let disk = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    // The database may not be there yet, its folder is.
    if disk(directory) == database.parent().and_then(disk) {
        let detail = format!("{shown} is on the database's own disk, and is lost with it");
        return Check::warning(CHECK, detail, "mount another disk there, or use a command");
    }
    Check::ok(CHECK, format!("in {shown}, on another disk"))
}

fn command(program: &str) -> Check {
    match access(program, Access::EXISTS | Access::EXEC_OK) {
        Ok(()) => Check::ok(CHECK, format!("by {program}; `bitmesh status` says how late it is")),
        Err(error) => {
            let cure = "mend the path of `command` in [backup], or install the program";
            Check::problem(CHECK, format!("{program}: {error}"), cure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_copy_on_the_same_disk_is_a_warning_and_one_that_cannot_be_made_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("gateway.db");
        let beside = folder.path().join("copy");
        let missing = directory_check(&beside, &database);
        assert_eq!(missing.verdict, Verdict::Problem, "{missing:?}");
        std::fs::create_dir(&beside).unwrap();
        let same = directory_check(&beside, &database);
        assert_eq!(same.verdict, Verdict::Warning, "{same:?}");
        let other = directory_check(Path::new("/dev/shm"), &database);
        assert_eq!(other.verdict, Verdict::Ok, "{other:?}");
    }

    #[test]
    fn a_command_is_a_program_that_can_be_run() {
        assert_eq!(command("/bin/sh").verdict, Verdict::Ok);
        for wrong in ["/no/such/program", "/etc/passwd"] {
            let found = command(wrong);
            assert_eq!(found.verdict, Verdict::Problem, "{found:?}");
            assert!(found.detail.starts_with(wrong), "{found:?}");
        }
    }
}
