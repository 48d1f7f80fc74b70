//! One corpus of frames, through the parser on the host and the programs in the kernel.

use bitmesh_common::abi::{ACCOUNT_OPEN, Account, Mac, PLACES};
use bitmesh_common::directory::{bucket_of, multiplier};
use bitmesh_common::gate::{Class, Direction, classify_downlink, classify_uplink};
use bitmesh_common::packet::{FrameBytes, Link};
use bitmesh_tests::frames::{
    ALL_NODES, BOB, GATEWAY_V4, GATEWAY_V6, INTERNET_V4, INTERNET_V6, Sent, V4, ethernet,
    extension, reversed, tcp, udp, v6, v6_frame,
};
use bitmesh_tests::kernel::{EPOCH, KernelGate, Said, lan};
use bitmesh_tests::objects::{BITMESH, MISCOUNT};

/// What must become of a frame, paid or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// Pass, cost nothing.
    Free,
    /// Pass for whom an account is open, cost nothing.
    Local,
    /// Pass if paid, cost this many bytes and packets.
    Bill(u64, u64),
    /// Never pass.
    Drop,
}

struct Case {
    name: &'static str,
    sent: Sent,
    uplink: Must,
    downlink: Must,
}

fn billed(name: &'static str, bytes: Vec<u8>, cost: u64) -> Case {
    let bill = Must::Bill(cost, 1);
    Case { name, sent: Sent::plain(bytes), uplink: bill, downlink: bill }
}

fn dropped(name: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, sent: Sent::plain(bytes), uplink: Must::Drop, downlink: Must::Drop }
}

fn uplink(name: &'static str, bytes: Vec<u8>, uplink: Must, downlink: Must) -> Case {
    Case { name, sent: Sent::plain(bytes), uplink, downlink }
}

fn segments(name: &'static str, bytes: Vec<u8>, size: u32, segs: u32, must: (u64, u64)) -> Case {
    let bill = Must::Bill(must.0, must.1);
    Case { name, sent: Sent::super_packet(bytes, size, segs), uplink: bill, downlink: bill }
}

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(60, 0);
    frame
}

fn patched(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    frame
}

fn out(protocol: u8) -> V4 {
    V4::new(INTERNET_V4, protocol)
}

fn plain_packets() -> Vec<Case> {
    let udp_packet = out(17).packet(&udp(9, 100));
    let tagged = |tags: &[u16]| ethernet(tags, 0x0800, &udp_packet);
    let with_options = V4 { option_words: 3, ..out(17) };
    let first = V4 { fragment: 0x2000, ..out(17) };
    let second = V4 { fragment: 0x00b9, ..out(17) };
    let hop_by_hop = extension(17, 1, &udp(9, 40));
    vec![
        billed("IPv4 UDP", out(17).frame(&udp(9, 100)), 128),
        billed("IPv4 without payload", out(17).frame(&[]), 20),
        billed("padding of a short frame", padded(out(17).frame(&udp(9, 1))), 29),
        billed("IPv4 options", with_options.frame(&udp(9, 100)), 140),
        billed("first fragment", first.frame(&udp(9, 64)), 92),
        billed("later fragment", second.frame(&[0xaa; 64]), 84),
        billed("ICMP", out(1).frame(&[8, 0, 0, 0, 0, 0, 0, 0]), 28),
        billed("one VLAN tag", tagged(&[7]), 128),
        billed("two VLAN tags", tagged(&[7, 8]), 128),
        billed("IPv6 UDP", v6_frame(INTERNET_V6, 17, 64, &udp(9, 100)), 148),
        billed("IPv6 without payload", v6_frame(INTERNET_V6, 59, 64, &[]), 40),
        billed("IPv6 options", v6_frame(INTERNET_V6, 0, 64, &hop_by_hop), 104),
        billed("IPv6 fragment", v6_frame(INTERNET_V6, 44, 64, &extension(17, 0, &[1; 32])), 80),
        billed("jumbo frame", out(17).frame(&udp(9, 3_000)), 3_028),
    ]
}

