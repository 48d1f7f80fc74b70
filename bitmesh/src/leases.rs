//! Whose an address is, as a DHCP server says: dnsmasq's file of leases.
//!
//! One lease a line: its end, the MAC address, the IPv4 address, a name, an identity
//! (`lease_update_file` of dnsmasq). Lines of DHCPv6 hold no MAC address. dnsmasq removes what has
//! ended, and a router's clock may be wrong: so what is in the file holds.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bitmesh_core::Mac;

use crate::mac::MacText;

/// Bytes of a file of leases, at most: some ten thousand leases.
pub(crate) const MAX_LEASES_BYTES: u64 = 1 << 20;

/// The file, and what it said when it was read last.
#[derive(Debug)]
pub(crate) struct Leases {
    path: PathBuf,
    /// When it was written, and how long it was.
    version: Option<(SystemTime, u64)>,
    held: Vec<(IpAddr, Mac)>,
}

impl Leases {
    /// Nothing is read yet.
    pub(crate) const fn of(path: PathBuf) -> Self {
        Self { path, version: None, held: Vec::new() }
    }

    /// The leases now; the file is read only if it has changed.
    ///
    /// # Errors
    ///
    /// Fails if it can't be read, or is too long. What it said before is forgotten.
    pub(crate) fn look(&mut self) -> io::Result<&[(IpAddr, Mac)]> {
        let looked = self.read_if_changed();
        if looked.is_err() {
            self.version = None;
            self.held.clear();
        }
        looked.map(|()| self.held.as_slice())
    }

    fn read_if_changed(&mut self) -> io::Result<()> {
        let about = std::fs::metadata(&self.path)?;
        let version = Some((about.modified()?, about.len()));
        if version != self.version {
            self.held = read(&self.path)?;
            self.version = version;
        }
        Ok(())
    }
}

/// The leases in a file.
///
/// # Errors
///
/// As [`Leases::look`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<(IpAddr, Mac)>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_LEASES_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LEASES_BYTES {
        return Err(io::Error::other(format!("longer than {MAX_LEASES_BYTES} bytes")));
    }
    // Names are of the clients' choice, so not always UTF-8.
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(lease).collect())
}

/// The lease of a line; none in one that is half written, or of other links than Ethernet.
fn lease(line: &str) -> Option<(IpAddr, Mac)> {
    let mut words = line.split(' ');
    let _end: u64 = words.next()?.parse().ok()?;
    let MacText(mac) = words.next()?.parse().ok()?;
    let address: Ipv4Addr = words.next()?.parse().ok()?;
    // The name and the identity: without them, the line is not yet whole.
    words.nth(1)?;
    Some((address.into(), mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "1764060000 02:00:00:00:00:0a 10.77.0.20 phone 01:02:00:00:00:00:0a\n\
                        0 02:00:00:00:00:0b 10.77.0.21 * *\n\
                        duid 00:01:00:01:2f\n\
                        1764060000 1234 fd77::20 phone 00:01:00:01\n\
                        1764060000 06-02:00:00:00:00:0c 10.77.0.22 * *\n\
                        1764060000 02:00:00:00:00:0d 10.77.0.2";

    #[test]
    fn leases_of_ethernet_and_ipv4_count_and_whatever_else_is_there_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("leases");
        std::fs::write(&path, FILE).expect("written");
        let mac = |last| Mac::new([2, 0, 0, 0, 0, last]);
        let v4 = |last| IpAddr::from([10, 77, 0, last]);
        let expected = [(v4(20), mac(0xa)), (v4(21), mac(0xb))];
        let mut leases = Leases::of(path.clone());
        assert_eq!(leases.look().expect("read"), expected);
        std::fs::write(&path, "0 02:00:00:00:00:0b 10.77.0.9 * *\n").expect("written");
        assert_eq!(leases.look().expect("read"), [(v4(9), mac(0xb))]);
        std::fs::remove_file(&path).expect("removed");
        assert!(leases.look().is_err());
        std::fs::write(&path, "\u{20}".repeat((MAX_LEASES_BYTES + 1) as usize)).expect("written");
        assert!(leases.look().is_err(), "too long a file");
    }

    #[test]
    fn a_line_that_is_half_written_is_none() {
        let line = "1764060000 02:00:00:00:00:0a 10.77.0.200 phone *";
        assert!(lease(line).is_some());
        for end in 0..line.len() - 1 {
            assert_eq!(lease(&line[..end]), None, "{}", &line[..end]);
        }
    }
}
