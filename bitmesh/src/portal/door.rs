//! Where the portal listens.
//!
//! A socket is bound to the LAN interface itself (`SO_BINDTODEVICE`): what comes by another
//! interface never reaches it, and addresses may come and go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use bitmesh_core::Mac;
use rustix::net::sockopt::{set_ipv6_v6only, set_tcp_user_timeout};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::ask::Asked;
use super::caller::{Caller, Hall};
use super::connection::serve;
use super::host::Own;
use super::places::{NoPlace, Place, Places};
use super::problem::Problem;
use super::routes::routes;
use super::tls::{Certificates, Tls, TlsError};
use super::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_STATION, REFRESH_EVERY, WRITE_TIMEOUT};
use crate::netlink;

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 128;

/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A LAN interface with a portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanPort {
    /// The interface.
    pub interface: String,
    /// The TCP port.
    pub port: u16,
    /// Names that the portal answers to, beside the addresses of the interface.
    pub names: Vec<String>,
}

/// Why there is no portal.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// The interface does not exist.
    #[error("there is no interface {0}: see `ip link`, and mend `interface` in the configuration")]
    NoInterface(String),
    /// The system has no random numbers.
    #[error("the portal has no random numbers for its forms: {0}: see /dev/urandom")]
    NoRandom(#[from] rustix::io::Errno),
    /// There is no certificate to show.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port can't be had.
    #[error(
        "the portal can't listen at port {port} of {interface}: {error}: stop what holds it, or \
         choose another `portal_port`, or `port` in [portal.tls]"
    )]
    Bind {
        /// Where.
        interface: String,
        /// Which port.
        port: u16,
        /// What the system says.
        error: io::Error,
    },
}

/// The tasks that listen; dropping it ends them. Connections that stand go on.
#[derive(Debug)]
pub struct Portal(Vec<JoinHandle<()>>);

impl Portal {
    /// Listens at each interface, and sends what is asked to `asked`. `venue` is the address of a
    /// page about the place. With `tls`, pages are behind a second door of each interface.
    ///
    /// # Errors
    ///
    /// [`PortalError`] if a port can't be had, or the certificate can't be used.
    pub fn start(
        lans: &[LanPort],
        venue: Option<String>,
        tls: Option<Tls>,
        asked: mpsc::Sender<Asked>,
    ) -> Result<Self, PortalError> {
        let hall = Arc::new(Hall::new(asked, venue)?);
        let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_STATION);
        let tls_port = tls.as_ref().map(|tls| tls.port);
        let names = || lans.iter().flat_map(|lan| lan.names.first().cloned()).collect();
        let certificates = tls.map(|tls| Certificates::load(tls, names())).transpose()?;
        let certificates = certificates.map(Arc::new);
        let fresh = certificates.iter().map(|shown| tokio::spawn(Arc::clone(shown).keep_fresh()));
        let mut portal = Self(fresh.collect());
        for lan in lans {
            for shown in [Some(None), certificates.clone().map(Some)].into_iter().flatten() {
                let port = tls_port.filter(|_| shown.is_some()).unwrap_or(lan.port);
                let (interface, own) = (lan.interface.clone(), own(lan, tls_port, shown.is_some()));
                let bound = Bound::new(&interface, port);
                let bound = bound.map_err(|error| refused(&interface, port, error))?;
                let (hall, places, routes) = (Arc::clone(&hall), places.clone(), routes());
                let own = Arc::new(Mutex::new(own));
                let door = Door { interface, port, tls: shown, hall, places, routes, own };
                portal.0.push(tokio::spawn(door.keep(bound)));
            }
        }
        Ok(portal)
    }
}

fn own(lan: &LanPort, tls_port: Option<u16>, secure: bool) -> Own {
    let (addresses, names) = (Vec::new(), lan.names.clone());
    Own { addresses, names, plain_port: lan.port, tls_port, secure }
}

