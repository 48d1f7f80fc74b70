//! The fence behind the gate: a chain of nftables that stops what would be forwarded to or from a
//! LAN interface that is not metered.
//!
//! The programs go with their interface. If a device with a LAN interface's name comes back while
//! no agent is there to attach them, this chain keeps it closed: it knows the metered interfaces
//! by index, which a new device does not share. The gate itself never depends on it.
//!
//! Every forwarded packet passes it, so it is made to cost little: what goes between a metered interface
//! and one to the internet passes at a first rule that compares their two indices, which the kernel does
//! without a call. Names are compared for the rest.
//!
//! It is written with `nft`, in one transaction, rather than by a library: there is none in Rust
//! that is kept well and needs no C library, any router with nftables has the program, and an
//! operator reads in the listing what was written.

mod flow;
mod nft;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::netlink;

pub(crate) use self::flow::{FlowTable, flow_tables};
pub use self::nft::FenceError;
pub(crate) use self::nft::find;

/// The family and name of the table: BitMesh's own.
const TABLE: [&str; 3] = ["table", "inet", "bitmesh"];
/// Before the filters of others: what they let pass in a flow table was let pass here.
const PRIORITY: i32 = -10;

/// Pairs of a metered interface and one to the internet that have rules of their own, at most. The
/// packets of others take the longer way, which is not longer than so many rules.
const MAX_PAIRS: usize = 8;

/// The chain, as the agent left it.
#[derive(Debug)]
pub(crate) struct Fence {
    interfaces: Vec<String>,
    metered: Vec<u32>,
    /// The interfaces to the internet, by index.
    uplinks: Vec<u32>,
    /// How `nft` lists what was written: by its own version, so that only changes differ.
    listed: String,
}

impl Fence {
    /// Raises it, or replaces one that a former agent left, with no moment between them.
    ///
    /// # Errors
    ///
    /// Fails without `nft`, nftables in the kernel, or the right to administer networks.
    pub(crate) fn raise(interfaces: Vec<String>, metered: Vec<u32>) -> Result<Self, FenceError> {
        let uplinks = uplinks(&interfaces);
        let mut fence = Self { interfaces, metered, uplinks, listed: String::new() };
        fence.write()?;
        Ok(fence)
    }

    /// Lets pass what goes through these interfaces, and those only.
    ///
    /// # Errors
    ///
    /// As [`Self::raise`]; the fence then stays as it was.
    pub(crate) fn admit(&mut self, metered: Vec<u32>) -> Result<(), FenceError> {
        let uplinks = uplinks(&self.interfaces);
        if metered == self.metered && uplinks == self.uplinks {
            return Ok(());
        }
        let before = (
            std::mem::replace(&mut self.metered, metered),
            std::mem::replace(&mut self.uplinks, uplinks),
        );
        self.write().inspect_err(|_| (self.metered, self.uplinks) = before)
    }

    /// Puts it back if somebody has removed or changed it. `true` if so.
    ///
    /// # Errors
    ///
    /// As [`Self::raise`].
    pub(crate) fn mend(&mut self) -> Result<bool, FenceError> {
        let found = listing()?;
        if found.as_deref() == Some(self.listed.as_str()) {
            return Ok(false);
        }
        self.write()?;
        // An interface with a new name is listed by it, though nothing has changed.
        Ok(found.as_deref() != Some(self.listed.as_str()))
    }

    fn write(&mut self) -> Result<(), FenceError> {
        nft::load(&rules(&self.interfaces, &self.metered, &self.uplinks))?;
        self.listed = listing()?.unwrap_or_default();
        Ok(())
    }
}

/// Takes the fence away. `false` if there is none.
///
/// # Errors
///
/// Fails without the right to administer networks.
pub(crate) fn remove() -> Result<bool, FenceError> {
    if nft::find().is_none() || listing()?.is_none() {
        return Ok(false);
    }
    nft::load(&format!("delete {}\n", TABLE.join(" ")))?;
    Ok(true)
}

