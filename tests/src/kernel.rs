//! The programs in the kernel, run on frames made by hand (`BPF_PROG_TEST_RUN`).

use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bitmesh_common::abi::{Account, Lan, MAPS, Mac, Meter};
use bitmesh_common::gate::{Direction, open_port};

use crate::frames::{GATEWAY_V4, GATEWAY_V6, Sent};

/// Bytes of `struct __sk_buff` up to and with `gso_size` (linux/bpf.h).
const CONTEXT_BYTES: usize = 184;
const INGRESS_IFINDEX: usize = 36;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

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
    meters: HashMap<MapData, Mac, Meter>,
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
        let mut gate = Self::load_with(EbpfLoader::new(), object);
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
    pub fn load_beside(object: &[u8], bpffs: &Path) -> Self {
        let mut loader = EbpfLoader::new();
        for name in MAPS {
            loader.map_pin_path(name, bpffs.join(name));
        }
        Self::load_with(loader, object)
    }

    #[expect(clippy::expect_used, reason = "as above")]
    fn load_with(mut loader: EbpfLoader<'_>, object: &[u8]) -> Self {
        let mut object = loader.load(object).expect("the kernel takes the maps (root?)");
        for name in ["uplink", "downlink"] {
            let program: &mut SchedClassifier =
                object.program_mut(name).expect("a program").try_into().expect("for TC");
            program.load().expect("the verifier agrees");
        }
        let first: &mut Xdp =
            object.program_mut(FIRST).expect("a program").try_into().expect("for XDP");
        first.load().expect("the verifier agrees");
        let meters = object.take_map("meters").expect("a map");
        let accounts = object.take_map("accounts").expect("a map");
        Self {
            object,
            meters: HashMap::try_from(meters).expect("a hash"),
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
        let meter = Meter { slot, ..Meter::default() };
        self.meters.insert(mac, meter, 0).expect("the map can be written");
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
        self.meters.get(&Mac::new(mac), 0).expect("there is a meter")
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
