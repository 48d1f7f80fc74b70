//! The agent writes accounts while packets read them.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;
use bitmesh::meter::{HookChoice, LanOptions, MeterOptions, Meters};
use bitmesh_common::gate::Direction;
use bitmesh_core::{AccountImage, BootTime, Mac, Reading, Tariff, Units};
use bitmesh_tests::frames::{INTERNET_V4, Sent, V4, udp};
use bitmesh_tests::kernel::{KernelGate, Said};
use bitmesh_tests::lab::{LAN, Lab};
use bitmesh_tests::objects::BITMESH;

/// Accounts that the agent writes, over and over.
const ACCOUNTS: u16 = 1_000;
/// Packets of each of the three subscribers.
const PACKETS: u32 = 10_000_000;
/// Rounds through all accounts for each change of a tariff.
const ROUNDS_A_CHANGE: u64 = 50;
/// A run in which the agent wrote less than this proves nothing.
const MIN_WRITTEN: u64 = 100 * ACCOUNTS as u64;
/// Bytes of each packet at the IP layer.
const BYTES: u64 = 128;

/// Always has enough, and gets more all the time.
const PAID: u16 = 1;
/// Never has enough for one packet, though it gets more all the time.
const UNPAID: u16 = 2;
/// Changes between two tariffs. It can't pay for a packet under either; a mix of both could.
const CHANGING: u16 = 3;

fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac::new([2, 0, 0, 0, high, low])
}

fn packet_of(number: u16) -> Sent {
    let mut frame = V4::new(INTERNET_V4, 17).frame(&udp(9, BYTES as usize - 28));
    frame[6..12].copy_from_slice(&mac(number).octets);
    Sent::plain(frame)
}

fn image(number: u16, price: u64, prepaid: u64) -> AccountImage {
    AccountImage {
        mac: mac(number),
        prepaid: Units(prepaid),
        tariff: Tariff { uplink_msat_per_mib: price, ..Tariff::default() },
        start: BootTime(0),
        low_mark: Units(u64::MAX),
    }
}

/// The account of this subscriber in this round.
fn account(number: u16, round: u64) -> AccountImage {
    let growth = round.min(BYTES * 500 - 1);
    match number {
        PAID => image(number, 1, BYTES * u64::from(PACKETS) + growth),
        UNPAID => image(number, 1_000, BYTES * 500 + growth),
        CHANGING if (round / ROUNDS_A_CHANGE).is_multiple_of(2) => {
            image(number, 1_000, BYTES * 1_000 - 1)
        }
        CHANGING => image(number, 2_000, BYTES * 2_000 - 1),
        _ => image(number, 1, round),
    }
}

/// A gate in a namespace of its own, taken down at the end.
struct Gate {
    lab: Lab,
    options: MeterOptions,
}

impl Gate {
    fn new() -> Result<Self> {
        let name = format!("/sys/fs/bpf/bitmesh-test-{}-accounts", std::process::id());
        let interface = LAN.to_owned();
        let lans = vec![LanOptions { interface, open_ports: Vec::new(), portal_port: 0 }];
        let hook = HookChoice::Auto;
        let options = MeterOptions { bpffs: PathBuf::from(name), hook, lans, object: BITMESH };
        Ok(Self { lab: Lab::new()?, options })
    }

    fn open(&self) -> Result<Meters> {
        self.lab.gateway.enter(|| Ok(Meters::open(&self.options)?))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let options = &self.options;
        let _ = self.lab.gateway.enter(|| Ok(Meters::teardown(options)?));
        let _ = fs::remove_dir(&options.bpffs);
    }
}

#[test]
fn a_thousand_accounts_written_at_full_speed_give_no_wrong_verdict() -> Result<()> {
    let gate = Gate::new()?;
    let mut meters = gate.open()?;
    for number in 0..ACCOUNTS {
        meters.set_account(&account(number, 0), Reading::default()).expect("there is room");
    }
    let kernel = KernelGate::load_beside(BITMESH, &gate.options.bpffs);
    let written = AtomicU64::new(0);
    let said = thread::scope(|threads| {
        let run = |number| kernel.run(Direction::Uplink, &packet_of(number), 1, PACKETS).0;
        let traffic = threads.spawn(move || [PAID, UNPAID, CHANGING].map(run));
        let mut round = 0_u64;
        while !traffic.is_finished() {
            round += 1;
            for number in 0..ACCOUNTS {
                // A change of tariff waits for packets in flight; the others would wait with it.
                if number == CHANGING && !round.is_multiple_of(ROUNDS_A_CHANGE) {
                    continue;
                }
                meters
                    .set_account(&account(number, round), Reading::default())
                    .expect("the account is written");
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
        traffic.join().expect("the traffic runs")
    });
    let written = written.load(Ordering::Relaxed);
    assert!(written >= MIN_WRITTEN, "only {written} accounts were written");
    assert_eq!(said, [Said::Pass, Said::Drop, Said::Drop]);
    let packets = u64::from(PACKETS);
    let paid = kernel.meter(mac(PAID).octets);
    assert_eq!((paid.uplink_packets, paid.spent), (packets, packets * BYTES));
    let unpaid = kernel.meter(mac(UNPAID).octets);
    assert_eq!((unpaid.uplink_packets, unpaid.spent), (0, 0));
    let changing = kernel.meter(mac(CHANGING).octets);
    assert_eq!((changing.uplink_packets, changing.spent), (0, 0));
    println!("{written} accounts written, {} packets", 3 * packets);
    Ok(())
}