/// The interfaces that the fence does not stand behind; nothing if there is no fence at all.
///
/// # Errors
///
/// Fails without `nft` or the right to ask it.
pub(crate) fn gaps(interfaces: &[&str]) -> Result<Option<Vec<String>>, FenceError> {
    let Some(listed) = listing()? else { return Ok(None) };
    let open = |interface: &&&str| {
        !listed.contains("hook forward") || rules_of(interface).iter().any(|r| !listed.contains(r))
    };
    Ok(Some(interfaces.iter().filter(open).map(|name| (*name).to_owned()).collect()))
}

/// The table as `nft` lists it, without counts; nothing if it is not there.
fn listing() -> Result<Option<String>, FenceError> {
    nft::list(&TABLE)
}

/// What stops packets of one interface under an index that is not metered.
fn rules_of(interface: &str) -> [String; 2] {
    ["iif", "oif"].map(|end| format!("{end}name \"{interface}\" {end} != @metered"))
}

/// The interfaces of default routes, which are none of these; none if the kernel does not tell: then
/// all take the longer way. Not every interface that is no LAN's: one that nothing goes through yet
/// may get a LAN interface's name while no agent is there to see it.
fn uplinks(interfaces: &[String]) -> Vec<u32> {
    let routes = netlink::default_routes().unwrap_or_else(|error| {
        tracing::debug!(%error, "the fence knows no interface to the internet by its index");
        BTreeSet::new()
    });
    let is_lan = |index: u32| netlink::ifname(index).is_none_or(|name| interfaces.contains(&name));
    routes.into_iter().filter(|index| !is_lan(*index)).collect()
}

fn rules(interfaces: &[String], metered: &[u32], uplinks: &[u32]) -> String {
    let table = TABLE.join(" ");
    // Deleting what is not there would fail: the first line makes sure that it is.
    let mut text = format!("{table} {{ }}\ndelete {table}\n{table} {{\n");
    text += &set("metered", metered);
    text += "chain forward {\n";
    // Writing to a string can't fail.
    let _ = writeln!(text, "type filter hook forward priority {PRIORITY}; policy accept;");
    for (lan, uplink) in pairs(metered, uplinks) {
        let _ = writeln!(text, "iif {lan} oif {uplink} accept\niif {uplink} oif {lan} accept");
    }
    for rule in interfaces.iter().flat_map(|interface| rules_of(interface)) {
        let _ = writeln!(text, "{rule} counter drop");
    }
    text + "}\n}\n"
}

fn pairs(metered: &[u32], uplinks: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    let all = uplinks.iter().flat_map(|uplink| metered.iter().map(|lan| (*lan, *uplink)));
    all.take(MAX_PAIRS)
}

fn set(name: &str, interfaces: &[u32]) -> String {
    let list = interfaces.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let elements =
        if list.is_empty() { String::new() } else { format!("elements = {{ {list} }}\n") };
    format!("set {name} {{\ntype iface_index\n{elements}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_closed_both_ways_but_for_the_metered_ones() {
        let text = rules(&["lan0".to_owned(), "wlan0".to_owned()], &[7, 12], &[1, 3]);
        assert!(text.contains("elements = { 7, 12 }"), "{text}");
        for pair in ["iif 7 oif 1 accept\niif 1 oif 7 accept\n", "iif 12 oif 3 accept\n"] {
            assert!(text.contains(pair), "{pair}: {text}");
        }
        for rule in [
            "iifname \"lan0\" iif != @metered counter drop",
            "oifname \"lan0\" oif != @metered counter drop",
            "iifname \"wlan0\" iif != @metered counter drop",
            "oifname \"wlan0\" oif != @metered counter drop",
        ] {
            assert!(text.contains(rule), "{rule}: {text}");
        }
        assert!(!rules(&["lan0".to_owned()], &[], &[]).contains("elements"));
        let many: Vec<u32> = (10..100).collect();
        let pairs = rules(&["lan0".to_owned()], &many, &[1]).matches("oif 1 accept").count();
        assert_eq!(pairs, MAX_PAIRS);
    }
}
