//! The records in the BPF maps.
//!
//! Every record is `repr(C)`, has no padding that is not named, and is written by one side only:
//! [`Meter`] and [`Stranger`] by the kernel, [`Account`] and [`Lan`] by the agent. A change here
//! is a change of [`ABI_VERSION`]: a pinned map of another version is refused, never
//! reinterpreted.

/// Version of the records in this module.
pub const ABI_VERSION: u64 = 5;

/// The maps that an agent pins, each under its name.
pub const MAPS: [&str; 12] = [
    "directory",
    "meters",
    "accounts",
    "events",
    "strangers",
    "budgets",
    "total_budget",
    "redirects",
    "owners",
    "lans",
    "house",
    "grace",
];

/// Entries in `meters` and in `accounts`: the subscribers that one gateway can hold.
pub const MAX_METERS: usize = 16_384;

/// Entries in one [`Bucket`]: two cache lines. One bucket overflows in one of some two hundred gateways
/// that are full; then one address finds no room.
pub const PLACES: usize = 16;

/// Buckets in `directory`, a power of two: on average a quarter of their places is taken when the
/// gateway is full, and the second line of a bucket is hardly ever read.
pub const BUCKETS: usize = 4_096;

/// Entries in `strangers`, the bounded LRU of MAC addresses without an account.
pub const MAX_STRANGERS: usize = 4_096;

/// Bytes in the ring `events`: 1,024 events and more.
pub const EVENTS_BYTES: usize = 64 * 1024;

/// Entries in `budgets`, the bounded LRU of who has asked the resolver.
pub const MAX_BUDGETS: usize = 8_192;

/// Entries in `redirects`, the bounded LRU of connections that are led to the portal.
pub const MAX_REDIRECTS: usize = 8_192;

/// Entries in `owners`: addresses whose sender is known.
pub const MAX_OWNERS: usize = 4_096;

/// LAN interfaces of one gateway.
pub const MAX_LANS: usize = 8;

/// Addresses of each family on one LAN interface.
pub const MAX_LAN_ADDRESSES: usize = 4;

/// Ports of the gateway that the unpaid may reach.
pub const MAX_OPEN_PORTS: usize = 8;

/// A MAC address, padded to the eight bytes that hash fastest.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac {
    /// The six octets, in the order they have on the wire.
    pub octets: [u8; 6],
    /// Always 0.
    pub zero: [u8; 2],
}

impl Mac {
    /// The address with these octets.
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self { octets, zero: [0; 2] }
    }

    /// The address as one native-endian word, as [`Account::mac`] holds it.
    #[must_use]
    pub const fn word(self) -> u64 {
        let o = self.octets;
        u64::from_ne_bytes([o[0], o[1], o[2], o[3], o[4], o[5], self.zero[0], self.zero[1]])
    }

    /// The address that [`Self::word`] gives.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let o = word.to_ne_bytes();
        Self { octets: [o[0], o[1], o[2], o[3], o[4], o[5]], zero: [o[6], o[7]] }
    }

    /// Whether the group bit (IEEE 802) is set: no station sends from such an address.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.octets[0] & 1 != 0
    }
}

/// An IPv4 address as on the wire, aligned so that the kernel compares it as one word.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V4Address {
    /// The octets.
    pub octets: [u8; 4],
}

impl V4Address {
    /// The address as one native-endian word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        u32::from_ne_bytes(self.octets)
    }
}

/// An IPv6 address as on the wire, aligned so that the kernel compares it as two words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V6Address {
    /// The octets.
    pub octets: [u8; 16],
}

impl V6Address {
    /// The address as two native-endian words.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        let o = self.octets;
        [
            u64::from_ne_bytes([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]),
            u64::from_ne_bytes([o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]]),
        ]
    }
}

/// Who has which slot: see [`crate::directory`]. Only the agent writes it, a word at a time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// In no order; 0 where nobody is.
    pub entries: [u64; PLACES],
}

