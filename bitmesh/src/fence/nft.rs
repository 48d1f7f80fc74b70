//! Running `nft`.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long `nft` may take.
const MAX_NFT: Duration = Duration::from_secs(10);
/// How often to look whether it has ended.
const LOOK: Duration = Duration::from_millis(1);
/// Bytes of a listing that are read, at most.
const MAX_LISTING_BYTES: u64 = 1 << 20;

/// Why nftables did not do what the agent asked for.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// There is no program.
    #[error("`nft` is not installed: apt-get install nftables")]
    NotInstalled,
    /// It can't be started, or not be talked to.
    #[error("{path} can't be run: {error}: install nftables anew")]
    Start {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It does not end.
    #[error("`nft` takes longer than {max} s: look for a rule set that never ends", max = MAX_NFT.as_secs())]
    Late,
    /// It refused.
    #[error("nftables refused: {0}: use a kernel with nftables, and run as root")]
    Refused(String),
}

/// Where `nft` is, also where no user's path leads.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH");
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let directories = path.as_deref().map(std::env::split_paths).into_iter().flatten().chain(sbin);
    directories.map(|directory| directory.join("nft")).find(|nft| nft.exists())
}

/// Loads rules, all or none.
pub(super) fn load(rules: &str) -> Result<(), FenceError> {
    let (worked, said) = run(&["-f", "-"], rules)?;
    if worked { Ok(()) } else { Err(FenceError::Refused(said)) }
}

/// What `nft` lists of an object; nothing if it is not there.
pub(super) fn list(what: &[&str]) -> Result<Option<String>, FenceError> {
    let (worked, said) = run(&[&["-s", "list"], what].concat(), "")?;
    match worked {
        true => Ok(Some(said)),
        false if said.contains("No such file or directory") => Ok(None),
        false => Err(FenceError::Refused(said)),
    }
}

/// Whether it succeeded, and what it said: its listing, or its complaint on one line.
fn run(arguments: &[&str], input: &str) -> Result<(bool, String), FenceError> {
    let path = find().ok_or(FenceError::NotInstalled)?;
    let failed = |error| FenceError::Start { path: path.clone(), error };
    let mut command = Command::new(&path);
    command.args(arguments).env_clear().env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ended before it read, it says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let said = thread::scope(|threads| {
        // A pipe that nobody empties would stop it.
        let listing = child.stdout.take().map(|pipe| threads.spawn(|| read(pipe)));
        let complaint = child.stderr.take().map(|pipe| threads.spawn(|| read(pipe)));
        let worked = wait(&mut child)?;
        let said = if worked { listing } else { complaint };
        let said = said.and_then(|reader| reader.join().ok()).unwrap_or_default();
        Ok((worked, said))
    })
    .map_err(|error: Option<io::Error>| error.map_or(FenceError::Late, failed))?;
    let (worked, text) = said;
    Ok(if worked { (true, text) } else { (false, first_line(&text)) })
}

fn read(pipe: impl io::Read) -> String {
    let mut text = String::new();
    // What was read so far is what there is.
    let _ = pipe.take(MAX_LISTING_BYTES).read_to_string(&mut text);
    text
}

/// Whether it succeeded; no error if it is late.
fn wait(child: &mut Child) -> Result<bool, Option<io::Error>> {
    let deadline = Instant::now() + MAX_NFT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        thread::sleep(LOOK);
    }
    // It may end at this very moment.
    let _ = child.kill();
    let _ = child.wait();
    Err(None)
}

/// `nft` shows the place of a mistake in the lines below.
fn first_line(complaint: &str) -> String {
    let line = complaint.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_line() {
        assert_eq!(first_line("\nError: no\ntable x\n^^^\n"), "Error: no");
        assert_eq!(first_line(""), "no reason given");
    }
}
