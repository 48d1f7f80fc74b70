//! Where a program meets a frame.

/// What the programs must know of the place.
pub trait Place {
    /// For the log.
    #[cfg(feature = "log")]
    type Context: aya_ebpf::EbpfContext;

    /// The context itself, for the log.
    #[cfg(feature = "log")]
    fn context(&self) -> Self::Context;

    /// The interface whose hook this is.
    fn ifindex(&self) -> u32;
}
