//! Hearing of changes when they happen.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

/// Groups of `linux/rtnetlink.h`: interfaces, neighbours, qdiscs and filters, addresses of both families.
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_TC: u32 = 4;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
/// Group of `linux/netfilter/nfnetlink.h`: nftables.
const NFNLGRP_NFTABLES: u32 = 7;

/// Datagrams that are taken at once: more than the kernel keeps for one socket.
const MAX_DATAGRAMS_AT_ONCE: usize = 4_096;
/// Of a datagram only the fact that it came counts.
const DATAGRAM_BYTES: usize = 64;

/// A socket that becomes readable when something has changed. What it was is to be looked up: the
/// kernel drops messages that are not read in time.
pub(crate) struct Watch {
    socket: Socket,
}

impl Watch {
    /// Hears of interfaces, their addresses, qdiscs and filters.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(crate) fn interfaces() -> io::Result<Self> {
        let groups = [RTNLGRP_LINK, RTNLGRP_TC, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
        Self::join(NETLINK_ROUTE, &groups)
    }

    /// Hears of neighbours that come, go and change.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(crate) fn neighbours() -> io::Result<Self> {
        Self::join(NETLINK_ROUTE, &[RTNLGRP_NEIGH])
    }

    /// Hears of changes of nftables.
    ///
    /// # Errors
    ///
    /// Fails on a kernel without nftables, and without the right to administer networks.
    pub(crate) fn rules() -> io::Result<Self> {
        Self::join(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])
    }

    fn join(protocol: isize, groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// A descriptor of the same socket, to wait for.
    ///
    /// # Errors
    ///
    /// Fails if the process has no descriptor left.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Takes what has come, and says whether there was something. Messages that were lost count
    /// as well.
    pub(crate) fn take(&self) -> bool {
        let mut some = false;
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
        for _ in 0..MAX_DATAGRAMS_AT_ONCE {
            datagram.clear();
            match self.socket.recv(&mut datagram, 0) {
                Ok(_) => some = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // ENOBUFS: the kernel could not keep them all.
                Err(_) => some = true,
            }
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_nothing_to_take_where_nothing_changes() {
        let watch = Watch::interfaces().expect("anybody may listen");
        watch.take();
        assert!(watch.descriptor().is_ok());
    }
}
