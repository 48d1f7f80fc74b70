//! The eBPF objects.

/// The gate.
pub static BITMESH: &[u8] = aya::include_bytes_aligned!(env!("BITMESH_EBPF_OBJECT"));

/// Its twin that bills one Ethernet header too much: every counting test must catch it.
pub static MISCOUNT: &[u8] = aya::include_bytes_aligned!(env!("BITMESH_EBPF_MISCOUNT"));

/// Other programs on the same maps, as a later release would bring them.
pub static SUCCESSOR: &[u8] = aya::include_bytes_aligned!(env!("BITMESH_EBPF_SUCCESSOR"));
