//! The programs in the kernel, run on frames made by hand (`BPF_PROG_TEST_RUN`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bitmesh_common::abi::{Account, Bucket, House, Lan, MAPS, Mac, Meter, Post};
use bitmesh_common::directory::{bucket_of, entry, find, multiplier, owner};
use bitmesh_common::gate::{Direction, open_port};

use crate::frames::{GATEWAY_V4, GATEWAY_V6, Sent};

/// Bytes of `struct __sk_buff` up to and with `gso_size` (linux/bpf.h).
const CONTEXT_BYTES: usize = 184;
const INGRESS_IFINDEX: usize = 36;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// Names the life of maps that belong to a test alone.
pub const EPOCH: u64 = 0x9e37_79b9_7f4a_7c15;

/// The XDP program.
const FIRST: &str = "uplink_first";
/// What it says (linux/bpf.h).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// What a program said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// `TCX_NEXT`.
    Pass,
    /// `TC_ACT_SHOT`.
    Drop,
    /// Anything else is a fault.
    Other(u32),
}

/// A copy of the programs with maps of its own, attached to nothing.
pub struct KernelGate {
    object: Ebpf,
    multiplier: u64,
    directory: Array<MapData, Bucket>,
    meters: Array<MapData, Meter>,
    accounts: Array<MapData, Account>,
}

impl KernelGate {
    /// Loads an object; the LAN has the gateway's addresses and the usual open ports.
    ///
    /// # Panics
    ///
    /// If the kernel refuses: these tests need root.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test harness says what it needs by failing")]
    pub fn load(object: &[u8]) -> Self {
        let mut gate = Self::load_with(&[], object, EPOCH);
        let lans = gate.object.take_map("lans").expect("a map");
        let mut lans: Array<_, Lan> = Array::try_from(lans).expect("an array");
        lans.set(0, lan(), 0).expect("the map can be written");
        gate
    }

    /// Loads a copy of the programs that shares the maps which an agent has pinned.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    #[must_use]
    #[expect(clippy::expect_used, reason = "as above")]
    pub fn load_beside(object: &[u8], bpffs: &Path) -> Self {
        let pins: Vec<_> = MAPS.iter().map(|name| (*name, bpffs.join(name))).collect();
        let house = MapData::from_pin(bpffs.join("house")).expect("a pinned map");
        let house: Array<_, House> = Array::try_from(Map::Array(house)).expect("an array");
        Self::load_with(&pins, object, house.get(&0, 0).expect("a record").epoch)
    }

    #[expect(clippy::expect_used, reason = "as above")]
    fn load_with(pins: &[(&str, PathBuf)], object: &[u8], epoch: u64) -> Self {
        let multiplier = multiplier(epoch);
        let post = Post { multiplier, ..Post::default() };
        let mut loader = EbpfLoader::new();
        for (name, path) in pins {
            loader.map_pin_path(name, path);
        }
        loader.override_global("POST", &post, true);
        let mut object = loader.load(object).expect("the kernel takes the maps (root?)");
        for name in ["uplink", "downlink"] {
            let program: &mut SchedClassifier =
                object.program_mut(name).expect("a program").try_into().expect("for TC");
            program.load().expect("the verifier agrees");
        }
        let first: &mut Xdp =
            object.program_mut(FIRST).expect("a program").try_into().expect("for XDP");
        first.load().expect("the verifier agrees");
        let directory = object.take_map("directory").expect("a map");
        let meters = object.take_map("meters").expect("a map");
        let accounts = object.take_map("accounts").expect("a map");
        Self {
            object,
            multiplier,
            directory: Array::try_from(directory).expect("an array"),
            meters: Array::try_from(meters).expect("an array"),
            accounts: Array::try_from(accounts).expect("an array"),
        }
    }

    /// Inserts a meter at a slot, with this account.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    #[expect(clippy::expect_used, reason = "as above")]
    pub fn subscribe(&mut self, mac: [u8; 6], slot: u32, account: Account) {
        let mac = Mac::new(mac);
        let account = Account { mac: mac.word(), ..account };
        self.accounts.set(slot, account, 0).expect("the map can be written");
        self.meters.set(slot, Meter { mac, ..Meter::default() }, 0).expect("it can be written");
        let (index, mut bucket) = self.bucket(mac);
        let free = |entry: &u64| owner(*entry).is_none_or(|(of, _)| of == mac);
        let place = bucket.entries.iter().position(free).expect("there is room");
        bucket.entries[place] = entry(mac, slot);
        self.directory.set(index, bucket, 0).expect("the map can be written");
    }

    #[expect(clippy::expect_used, reason = "as above")]
    fn bucket(&self, mac: Mac) -> (u32, Bucket) {
        let index = bucket_of(mac.word(), self.multiplier);
        (index, self.directory.get(&index, 0).expect("the map can be read"))
    }

    /// Runs the XDP program on a frame, once.
    ///
    /// # Panics
    ///
    /// If the kernel refuses to run it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "as above")]
    pub fn run_first(&self, frame: &[u8]) -> Said {
        let program: &Xdp =
            self.object.program(FIRST).expect("a program").try_into().expect("for XDP");
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        match program.test_run(options).expect("the kernel runs it").return_value {
            XDP_PASS => Said::Pass,
            XDP_DROP => Said::Drop,
            other => Said::Other(other),
        }
    }

    /// What the meter says.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    #[expect(clippy::expect_used, reason = "as above")]
    pub fn meter(&self, mac: [u8; 6]) -> Meter {
        let mac = Mac::new(mac);
        let (_, bucket) = self.bucket(mac);
        let slot = find(mac.word(), |place| bucket.entries[place]).expect("there is a meter");
        self.meters.get(&slot, 0).expect("the map can be read")
    }

    /// Runs a program on a frame, `repeat` times. Gives what it said last, and the mean duration.
    ///
    /// # Panics
    ///
    /// If the kernel refuses to run it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "as above")]
    pub fn run(
        &self,
        direction: Direction,
        sent: &Sent,
        ingress_ifindex: u32,
        repeat: u32,
    ) -> (Said, Duration) {
        let mut context = [0; CONTEXT_BYTES];
        let mut put = |at: usize, value: u32| {
            context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(INGRESS_IFINDEX, ingress_ifindex);
        put(GSO_SEGS, sent.gso_segs);
        put(GSO_SIZE, sent.gso_size);
        let name = match direction {
            Direction::Uplink => "uplink",
            Direction::Downlink => "downlink",
        };
        let program: &SchedClassifier =
            self.object.program(name).expect("a program").try_into().expect("for TC");
        let options = TestRunOptions {
            data_in: Some(&sent.bytes),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).expect("the kernel runs it");
        let said = match result.return_value {
            u32::MAX => Said::Pass,
            2 => Said::Drop,
            other => Said::Other(other),
        };
        (said, result.duration)
    }
}

/// The LAN of these tests.
#[must_use]
pub fn lan() -> Lan {
    let mut lan = Lan { ifindex: 1, portal_port: 2121, ..Lan::default() };
    lan.ipv4[0].octets = GATEWAY_V4;
    lan.ipv6[0].octets = GATEWAY_V6;
    lan.open_ports[..4].copy_from_slice(&[
        open_port(17, 53),
        open_port(17, 67),
        open_port(6, 2121),
        open_port(17, 547),
    ]);
    lan
}
