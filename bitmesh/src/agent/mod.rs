//! The gateway's agent: the only place where the shells meet.
//!
//! What can fail comes first and the kernel last, so that an agent that can't start leaves no
//! interface half set up.

mod book;
mod chain;
mod copies;
mod error;
mod event_loop;
mod guard;
mod owners;
mod recover;
mod requests;
mod rights;
mod stations;

use std::fs;
use std::path::Path;

use bitmesh_core::{BootTime, ChannelPolicy, Gateway, Snapshot};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use self::chain::{ChainWorker, MAX_UNREAD_NEWS};
use self::event_loop::{EventLoop, Heard};
use self::guard::Guard;
use crate::chain::Cursor;
use crate::config::{Chain, Config, DEFAULT_SOCKET, Hook, Lan, Payments, PortalTls};
use crate::control::{self, MAX_CONNECTIONS, Server};
use crate::doctor::{Check, Verdict};
use crate::fence;
use crate::meter::{HookChoice, LanOptions, MeterOptions, Meters};
use crate::portal::{self, LanPort, MAX_WAITING, Portal, Tls};
use crate::seed;
use crate::store::{MAX_UNREAD_REPORTS, Report, Store, Writer};

pub use self::error::AgentError;
pub use self::recover::{Recovering, recover};

/// IANA numbers of what the unpaid may reach on the gateway.
const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS_PORT: u16 = 53;
const DHCPV4_SERVER_PORT: u16 = 67;
const DHCPV6_SERVER_PORT: u16 = 547;
/// Below it a port takes a right to listen at.
const FIRST_FREE_PORT: u16 = 1_024;

/// Runs the gateway until it is interrupted. The gate then stays in place.
///
/// # Errors
///
/// Fails without the rights, the database, the socket, the interfaces or the hooks; later only if
/// the kernel breaks its word. What was set up before stays or goes as a whole.
pub fn run(config: Config, object: &'static [u8]) -> Result<(), AgentError> {
    rights::check()?;
    rights::take_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AgentError::Runtime)?;
    runtime.block_on(async {
        let mut store = Store::open(&config.database)?;
        let (asked, requests) = mpsc::channel(MAX_CONNECTIONS);
        let server = Server::start(&config.socket, asked)?;
        let (ask, stations) = mpsc::channel(MAX_WAITING);
        let portal = open_portal(&config, ask)?;
        guard::check_ground(&config)?;
        config.backup.as_ref().map(copies::prepare).transpose()?;
        let gate = open_gate(&config, object, &mut store)?;
        let event_loop = start(config, gate, store, requests, stations)?;
        let outcome = event_loop.run().await;
        drop(portal);
        drop(server);
        outcome
    })
}

/// Takes the gate away, and the socket of an agent that was killed. Says what it removed.
///
/// # Errors
///
/// Fails while an agent runs, without the rights, and if the kernel refuses.
pub fn teardown(config: &Config, object: &'static [u8]) -> Result<Vec<String>, AgentError> {
    rights::check()?;
    // The database is not looked at: a gate must go away also when its books are damaged.
    let mut removed = Meters::teardown(&options(config, object))?;
    // The fence goes last: nothing is open before the whole gate is gone.
    if fence::remove()? {
        removed.push("table inet bitmesh (nftables)".to_owned());
    }
    if fs::remove_file(&config.socket).is_ok() {
        removed.push(config.socket.display().to_string());
    }
    if config.socket == Path::new(DEFAULT_SOCKET)
        && let Some(directory) = config.socket.parent()
        && fs::remove_dir(directory).is_ok()
    {
        removed.push(directory.display().to_string());
    }
    Ok(removed)
}

/// Looks at the node of a configuration, and says what is wrong with it and how to mend it.
pub(crate) fn examine_chain(config: &Chain) -> Vec<Check> {
    match chain::look_at(config) {
        Ok(checks) => checks,
        Err(error) => vec![Check {
            check: "bitcoin node".to_owned(),
            verdict: Verdict::Problem,
            detail: error.to_string(),
            cure: Some("mend [chain] in the configuration".to_owned()),
        }],
    }
}

