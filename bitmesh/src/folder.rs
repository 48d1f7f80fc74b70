//! Folders that a power cut leaves: a new folder is only as durable as its name in the one above.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder if it is not there, and those above it, with this mode. When this returns, a
/// power cut leaves it.
///
/// # Errors
///
/// Fails if the system does.
pub(crate) fn make_durable(path: &Path, mode: u32) -> io::Result<()> {
    // `a/b` is below `a`, which is below where we are, which has no name here.
    let above = || path.ancestors().skip(1).map(|one| if one == "" { ".".as_ref() } else { one });
    let missing = path.ancestors().take_while(|one| !one.as_os_str().is_empty() && !one.exists());
    let made = missing.count();
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    // Whatever the mask of the process takes away.
    for folder in path.ancestors().take(made) {
        fs::set_permissions(folder, Permissions::from_mode(mode))?;
    }
    for (number, folder) in above().enumerate() {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        // Those that were there may be closed to us. But one that was killed after it had made
        // them may not have come as far as this.
        if number < made {
            synced?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_their_mode_and_those_that_are_there_stay() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        make_durable(&path, 0o700).unwrap();
        std::fs::write(path.join("kept"), "x").unwrap();
        make_durable(&path, 0o755).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&base.path().join("a"))), (0o700, 0o700));
        assert!(path.join("kept").exists());
        make_durable(Path::new("."), 0o700).unwrap();
        assert!(make_durable(&path.join("kept/c"), 0o700).is_err());
    }
}
