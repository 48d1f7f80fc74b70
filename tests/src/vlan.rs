//! VLAN devices on the cables of a lab: of a kernel that has 8021q.

use anyhow::Result;

use crate::lab::SEGMENTS;
use crate::namespace::Namespace;

/// One tag.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// As `ip link` names it.
    protocol: &'static str,
    /// 1 to 4094.
    id: u16,
}

impl Tag {
    /// A customer's tag (IEEE 802.1Q, EtherType 0x8100).
    #[must_use]
    pub const fn inner(id: u16) -> Self {
        Self { protocol: "802.1Q", id }
    }

    /// A provider's tag (EtherType 0x88a8).
    #[must_use]
    pub const fn outer(id: u16) -> Self {
        Self { protocol: "802.1ad", id }
    }
}

/// Room on a cable for a full packet and two tags.
const CABLE_MTU: u32 = 1_508;

/// What a subscriber's end of the cable is called when `eth0` stands on it.
pub(crate) const FAR_CABLE: &str = "cable0";

/// What it is called behind the switch that a trunk has.
pub(crate) const BEHIND_SWITCH: &str = "hop1";

/// Puts VLAN devices on a cable, the outermost tag first. The last is called `top`.
///
/// # Errors
///
/// Fails if `ip` does, and on a kernel without 8021q.
pub(crate) fn stand(namespace: &Namespace, cable: &str, top: &str, tags: &[Tag]) -> Result<()> {
    namespace.ip(&format!("link set {cable} mtu {CABLE_MTU} up"))?;
    let mut below = cable.to_owned();
    for (number, Tag { protocol, id }) in tags.iter().enumerate() {
        let is_last = number + 1 == tags.len();
        let name = if is_last { top.to_owned() } else { format!("{top}-{number}") };
        let kind = format!("type vlan proto {protocol} id {id}");
        namespace.ip(&format!("link add link {below} name {name} {kind}"))?;
        namespace.ip(&format!("link set {name} mtu 1500 up"))?;
        below = name;
    }
    Ok(())
}

/// A switch at a subscriber's end of the cable, which cuts super-packets: what comes over the cable
/// has passed the gate as a super-packet, and arrives as segments.
///
/// # Errors
///
/// Fails if `ip` or `ethtool` do.
pub(crate) fn switch(namespace: &Namespace) -> Result<()> {
    namespace.ip("link add switch0 type bridge mcast_snooping 0")?;
    namespace.ip(&format!("link add hop0 type veth peer name {BEHIND_SWITCH}"))?;
    for port in [FAR_CABLE, "hop0"] {
        namespace.ip(&format!("link set {port} mtu {CABLE_MTU} master switch0 up"))?;
    }
    namespace.ip(&format!("link set switch0 mtu {CABLE_MTU} up"))?;
    namespace.offloads("hop0", SEGMENTS)
}

/// Takes the VLAN devices off a cable that [`stand`] has put there.
///
/// # Errors
///
/// Fails if `ip` does.
pub(crate) fn fall(namespace: &Namespace, top: &str, tags: &[Tag]) -> Result<()> {
    // With the lowest go those that stand on it.
    let lowest = if tags.len() > 1 { format!("{top}-0") } else { top.to_owned() };
    namespace.ip(&format!("link del {lowest}")).map(drop)
}
