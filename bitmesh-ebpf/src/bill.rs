//! From a subscriber's frame to a charge.

use core::mem::offset_of;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use bitmesh_common::abi::{
    ACCOUNT_CLOSED, Account, EVENT_EXHAUSTED, EVENT_LOW, EVENT_STRANGER, Event, Lan, Mac, Meter,
    Stranger,
};
use bitmesh_common::gate::Direction;
use bitmesh_common::money::time_due;
use bitmesh_common::source::{Claim, Source};

use crate::Verdict;
use crate::atomic::add;
use crate::held::Held;
use crate::maps::{EVENTS, STRANGERS};
use crate::pay::{Open, Payment, pay};
use crate::place::Place;
use crate::spoof;

/// One Ethernet header too much, for the twin that every counting test must catch.
const MISCOUNT_BYTES: u64 = if cfg!(feature = "miscount") { 14 } else { 0 };

/// `BPF_NOEXIST`: insert, never replace.
const NO_EXIST: u64 = 1;

/// Whoever a frame is from or for.
pub struct Subscriber<'a, P> {
    mac: Mac,
    place: &'a P,
    claim: Claim,
}

impl<'a, P: Place + Copy> Subscriber<'a, P> {
    #[inline(always)]
    pub fn new(mac: Mac, place: &'a P) -> Self {
        Self { mac, place, claim: Claim::default() }
    }

    /// The same, who says that this is its address.
    #[inline(always)]
    pub fn claiming(self, source: Source, lan: &Lan) -> Self {
        Self { claim: Claim { source, generation: lan.owners }, ..self }
    }

    /// Charges the bytes and counts them, if there is an account that covers them. If not, nothing
    /// has changed.
    #[inline(always)]
    pub fn charge(&self, direction: Direction, bytes: u64, packets: u64) -> bool {
        let Some(held) = self.held() else { return false };
        let meter = held.meter;
        if !spoof::may_use(meter, self.mac, self.claim) {
            return false;
        }
        let Some(open) = self.open(held) else { return false };
        let bytes = bytes + MISCOUNT_BYTES;
        let payment = pay(meter, open, direction, bytes);
        self.announce(meter, open.account, payment);
        if matches!(payment, Payment::Charged | Payment::ChargedToLow) {
            count(meter, direction, bytes, packets);
        }
        payment.passes()
    }

    /// Charges the bytes and passes them, or drops them.
    #[inline(always)]
    pub fn bill(&self, direction: Direction, bytes: u64, packets: u64) -> Verdict {
        let Some(held) = self.held() else {
            return self.turn_away(direction);
        };
        let meter = held.meter;
        if !spoof::may_use(meter, self.mac, self.claim) {
            // SAFETY: `meter` is a live element of the map.
            add(unsafe { &raw mut (*meter).dropped_spoofed }, 1);
            return Verdict::Drop;
        }
        let Some(open) = self.open(held) else {
            // SAFETY: `meter` is a live element of the map.
            add(unsafe { &raw mut (*meter).dropped_closed }, 1);
            return Verdict::Drop;
        };
        let bytes = bytes + MISCOUNT_BYTES;
        let payment = pay(meter, open, direction, bytes);
        self.announce(meter, open.account, payment);
        match payment {
            Payment::Charged | Payment::ChargedToLow => count(meter, direction, bytes, packets),
            Payment::Throttled => Verdict::Pass,
            Payment::Unpaid => drop_for(meter, offset_of!(Meter, dropped_unpaid)),
            Payment::Limited => drop_for(meter, offset_of!(Meter, dropped_limited)),
            Payment::Contended => drop_for(meter, offset_of!(Meter, dropped_contended)),
        }
    }

    /// Passes a frame that costs nothing, if the account is open.
    #[inline(always)]
    pub fn admit(&self) -> Verdict {
        let Some(held) = self.held() else {
            return self.turn_away(Direction::Uplink);
        };
        if self.open(held).is_some() {
            return Verdict::Pass;
        }
        // SAFETY: `meter` is a live element of the map.
        add(unsafe { &raw mut (*held.meter).dropped_closed }, 1);
        Verdict::Drop
    }

    /// Whether its account is open and has something left.
    #[inline(always)]
    pub fn is_paying(&self) -> bool {
        let Some(held) = self.held() else { return false };
        let meter = held.meter;
        let Some(Open { account, .. }) = self.open(held) else { return false };
        // SAFETY: as in `open`; `meter` is a live element of the map. Field by field: the
        // whole record would fill the stack.
        let (prepaid, start, rate, spent) = unsafe {
            (
                (&raw const (*account).prepaid).read_volatile(),
                (&raw const (*account).start_ns).read_volatile(),
                (&raw const (*account).msat_per_minute).read_volatile(),
                (&raw const (*meter).spent).read_volatile(),
            )
        };
        // SAFETY: the helper has no conditions.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        let due = time_due(now.saturating_sub(start), rate);
        spent.saturating_add(due) < prepaid
    }

