//! Programs made of single instructions, loaded and run by bpf(2): aya takes whole objects only.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::libc;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;

/// `BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18: what the program transmits is transmitted.
const LIVE_FRAMES: u32 = 2;

/// Frames between two breaths of the interrupts that handle them: fewer than a veth ring holds.
const BATCH_FRAMES: u32 = 64;

/// Bytes of the verifier's complaint that are shown.
const MAX_COMPLAINT_BYTES: usize = 1 << 16;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    Classifier = 3,
    /// `BPF_PROG_TYPE_XDP`.
    Xdp = 6,
}

/// Which hook of an interface: the attach types of tcx, Linux 6.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// `BPF_TCX_INGRESS`.
    Ingress = 46,
    /// `BPF_TCX_EGRESS`.
    Egress = 47,
}

/// One instruction (RFC 9669 §3).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Operation.
    pub(super) code: u8,
    /// Source and destination: `source << 4 | destination`.
    pub(super) registers: u8,
    /// Offset of a jump or of memory.
    pub(super) offset: i16,
    /// A constant.
    pub(super) immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    zero: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// A program on a hook, for as long as this lives.
#[derive(Debug)]
pub(super) struct Link(#[expect(dead_code, reason = "closing it is what ends the link")] OwnedFd);

/// A program in the kernel, attached to nothing.
#[derive(Debug)]
pub(super) struct Program(OwnedFd);

impl Program {
    /// Loads it.
    ///
    /// # Errors
    ///
    /// Fails without root, and with what the verifier says.
    pub(super) fn load(kind: Kind, instructions: &[Instruction]) -> Result<Self> {
        let mut complaint = vec![0_u8; MAX_COMPLAINT_BYTES];
        let mut attr = Load {
            prog_type: kind as u32,
            insn_cnt: u32::try_from(instructions.len())?,
            insns: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 1,
            log_size: u32::try_from(complaint.len())?,
            log_buf: complaint.as_mut_ptr() as u64,
        };
        // SAFETY: instructions, licence and complaint are as long as said and outlive the call.
        #[allow(unsafe_code)]
        let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }.with_context(|| {
            let said = String::from_utf8_lossy(&complaint);
            format!("the kernel refuses a program: {}", said.trim_end_matches('\0'))
        })?;
        Ok(Self(made(fd)?))
    }

    /// Attaches a classifier to the interface with this index in the caller's network namespace.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses; it must be 6.6 or newer.
    pub(super) fn attach(&self, ifindex: u32, hook: Hook) -> Result<Link> {
        let mut attr = LinkCreate {
            prog_fd: self.number()?,
            target_ifindex: ifindex,
            attach_type: hook as u32,
            flags: 0,
        };
        // SAFETY: it points to nothing.
        #[allow(unsafe_code)]
        let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attr) }.context("a link of tcx (Linux 6.6)")?;
        Ok(Link(made(fd)?))
    }

    /// Runs an XDP program on `count` copies of the frame as if they came from the interface with
    /// this index in the caller's network namespace. What it transmits leaves that interface.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses; it must be 5.18 or newer.
    pub(super) fn transmit(&self, ifindex: u32, frame: &[u8], count: u32) -> Result<()> {
        let size = u32::try_from(frame.len())?;
        let context =
            XdpContext { data_end: size, ingress_ifindex: ifindex, ..XdpContext::default() };
        let mut attr = TestRun {
            prog_fd: self.number()?,
            data_size_in: size,
            data_in: frame.as_ptr() as u64,
            repeat: count,
            ctx_size_in: u32::try_from(size_of::<XdpContext>())?,
            ctx_in: (&raw const context) as u64,
            flags: LIVE_FRAMES,
            batch_size: BATCH_FRAMES,
            ..TestRun::default()
        };
        // SAFETY: frame and context are as long as said and outlive the call.
        #[allow(unsafe_code)]
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }.context("live frames (Linux 5.18)")?;
        Ok(())
    }

    /// Runs a classifier on a frame so often, and gives the mean duration in ns.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(super) fn time(&self, frame: &[u8], repeat: u32) -> Result<u32> {
        let mut attr = TestRun {
            prog_fd: self.number()?,
            data_size_in: u32::try_from(frame.len())?,
            data_in: frame.as_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        // SAFETY: the frame is as long as said and outlives the call; nothing is written back.
        #[allow(unsafe_code)]
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }.context("the kernel does not run it")?;
        ensure!(attr.duration > 0, "the kernel gives no duration");
        Ok(attr.duration)
    }

    fn number(&self) -> Result<u32> {
        Ok(u32::try_from(self.0.as_raw_fd())?)
    }
}

/// What a command has made, which answers with its descriptor.
fn made(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = libc::c_int::try_from(fd)?;
    // SAFETY: the kernel has just made this descriptor for the caller.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// `attr` must be the part of `union bpf_attr` that the command takes, and what it points to must
/// be as large as it says.
#[allow(unsafe_code)]
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise; the kernel reads and writes no more than the given size.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}