fn super_packets() -> Vec<Case> {
    let tcp4 = out(6).frame(&tcp(9, 8, 3 * 1_000));
    let tcp4_short = out(6).frame(&tcp(9, 5, 2_500));
    let tcp6 = v6_frame(INTERNET_V6, 6, 64, &tcp(9, 8, 3_000));
    let behind = extension(6, 0, &tcp(9, 5, 2_000));
    let options = v6_frame(INTERNET_V6, 60, 64, &behind);
    let udp4 = out(17).frame(&udp(9, 3_000));
    // BIG TCP: the length in the header is 0.
    let big = patched(patched(out(6).frame(&tcp(9, 5, 3_000)), 16, 0), 17, 0);
    let big6 = patched(patched(v6_frame(INTERNET_V6, 6, 64, &tcp(9, 5, 3_000)), 18, 0), 19, 0);
    // What the kernel adds beyond 64 KiB, and takes away before the segments leave.
    let jumbo = [&[6, 0, 0xc2, 4, 0, 0, 11, 212], &tcp(9, 5, 3_000)[..]].concat();
    let jumbo = v6_frame(INTERNET_V6, 0, 64, &jumbo);
    let inner4 = out(6).packet(&tcp(9, 5, 3_000));
    let inner6 = v6(INTERNET_V6, 6, 64, &tcp(9, 5, 3_000));
    let with_key = [&[0x20, 0, 8, 0, 0, 0, 0, 7], &inner4[..]].concat();
    let bridged = [&[0, 0, 0x65, 0x58], &out(6).frame(&tcp(9, 5, 3_000))[..]].concat();
    let bridged = Sent::super_packet(out(47).frame(&bridged), 1_000, 3);
    vec![
        segments("BIG TCP with its option", jumbo, 1_000, 3, (3 * 1_060, 3)),
        segments("IPv4 in IPv4", out(4).frame(&inner4), 1_000, 3, (3 * 1_060, 3)),
        segments("IPv6 in IPv4", out(41).frame(&inner6), 1_000, 3, (3 * 1_080, 3)),
        segments("IPv4 in IPv6", v6_frame(INTERNET_V6, 4, 64, &inner4), 1_000, 0, (3 * 1_080, 3)),
        segments("GRE with a key", out(47).frame(&with_key), 1_000, 3, (3 * 1_068, 3)),
        Case { name: "a bridge in GRE", sent: bridged, uplink: Must::Drop, downlink: Must::Drop },
        segments("TCP over IPv4", tcp4, 1_000, 3, (3 * 1_052, 3)),
        segments("last segment shorter", tcp4_short.clone(), 1_000, 3, (2_620, 3)),
        segments("segments not counted", tcp4_short, 1_000, 0, (2_620, 3)),
        segments("TCP over IPv6", tcp6, 1_000, 3, (3 * 1_072, 3)),
        segments("TCP behind IPv6 options", options, 1_000, 2, (2 * 1_068, 2)),
        segments("UDP", udp4, 1_000, 3, (3 * 1_028, 3)),
        segments("BIG TCP over IPv4", big, 1_000, 3, (3 * 1_040, 3)),
        segments("BIG TCP over IPv6", big6, 1_000, 3, (3 * 1_060, 3)),
    ]
}