fn options(config: &Config, object: &'static [u8]) -> MeterOptions {
    MeterOptions {
        bpffs: config.bpffs.clone(),
        hook: match config.hook {
            Hook::Auto => HookChoice::Auto,
            Hook::Tcx => HookChoice::Tcx,
            Hook::Clsact => HookChoice::Clsact,
            Hook::Xdp => HookChoice::Xdp,
        },
        lans: config.lans.iter().map(|lan| lan_options(lan, tls_port(config))).collect(),
        object,
    }
}

fn tls_port(config: &Config) -> Option<u16> {
    config.portal.tls.as_ref().map(|tls| tls.port)
}

fn lan_options(lan: &Lan, tls_port: Option<u16>) -> LanOptions {
    let mut open_ports =
        vec![(UDP, DHCPV4_SERVER_PORT), (UDP, DHCPV6_SERVER_PORT), (TCP, lan.portal_port)];
    open_ports.extend(tls_port.map(|port| (TCP, port)));
    if lan.resolver {
        open_ports.extend([(UDP, DNS_PORT), (TCP, DNS_PORT)]);
    }
    LanOptions { interface: lan.interface.clone(), open_ports, portal_port: lan.portal_port }
}

fn open_portal(config: &Config, ask: mpsc::Sender<portal::Asked>) -> Result<Portal, AgentError> {
    let ports: Vec<LanPort> = config.lans.iter().map(lan_port).collect();
    let tls = config.portal.tls.clone().map(|PortalTls { certificate, key, port }| Tls {
        certificate,
        key,
        port,
    });
    Ok(Portal::start(&ports, config.portal.venue.clone(), tls, ask)?)
}

fn lan_port(lan: &Lan) -> LanPort {
    let Lan { interface, portal_port, names, .. } = lan.clone();
    LanPort { interface, port: portal_port, names }
}

/// Adopts or makes the gate, if its books are in this database, and raises the fence behind it.
fn open_gate(
    config: &Config,
    object: &'static [u8],
    store: &mut Store,
) -> Result<(Meters, Guard), AgentError> {
    let options = options(config, object);
    let mut meters = Meters::open(&options)?;
    let is_new = meters.is_new();
    let guarded = keep_books(&meters, &options, store).and_then(|()| raise_fence(config, &meters));
    match guarded {
        Ok(guard) => {
            guard.open(&mut meters);
            Ok((meters, guard))
        }
        Err(error) => {
            drop(meters);
            if is_new && let Err(left) = Meters::teardown(&options) {
                tracing::warn!(%left, "the new gate could not be removed");
            }
            Err(error)
        }
    }
}

fn raise_fence(config: &Config, meters: &Meters) -> Result<Guard, AgentError> {
    let interfaces = config.lans.iter().map(|lan| lan.interface.clone()).collect();
    let guard = Guard::new(interfaces, meters)?;
    match guard.refusal() {
        Some(error) if config.allow_bypass => {
            tracing::warn!(
                %error,
                "nothing closes a LAN interface that comes back while no agent runs; allowed by \
                 the configuration"
            );
            Ok(guard)
        }
        Some(error) => Err(AgentError::NoFence(error.to_string())),
        None => Ok(guard),
    }
}

fn keep_books(
    meters: &Meters,
    options: &MeterOptions,
    store: &mut Store,
) -> Result<(), AgentError> {
    let known = store.current_epoch()? == Some(meters.epoch());
    // An agent may have died between making the gate and noting it: then no account is in it.
    if known || meters.is_new() || meters.sample().is_empty() {
        return Ok(store.begin_epoch(meters.epoch())?);
    }
    Err(AgentError::ForeignGate(options.bpffs.clone()))
}

