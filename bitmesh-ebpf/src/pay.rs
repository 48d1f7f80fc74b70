//! What a packet costs is taken from the balance of its account, or the packet does not pass.
//!
//! An open account without a price of time and without limits is the common one, and takes the
//! short way: no clock is read for it. All others take the long way, a function of its own.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use bitmesh_common::abi::{ACCOUNT_LIMITED, ACCOUNT_OPEN, Account, Meter};
use bitmesh_common::gate::{Denied, Direction, charge, is_affordable};
use bitmesh_common::money::{bytes_cost, time_due};

use crate::atomic::Cell;
use crate::police;

/// An account that is not closed.
#[derive(Clone, Copy)]
pub struct Open {
    /// The account.
    pub account: *const Account,
    /// Its state when it was looked at.
    pub state: u64,
}

/// What became of the balance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    /// It covered the packet.
    Charged,
    /// It covered the packet, and is low now.
    ChargedToLow,
    /// It did not, and the packet passes free of charge, throttled.
    Throttled,
    /// It did not.
    Unpaid,
    /// It did, and the packet is above the speed limit.
    Limited,
    /// Other CPUs kept changing it.
    Contended,
}

impl Payment {
    /// Of a packet that was charged.
    #[inline(always)]
    fn charged(used: u64, low_mark: u64) -> Self {
        if used >= low_mark { Self::ChargedToLow } else { Self::Charged }
    }

    /// Whether the packet passes.
    #[inline(always)]
    pub fn passes(self) -> bool {
        matches!(self, Self::Charged | Self::ChargedToLow | Self::Throttled)
    }
}

impl From<Denied> for Payment {
    #[inline(always)]
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unpaid => Self::Unpaid,
            Denied::Limited => Self::Limited,
            Denied::Contended => Self::Contended,
        }
    }
}

/// Raises `spent` by the price of the bytes, if the balance covers it and the limit allows it.
#[inline(always)]
pub fn pay(meter: *mut Meter, open: Open, direction: Direction, bytes: u64) -> Payment {
    let Open { account, state } = open;
    // SAFETY: `account` is an element of a map whose elements live as long as it does, and the
    // agent stores whole words. Fields that are not needed are not read.
    let rate = unsafe { (&raw const (*account).msat_per_minute).read_volatile() };
    if state != ACCOUNT_OPEN || rate != 0 {
        return pay_the_long_way(meter, account, direction, bytes);
    }
    // SAFETY: as above.
    let (prepaid, low_mark) = unsafe {
        (
            (&raw const (*account).prepaid).read_volatile(),
            (&raw const (*account).low_mark).read_volatile(),
        )
    };
    let cost = bytes_cost(bytes, price(account, direction));
    match charge(&spent(meter), prepaid, 0, cost) {
        Ok(spent) => {
            see_by_jiffies(meter);
            Payment::charged(spent, low_mark)
        }
        Err(denied) => denied.into(),
    }
}

/// Not inlined: what is rare would cost the common case registers.
#[inline(never)]
fn pay_the_long_way(
    meter: *mut Meter,
    account: *const Account,
    direction: Direction,
    bytes: u64,
) -> Payment {
    // SAFETY: as in `pay`.
    let (state, rate, start, prepaid, low_mark) = unsafe {
        (
            (&raw const (*account).state).read_volatile(),
            (&raw const (*account).msat_per_minute).read_volatile(),
            (&raw const (*account).start_ns).read_volatile(),
            (&raw const (*account).prepaid).read_volatile(),
            (&raw const (*account).low_mark).read_volatile(),
        )
    };
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let due = time_due(now.saturating_sub(start), rate);
    let cost = bytes_cost(bytes, price(account, direction));
    let spent = spent(meter);
    // Policed between the look at the balance and the charge: a packet that the police drops is
    // not charged, and one that the balance does not cover takes nothing from the limit, unless
    // another CPU charges between the two.
    if state == ACCOUNT_LIMITED
        && is_affordable(&spent, prepaid, due, cost)
        && let Err(denied) = police::limit(meter, account, direction, bytes, now)
    {
        return denied.into();
    }
    match charge(&spent, prepaid, due, cost) {
        Ok(spent) => {
            see(meter, now);
            Payment::charged(spent.saturating_add(due), low_mark)
        }
        Err(Denied::Unpaid) if state == ACCOUNT_LIMITED => {
            match police::throttle(meter, account, direction, bytes, now) {
                Ok(()) => Payment::Throttled,
                Err(denied) => denied.into(),
            }
        }
        Err(denied) => denied.into(),
    }
}

#[inline(always)]
fn price(account: *const Account, direction: Direction) -> u64 {
    // SAFETY: as in `pay`.
    unsafe {
        match direction {
            Direction::Uplink => (&raw const (*account).uplink_msat_per_mib).read_volatile(),
            Direction::Downlink => (&raw const (*account).downlink_msat_per_mib).read_volatile(),
        }
    }
}

#[inline(always)]
fn spent(meter: *mut Meter) -> Cell {
    // SAFETY: `meter` is a live element of the map.
    Cell(unsafe { &raw mut (*meter).spent })
}

/// Reads the clock once in a jiffy, at most 10 ms: a jiffy is a load, and the clock a function.
#[inline(always)]
fn see_by_jiffies(meter: *mut Meter) {
    // SAFETY: the helper has no conditions.
    let jiffies = unsafe { bpf_jiffies64() };
    // SAFETY: `meter` is a live element of the map. The last of several CPUs wins, which is what
    // it means.
    let seen = unsafe { &raw mut (*meter).seen_jiffies };
    // SAFETY: as above.
    unsafe {
        if seen.read_volatile() != jiffies {
            seen.write_volatile(jiffies);
            see(meter, bpf_ktime_get_boot_ns());
        }
    }
}

#[inline(always)]
fn see(meter: *mut Meter, now: u64) {
    // SAFETY: as in `see_by_jiffies`.
    unsafe { (&raw mut (*meter).last_seen_ns).write_volatile(now) };
}
