//! Thousands of stations behind one cable, each with an address and a MAC address of its own.
//!
//! A bridge has room for a thousand devices. So the stations share one device, and nftables gives
//! each frame its sender's MAC address on the way out. What the gateway sends to any of them arrives.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::wait::until;

/// Where the gateway answers.
pub(super) const PORTAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 78, 0, 1), 2121);

/// How long a connection, or an answer, may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

const GATEWAY_MAC: &str = "02:00:00:00:77:01";

/// One station, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Station(pub(super) u16);

impl Station {
    fn address(self) -> Ipv4Addr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 78, 1 + high, low)
    }

    /// Its MAC address.
    pub(super) const fn mac(self) -> [u8; 6] {
        let [high, low] = self.0.to_be_bytes();
        [2, 0, 1, 0, high, low]
    }

    fn mac_text(self) -> String {
        self.mac().map(|byte| format!("{byte:02x}")).join(":")
    }

    /// A connection to the portal, from inside the namespace of the stations.
    ///
    /// # Errors
    ///
    /// Fails if it takes longer than [`PATIENCE`].
    pub(super) fn connect(self) -> Result<TcpStream> {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let patience = TimeVal::seconds(PATIENCE.as_secs().try_into()?);
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        let own = SocketAddrV4::new(self.address(), 0);
        bind(socket.as_raw_fd(), &SockaddrIn::from(own))?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(PORTAL))
            .with_context(|| format!("{self:?} does not reach the portal"))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Settles so many stations at the cable of the lab's only subscriber.
///
/// # Errors
///
/// Fails if `ip` or `nft` does, or if the portal does not answer.
pub(super) fn settle(lab: &Lab, count: u16) -> Result<()> {
    let far = &lab.subscriber().namespace;
    lab.gateway.ip("addr add 10.78.0.1/16 dev lan0")?;
    let (mut here, mut there, mut macs) = (String::new(), String::new(), String::new());
    writeln!(there, "neigh replace {} lladdr {GATEWAY_MAC} dev eth0 nud permanent", PORTAL.ip())?;
    writeln!(there, "route add {}/32 dev eth0", PORTAL.ip())?;
    for station in (0..count).map(Station) {
        let (address, mac) = (station.address(), station.mac_text());
        // The kernel has no room for so many neighbours that it finds by itself.
        writeln!(here, "neigh replace {address} lladdr {mac} dev lan0 nud permanent")?;
        writeln!(there, "addr add {address}/32 dev eth0")?;
        write!(macs, "{address} : {mac}, ")?;
    }
    batch(&lab.gateway, &here)?;
    batch(far, &there)?;
    let rules = format!(
        "table netdev crowd {{\n\
         map macs {{ type ipv4_addr : ether_addr; elements = {{ {macs} }} }}\n\
         chain out {{ type filter hook egress device \"eth0\" priority 0;\n\
         ether saddr set ip saddr map @macs; }}\n\
         chain in {{ type filter hook ingress device \"eth0\" priority 0;\n\
         ip daddr 10.78.0.0/16 meta pkttype set host; }}\n}}\n"
    );
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), rules)?;
    far.run("nft", &["-f", &file.path().display().to_string()])?;
    until("the portal answers the stations", || far.enter(|| Ok(Station(0).connect().is_ok())))
}

fn batch(namespace: &Namespace, lines: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), lines)?;
    namespace.ip(&format!("-batch {}", file.path().display())).map(drop)
}
