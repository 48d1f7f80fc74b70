//! The XDP program in front: in the driver, before there is a socket buffer.
//!
//! It charges what is common and paid for, drops what can't be, and notes on a frame that it has
//! passed it. All else is the TC program's, which stands behind it and passes what is noted. So
//! whether XDP is there or not changes no count, and it may come and go under traffic.

use std::io;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::MeterError;
use super::attach::{Device, replace};
use super::error::describe;
use super::home::Home;

/// The program, and the last part of its pin's name.
const PROGRAM: &str = "uplink_first";

/// Attaches it in the driver's native mode, or puts it in the place of an older copy without a
/// frame between them.
///
/// # Errors
///
/// Fails if the driver has no native XDP, if another XDP program is there, and if the kernel
/// refuses.
pub(super) fn attach(home: &Home, object: &mut Ebpf, device: Device<'_>) -> Result<(), MeterError> {
    let failed = |error: &dyn std::error::Error| MeterError::Attach {
        interface: device.name.to_owned(),
        direction: "uplink XDP",
        error: describe(error),
    };
    let missing = || MeterError::Load(format!("the object has no program `{PROGRAM}`"));
    let program: &mut Xdp = object
        .program_mut(PROGRAM)
        .ok_or_else(missing)?
        .try_into()
        .map_err(|e: ProgramError| MeterError::Load(describe(&e)))?;
    program.load().map_err(|e| MeterError::Load(describe(&e)))?;
    let pin = home.link_pin(device.ifindex, PROGRAM);
    let swap = |link: XdpLink| program.attach_to_link(link);
    if replace(&pin, swap).map_err(|e| failed(&*e))? {
        return Ok(());
    }
    let id = program.attach(device.name, XdpMode::Driver).map_err(|e| failed(&e))?;
    let link = program.take_link(id).map_err(|e| failed(&e))?;
    let link = FdLink::try_from(link).map_err(|e| failed(&e))?;
    link.pin(&pin).map_err(|e| failed(&e))?;
    Ok(())
}

/// Takes it off an interface. `false` if it was not there.
///
/// # Errors
///
/// Fails if the pin can't be removed.
pub(super) fn detach(home: &Home, ifindex: u32) -> Result<bool, MeterError> {
    let pin = home.link_pin(ifindex, PROGRAM);
    match std::fs::remove_file(&pin) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(MeterError::PinDirectory { path: pin, error }),
    }
}

/// Whether it is on an interface.
pub(super) fn is_attached(home: &Home, ifindex: u32) -> bool {
    home.link_pin(ifindex, PROGRAM).exists()
}
