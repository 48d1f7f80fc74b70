//! The maps. Their names are file names under the pin directory.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use bitmesh_common::abi::{
    Account, BUCKETS, Bucket, Budget, EVENTS_BYTES, Event, House, Lan, MAX_BUDGETS, MAX_LANS,
    MAX_METERS, MAX_OWNERS, MAX_REDIRECTS, MAX_STRANGERS, Mac, Meter, Post, Redirect, Stranger,
    Tally, V6Address,
};

/// `BPF_F_MMAPABLE`: the agent maps the array and stores into it.
const MAPPED: usize = 1 << 10;

/// Who has which slot in the next two: see [`bitmesh_common::directory`]. The agent writes, the kernel
/// reads.
#[btf_map(name = "directory")]
pub static DIRECTORY: Array<Bucket, BUCKETS, MAPPED> = Array::new();

/// What is counted and spent. The agent gives a slot away, the kernel counts.
#[btf_map(name = "meters")]
pub static METERS: Array<Meter, MAX_METERS, MAPPED> = Array::new();

/// What is prepaid, and the prices. The agent writes, the kernel reads.
#[btf_map(name = "accounts")]
pub static ACCOUNTS: Array<Account, MAX_METERS, MAPPED> = Array::new();

/// Hints to the agent.
#[btf_map(name = "events")]
pub static EVENTS: RingBuf<Event, EVENTS_BYTES> = RingBuf::new();

/// MAC addresses without an account.
#[btf_map(name = "strangers")]
pub static STRANGERS: LruHashMap<Mac, Stranger, MAX_STRANGERS> = LruHashMap::new();

/// What is left of the resolver to each: see [`bitmesh_common::budget`].
#[btf_map(name = "budgets")]
pub static BUDGETS: LruHashMap<Mac, Budget, MAX_BUDGETS> = LruHashMap::new();

/// The same of all that can't pay.
#[btf_map(name = "total_budget")]
pub static TOTAL_BUDGET: Array<u64, 1> = Array::new();

/// Connections that are led to the portal, and the addresses that they were meant for.
#[btf_map(name = "redirects")]
pub static REDIRECTS: LruHashMap<Redirect, V6Address, MAX_REDIRECTS> = LruHashMap::new();

/// Whose an address is, by the word of a MAC address. The agent writes.
#[btf_map(name = "owners")]
pub static OWNERS: HashMap<V6Address, u64, MAX_OWNERS> = HashMap::new();

/// The LAN interfaces.
#[btf_map(name = "lans")]
pub static LANS: Array<Lan, MAX_LANS> = Array::new();

/// Which life of the maps this is.
#[btf_map(name = "house")]
pub static HOUSE: Array<House, 1> = Array::new();

/// What a subscriber counts of its own traffic.
#[btf_map(name = "tally")]
pub static TALLY: Array<Tally, 1> = Array::new();

/// Setting its element makes the kernel wait until no program that ran then still runs: that is how
/// the agent knows that no packet is in flight. No program reads it.
#[btf_map(name = "grace")]
pub static GRACE: ArrayOfMaps<Array<u64, 1>, 1> = ArrayOfMaps::new();

/// Where this copy of the programs stands. One record, so that a program loads one address for all of
/// it.
#[unsafe(no_mangle)]
static POST: Global<Post> = Global::new(Post { judged: 0, multiplier: 0, lan: 0, zero: 0 });

/// A field of [`POST`]. Volatile as [`Global::load`], which would copy the whole record.
macro_rules! post {
    ($field:ident) => {{
        // A `Global` is a transparent wrapper.
        let post: *const Post = (&raw const POST).cast();
        // SAFETY: a field of a static, which nobody writes after the programs were loaded.
        unsafe { (&raw const (*post).$field).read_volatile() }
    }};
}

/// See [`Post::judged`].
#[inline(always)]
pub fn judged() -> u64 {
    post!(judged)
}

/// See [`Post::multiplier`].
#[inline(always)]
pub fn multiplier() -> u64 {
    post!(multiplier)
}

/// The LAN interface of this copy of the programs; none if the copy is to let nothing in. The index
/// is compared because the verifier knows it: such a copy then costs it next to nothing.
#[inline(always)]
pub fn lan() -> Option<&'static Lan> {
    let index = post!(lan);
    if index < MAX_LANS as u32 { LANS.get(index) } else { None }
}
