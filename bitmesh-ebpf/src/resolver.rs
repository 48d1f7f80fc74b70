//! Questions to the gateway's resolver, and its answers, within their budgets.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use bitmesh_common::abi::{Budget, Mac};
use bitmesh_common::budget::{know, take_as_payer, take_as_station, take_of_total};
use bitmesh_common::gate::Shared as _;

use crate::Verdict;
use crate::atomic::Cell;
use crate::maps::{BUDGETS, TOTAL_BUDGET};

/// How often a bucket is tried before the packet is dropped. A try fails only when another CPU has
/// taken from it meanwhile.
const MAX_TRIES: u32 = 16;

/// `BPF_NOEXIST`: insert, never replace.
const NO_EXIST: u64 = 1;

/// Passes a packet of so many bytes if the station's budget covers it, and that of all.
#[inline(always)]
pub fn admit(mac: Mac, bytes: u64, is_paying: bool) -> Verdict {
    if within_budget(mac, bytes, is_paying) == Some(true) { Verdict::Pass } else { Verdict::Drop }
}

/// `None` if there is no room in the maps.
#[inline(always)]
fn within_budget(mac: Mac, bytes: u64, is_paying: bool) -> Option<bool> {
    if mac.is_group() {
        return Some(false);
    }
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let budget = budget_of(mac)?;
    // SAFETY: an element of the LRU may be recycled under us; then another station's count is off
    // by one packet, and the total still holds.
    let own = Cell(unsafe { &raw mut (*budget).arrival });
    if is_paying {
        return Some(take(&own, |arrival| take_as_payer(arrival, now, bytes)));
    }
    let total = Cell(TOTAL_BUDGET.get_ptr_mut(0)?);
    // SAFETY: as above.
    let known = unsafe { (&raw const (*budget).known).read_volatile() };
    let of_total = |arrival| take_of_total(arrival, now, bytes, known);
    // Asked first, so that who is turned away by the crowd keeps what is its own.
    if of_total(total.load()).is_none() || !take(&own, |it| take_as_station(it, now, bytes)) {
        return Some(false);
    }
    // SAFETY: as above; two CPUs at once may make a newcomer known by one packet less.
    unsafe { (&raw mut (*budget).known).write_volatile(know(known, now, bytes)) };
    Some(take(&total, of_total))
}

#[inline(always)]
fn budget_of(mac: Mac) -> Option<*mut Budget> {
    if let Some(budget) = BUDGETS.get_ptr_mut(mac) {
        return Some(budget);
    }
    // Another CPU may have been faster.
    let _ = BUDGETS.insert(mac, Budget { arrival: 0, known: 0 }, NO_EXIST);
    BUDGETS.get_ptr_mut(mac)
}

#[inline(always)]
fn take(bucket: &Cell, take: impl Fn(u64) -> Option<u64>) -> bool {
    let mut arrival = bucket.load();
    let mut tries = 0;
    while tries < MAX_TRIES {
        let Some(next) = take(arrival) else { return false };
        match bucket.compare_exchange(arrival, next) {
            Ok(()) => return true,
            Err(found) => arrival = found,
        }
        tries += 1;
    }
    false
}
