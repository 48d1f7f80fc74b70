//! Many visitors, each with a MAC address of its own, in one namespace.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::namespace::{Namespace, run};

/// Where the portal is for them.
pub const PORTAL: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// Its port.
pub const PORT: u16 = 2121;
/// How long an answer may take.
pub const MAX_ANSWER: Duration = Duration::from_secs(5);

/// One visitor's address, MAC address and device.
#[derive(Clone, Copy, Debug)]
pub struct Visitor(pub u16);

impl Visitor {
    fn address(&self) -> Ipv4Addr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 78, 1 + high, low)
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> String {
        let [high, low] = self.0.to_be_bytes();
        format!("02:00:01:00:{high:02x}:{low:02x}")
    }

    /// Its device's name.
    #[must_use]
    pub fn device(&self) -> String {
        format!("visitor{}", self.0)
    }

    /// Connects to the portal, from within the crowd's namespace.
    ///
    /// # Errors
    ///
    /// Fails if nobody answers.
    pub fn connect(&self) -> Result<TcpStream> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        setsockopt(&socket, sockopt::BindToDevice, &self.device().into())?;
        // `connect` heeds it, too (socket(7)).
        let patience = TimeVal::seconds(MAX_ANSWER.as_secs().try_into()?);
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        let of = |address: Ipv4Addr, port| SockaddrIn::from(SocketAddrV4::new(address, port));
        bind(socket.as_raw_fd(), &of(self.address(), 0))?;
        connect(socket.as_raw_fd(), &of(PORTAL, PORT))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(MAX_ANSWER))?;
        Ok(stream)
    }

    /// Asks for a page.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub fn ask(&self, path: &str, more: &str) -> Result<TcpStream> {
        let mut stream = self.connect().with_context(|| self.device())?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {PORTAL}:{PORT}\r\n{more}\r\n");
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }
}

/// So many visitors' devices, in one namespace: cables to the bridge of the LAN.
///
/// # Errors
///
/// Fails if the kernel refuses.
pub fn crowd(lab: &Lab, visitors: u16) -> Result<Namespace> {
    let crowd = Namespace::new("crowd")?;
    for (name, value) in [
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/conf/all/arp_ignore", "1"),
        ("ipv4/conf/all/arp_announce", "2"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ] {
        crowd.sysctl(name, value)?;
    }
    let (mut ports, mut devices) = (String::new(), String::new());
    for visitor in (0..visitors).map(Visitor) {
        let (device, mac, address) = (visitor.device(), visitor.mac(), visitor.address());
        let peer = format!("peer name {device} netns {} address {mac}", crowd.name());
        writeln!(ports, "link add crowd{} type veth {peer}", visitor.0)?;
        writeln!(ports, "link set crowd{} addrgenmode none master lan0 up", visitor.0)?;
        writeln!(devices, "link set {device} up\naddr add {address}/32 dev {device}")?;
        // The kernel of both sides is one, and its table of neighbours too: this one needs no place.
        let gateway = format!("{PORTAL} lladdr 02:00:00:00:77:01 dev {device} nud permanent");
        writeln!(devices, "neigh add {gateway}")?;
    }
    batch(&lab.gateway, &ports)?;
    batch(&crowd, &devices)?;
    lab.gateway.ip(&format!("addr add {PORTAL}/16 dev lan0"))?;
    Ok(crowd)
}

fn batch(namespace: &Namespace, lines: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), lines)?;
    namespace.ip(&format!("-batch {}", file.path().display())).map(drop)
}

/// What else a machine has to do, a build perhaps, is not what is measured.
///
/// # Errors
///
/// Fails without root.
pub fn put_first(thread: Pid) -> Result<()> {
    run(Command::new("renice").args(["-n", "-10", "-p", &thread.to_string()])).map(drop)
}

/// A number of `/proc/PID/status`, in KiB.
///
/// # Errors
///
/// Fails if there is no such process, or no such number.
pub fn memory_kib(pid: Pid, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name)).context("no such line")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}
