//! The harness itself, without BitMesh: what it builds forwards, and what it counts is true.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bitmesh_tests::counter::Counter;
use bitmesh_tests::lab::{GATEWAY_V4, INTERNET, LAN, Lab, SERVER_V4, SERVER_V6, WAN};
use bitmesh_tests::namespace::Namespace;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES, V6_HEADER_BYTES};

const MIB: u64 = 1 << 20;

const fn pace(payload: usize, packets: u64) -> Pace {
    Pace { payload, every: Duration::from_micros(100), packets: Some(packets) }
}

#[test]
fn the_nftables_counters_agree_with_known_traffic_to_the_byte() -> Result<()> {
    let lab = Lab::new()?;
    let bob = lab.subscriber();
    let (up, arrived, down) = (bob.count_uplink()?, lab.count_arrived(bob)?, bob.count_downlink()?);
    let mut expected = 0;
    for (server, own, headers) in
        [(SERVER_V4, bob.v4(), V4_HEADER_BYTES), (SERVER_V6, bob.v6(), V6_HEADER_BYTES)]
    {
        let there = Receiver::start(&lab.internet, server)?;
        let here = Receiver::start(&bob.namespace, own)?;
        let uplink = Sender::start(&bob.namespace, there.address, pace(1_000, 500))?;
        let downlink = Sender::start(&lab.internet, here.address, pace(1_000, 500))?;
        uplink.finish()?;
        downlink.finish()?;
        expected += 500 * (1_000 + headers);
        for counter in [&up, &arrived, &down] {
            assert_eq!(counter.settled()?.bytes, expected);
        }
        for arrivals in [there.stop()?, here.stop()?] {
            let numbers: Vec<u64> = arrivals.iter().map(|arrival| arrival.sequence).collect();
            assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        }
    }
    assert_eq!(up.read()?.packets, 1_000);
    assert_eq!(down.read()?.packets, 1_000);
    Ok(())
}

#[test]
fn what_the_gateway_itself_says_is_not_counted() -> Result<()> {
    let lab = Lab::new()?;
    let bob = lab.subscriber();
    let (up, down) = (bob.count_uplink()?, bob.count_downlink()?);
    // Nobody listens there, so the gateway answers with an error of its own.
    let to = SocketAddr::new(GATEWAY_V4, 9);
    Sender::start(&bob.namespace, to, pace(100, 2))?.finish()?;
    assert_eq!(up.settled()?.packets, 0);
    assert_eq!(down.settled()?.packets, 0);
    Ok(())
}

#[test]
fn super_packets_reach_the_gateway_and_real_segments_leave_it() -> Result<()> {
    let lab = Lab::new()?;
    lab.real_segments()?;
    let bob = lab.subscriber();
    let at_wan = Counter::arriving(&lab.gateway, WAN, &INTERNET)?;
    let at_bob = bob.count_downlink()?;
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V4 };
    let read = Stream::download(ends, Load::of(8 * MIB))?.finish()?;
    assert_eq!(read, 8 * MIB);
    let (wan, bob) = (at_wan.settled()?, at_bob.settled()?);
    assert!(wan.packets * 3 < bob.packets, "the gateway got no super-packets: {wan:?}, {bob:?}");
    assert!(bob.bytes / bob.packets <= 1_500, "the subscriber got super-packets: {bob:?}");
    assert!(bob.bytes > wan.bytes, "each segment has headers of its own");
    Ok(())
}

#[test]
fn super_packets_go_up_too() -> Result<()> {
    let lab = Lab::new()?;
    lab.real_segments()?;
    let bob = lab.subscriber();
    let from_bob = [format!("{}/32", bob.v4()), format!("{}/128", bob.v6())];
    let at_lan = Counter::arriving(&lab.gateway, LAN, &[&from_bob[0], &from_bob[1]])?;
    let arrived = lab.count_arrived(bob)?;
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V6 };
    Stream::upload(ends, Load::of(8 * MIB))?.finish()?;
    let (lan, arrived) = (at_lan.settled()?, arrived.settled()?);
    assert!(lan.packets * 3 < arrived.packets, "no super-packets: {lan:?}, {arrived:?}");
    Ok(())
}

#[test]
fn subscribers_on_a_bridge_are_counted_apart() -> Result<()> {
    let lab = Lab::with_subscribers(3)?;
    let counters =
        lab.subscribers.iter().map(|one| lab.count_arrived(one)).collect::<Result<Vec<_>>>()?;
    let receiver = Receiver::start(&lab.internet, SERVER_V4)?;
    for (subscriber, packets) in lab.subscribers.iter().zip([10, 20, 30]) {
        Sender::start(&subscriber.namespace, receiver.address, pace(100, packets))?.finish()?;
    }
    for (counter, packets) in counters.iter().zip([10, 20, 30]) {
        let counted = counter.settled()?;
        assert_eq!((counted.packets, counted.bytes), (packets, packets * 128));
    }
    receiver.stop()?;
    Ok(())
}

#[test]
fn a_namespace_is_gone_with_its_owner() -> Result<()> {
    let namespace = Namespace::new("gone")?;
    let path = format!("/run/netns/{}", namespace.name());
    assert!(std::fs::exists(&path)?);
    drop(namespace);
    assert!(!std::fs::exists(&path)?);
    Ok(())
}