    /// Drops a frame whose bytes can't be counted.
    #[inline(always)]
    pub fn refuse(&self) -> Verdict {
        if let Some(Held { meter, .. }) = self.held() {
            // SAFETY: `meter` is a live element of the map.
            add(unsafe { &raw mut (*meter).dropped_malformed }, 1);
        }
        Verdict::Drop
    }

    #[inline(always)]
    fn held(&self) -> Option<Held> {
        Held::by(self.mac.word())
    }

    /// The account, if it is this subscriber's and open.
    #[inline(always)]
    fn open(&self, held: Held) -> Option<Open> {
        let Held { account, .. } = held;
        // SAFETY: `account` is an element of a map whose elements live as long as it does. The
        // agent stores whole words, so a volatile load sees one that it stored.
        let (mac, state) = unsafe {
            (
                (&raw const (*account).mac).read_volatile(),
                (&raw const (*account).state).read_volatile(),
            )
        };
        if mac == self.mac.word() && state != ACCOUNT_CLOSED {
            Some(Open { account, state })
        } else {
            None
        }
    }

    /// Tells the agent once for each level of `prepaid` that the balance is low, and once that it
    /// is exhausted.
    #[inline(always)]
    fn announce(&self, meter: *mut Meter, account: *const Account, payment: Payment) {
        let kind = match payment {
            Payment::ChargedToLow => EVENT_LOW,
            Payment::Unpaid | Payment::Throttled => EVENT_EXHAUSTED,
            Payment::Charged | Payment::Limited | Payment::Contended => return,
        };
        let said = u64::from(kind);
        // SAFETY: as in `open`; `meter` is a live element of the map. Two CPUs may both
        // announce: it's a hint.
        unsafe {
            let prepaid = (&raw const (*account).prepaid).read_volatile();
            if (*meter).announced_prepaid == prepaid && (*meter).announced >= said {
                return;
            }
            (*meter).announced_prepaid = prepaid;
            (*meter).announced = said;
        }
        self.tell(kind);
    }

    /// Drops a frame from or to a MAC address without a meter, and remembers who sends.
    #[inline(always)]
    fn turn_away(&self, direction: Direction) -> Verdict {
        // SAFETY: the helper has no conditions.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        if let Some(stranger) = STRANGERS.get_ptr_mut(self.mac) {
            // SAFETY: an element of the LRU may be recycled under us; then a count of strangers is
            // off by one, and nothing else.
            unsafe {
                add(&raw mut (*stranger).dropped, 1);
                (*stranger).last_seen_ns = now;
                (*stranger).ifindex = self.place.ifindex();
            }
            return Verdict::Drop;
        }
        if direction == Direction::Uplink && !self.mac.is_group() {
            let stranger = Stranger {
                first_seen_ns: now,
                last_seen_ns: now,
                dropped: 1,
                ifindex: self.place.ifindex(),
                zero: 0,
            };
            if STRANGERS.insert(self.mac, stranger, NO_EXIST).is_ok() {
                self.tell(EVENT_STRANGER);
            }
        }
        Verdict::Drop
    }

    /// A full ring loses the hint, which the agent's sweep makes up for.
    #[inline(always)]
    fn tell(&self, kind: u32) {
        #[cfg(feature = "log")]
        log(*self.place, self.mac.word(), kind);
        let _ = EVENTS.output(Event { mac: self.mac, kind, ifindex: self.place.ifindex() }, 0);
    }
}

/// Not inlined: the stack of all calls together is 512 bytes, and a line of the log takes many.
#[cfg(feature = "log")]
#[inline(never)]
fn log<P: Place>(place: P, mac: u64, kind: u32) {
    let Mac { octets, .. } = Mac::from_word(mac);
    aya_log_ebpf::info!(place.context(), "event {} of {:mac}", kind, octets);
}

#[inline(always)]
fn count(meter: *mut Meter, direction: Direction, bytes: u64, packets: u64) -> Verdict {
    // SAFETY: `meter` is a live element of the map.
    let (byte_counter, packet_counter) = unsafe {
        match direction {
            Direction::Uplink => (&raw mut (*meter).uplink_bytes, &raw mut (*meter).uplink_packets),
            Direction::Downlink => {
                (&raw mut (*meter).downlink_bytes, &raw mut (*meter).downlink_packets)
            }
        }
    };
    add(byte_counter, bytes);
    add(packet_counter, packets);
    Verdict::Pass
}

/// Drops a packet, and counts it in the field at this offset.
#[inline(always)]
fn drop_for(meter: *mut Meter, offset: usize) -> Verdict {
    // SAFETY: `meter` is a live element of the map, and the offset that of one of its counters.
    add(unsafe { meter.byte_add(offset).cast() }, 1);
    Verdict::Drop
}
