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
    /// The port can't be had.
    #[error(
        "the portal can't listen at port {port} of {interface}: {error}: stop what holds it, or \
         choose another `portal_port`"
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
    /// page about the place.
    ///
    /// # Errors
    ///
    /// [`PortalError`] if a port can't be had.
    pub fn start(
        lans: Vec<LanPort>,
        venue: Option<String>,
        asked: mpsc::Sender<Asked>,
    ) -> Result<Self, PortalError> {
        let hall = Arc::new(Hall::new(asked, venue)?);
        let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_STATION);
        let routes = routes();
        let mut tasks = Vec::new();
        for lan in lans {
            let bound = Bound::new(&lan).map_err(|error| refused(&lan, error))?;
            let own = Own {
                addresses: Vec::new(),
                names: lan.names.clone(),
                port: lan.port,
                secure: false,
            };
            let door = Door {
                lan,
                hall: Arc::clone(&hall),
                places: places.clone(),
                routes: routes.clone(),
                own: Arc::new(Mutex::new(own)),
            };
            tasks.push(tokio::spawn(door.keep(bound)));
        }
        Ok(Self(tasks))
    }
}

fn refused(lan: &LanPort, error: io::Error) -> PortalError {
    let (interface, port) = (lan.interface.clone(), lan.port);
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
    fn new(lan: &LanPort) -> io::Result<Self> {
        let ifindex = netlink::ifindex(&lan.interface).ok_or(io::ErrorKind::NotFound)?;
        let (socket, any) = match TcpSocket::new_v6() {
            Ok(socket) => {
                set_ipv6_v6only(&socket, false)?;
                (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
            }
            // A kernel without IPv6.
            Err(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        socket.set_reuseaddr(true)?;
        socket.bind_device(Some(lan.interface.as_bytes()))?;
        socket.bind(SocketAddr::new(any, lan.port))?;
        Ok(Self { ifindex, listener: socket.listen(BACKLOG)? })
    }
}

/// What is needed to let somebody in by one interface.
struct Door {
    lan: LanPort,
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
        let ifindex = netlink::ifindex(&self.lan.interface);
        if ifindex.is_none() || bound.as_ref().map(|bound| bound.ifindex) != ifindex {
            *bound = None;
            match Bound::new(&self.lan) {
                Ok(new) => *bound = Some(new),
                Err(error) => {
                    let interface = &self.lan.interface;
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
        tokio::spawn(serve(stream, place, self.routes.clone(), Caller { mac, hall, own, local }));
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
