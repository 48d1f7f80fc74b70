//! A sweep over all meters in batches reads what reading them one by one does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};
use aya::EbpfLoader;
use aya::maps::{Map, MapData};
use bitmesh::meter::{BATCH_METERS, MAX_BATCH_METERS, MeterMap};
use bitmesh_common::abi::{MAX_METERS, Mac, Meter};
use bitmesh_tests::objects::BITMESH;

/// Sweeps while meters are inserted.
const SWEEPS: usize = 50;

/// Two hands on one map, that no program uses.
fn map() -> Result<(MeterMap, MeterMap)> {
    let mut object = EbpfLoader::new().load(BITMESH).context("this needs root")?;
    let Some(Map::HashMap(first)) = object.take_map("meters") else { bail!("no hash") };
    let second = MapData::from_id(first.info()?.id())?;
    Ok((MeterMap::new(Map::HashMap(first))?, MeterMap::new(Map::HashMap(second))?))
}

fn mac(number: usize) -> Mac {
    let [.., high, middle, low] = number.to_be_bytes();
    Mac::new([2, 0x66, 0, high, middle, low])
}

/// Every field that is counted has a value of its own.
fn meter(number: usize) -> Meter {
    let n = number as u64;
    Meter {
        slot: number as u32,
        uplink_bytes: n * 7 + 1,
        downlink_packets: n * 11 + 2,
        spent: n * 13 + 3,
        announced: n * 17 + 4,
        ..Meter::default()
    }
}

fn sorted(read: Vec<(Mac, Meter)>) -> BTreeMap<Mac, Meter> {
    let count = read.len();
    let sorted: BTreeMap<_, _> = read.into_iter().collect();
    assert_eq!(sorted.len(), count, "a meter was read twice");
    sorted
}

#[test]
fn batches_of_any_size_give_what_one_by_one_gives_at_every_fill() {
    let (mut map, _) = map().expect("a map");
    let mut held = 0;
    for fill in [0, 1, 2, 100, BATCH_METERS, BATCH_METERS + 1, 10_000, MAX_METERS] {
        for number in held..fill {
            map.insert(mac(number), meter(number)).expect("there is room");
        }
        held = fill;
        let expected: BTreeMap<_, _> = (0..fill).map(|n| (mac(n), meter(n))).collect();
        let one_by_one = sorted(map.read_one_by_one().expect("the kernel reads"));
        assert_eq!(one_by_one, expected, "one by one, {fill} meters");
        assert_eq!(sorted(map.read_all().expect("the kernel reads")), expected, "{fill} meters");
        // A buffer of one is too small for many a bucket, and must grow.
        for size in [1, 2, 7, 1_000, MAX_BATCH_METERS] {
            let read = map.read_in_batches(size).expect("the kernel reads in batches");
            let read = sorted(read.expect("this kernel has batches"));
            assert_eq!(read, expected, "{fill} meters, {size} at a time");
        }
    }
}

#[test]
fn a_sweep_misses_nobody_and_reads_nobody_twice_while_meters_are_inserted() {
    let (mut writer, reader) = map().expect("a map");
    let before = MAX_METERS / 2;
    for number in 0..before {
        writer.insert(mac(number), meter(number)).expect("there is room");
    }
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let inserting = threads.spawn(|| {
            for number in before..MAX_METERS {
                writer.insert(mac(number), meter(number)).expect("there is room");
            }
            done.store(true, Ordering::Release);
        });
        let mut sweeps = 0;
        while sweeps < SWEEPS || !done.load(Ordering::Acquire) {
            let read = sorted(reader.read_all().expect("the kernel reads"));
            for number in 0..before {
                assert_eq!(read.get(&mac(number)), Some(&meter(number)));
            }
            for (mac, found) in &read {
                assert_eq!(*found, meter(found.slot as usize), "{mac:?}");
            }
            sweeps += 1;
        }
        inserting.join().expect("all were inserted");
    });
    assert_eq!(reader.read_all().expect("the kernel reads").len(), MAX_METERS);
}
