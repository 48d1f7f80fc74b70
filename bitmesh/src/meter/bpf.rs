//! What bpf(2) tells beyond what aya asks for, and asks with no more rights than the agent keeps.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Commands of `linux/bpf.h`.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_QUERY: libc::c_int = 16;

/// Programs at one end of an interface that are listed, at most (`BPF_MPROG_MAX`).
const MAX_PROGRAMS: usize = 64;

/// The ends of an interface (`BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`).
pub(super) const TCX_ENDS: [(&str, u32); 2] = [("ingress", 46), ("egress", 47)];

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
#[derive(Default)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    ifindex: u32,
    end: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    zero: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// # Safety
///
/// `attr` must be the part of `union bpf_attr` that the command takes, and what it points to must
/// be as large as it says.
#[allow(unsafe_code)]
pub(super) unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise; the kernel reads and writes no more than the given size.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

/// The link that is pinned here, and where it sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PinnedLink {
    /// Its program.
    pub(super) program: u32,
    /// Its interface; 0 if that is gone.
    pub(super) ifindex: u32,
}

/// Reads what is pinned here; nothing if there is no such pin.
///
/// # Errors
///
/// Fails without the right to, and if it is no link to an interface.
pub(super) fn pinned_link(pin: &Path) -> io::Result<Option<PinnedLink>> {
    let path = CString::new(pin.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut attr = ObjGet { path: path.as_ptr() as u64, ..ObjGet::default() };
    // SAFETY: the path ends with its zero and outlives the call.
    #[allow(unsafe_code)]
    let fd = match unsafe { bpf(BPF_OBJ_GET, &mut attr) } {
        Ok(fd) => libc::c_int::try_from(fd).map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has just made this descriptor for the caller.
    #[allow(unsafe_code)]
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let said = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    parse(&said).map(Some).ok_or_else(|| io::Error::other("no link to an interface"))
}

fn parse(fdinfo: &str) -> Option<PinnedLink> {
    let number = |key: &str| {
        let value = fdinfo.lines().find_map(|line| line.strip_prefix(key));
        value.and_then(|value| value.trim().parse().ok())
    };
    Some(PinnedLink { program: number("prog_id:")?, ifindex: number("ifindex:")? })
}

/// The tcx programs at one end of an interface, in the order in which they run. Nothing on a
/// kernel without tcx.
///
/// # Errors
///
/// Fails without the right to administer networks, and if the interface is gone.
pub(super) fn tcx_programs(ifindex: u32, end: u32) -> io::Result<Vec<u32>> {
    let mut programs = vec![0_u32; MAX_PROGRAMS];
    let mut attr = ProgQuery {
        ifindex,
        end,
        programs: programs.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..ProgQuery::default()
    };
    // SAFETY: the array has room for as many as it says, and outlives the call.
    #[allow(unsafe_code)]
    match unsafe { bpf(BPF_PROG_QUERY, &mut attr) } {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    programs.truncate(attr.count as usize);
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_its_program_and_its_interface() {
        let said = "pos:\t0\nlink_type:\ttcx\nlink_id:\t3\nprog_tag:\t6deef7357e7b4530\n\
                    prog_id:\t41\nifindex:\t7\nattach_type:\ttcx_ingress (46)\n";
        assert_eq!(parse(said), Some(PinnedLink { program: 41, ifindex: 7 }));
        assert_eq!(parse("link_type:\ttracing\nprog_id:\t41\n"), None);
    }

    #[test]
    fn what_is_not_pinned_is_nothing() {
        let found = pinned_link(Path::new("/sys/fs/bpf/no-such-pin")).unwrap_or(None);
        assert_eq!(found, None);
    }
}