fn malformed() -> Vec<Case> {
    let udp4 = out(17).frame(&udp(9, 100));
    let esp = Sent::super_packet(out(50).frame(&[0; 3_000]), 1_000, 3);
    vec![
        dropped("three VLAN tags", ethernet(&[1, 2, 0x8100], 0x8100, &[0; 40])),
        // Behind a tag, since the kernel does not run programs on an untagged one.
        dropped("IPv4 header cut short", ethernet(&[7], 0x0800, &udp4[14..14 + 19])),
        dropped("IPv4 longer than the frame", udp4[..14 + 100].to_vec()),
        dropped("IPv4 length below its header", patched(udp4.clone(), 17, 19)),
        dropped("IPv4 length 0", patched(udp4.clone(), 17, 0)),
        dropped("IPv4 header below five words", patched(udp4.clone(), 14, 0x44)),
        dropped("version 5", patched(udp4, 14, 0x55)),
        dropped("IPv6 longer than the frame", {
            let frame = v6_frame(INTERNET_V6, 17, 64, &udp(9, 100));
            frame[..frame.len() - 1].to_vec()
        }),
        dropped("PPPoE", ethernet(&[], 0x8864, &[0x11; 60])),
        dropped("unknown EtherType", ethernet(&[], 0x88cc, &[0; 60])),
        Case { name: "super-packet of ESP", sent: esp, uplink: Must::Drop, downlink: Must::Drop },
    ]
}

/// What the unpaid may do, and what looks like it and isn't.
fn infrastructure() -> Vec<Case> {
    let broadcast = V4::new([255; 4], 17);
    let local = V4::new(GATEWAY_V4, 17);
    let local_tcp = V4::new(GATEWAY_V4, 6);
    let igmp = V4 { ttl: 1, ..V4::new([224, 0, 0, 22], 2) };
    let icmpv6 = |kind: u8| [kind, 0, 0, 0, 0, 0, 0, 0];
    let listener = extension(58, 0, &icmpv6(143));
    let more = V4 { fragment: 0x2000, ..local };
    let bill = |bytes| Must::Bill(bytes, 1);
    vec![
        uplink("ARP", ethernet(&[], 0x0806, &[0; 46]), Must::Free, Must::Drop),
        uplink("EAPOL", ethernet(&[], 0x888e, &[0; 46]), Must::Free, Must::Drop),
        uplink("DHCP", broadcast.frame(&udp(67, 240)), Must::Free, bill(268)),
        uplink("broadcast to another port", broadcast.frame(&udp(68, 9)), bill(37), bill(37)),
        uplink("resolver", local.frame(&udp(53, 30)), Must::Free, bill(58)),
        uplink("portal", local_tcp.frame(&tcp(2121, 5, 0)), Must::Free, bill(40)),
        uplink(
            "another port of the gateway",
            local_tcp.frame(&tcp(22, 5, 0)),
            Must::Local,
            bill(40),
        ),
        uplink("resolver by fragment", more.frame(&udp(53, 32)), Must::Local, bill(60)),
        uplink("somebody else's resolver", out(17).frame(&udp(53, 30)), bill(58), bill(58)),
        uplink("IGMP", igmp.frame(&[0; 8]), Must::Free, bill(28)),
        uplink(
            "IGMP that could be forwarded",
            V4 { ttl: 2, ..igmp }.frame(&[0; 8]),
            bill(28),
            bill(28),
        ),
        uplink(
            "router solicitation",
            v6_frame(ALL_NODES, 58, 255, &icmpv6(133)),
            Must::Free,
            bill(48),
        ),
        uplink(
            "neighbour solicitation",
            v6_frame(GATEWAY_V6, 58, 255, &icmpv6(135)),
            Must::Free,
            bill(48),
        ),
        uplink(
            "solicitation off the link",
            v6_frame(INTERNET_V6, 58, 255, &icmpv6(135)),
            bill(48),
            bill(48),
        ),
        uplink(
            "solicitation with another hop limit",
            v6_frame(ALL_NODES, 58, 64, &icmpv6(135)),
            bill(48),
            bill(48),
        ),
        uplink("echo to all nodes", v6_frame(ALL_NODES, 58, 255, &icmpv6(128)), bill(48), bill(48)),
        uplink(
            "listener report",
            ethernet(&[], 0x86dd, &v6(ALL_NODES, 0, 1, &listener)),
            Must::Free,
            bill(56),
        ),
        uplink("DHCPv6", v6_frame(ALL_NODES, 17, 1, &udp(547, 40)), Must::Free, bill(88)),
        uplink(
            "echo to the gateway",
            v6_frame(GATEWAY_V6, 58, 64, &icmpv6(128)),
            Must::Local,
            bill(48),
        ),
    ]
}

