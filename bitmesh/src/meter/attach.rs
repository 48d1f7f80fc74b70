//! Putting the programs on an interface, so that they stay there without the agent.

use std::io;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{
    Link as _, LinkOrder, ProgramError, SchedClassifier, TcAttachType, tc as aya_tc,
};
use bitmesh_common::abi::Lan;

use super::attachment::Attachment;
use super::home::Home;
use super::{HookChoice, MeterError, bpf, error::describe, first};
use crate::netlink::{self, CLSACT_HANDLE, CLSACT_PRIORITY};

/// The programs and where each goes.
pub(super) const PROGRAMS: [(&str, TcAttachType); 2] =
    [("uplink", TcAttachType::Ingress), ("downlink", TcAttachType::Egress)];

const OWN_HANDLE: TcHandle = TcHandle::new(CLSACT_HANDLE.0, CLSACT_HANDLE.1);

/// An interface, at the moment of attaching.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device<'a> {
    /// Its name, by which the kernel is asked.
    pub(super) name: &'a str,
    /// Its index, by which its pins are named: a name can pass to another interface.
    pub(super) ifindex: u32,
}

/// How the programs of TC sit on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) tc: Attachment,
    /// Whether the qdisc was added for them.
    pub(super) made_clsact: bool,
}

impl Attached {
    const TCX: Self = Self { tc: Attachment::TCX, made_clsact: false };
}

/// Loads both programs and attaches them. If an older copy is `held` there, this one takes its place
/// without a packet between them.
///
/// # Errors
///
/// Fails if the kernel refuses, or if an older copy sits at another hook than `choice` wants.
pub(super) fn attach(
    home: &Home,
    object: &mut Ebpf,
    device: Device<'_>,
    choice: HookChoice,
    held: Option<Attachment>,
) -> Result<Attached, MeterError> {
    for (name, _) in PROGRAMS {
        program(object, name)?.load().map_err(|e| MeterError::Load(describe(&e)))?;
    }
    let wanted = match choice {
        HookChoice::Auto | HookChoice::Xdp => held,
        HookChoice::Tcx => Some(Attachment::TCX),
        HookChoice::Clsact => Some(Attachment::CLSACT),
    };
    if let Some(held) = held.filter(|_| held != wanted) {
        let interface = device.name.to_owned();
        return Err(MeterError::OtherHook { interface, attached: held.name() });
    }
    match wanted {
        Some(Attachment::TCX) => attach_tcx(home, object, device),
        Some(_) => attach_clsact(object, device),
        None => match attach_tcx(home, object, device) {
            Err(refused) => {
                tracing::debug!(%refused, interface = device.name, "no tcx, trying clsact");
                attach_clsact(object, device)
            }
            attached => attached,
        },
    }
}

fn program<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, MeterError> {
    let missing = || MeterError::Load(format!("the object has no program `{name}`"));
    object
        .program_mut(name)
        .ok_or_else(missing)?
        .try_into()
        .map_err(|e: ProgramError| MeterError::Load(describe(&e)))
}

fn refused(
    interface: &str,
    direction: &'static str,
) -> impl Fn(&dyn std::error::Error) -> MeterError {
    move |error| MeterError::Attach {
        interface: interface.to_owned(),
        direction,
        error: describe(error),
    }
}

fn attach_tcx(home: &Home, object: &mut Ebpf, device: Device<'_>) -> Result<Attached, MeterError> {
    for (name, at) in PROGRAMS {
        let failed = refused(device.name, name);
        let program = program(object, name)?;
        let pin = home.link_pin(device.ifindex, name);
        let swap = |link: SchedClassifierLink| program.attach_to_link(link);
        if replace(&pin, swap).map_err(|e| failed(&*e))? {
            continue;
        }
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(device.name, at, first).map_err(|e| failed(&e))?;
        let link = program.take_link(id).map_err(|e| failed(&e))?;
        let link = FdLink::try_from(link).map_err(|e| failed(&e))?;
        link.pin(&pin).map_err(|e| failed(&e))?;
    }
    Ok(Attached::TCX)
}

