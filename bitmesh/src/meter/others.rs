//! Who else sits on an interface, and in which order.

use std::fs;
use std::io;
use std::path::Path;

use super::bpf::{self, TCX_ENDS};

/// The programs behind all links that are pinned here.
pub(crate) fn own_programs(bpffs: &Path) -> Vec<u32> {
    let entries = fs::read_dir(bpffs).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("link-"));
    let pinned = links.filter_map(|entry| bpf::pinned_link(&entry.path()).ok().flatten());
    pinned.map(|link| link.program).collect()
}

/// The tcx programs at ingress and at egress of an interface, each in the order in which they run.
///
/// # Errors
///
/// Fails without the right to administer networks, and if the interface is gone.
pub(crate) fn tcx_programs(ifindex: u32) -> io::Result<Vec<(&'static str, Vec<u32>)>> {
    let list = |(end, kind)| Ok((end, bpf::tcx_programs(ifindex, kind)?));
    TCX_ENDS.into_iter().map(list).collect()
}
