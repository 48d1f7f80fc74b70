//! What a configuration must satisfy beyond its form.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use bitmesh_common::abi::MAX_LANS;
use bitmesh_core::Tariff;
use toml::Spanned;

use super::error::Wrong;
use super::{Config, DEFAULT_TARIFF, Lan, Raw, RawLan, allowance, backup, payments, portal};

/// Bytes of an interface name, at most (`IFNAMSIZ`, less its zero).
const MAX_INTERFACE_BYTES: usize = 15;
/// Bytes of a socket's path, at most (`sun_path`, less its zero).
const MAX_SOCKET_BYTES: usize = 107;
/// Bytes of a name that the portal answers to, at most (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;
/// Names that the portal answers to, on one interface, at most.
const MAX_NAMES: usize = 8;
/// Bytes of a tariff's name, at most.
const MAX_TARIFF_NAME_BYTES: usize = 32;
/// Tariffs, at most.
const MAX_TARIFFS: usize = 64;

/// Checks the values of a file.
pub(super) fn check(raw: Raw) -> Result<Config, Wrong> {
    let socket = absolute("socket", raw.socket)?;
    let database = absolute("database", raw.database)?.1;
    let bpffs = absolute("bpffs", raw.bpffs)?.1;
    let socket = short(socket)?;
    let dhcp_leases = leases(raw.dhcp_leases, raw.anti_spoof)?;
    let lans = lans(raw.lan)?;
    let tariffs = tariffs(raw.tariffs)?;
    let payments = payments::check(raw.chain, raw.channels, raw.bargaining, &tariffs, &database)?;
    let portal = portal::check(raw.portal, &lans)?;
    let backup = match raw.backup {
        Some(backup) if payments.is_none() => {
            let what = "[backup] keeps a copy of the channels: add [chain] and [channels]";
            return Err(Wrong::new(backup.span(), what.to_owned()));
        }
        backup => backup.map(|backup| backup::check(backup, &database)).transpose()?,
    };
    let allowance = allowance::check(raw.pay_allowance_kib, raw.pay_allowance_total_kib)?;
    Ok(Config {
        database,
        bpffs,
        socket,
        hook: raw.hook,
        anti_spoof: raw.anti_spoof,
        dhcp_leases,
        allow_bypass: raw.allow_bypass,
        lans,
        tariffs,
        allowance,
        payments,
        backup,
        portal,
    })
}

pub(super) fn absolute(
    key: &str,
    path: Spanned<PathBuf>,
) -> Result<(Range<usize>, PathBuf), Wrong> {
    let span = path.span();
    let path = path.into_inner();
    if path.is_absolute() {
        return Ok((span, path));
    }
    let what = format!("`{key}` is `{}`: give a path that starts with /", path.display());
    Err(Wrong::new(span, what))
}

fn short((span, path): (Range<usize>, PathBuf)) -> Result<PathBuf, Wrong> {
    if path.as_os_str().len() <= MAX_SOCKET_BYTES {
        return Ok(path);
    }
    let what =
        format!("`socket` is too long: a socket's path has at most {MAX_SOCKET_BYTES} bytes");
    Err(Wrong::new(span, what))
}

fn leases(path: Option<Spanned<PathBuf>>, anti_spoof: bool) -> Result<Option<PathBuf>, Wrong> {
    let Some(path) = path else { return Ok(None) };
    let (span, path) = absolute("dhcp_leases", path)?;
    if anti_spoof {
        return Ok(Some(path));
    }
    let what = "`dhcp_leases` says whose addresses are, but `anti_spoof = false` asks nobody: \
                remove one of them";
    Err(Wrong::new(span, what.to_owned()))
}

fn lans(raw: Vec<RawLan>) -> Result<Vec<Lan>, Wrong> {
    if raw.is_empty() {
        let what = "no LAN interface: add [[lan]] with `interface = \"…\"`";
        return Err(Wrong::new(0..0, what.to_owned()));
    }
    let mut seen = BTreeSet::new();
    let mut lans = Vec::new();
    for lan in raw {
        let span = lan.interface.span();
        let interface = interface(lan.interface)?;
        if !seen.insert(interface.clone()) {
            let what = format!("the interface `{interface}` is there twice: remove one");
            return Err(Wrong::new(span, what));
        }
        if lans.len() == MAX_LANS {
            let what = format!("more than {MAX_LANS} LAN interfaces: remove some");
            return Err(Wrong::new(span, what));
        }
        if *lan.portal_port.get_ref() == 0 {
            let what = "`portal_port` can't be 0: give the port of the portal";
            return Err(Wrong::new(lan.portal_port.span(), what.to_owned()));
        }
        let portal_port = lan.portal_port.into_inner();
        let names = names(lan.names)?;
        lans.push(Lan { interface, portal_port, resolver: lan.resolver, names });
    }
    Ok(lans)
}

fn names(raw: Vec<Spanned<String>>) -> Result<Vec<String>, Wrong> {
    let mut names = Vec::new();
    for name in raw {
        let span = name.span();
        let name = name.into_inner().to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(plain) {
            let what = format!("`{name}` is no name of a host: use letters, digits, - and dots");
            return Err(Wrong::new(span, what));
        }
        if names.len() == MAX_NAMES {
            let what = format!("more than {MAX_NAMES} names: remove some");
            return Err(Wrong::new(span, what));
        }
        names.push(name);
    }
    Ok(names)
}

/// The kernel's rule for names of devices (`dev_valid_name`), less what nftables can't name.
fn interface(name: Spanned<String>) -> Result<String, Wrong> {
    let span = name.span();
    let name = name.into_inner();
    let odd = |c: char| "/:\"\\*".contains(c) || c.is_whitespace() || c.is_control();
    if name.is_empty() || name == "." || name == ".." || name.contains(odd) {
        let what = format!("`{name}` is no name of an interface: see `ip link`");
        return Err(Wrong::new(span, what));
    }
    if name.len() > MAX_INTERFACE_BYTES {
        let what = format!(
            "`{name}` is too long for an interface, which has at most {MAX_INTERFACE_BYTES} bytes: \
             see `ip link`"
        );
        return Err(Wrong::new(span, what));
    }
    Ok(name)
}

fn tariffs(
    raw: BTreeMap<Spanned<String>, Spanned<Tariff>>,
) -> Result<BTreeMap<String, Tariff>, Wrong> {
    let mut tariffs = BTreeMap::new();
    for (name, tariff) in raw {
        let span = name.span();
        let name = name.into_inner();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > MAX_TARIFF_NAME_BYTES || !name.chars().all(plain) {
            let what = format!(
                "`{name}` is no name of a tariff: use 1 to {MAX_TARIFF_NAME_BYTES} letters, digits, \
                 - and _"
            );
            return Err(Wrong::new(span, what));
        }
        if tariffs.len() == MAX_TARIFFS {
            let what = format!("more than {MAX_TARIFFS} tariffs: remove some");
            return Err(Wrong::new(span, what));
        }
        let tariff = tariff.into_inner();
        tariff.check().map_err(|error| Wrong::new(span, format!("tariff `{name}`: {error}")))?;
        tariffs.insert(name, tariff);
    }
    if tariffs.contains_key(DEFAULT_TARIFF) {
        return Ok(tariffs);
    }
    let what = format!("there is no tariff `{DEFAULT_TARIFF}`: add [tariffs.{DEFAULT_TARIFF}]");
    Err(Wrong::new(0..0, what))
}