/// Swaps the program behind a pinned link, by `swap`. `false` if there is none, or if its interface
/// is gone.
pub(super) fn replace<L: TryFrom<FdLink, Error = LinkError>, Id>(
    pin: &Path,
    swap: impl FnOnce(L) -> Result<Id, ProgramError>,
) -> Result<bool, Box<dyn std::error::Error>> {
    let pinned = match PinnedLink::from_pin(pin) {
        Ok(pinned) => pinned,
        Err(LinkError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    match swap(FdLink::from(pinned).try_into()?) {
        Ok(_) => Ok(true),
        Err(ProgramError::SyscallError(e)) if is_gone(&e.io_error) => {
            std::fs::remove_file(pin)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOLINK.raw_os_error())
}

fn attach_clsact(object: &mut Ebpf, device: Device<'_>) -> Result<Attached, MeterError> {
    let made_clsact = aya_tc::qdisc_add_clsact(device.name).is_ok();
    for (name, at) in PROGRAMS {
        let failed = refused(device.name, name);
        let program = program(object, name)?;
        let link = clsact_link(device.name, at).map_err(|e| failed(&e))?;
        // Replacing first leaves no moment without a filter; creating first would say `exists`.
        let id = match program.attach_to_link(link) {
            Ok(id) => id,
            Err(_) => {
                let options = NlOptions {
                    priority: CLSACT_PRIORITY,
                    handle: OWN_HANDLE,
                    ..NlOptions::default()
                };
                program
                    .attach_with_options(device.name, at, TcAttachOptions::Netlink(options))
                    .map_err(|e| failed(&e))?
            }
        };
        let link = program.take_link(id).map_err(|e| failed(&e))?;
        // A filter can't be pinned, and dropping the link would remove it.
        std::mem::forget(link);
    }
    Ok(Attached { tc: Attachment::CLSACT, made_clsact })
}

fn clsact_link(interface: &str, at: TcAttachType) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, at, CLSACT_PRIORITY, OWN_HANDLE, None)
}

/// Whether both programs sit on the interface with this index: a qdisc can be deleted under a
/// filter, and another interface can have got the index of one that is gone.
///
/// # Errors
///
/// Fails if the kernel does not tell.
pub(super) fn stands(home: &Home, ifindex: u32, how: Attachment) -> Result<bool, MeterError> {
    if how == Attachment::CLSACT {
        let filters = netlink::filters(ifindex).map_err(MeterError::Netlink)?;
        let own = |ingress| filters.iter().any(|found| found.ingress == ingress && found.is_own());
        return Ok(own(true) && own(false));
    }
    for (name, _) in PROGRAMS {
        let link = bpf::pinned_link(&home.link_pin(ifindex, name)).map_err(MeterError::Netlink)?;
        if link.is_none_or(|link| link.ifindex != ifindex) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes the programs off an interface, and the qdisc that was added for them. Says what it did.
///
/// # Errors
///
/// Fails if the kernel refuses; an interface that is gone is no error.
pub(super) fn detach(home: &Home, lan: &Lan) -> Result<Vec<String>, MeterError> {
    let mut done = Vec::new();
    if first::detach(home, lan.ifindex)? {
        done.push("uplink program in the driver (xdp)".to_owned());
    }
    let interface = netlink::ifname(lan.ifindex);
    // A copy that was shut is not in the record.
    let filters = netlink::filters(lan.ifindex).unwrap_or_default();
    let has_filters = filters.iter().any(netlink::Filter::is_own);
    let shown = interface.as_deref().unwrap_or("an interface that is gone");
    for (name, at) in PROGRAMS {
        let pin = home.link_pin(lan.ifindex, name);
        if pin.exists() {
            std::fs::remove_file(&pin)
                .map_err(|error| MeterError::PinDirectory { path: pin.clone(), error })?;
            done.push(format!("{name} program on {shown} (tcx)"));
        }
        if let Some(interface) = &interface
            && has_filters
        {
            let link = clsact_link(interface, at).map_err(MeterError::Netlink)?;
            match link.detach() {
                Ok(()) => done.push(format!("{name} program on {interface} (clsact)")),
                Err(error) => tracing::debug!(%error, interface, name, "no filter to detach"),
            }
        }
    }
    if lan.made_clsact != 0 && interface.is_some() {
        match netlink::remove_clsact(lan.ifindex) {
            Ok(()) => done.push(format!("clsact qdisc on {shown}")),
            Err(error) => tracing::debug!(%error, shown, "no clsact qdisc to remove"),
        }
    }
    Ok(done)
}