/// What the kernel counts for one MAC address. Only the kernel writes it, after the agent has given
/// its slot away with what it begins with.
///
/// The first 64 bytes, a cache line, are all that a paid packet to a subscriber touches; one from a
/// subscriber touches the second line too, for whose address it is from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Whose it is.
    pub mac: Mac,
    /// What the billed bytes cost, in units of 2⁻²⁰ msat.
    pub spent: u64,
    /// CLOCK_BOOTTIME of the last frame that was billed, in ns. It may lag by a jiffy, at most 10 ms.
    pub last_seen_ns: u64,
    /// Billed bytes from the subscriber.
    pub uplink_bytes: u64,
    /// Billed packets from the subscriber, as they are on the wire.
    pub uplink_packets: u64,
    /// Billed bytes to the subscriber.
    pub downlink_bytes: u64,
    /// Billed packets to the subscriber, as they are on the wire.
    pub downlink_packets: u64,
    /// The jiffies at which `last_seen_ns` was read: see `pay` in the programs.
    pub seen_jiffies: u64,
    /// The address that was found last not to be another's: see [`crate::source::Source`].
    pub source_high: u64,
    /// Its other half.
    pub source_low: u64,
    /// [`crate::source::Source::seal`] of both.
    pub source_seal: u64,
    /// The `prepaid` at which the kernel last said that the balance ran low or out.
    pub announced_prepaid: u64,
    /// What it said then: 0 nothing, 1 low, 2 exhausted.
    pub announced: u64,
    /// When all that came from the subscriber would be through at its limit: see
    /// [`crate::police`], as for the other arrivals.
    pub uplink_arrival: u64,
    /// The same of what went to the subscriber.
    pub downlink_arrival: u64,
    /// The same of what came from the subscriber free of charge, at the throttled rate.
    pub uplink_throttled_arrival: u64,
    /// The same of what went to the subscriber free of charge, at the throttled rate.
    pub downlink_throttled_arrival: u64,
    /// Bytes from the subscriber that passed free of charge, throttled. Not among the billed.
    pub uplink_throttled_bytes: u64,
    /// Bytes to the subscriber that passed free of charge, throttled. Not among the billed.
    pub downlink_throttled_bytes: u64,
    /// Frames dropped because the account was closed.
    pub dropped_closed: u64,
    /// Frames dropped because the balance did not cover them.
    pub dropped_unpaid: u64,
    /// Frames dropped because their bytes could not be counted.
    pub dropped_malformed: u64,
    /// Frames dropped because other CPUs kept changing `spent` (see `gate::MAX_CAS_TRIES`).
    pub dropped_contended: u64,
    /// Frames dropped because they were above the speed limit.
    pub dropped_limited: u64,
    /// Frames dropped because they came from another device's address.
    pub dropped_spoofed: u64,
    /// Always 0: fills the last cache line.
    pub zero: [u64; 7],
}

/// What one subscriber has prepaid, and at which prices. Only the agent writes it.
///
/// The first 64 bytes, a cache line, are all that a packet needs which no limit holds back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// [`Mac::word`] of the subscriber; the kernel compares it before it charges.
    pub mac: u64,
    /// [`ACCOUNT_CLOSED`], [`ACCOUNT_OPEN`] or [`ACCOUNT_LIMITED`].
    pub state: u64,
    /// All that was ever prepaid on this meter, less time that was settled, in units.
    pub prepaid: u64,
    /// Price of bytes from the subscriber.
    pub uplink_msat_per_mib: u64,
    /// Price of bytes to the subscriber.
    pub downlink_msat_per_mib: u64,
    /// Price of time.
    pub msat_per_minute: u64,
    /// CLOCK_BOOTTIME from which time is due, in ns.
    pub start_ns: u64,
    /// `spent` plus time due from which the kernel announces a low balance, in units.
    pub low_mark: u64,
    /// The time of a byte from the subscriber at its limit, as [`crate::police::byte_time`] gives
    /// it; 0 without a limit.
    pub uplink_byte_time: u64,
    /// The same of bytes to the subscriber.
    pub downlink_byte_time: u64,
    /// The same, each way, of what the balance does not cover; 0 drops that.
    pub throttled_byte_time: u64,
    /// The limit of bytes from the subscriber, in kbit/s, from which the above is made.
    pub uplink_kbit_per_s: u64,
    /// The limit of bytes to the subscriber, in kbit/s.
    pub downlink_kbit_per_s: u64,
    /// The rate of what the balance does not cover, in kbit/s.
    pub throttle_kbit_per_s: u64,
    /// Always 0: fills the second cache line.
    pub zero: [u64; 2],
}

/// [`Account::state`]: nothing passes.
pub const ACCOUNT_CLOSED: u64 = 0;
/// [`Account::state`]: what is paid for passes.
pub const ACCOUNT_OPEN: u64 = 1;
/// [`Account::state`]: what is paid for passes within the speed limits, and maybe some of what is
/// not, throttled.
pub const ACCOUNT_LIMITED: u64 = 2;

/// A MAC address without an account, as the kernel saw it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stranger {
    /// CLOCK_BOOTTIME of its first frame, in ns.
    pub first_seen_ns: u64,
    /// CLOCK_BOOTTIME of its last frame, in ns.
    pub last_seen_ns: u64,
    /// Frames dropped from and to it.
    pub dropped: u64,
    /// Interface on which it was seen last.
    pub ifindex: u32,
    /// Always 0.
    pub zero: u32,
}

/// What one station has taken of the resolver: see [`crate::budget`]. Only the kernel writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// When all that it took would be earned again, in ns of CLOCK_BOOTTIME.
    pub arrival: u64,
    /// The same of what a newcomer can take.
    pub known: u64,
}

