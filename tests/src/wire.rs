//! Frames as they are, put on a device past the stack of its namespace.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, socket,
};

use crate::namespace::Namespace;

/// How often a device that is busy is tried again.
const MAX_TRIES: u32 = 1_000;

/// A packet socket on one device.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    device: LinkAddr,
}

impl Wire {
    /// Opens a device of a namespace.
    ///
    /// # Errors
    ///
    /// Fails without root, and if there is no such device.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.enter(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            let found =
                getifaddrs()?.filter(|each| each.interface_name == device).find_map(|each| {
                    let address = each.address?;
                    let is_link = address.family() == Some(AddressFamily::Packet);
                    is_link.then(|| address.as_link_addr().copied()).flatten()
                });
            Ok(Self { socket, device: found.with_context(|| format!("no device {device}"))? })
        })
    }

    /// The MAC address of the device.
    ///
    /// # Errors
    ///
    /// Fails if it has none.
    pub fn mac(&self) -> Result<[u8; 6]> {
        self.device.addr().context("a device without a MAC address")
    }

    /// Puts a frame on the wire, from its Ethernet header on.
    ///
    /// # Errors
    ///
    /// Fails if the device stays busy.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        for _ in 0..MAX_TRIES {
            let sent = sendto(self.socket.as_raw_fd(), frame, &self.device, MsgFlags::empty());
            match sent {
                Ok(_) => return Ok(()),
                Err(nix::Error::ENOBUFS | nix::Error::EAGAIN) => std::thread::yield_now(),
                Err(error) => return Err(error).context("cannot send a frame"),
            }
        }
        bail!("the device is busy")
    }
}
