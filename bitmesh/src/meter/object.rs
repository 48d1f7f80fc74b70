//! The eBPF object and the maps that it makes.

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use bitmesh_common::abi::{ABI_VERSION, House, MAPS, Post};
use rustix::rand::{GetRandomFlags, getrandom};

use super::MeterError;
use super::error::describe;
use super::home::Home;

/// Loads the object with its maps pinned, for a copy of the programs that stands at `post`.
pub(super) fn load(home: &Home, object: &[u8], post: &Post) -> Result<Ebpf, MeterError> {
    let mut loader = EbpfLoader::new();
    for name in MAPS {
        loader.map_pin_path(name, home.pin(name));
    }
    loader.override_global("POST", post, true);
    // Pages of register states help nobody but who changes the programs.
    loader.verifier_log_level(VerifierLogLevel::STATS);
    loader.load(object).map_err(|error| MeterError::Load(describe(&error)))
}

/// Names a new life of the maps.
pub(super) fn found(maps: &mut Ebpf) -> Result<House, MeterError> {
    let mut epoch = [0; 8];
    getrandom(&mut epoch, GetRandomFlags::empty())
        .map_err(|error| MeterError::Map { map: "house", error: error.to_string() })?;
    let house = House { abi_version: ABI_VERSION, epoch: u64::from_ne_bytes(epoch) };
    let mut array: Array<_, House> =
        Array::try_from(take(maps, "house")?).map_err(MeterError::map("house"))?;
    array.set(0, house, 0).map_err(MeterError::map("house"))?;
    Ok(house)
}

pub(super) fn take(object: &mut Ebpf, name: &'static str) -> Result<Map, MeterError> {
    object.take_map(name).ok_or_else(|| MeterError::Load(format!("the object has no map `{name}`")))
}

/// Waits until no program that runs now still runs.
pub(super) struct Grace {
    outer: ArrayOfMaps<MapData, Array<MapData, u64>>,
    inner: Array<MapData, u64>,
}

impl Grace {
    pub(super) fn new(maps: &mut Ebpf) -> Result<Self, MeterError> {
        let outer =
            ArrayOfMaps::try_from(take(maps, "grace")?).map_err(MeterError::map("grace"))?;
        let inner = Array::create(1, 0).map_err(MeterError::map("grace"))?;
        Ok(Self { outer, inner })
    }

    /// The kernel promises that after an inner map was replaced no program uses the old one, and
    /// waits for that (`maybe_wait_bpf_programs`). Some tens of milliseconds.
    pub(super) fn wait(&mut self) -> Result<(), MeterError> {
        self.outer.set(0, &self.inner, 0).map_err(MeterError::map("grace"))
    }
}
