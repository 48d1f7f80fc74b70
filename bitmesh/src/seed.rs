//! The file with the secret of all keys: 32 bytes that never change, open to their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bip39::{Language, Mnemonic};
use bitmesh_core::channel::Seed;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes of a seed.
pub const SEED_BYTES: usize = 32;

/// Its owner reads and writes; nobody else does anything.
const FILE_MODE: u32 = 0o600;
/// What must not be in its mode.
const OTHERS: u32 = 0o077;

/// Why there is no seed. It is never shown.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The system refuses.
    #[error("the seed {path}: {error}: mend its directory, or bring the file back from a backup")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others could read it.
    #[error("the seed {path} is open to others (mode {mode:o}): run `chmod 600` on it")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the seed {path} belongs to user {owner}: give it to the user that runs bitmesh")]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is no seed.
    #[error("{path} has {bytes} bytes, and a seed has {SEED_BYTES}: bring it back from a backup")]
    Length {
        /// Which file.
        path: PathBuf,
        /// How many it has.
        bytes: u64,
    },
    /// There is one already.
    #[error("the seed {0} is there already, and is not replaced: keep it, and its words")]
    Exists(PathBuf),
    /// They are not the words of a seed.
    #[error("these are not the 24 English words of a seed (BIP 39): check each, and their order")]
    Words,
    /// It is not there, although channels depend on it.
    #[error("the seed {0} is missing, and channels depend on it: bring it back from a backup")]
    Missing(PathBuf),
}

/// Reads the seed, or makes one if there is none. It is on the disk when this returns.
///
/// # Errors
///
/// [`SeedError`]. A file that is there is never replaced.
pub fn load_or_create(path: &Path) -> Result<Seed, SeedError> {
    match load(path) {
        Err(SeedError::Missing(_)) => create(path, &drawn(path)?),
        loaded => loaded,
    }
}

/// Makes a seed, and gives its words (BIP 39), which are shown once: with them it can be made again.
///
/// # Errors
///
/// [`SeedError`]. A file that is there is never replaced, and its words are not shown.
pub fn make(path: &Path) -> Result<Mnemonic, SeedError> {
    refuse_existing(path)?;
    let bytes = drawn(path)?;
    let words = Mnemonic::from_entropy(&bytes).map_err(|_| SeedError::Words)?;
    create(path, &bytes).map(|_| words)
}

/// Makes the seed again of which these are the words.
///
/// # Errors
///
/// [`SeedError`]. A file that is there is never replaced.
pub fn make_again(path: &Path, words: &str) -> Result<(), SeedError> {
    refuse_existing(path)?;
    let words =
        Mnemonic::parse_in_normalized(Language::English, words).map_err(|_| SeedError::Words)?;
    let (all, length) = words.to_entropy_array();
    let bytes = all.get(..length).and_then(|bytes| bytes.try_into().ok());
    create(path, bytes.ok_or(SeedError::Words)?).map(drop)
}

fn refuse_existing(path: &Path) -> Result<(), SeedError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(SeedError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    }
}

fn drawn(path: &Path) -> Result<[u8; SEED_BYTES], SeedError> {
    let mut bytes = [0; SEED_BYTES];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| SeedError::File { path: path.to_owned(), error: error.into() })?;
    Ok(bytes)
}

/// Reads the seed.
///
/// # Errors
///
/// [`SeedError`].
pub fn load(path: &Path) -> Result<Seed, SeedError> {
    let failed = |error| SeedError::File { path: path.to_owned(), error };
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = match OpenOptions::new().read(true).custom_flags(no_follow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SeedError::Missing(path.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    check(path, &file.metadata().map_err(failed)?)?;
    let mut bytes = [0; SEED_BYTES];
    (&file).read_exact(&mut bytes).map_err(failed)?;
    Ok(Seed::new(bytes))
}

fn check(path: &Path, found: &fs::Metadata) -> Result<(), SeedError> {
    let path = path.to_owned();
    let (mode, owner, bytes) = (found.mode() & 0o7777, found.uid(), found.len());
    if mode & OTHERS != 0 {
        return Err(SeedError::Open { path, mode });
    }
    if owner != geteuid().as_raw() {
        return Err(SeedError::Owner { path, owner });
    }
    if !found.is_file() || bytes != SEED_BYTES as u64 {
        return Err(SeedError::Length { path, bytes });
    }
    Ok(())
}

/// A crash leaves either no seed or a whole one: the file gets its name last.
fn create(path: &Path, bytes: &[u8; SEED_BYTES]) -> Result<Seed, SeedError> {
    let failed = |error| SeedError::File { path: path.to_owned(), error };
    let unnamed = path.with_extension("new");
    match fs::remove_file(&unnamed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    write_private(&unnamed, bytes).map_err(failed)?;
    // Unlike a rename, a link never replaces what has the name already.
    fs::hard_link(&unnamed, path).map_err(failed)?;
    fs::remove_file(&unnamed).map_err(failed)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(Seed::new(*bytes))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use bitcoin::Network;

    use super::*;

    fn key(seed: &Seed) -> String {
        seed.offer_secret(Network::Regtest).unwrap().public_key().to_string()
    }

    #[test]
    fn a_seed_is_made_once_private_and_read_back_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        // What a crash left behind does no harm.
        fs::write(folder.path().join("seed.new"), "half").unwrap();
        let made = load_or_create(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (32, 0o600));
        assert_eq!(key(&load_or_create(&path).unwrap()), key(&made));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let other = load_or_create(&folder.path().join("other")).unwrap();
        assert_ne!(key(&other), key(&made));
    }

    #[test]
    fn a_seed_that_others_can_read_or_that_is_cut_short_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        fs::write(&path, [7; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let open = load_or_create(&path).unwrap_err();
        assert!(open.to_string().ends_with("(mode 640): run `chmod 600` on it"), "{open}");
        fs::write(&path, [7; 31]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load_or_create(&path), Err(SeedError::Length { bytes: 31, .. })));
        assert_eq!(fs::read(&path).unwrap(), [7; 31]);
    }

    #[test]
    fn a_seeds_words_make_it_again_and_neither_replaces_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let [first, again] = ["first", "again"].map(|name| folder.path().join(name));
        let words = make(&first).unwrap().to_string();
        assert_eq!(words.split(' ').count(), 24);
        make_again(&again, &format!("  {}\n", words.replace(' ', "\n"))).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&again).unwrap());
        assert_eq!(fs::metadata(&again).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(key(&load(&first).unwrap()), key(&load(&again).unwrap()));
        assert!(matches!(make(&first), Err(SeedError::Exists(_))));
        assert!(matches!(make_again(&first, &words), Err(SeedError::Exists(_))));
        let other = folder.path().join("other");
        let (_, rest) = words.split_once(' ').unwrap();
        let twelve = "abandon ".repeat(11) + "about";
        for wrong in ["", rest, &twelve, &"zoo ".repeat(24)] {
            assert!(matches!(make_again(&other, wrong), Err(SeedError::Words)), "{wrong}");
        }
        assert!(!other.exists());
    }

    /// The first vector of BIP 39 with 24 words.
    #[test]
    fn the_words_are_those_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        make_again(&path, &("abandon ".repeat(23) + "art")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; SEED_BYTES]);
    }

    #[test]
    fn a_seed_is_not_read_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("seed"), folder.path().join("link"));
        load_or_create(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(load_or_create(&link), Err(SeedError::File { .. })));
    }
}
