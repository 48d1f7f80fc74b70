//! The configuration file.
//!
//! ```toml
//! database = "/var/lib/bitmesh/bitmesh.db"
//! hook = "auto"
//! anti_spoof = true
//! dhcp_leases = "/var/lib/misc/dnsmasq.leases"
//! pay_allowance_kib = 512 # nothing is given without this line
//!
//! [[lan]]
//! interface = "wlan0"
//!
//! [tariffs.default]
//! uplink_msat_per_mib = 1000
//! downlink_msat_per_mib = 1000
//! msat_per_minute = 0
//!
//! # Without these two, nothing is sold but what the operator grants.
//! [chain]
//! network = "bitcoin" # a light client asks peers; or kind = "bitcoind" or "esplora", with a url
//!
//! [channels]
//! payout_address = "bc1…" # or payout_descriptor
//!
//! [backup]
//! directory = "/mnt/usb/bitmesh" # or command
//! ```

mod allowance;
mod backup;
mod bargaining;
mod chain;
mod check;
mod error;
mod payments;
mod payout;
mod portal;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bitmesh_core::{AllowancePolicy, Tariff};
use serde::Deserialize;
use toml::Spanned;

use crate::backup::Target;

pub use self::chain::{Chain, ChainAuth, ChainKind, Peers};
pub use self::error::ConfigError;
pub use self::payments::{Channels, MAX_CONFIRMATIONS, MAX_LOCK_BLOCKS, MIN_OPEN_BLOCKS, Payments};
pub use self::payout::PayTo;
pub use self::portal::{PortalPages, PortalTls};

/// Bytes of a configuration file, at most.
pub const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// Where the agent listens if nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/bitmesh/bitmesh.sock";

/// Where programs and maps are pinned if nothing else is said.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/bitmesh";

/// The tariff that a grant opens a session under if it names none.
pub const DEFAULT_TARIFF: &str = "default";

/// Which hook to use on the LAN interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// tcx where the kernel has it (6.6), else clsact.
    #[default]
    Auto,
    /// tcx only.
    Tcx,
    /// clsact only.
    Clsact,
    /// XDP in the driver for what comes in from the LAN, and as `Auto` behind it.
    Xdp,
}

/// A LAN interface to be metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Its name, as the kernel takes it.
    pub interface: String,
    /// TCP port of the portal on the gateway, open to the unpaid.
    pub portal_port: u16,
    /// Whether the unpaid may ask the gateway's resolver (port 53).
    pub resolver: bool,
    /// Names that the portal answers to, beside its addresses.
    pub names: Vec<String>,
}

/// A configuration that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The database.
    pub database: PathBuf,
    /// The agent's control socket.
    pub socket: PathBuf,
    /// The directory on a BPF file system in which programs and maps are pinned.
    pub bpffs: PathBuf,
    /// Which hook to use.
    pub hook: Hook,
    /// Whether to sell although packets may go past the gate.
    pub allow_bypass: bool,
    /// Whether what comes from another device's address is dropped.
    pub anti_spoof: bool,
    /// dnsmasq's file of leases, which say whose an address is.
    pub dhcp_leases: Option<PathBuf>,
    /// The LAN interfaces: at least one, none twice.
    pub lans: Vec<Lan>,
    /// The price lists by name; [`DEFAULT_TARIFF`] is among them.
    pub tariffs: BTreeMap<String, Tariff>,
    /// What who can't pay yet is given, if anything.
    pub allowance: Option<AllowancePolicy>,
    /// What sells channels. Without it, the operator grants.
    pub payments: Option<Payments>,
    /// Where a copy of the channels is kept, if anywhere.
    pub backup: Option<Target>,
    /// What visitors are shown.
    pub portal: PortalPages,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "default_database")]
    database: Spanned<PathBuf>,
    #[serde(default = "default_socket")]
    socket: Spanned<PathBuf>,
    #[serde(default = "default_bpffs")]
    bpffs: Spanned<PathBuf>,
    #[serde(default)]
    hook: Hook,
    #[serde(default = "default_anti_spoof")]
    anti_spoof: bool,
    dhcp_leases: Option<Spanned<PathBuf>>,
    #[serde(default)]
    allow_bypass: bool,
    pay_allowance_kib: Option<Spanned<u64>>,
    pay_allowance_total_kib: Option<Spanned<u64>>,
    #[serde(default)]
    lan: Vec<RawLan>,
    #[serde(default)]
    tariffs: BTreeMap<Spanned<String>, Spanned<Tariff>>,
    chain: Option<Spanned<chain::RawChain>>,
    channels: Option<Spanned<payments::RawChannels>>,
    bargaining: Option<Spanned<bargaining::RawBargaining>>,
    backup: Option<Spanned<backup::RawBackup>>,
    #[serde(default)]
    portal: portal::RawPortal,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLan {
    interface: Spanned<String>,
    #[serde(default = "default_portal_port")]
    portal_port: Spanned<u16>,
    #[serde(default = "default_resolver")]
    resolver: bool,
    #[serde(default)]
    names: Vec<Spanned<String>>,
}

fn default_database() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from("/var/lib/bitmesh/bitmesh.db"))
}

fn default_socket() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from(DEFAULT_SOCKET))
}

fn default_bpffs() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from(DEFAULT_BPFFS))
}

fn default_portal_port() -> Spanned<u16> {
    Spanned::new(0..0, 2121)
}

const fn default_anti_spoof() -> bool {
    true
}

const fn default_resolver() -> bool {
    true
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// Names the file, the line, what is wrong and how to mend it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let file = File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong(path.to_owned()));
        }
        Self::parse(path, &text)
    }

    /// Checks the text of the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw: Raw =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(path, text, &error))?;
        check::check(raw).map_err(|wrong| wrong.at(path, text))
    }
}

#[cfg(test)]
mod tests;
