//! The meters that the agent has in its memory are those that the kernel has.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use aya::EbpfLoader;
use aya::maps::{Map, MapData};
use bitmesh::meter::{MeterError, MeterTable};
use bitmesh_common::abi::{MAX_METERS, Mac, Meter, PLACES};
use bitmesh_common::directory::{bucket_of, multiplier};
use bitmesh_tests::objects::BITMESH;

/// Sweeps while meters are inserted.
const SWEEPS: usize = 50;

/// Names the life of these maps.
const EPOCH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Two hands on one pair of maps, that no program uses.
fn tables() -> Result<(MeterTable, MeterTable)> {
    let mut object = EbpfLoader::new().load(BITMESH).context("this needs root")?;
    let mut take = |name: &str| -> Result<(Map, Map)> {
        let first = object.take_map(name).context("a map")?;
        let Map::Array(data) = &first else { anyhow::bail!("no array") };
        let second = Map::Array(MapData::from_id(data.info()?.id())?);
        Ok((first, second))
    };
    let (directory, meters) = (take("directory")?, take("meters")?);
    let first = MeterTable::new(&directory.0, meters.0, EPOCH)?;
    Ok((first, MeterTable::new(&directory.1, meters.1, EPOCH)?))
}

fn mac(number: usize) -> Mac {
    let [.., high, middle, low] = number.to_be_bytes();
    Mac::new([2, 0x66, 0, high, middle, low])
}

/// Every field that is counted has a value of its own.
fn meter(number: usize) -> Meter {
    let n = number as u64;
    Meter {
        mac: mac(number),
        uplink_bytes: n * 7 + 1,
        downlink_packets: n * 11 + 2,
        spent: n * 13 + 3,
        announced: n * 17 + 4,
        ..Meter::default()
    }
}

fn sorted(read: Vec<Meter>) -> BTreeMap<Mac, Meter> {
    let count = read.len();
    let sorted: BTreeMap<_, _> = read.into_iter().map(|meter| (meter.mac, meter)).collect();
    assert_eq!(sorted.len(), count, "a meter was read twice");
    sorted
}

/// Both ways to read them all.
fn both(table: &MeterTable) -> Result<[BTreeMap<Mac, Meter>; 2]> {
    Ok([sorted(table.read_all()), sorted(table.read_one_by_one()?)])
}

#[test]
fn what_is_read_in_place_is_what_the_kernel_tells_at_every_fill() -> Result<()> {
    let (table, _) = tables()?;
    let mut expected = BTreeMap::new();
    for fill in [0, 1, 2, 100, 1_025, 10_000, MAX_METERS] {
        for number in expected.len()..fill {
            table.insert(number as u32, &meter(number))?;
            expected.insert(mac(number), meter(number));
        }
        assert!(both(&table)? == [expected.clone(), expected.clone()], "{fill} meters");
    }
    for number in (0..MAX_METERS).step_by(3) {
        table.remove(mac(number));
        expected.remove(&mac(number));
    }
    assert!(both(&table)? == [expected.clone(), expected.clone()], "a third has left");
    for number in 0..MAX_METERS {
        assert_eq!(table.get(mac(number)), expected.get(&mac(number)).copied());
    }
    Ok(())
}

#[test]
fn a_sweep_misses_nobody_and_reads_nobody_twice_while_meters_are_inserted() {
    let (writer, reader) = tables().expect("maps");
    let before = MAX_METERS / 2;
    for number in 0..before {
        writer.insert(number as u32, &meter(number)).expect("there is room");
    }
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let inserting = threads.spawn(|| {
            for number in before..MAX_METERS {
                writer.insert(number as u32, &meter(number)).expect("there is room");
            }
            done.store(true, Ordering::Release);
        });
        let mut sweeps = 0;
        while sweeps < SWEEPS || !done.load(Ordering::Acquire) {
            let read = sorted(reader.read_all());
            for number in 0..before {
                assert_eq!(read.get(&mac(number)), Some(&meter(number)));
            }
            for (mac, slot) in reader.slots() {
                assert_eq!(reader.get(mac), Some(meter(slot as usize)), "{mac:?}");
            }
            sweeps += 1;
        }
        inserting.join().expect("all were inserted");
    });
    assert_eq!(reader.read_all().len(), MAX_METERS);
}

#[test]
fn a_bucket_that_is_full_takes_nobody_else_until_somebody_leaves() {
    let (table, _) = tables().expect("maps");
    let bucket = |number: &usize| bucket_of(mac(*number).word(), multiplier(EPOCH));
    let wanted = bucket(&0);
    let mut together = (0..1 << 20).filter(|number| bucket(number) == wanted);
    for slot in 0..PLACES as u32 {
        let number = together.next().expect("enough addresses");
        table.insert(slot, &meter(number)).expect("there is a place");
    }
    let late = together.next().expect("one more");
    let refused = table.insert(PLACES as u32, &meter(late));
    assert!(matches!(refused, Err(MeterError::NoRoom)), "{refused:?}");
    assert_eq!(table.get(mac(late)), None);
    assert_eq!(table.read_all().len(), PLACES);
    table.remove(mac(0));
    table.insert(PLACES as u32, &meter(late)).expect("a place is free");
    assert_eq!(table.get(mac(late)), Some(meter(late)));
    assert_eq!(table.get(mac(0)), None);
}