fn corpus() -> impl Iterator<Item = Case> {
    let all = [plain_packets(), super_packets(), malformed(), infrastructure()];
    all.into_iter().flatten()
}

/// Each way a frame can go through a gate.
fn passages() -> Vec<(Case, Direction)> {
    let up = corpus().map(|case| (case, Direction::Uplink));
    let down = corpus().map(|mut case| {
        case.sent.bytes = reversed(&case.sent.bytes);
        (case, Direction::Downlink)
    });
    up.chain(down).collect()
}

impl Case {
    const fn must(&self, direction: Direction) -> Must {
        match direction {
            Direction::Uplink => self.uplink,
            Direction::Downlink => self.downlink,
        }
    }
}

fn on_host(sent: &Sent, direction: Direction) -> Must {
    let frame = FrameBytes { bytes: &sent.bytes, gso_size: sent.gso_size, gso_segs: sent.gso_segs };
    let class = Link::parse(&frame).and_then(|link| match direction {
        Direction::Uplink => classify_uplink(&frame, &link, &lan()),
        Direction::Downlink => classify_downlink(&frame, &link, false),
    });
    match class {
        Ok(Class::Free | Class::Resolver { .. }) => Must::Free,
        Ok(Class::Local) => Must::Local,
        Ok(Class::Billed { bytes, packets }) => Must::Bill(bytes, packets),
        Err(_) => Must::Drop,
    }
}

/// Up and down have different prices, so that a mix-up shows.
fn rich() -> Account {
    Account {
        state: ACCOUNT_OPEN,
        prepaid: u64::MAX / 2,
        uplink_msat_per_mib: 3,
        downlink_msat_per_mib: 5,
        low_mark: u64::MAX,
        ..Account::default()
    }
}

fn paid(object: &[u8]) -> KernelGate {
    let mut gate = KernelGate::load(object);
    gate.subscribe(BOB, 7, rich());
    gate
}

/// Runs one frame through a gate and says how it differs from what must be.
fn check_paid(gate: &KernelGate, case: &Case, direction: Direction) -> Result<(), String> {
    let before = gate.meter(BOB);
    let (said, _) = gate.run(direction, &case.sent, 1, 1);
    let after = gate.meter(BOB);
    let up =
        (after.uplink_bytes - before.uplink_bytes, after.uplink_packets - before.uplink_packets);
    let down = (
        after.downlink_bytes - before.downlink_bytes,
        after.downlink_packets - before.downlink_packets,
    );
    let found = (said, up, down, after.spent - before.spent);
    let (must_say, bytes, packets) = match case.must(direction) {
        Must::Bill(bytes, packets) => (Said::Pass, bytes, packets),
        Must::Free | Must::Local => (Said::Pass, 0, 0),
        Must::Drop => (Said::Drop, 0, 0),
    };
    let must = match direction {
        Direction::Uplink => (must_say, (bytes, packets), (0, 0), bytes * 3),
        Direction::Downlink => (must_say, (0, 0), (bytes, packets), bytes * 5),
    };
    if found == must {
        return Ok(());
    }
    Err(format!("{} {direction:?}: {found:?} instead of {must:?}", case.name))
}

#[test]
fn host_and_table_agree_on_every_frame() {
    for (case, direction) in passages() {
        assert_eq!(
            on_host(&case.sent, direction),
            case.must(direction),
            "{} {direction:?}",
            case.name
        );
    }
}

#[test]
fn kernel_and_table_agree_on_every_frame_of_who_has_paid() {
    let gate = paid(BITMESH);
    for (case, direction) in passages() {
        check_paid(&gate, &case, direction).expect("the kernel counts what the table says");
    }
}