/// A connection that is led to the portal. Only the kernel writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// Whose.
    pub mac: Mac,
    /// Its address; one of IPv4 takes the first four bytes.
    pub address: V6Address,
    /// Its port, as on the wire.
    pub port: u16,
    /// 4 or 6.
    pub version: u16,
    /// Always 0.
    pub zero: u32,
}

/// What the gate must know about one LAN interface. Only the agent writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lan {
    /// The interface; 0 if this element is not in use.
    pub ifindex: u32,
    /// [`HOOK_TCX`] or [`HOOK_CLSACT`]; 0 before the programs are attached.
    pub hook: u32,
    /// 1 if the agent added the clsact qdisc, and must remove it.
    pub made_clsact: u32,
    /// TCP port of the portal, to which plain HTTP of who can't pay is led; 0 if it is not.
    pub portal_port: u32,
    /// Generation of `owners`: another after each change there; 0 if nobody asks whose an address
    /// is.
    pub owners: u64,
    /// IPv4 addresses of the interface; unused ones are 0.
    pub ipv4: [V4Address; MAX_LAN_ADDRESSES],
    /// IPv6 addresses of the interface, its link-local one among them; unused ones are 0.
    pub ipv6: [V6Address; MAX_LAN_ADDRESSES],
    /// Ports of the gateway that the unpaid may reach: `protocol << 16 | port`; unused ones are 0.
    pub open_ports: [u32; MAX_OPEN_PORTS],
}

/// Where one copy of the programs stands. The agent says it when it loads the copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Post {
    /// What the XDP program notes on a frame that it has passed, if there is one in front of this
    /// copy; else 0. A random number: nobody else can write it on a frame.
    pub judged: u64,
    /// [`crate::directory::multiplier`] of this life of the maps.
    pub multiplier: u64,
    /// Index in `lans` of its interface; [`MAX_LANS`] or more if the copy is to let nothing in.
    pub lan: u32,
    /// 0.
    pub zero: u32,
}

/// What a subscriber counts of its own traffic. Only the kernel writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes at the IP layer to somebody beyond the gateway.
    pub uplink_bytes: u64,
    /// Packets to somebody beyond the gateway, as they are on the wire.
    pub uplink_packets: u64,
    /// Bytes at the IP layer from somebody beyond the gateway.
    pub downlink_bytes: u64,
    /// Packets from somebody beyond the gateway, as they are on the wire.
    pub downlink_packets: u64,
}

/// [`Lan::hook`]: tcx links, which are pinned.
pub const HOOK_TCX: u32 = 1;
/// [`Lan::hook`]: clsact filters, which stay on the interface.
pub const HOOK_CLSACT: u32 = 2;

/// Which life of the maps this is, and in which layout. Only the agent writes it, once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct House {
    /// [`ABI_VERSION`] of whoever created the maps; 0 while they are being created.
    pub abi_version: u64,
    /// A random number that names this life of the maps.
    pub epoch: u64,
}

/// A hint to the agent; it also sweeps the meters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Whom it is about.
    pub mac: Mac,
    /// One of the `EVENT_` constants.
    pub kind: u32,
    /// Interface on which it happened.
    pub ifindex: u32,
}

/// [`Event::kind`]: a MAC address without an account was seen for the first time.
pub const EVENT_STRANGER: u32 = 1;
/// [`Event::kind`]: the balance is at its low mark.
pub const EVENT_LOW: u32 = 2;
/// [`Event::kind`]: a packet was dropped that the balance did not cover.
pub const EVENT_EXHAUSTED: u32 = 3;

const _: () = {
    assert!(size_of::<Mac>() == 8);
    assert!(size_of::<Bucket>() == 128);
    assert!(size_of::<Meter>() == 256);
    assert!(core::mem::offset_of!(Meter, source_high) == 64);
    assert!(size_of::<Account>() == 128);
    assert!(size_of::<Stranger>() == 32);
    assert!(size_of::<Tally>() == 32);
    assert!(size_of::<Budget>() == 16);
    assert!(size_of::<Redirect>() == 32);
    assert!(size_of::<House>() == 16);
    assert!(size_of::<Event>() == 16);
    assert!(size_of::<Post>() == 24);
    assert!(size_of::<Lan>() == 24 + MAX_LAN_ADDRESSES * 20 + MAX_OPEN_PORTS * 4);
};

#[cfg(feature = "agent")]
mod pod {
    use super::{
        Account, Bucket, Budget, Event, House, Lan, Mac, Meter, Post, Redirect, Stranger, Tally,
        V6Address,
    };

    macro_rules! pod {
        ($($record:ty),*) => { $(
            // SAFETY: `repr(C)`, integers only, and no padding that is not a field: every bit
            // pattern is a value, and every byte is initialised.
            #[allow(unsafe_code)]
            unsafe impl aya::Pod for $record {}
        )* };
    }

    pod!(
        Account, Bucket, Budget, Event, House, Lan, Mac, Meter, Post, Redirect, Stranger, Tally,
        V6Address
    );
}