/// From here on nothing needs more than the rights that are kept.
fn start(
    config: Config,
    (meters, guard): (Meters, Guard),
    store: Store,
    asked: mpsc::Receiver<control::Asked>,
    stations: mpsc::Receiver<portal::Asked>,
) -> Result<EventLoop, AgentError> {
    let snapshot = store.load()?;
    let (tell_news, news) = mpsc::channel(MAX_UNREAD_NEWS);
    let policy =
        config.payments.as_ref().map(|payments| policy(payments, &snapshot)).transpose()?;
    let chain = match &config.payments {
        Some(payments) => Some(ChainWorker::start(&payments.chain, cursor(&store)?, tell_news)?),
        None => None,
    };
    let mut ports = config.lans.iter().map(|lan| lan.portal_port).chain(tls_port(&config));
    rights::drop_all_but_needed(ports.any(|port| port < FIRST_FREE_PORT))?;
    let (tell, reports) = mpsc::channel::<Report>(MAX_UNREAD_REPORTS);
    // The writer can't block here: there is room for every report that can be due.
    let writer = Writer::start(store, move |report| drop(tell.blocking_send(report)))?;
    let started = now();
    let held = meters.held();
    let mut gateway = Gateway::restore(started, meters.epoch(), snapshot, held)?;
    if let Some(policy) = policy {
        let bargaining = config.payments.as_ref().and_then(|p| p.bargaining.clone());
        gateway = gateway.with_channels(policy)?.with_bargaining(bargaining);
    }
    if let Some(policy) = config.allowance {
        gateway = gateway.with_allowance(policy)?;
    }
    let heard = Heard { reports, asked, stations, news };
    EventLoop::new(config, gateway, (meters, guard), writer, heard, chain, started)
}

/// Where the chain was read to; one that can't be read is as good as none.
fn cursor(store: &Store) -> Result<Option<Cursor>, AgentError> {
    let kept = store.cursor()?;
    Ok(kept.and_then(|blocks| serde_json::from_str(&blocks).ok()))
}

/// The terms of new channels. A seed is made only if no channel depends on one.
fn policy(payments: &Payments, snapshot: &Snapshot) -> Result<ChannelPolicy, AgentError> {
    let Payments { chain, channels, .. } = payments;
    let seed = if snapshot.channels.is_empty() {
        seed::load_or_create(&channels.seed_file)?
    } else {
        seed::load(&channels.seed_file)?
    };
    Ok(ChannelPolicy {
        network: chain.network,
        seed,
        payout: Box::new(channels.payout.clone()),
        min_capacity: channels.min_capacity,
        max_capacity: channels.max_capacity,
        min_first_update: channels.min_first_update,
        headroom: channels.headroom,
        max_close_fee: channels.max_close_fee,
        lock_blocks: channels.lock_blocks,
        margin_blocks: channels.margin_blocks,
        confirmations: channels.confirmations,
        early: channels.early,
    })
}

/// The kernel's clock of sessions.
fn now() -> BootTime {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    BootTime(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use bitmesh_common::abi::MAX_OPEN_PORTS;

    use super::*;

    #[test]
    fn the_unpaid_reach_dhcp_the_portal_and_the_resolver_if_there_is_one() {
        let lan =
            Lan { interface: "wlan0".into(), portal_port: 2121, resolver: true, names: Vec::new() };
        let open = lan_options(&lan, None).open_ports;
        assert_eq!(open, [(17, 67), (17, 547), (6, 2121), (17, 53), (6, 53)]);
        assert!(open.len() <= MAX_OPEN_PORTS);
        let open = lan_options(&lan, Some(2122)).open_ports;
        assert_eq!(open, [(17, 67), (17, 547), (6, 2121), (6, 2122), (17, 53), (6, 53)]);
        assert!(open.len() <= MAX_OPEN_PORTS);
        let open = lan_options(&Lan { resolver: false, ..lan }, None).open_ports;
        assert_eq!(open, [(17, 67), (17, 547), (6, 2121)]);
    }

    #[test]
    fn the_clock_of_sessions_does_not_stand_still() {
        let before = now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(now().since(before) >= std::time::Duration::from_millis(2));
    }
}