#[test]
fn a_program_that_miscounts_by_one_header_is_caught_on_every_billed_frame() {
    let gate = paid(MISCOUNT);
    for (case, direction) in passages() {
        let caught = check_paid(&gate, &case, direction).is_err();
        let is_billed = matches!(case.must(direction), Must::Bill(..));
        assert_eq!(caught, is_billed, "{} {direction:?}", case.name);
    }
}

#[test]
fn the_unpaid_pass_what_is_free_and_nothing_else() {
    let closed = Account::default();
    let exhausted = Account { prepaid: 0, ..rich() };
    for account in [None, Some(closed), Some(exhausted)] {
        let mut gate = KernelGate::load(BITMESH);
        if let Some(account) = account {
            gate.subscribe(BOB, 7, account);
        }
        let open = account.is_some_and(|account| account.state == ACCOUNT_OPEN);
        for (case, direction) in passages() {
            let (said, _) = gate.run(direction, &case.sent, 1, 1);
            let must = match case.must(direction) {
                Must::Free => Said::Pass,
                Must::Local if open => Said::Pass,
                Must::Local | Must::Bill(..) | Must::Drop => Said::Drop,
            };
            assert_eq!(said, must, "{} {direction:?} {account:?}", case.name);
        }
    }
}

#[test]
fn what_the_gateway_makes_itself_is_free() {
    let gate = KernelGate::load(BITMESH);
    for case in corpus() {
        let sent = Sent { bytes: reversed(&case.sent.bytes), ..case.sent };
        if on_host(&sent, Direction::Downlink) != Must::Drop {
            assert_eq!(gate.run(Direction::Downlink, &sent, 0, 1).0, Said::Pass, "{}", case.name);
        }
    }
}

#[test]
fn an_account_of_another_address_pays_for_nobody() {
    let mut gate = KernelGate::load(BITMESH);
    gate.subscribe([2, 0, 0, 0, 0, 0xca], 7, rich());
    gate.subscribe(BOB, 7, rich());
    gate.subscribe([2, 0, 0, 0, 0, 0xca], 7, rich());
    let sent = Sent::plain(out(17).frame(&udp(9, 100)));
    assert_eq!(gate.run(Direction::Uplink, &sent, 1, 1).0, Said::Drop);
    assert_eq!(gate.meter(BOB).dropped_closed, 1);
}

/// Addresses that share a bucket of the directory with Bob's.
fn neighbours_of_bob() -> impl Iterator<Item = [u8; 6]> {
    let bucket = |mac: [u8; 6]| bucket_of(Mac::new(mac).word(), multiplier(EPOCH));
    let all = (1_u32..).map(|number| {
        let [_, high, middle, low] = number.to_be_bytes();
        [2, 0, 1, high, middle, low]
    });
    all.filter(move |mac| bucket(*mac) == bucket(BOB))
}

#[test]
fn everybody_in_a_full_bucket_is_metered_alone_and_a_stranger_there_is_not() {
    let mut gate = KernelGate::load(BITMESH);
    let mut macs: Vec<_> = neighbours_of_bob().take(PLACES + 1).collect();
    let stranger = macs.pop().expect("one more");
    for (mac, slot) in macs.iter().zip(0..) {
        gate.subscribe(*mac, slot, rich());
    }
    let send = |mac: [u8; 6], times: u32| {
        let mut bytes = out(17).frame(&udp(9, 10));
        bytes[6..12].copy_from_slice(&mac);
        gate.run(Direction::Uplink, &Sent::plain(bytes), 1, times).0
    };
    for (mac, times) in macs.iter().zip(1..) {
        assert_eq!(send(*mac, times), Said::Pass, "{mac:?}");
    }
    assert_eq!(send(stranger, 1), Said::Drop);
    for (mac, times) in macs.iter().zip(1..) {
        assert_eq!(gate.meter(*mac).uplink_packets, times, "{mac:?}");
    }
}