fn refused(interface: &str, port: u16, error: io::Error) -> PortalError {
    let interface = interface.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => PortalError::NoInterface(interface),
        _ => PortalError::Bind { interface, port, error },
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// A socket at one interface, as long as the interface is the same.
struct Bound {
    ifindex: u32,
    listener: TcpListener,
}

impl Bound {
    fn new(interface: &str, port: u16) -> io::Result<Self> {
        let ifindex = netlink::ifindex(interface).ok_or(io::ErrorKind::NotFound)?;
        let (socket, any) = match TcpSocket::new_v6() {
            Ok(socket) => {
                set_ipv6_v6only(&socket, false)?;
                (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
            }
            // A kernel without IPv6.
            Err(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        socket.set_reuseaddr(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.bind(SocketAddr::new(any, port))?;
        Ok(Self { ifindex, listener: socket.listen(BACKLOG)? })
    }
}

/// What is needed to let somebody in by one interface.
struct Door {
    interface: String,
    port: u16,
    /// What it shows if it speaks TLS.
    tls: Option<Arc<Certificates>>,
    hall: Arc<Hall>,
    places: Places,
    routes: Router<Caller>,
    own: Arc<Mutex<Own>>,
}

impl Door {
    async fn keep(self, bound: Bound) {
        let mut bound = Some(bound);
        let mut refresh = interval(REFRESH_EVERY);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = refresh.tick() => self.refresh(&mut bound),
                (ifindex, accepted) = accept(bound.as_ref()) => match accepted {
                    Ok((stream, from)) => self.enter(stream, from, ifindex),
                    Err(error) => {
                        // No descriptor left, most likely: that passes.
                        tracing::warn!(%error, "a connection to the portal was not accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// An interface that vanished and came back has another index: its old socket hears nothing.
    fn refresh(&self, bound: &mut Option<Bound>) {
        let ifindex = netlink::ifindex(&self.interface);
        if ifindex.is_none() || bound.as_ref().map(|bound| bound.ifindex) != ifindex {
            *bound = None;
            match Bound::new(&self.interface, self.port) {
                Ok(new) => *bound = Some(new),
                Err(error) => {
                    let interface = &self.interface;
                    tracing::warn!(%error, %interface, "the portal does not listen here");
                }
            }
        }
        if let Some(bound) = bound {
            self.read_addresses(bound.ifindex);
        }
    }

    fn read_addresses(&self, ifindex: u32) {
        match netlink::addresses(ifindex) {
            Ok(addresses) => {
                self.own.lock().unwrap_or_else(PoisonError::into_inner).addresses = addresses;
            }
            Err(error) => tracing::warn!(%error, "the portal keeps the addresses that it has"),
        }
    }

    fn enter(&self, stream: TcpStream, from: SocketAddr, ifindex: u32) {
        let mac = station(ifindex, from);
        match self.places.take(mac) {
            Ok(place) => self.let_in(stream, mac, place, ifindex),
            // Nothing can be said before a handshake.
            Err(_) if self.tls.is_some() => {}
            Err(NoPlace::Full) => turn_away(&stream, &Problem::overloaded()),
            Err(NoPlace::Station) => turn_away(&stream, &Problem::too_many_connections()),
        }
    }

    fn let_in(&self, stream: TcpStream, mac: Option<Mac>, place: Place, ifindex: u32) {
        let Ok(local) = stream.local_addr() else { return };
        if !self.is_own(local) {
            // It may be new.
            self.read_addresses(ifindex);
        }
        // A packet by this interface may have been for an address of another.
        if !self.is_own(local) {
            return;
        }
        // One that is gone does not hold its place until TCP gives up.
        let patience = u32::try_from(WRITE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        let _ = set_tcp_user_timeout(&stream, patience);
        let _ = stream.set_nodelay(true);
        let (hall, own) = (Arc::clone(&self.hall), Arc::clone(&self.own));
        let local = local.ip().to_canonical();
        let tls = self.tls.as_ref().map(|tls| tls.acceptor());
        let caller = Caller { mac, hall, own, local };
        tokio::spawn(serve(stream, place, tls, self.routes.clone(), caller));
    }

    fn is_own(&self, local: SocketAddr) -> bool {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.addresses.contains(&local.ip().to_canonical())
    }
}

async fn accept(bound: Option<&Bound>) -> (u32, io::Result<(TcpStream, SocketAddr)>) {
    match bound {
        Some(bound) => (bound.ifindex, bound.listener.accept().await),
        None => std::future::pending().await,
    }
}

/// Who is at this address, as the kernel knows from ARP or neighbour discovery.
fn station(ifindex: u32, from: SocketAddr) -> Option<Mac> {
    match netlink::neighbour(ifindex, from.ip().to_canonical()) {
        Ok(found) => found.map(Mac::new),
        Err(error) => {
            tracing::warn!(%error, "a neighbour could not be looked up");
            None
        }
    }
}

/// Says why, if the socket takes it at once.
fn turn_away(stream: &TcpStream, problem: &Problem) {
    let _ = stream.try_write(&problem.raw());
}
