//! Putting the programs on an interface, so that they stay there without the agent.

use std::io;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{
    Link as _, LinkOrder, ProgramError, SchedClassifier, TcAttachType, tc as aya_tc,
};
use bitmesh_common::abi::{HOOK_CLSACT, HOOK_TCX, Lan};

use super::home::Home;
use super::{HookChoice, MeterError, error::describe, first};
use crate::netlink;

/// The programs and where each goes.
pub(super) const PROGRAMS: [(&str, TcAttachType); 2] =
    [("uplink", TcAttachType::Ingress), ("downlink", TcAttachType::Egress)];

/// Priority of the clsact filters: before everybody else's.
const CLSACT_PRIORITY: u16 = 1;
/// Handle of the clsact filters, by which a later agent finds and replaces them.
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 0xb17);

/// How the programs sit on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// `HOOK_TCX` or `HOOK_CLSACT`.
    pub(super) hook: u32,
    /// Whether the qdisc was added for them.
    pub(super) made_clsact: bool,
}

/// The name of a hook, as `status` shows it.
pub(super) const fn hook_name(hook: u32) -> &'static str {
    match hook {
        HOOK_TCX => "tcx",
        HOOK_CLSACT => "clsact",
        _ => "none",
    }
}

/// Loads both programs and attaches them. If `lan` says that an older copy is attached, this one
/// takes its place without a packet between them.
///
/// # Errors
///
/// Fails if the kernel refuses, or if an older copy sits at another hook than `choice` wants.
pub(super) fn attach(
    home: &Home,
    object: &mut Ebpf,
    interface: &str,
    choice: HookChoice,
    lan: &Lan,
) -> Result<Attached, MeterError> {
    for (name, _) in PROGRAMS {
        program(object, name)?.load().map_err(|e| MeterError::Load(describe(&e)))?;
    }
    let wanted = match choice {
        HookChoice::Auto | HookChoice::Xdp => lan.hook,
        HookChoice::Tcx => HOOK_TCX,
        HookChoice::Clsact => HOOK_CLSACT,
    };
    if lan.hook != 0 && lan.hook != wanted {
        let attached = hook_name(lan.hook);
        return Err(MeterError::OtherHook { interface: interface.to_owned(), attached });
    }
    match wanted {
        HOOK_TCX => attach_tcx(home, object, interface),
        HOOK_CLSACT => attach_clsact(object, interface, lan),
        _ => match attach_tcx(home, object, interface) {
            Err(refused) => {
                tracing::debug!(%refused, interface, "no tcx, trying clsact");
                attach_clsact(object, interface, lan)
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

fn attach_tcx(home: &Home, object: &mut Ebpf, interface: &str) -> Result<Attached, MeterError> {
    for (name, at) in PROGRAMS {
        let failed = refused(interface, name);
        let program = program(object, name)?;
        let pin = home.link_pin(interface, name);
        if replace_tcx(program, &pin).map_err(|e| failed(&*e))? {
            continue;
        }
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(interface, at, first).map_err(|e| failed(&e))?;
        let link = program.take_link(id).map_err(|e| failed(&e))?;
        let link = FdLink::try_from(link).map_err(|e| failed(&e))?;
        link.pin(&pin).map_err(|e| failed(&e))?;
    }
    Ok(Attached { hook: HOOK_TCX, made_clsact: false })
}

/// Swaps the program behind a pinned link. `false` if there is none, or if its interface is gone.
fn replace_tcx(
    program: &mut SchedClassifier,
    pin: &std::path::Path,
) -> Result<bool, Box<dyn std::error::Error>> {
    let pinned = match PinnedLink::from_pin(pin) {
        Ok(pinned) => pinned,
        Err(LinkError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let link: SchedClassifierLink = FdLink::from(pinned).try_into()?;
    match program.attach_to_link(link) {
        Ok(_) => Ok(true),
        Err(ProgramError::SyscallError(e)) if is_gone(&e.io_error) => {
            std::fs::remove_file(pin)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOLINK.raw_os_error())
}

fn attach_clsact(object: &mut Ebpf, interface: &str, lan: &Lan) -> Result<Attached, MeterError> {
    let added = aya_tc::qdisc_add_clsact(interface).is_ok();
    let made_clsact = added || lan.made_clsact != 0;
    for (name, at) in PROGRAMS {
        let failed = refused(interface, name);
        let program = program(object, name)?;
        let link = clsact_link(interface, at).map_err(|e| failed(&e))?;
        // Replacing first leaves no moment without a filter; creating first would say `exists`.
        let id = match program.attach_to_link(link) {
            Ok(id) => id,
            Err(_) => {
                let options = NlOptions {
                    priority: CLSACT_PRIORITY,
                    handle: CLSACT_HANDLE,
                    ..NlOptions::default()
                };
                program
                    .attach_with_options(interface, at, TcAttachOptions::Netlink(options))
                    .map_err(|e| failed(&e))?
            }
        };
        let link = program.take_link(id).map_err(|e| failed(&e))?;
        // A filter can't be pinned, and dropping the link would remove it.
        std::mem::forget(link);
    }
    Ok(Attached { hook: HOOK_CLSACT, made_clsact })
}

fn clsact_link(interface: &str, at: TcAttachType) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, at, CLSACT_PRIORITY, CLSACT_HANDLE, None)
}

/// Takes the programs off an interface, and the qdisc that was added for them. Says what it did.
///
/// # Errors
///
/// Fails if the kernel refuses; an interface that is gone is no error.
pub(super) fn detach(home: &Home, lan: &Lan) -> Result<Vec<String>, MeterError> {
    let mut done = Vec::new();
    let Some(interface) = netlink::ifname(lan.ifindex) else { return Ok(done) };
    if first::detach(home, &interface)? {
        done.push(format!("uplink program on {interface} (xdp)"));
    }
    for (name, at) in PROGRAMS {
        let pin = home.link_pin(&interface, name);
        if pin.exists() {
            std::fs::remove_file(&pin)
                .map_err(|error| MeterError::PinDirectory { path: pin.clone(), error })?;
            done.push(format!("{name} program on {interface} (tcx)"));
        }
        if lan.hook == HOOK_CLSACT {
            let link = clsact_link(&interface, at).map_err(MeterError::Netlink)?;
            match link.detach() {
                Ok(()) => done.push(format!("{name} program on {interface} (clsact)")),
                Err(error) => tracing::debug!(%error, interface, name, "no filter to detach"),
            }
        }
    }
    if lan.made_clsact != 0 {
        match netlink::remove_clsact(lan.ifindex) {
            Ok(()) => done.push(format!("clsact qdisc on {interface}")),
            Err(error) => tracing::debug!(%error, interface, "no clsact qdisc to remove"),
        }
    }
    Ok(done)
}
