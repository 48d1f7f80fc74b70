//! The hash `meters`, read many elements at a time.
//!
//! One call per element is what a sweep over thousands of meters costs most. The kernel copies whole
//! buckets of a hash instead (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6), each under its lock: an element
//! that stays in the map is read exactly once, and one that is being inserted once or not at all.
//! Who loses its meter, or is given one, meanwhile may be missed: the agent does neither then.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::maps::{HashMap, Map, MapData, MapError};
use bitmesh_common::abi::{MAX_METERS, Mac, Meter};

use super::MeterError;
use super::bpf::bpf;

/// Command of `linux/bpf.h`.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// `BPF_NOEXIST`: insert, never replace.
const NO_EXIST: u64 = 1;

/// Elements that are asked for at once.
pub const BATCH_METERS: usize = 1_024;

/// Elements that are asked for at once, at most: a bucket that is longer than [`BATCH_METERS`] is
/// asked for with twice as many, and none is longer than the map.
pub const MAX_BATCH_METERS: usize = MAX_METERS;

/// What kernels of before 5.6 answer: they don't know the command, or the map does not have it
/// (`ENOTSUPP`, which no header for programs names).
const UNKNOWN: [i32; 2] = [libc::EINVAL, 524];

/// The part of `union bpf_attr` that commands on batches take.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// What came of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// So many elements, and there are more.
    More(usize),
    /// So many elements, which were the last.
    Last(usize),
    /// The next bucket is longer than the buffer.
    TooSmall,
    /// The kernel can't.
    Unknown,
}

/// The hash `meters`.
#[derive(Debug)]
pub struct MeterMap {
    map: HashMap<MapData, Mac, Meter>,
    /// The same map, for what aya does not do.
    fd: OwnedFd,
}

impl MeterMap {
    /// Takes the map `meters` of a loaded object, or of a pin.
    ///
    /// # Errors
    ///
    /// Fails if it is no hash, or its keys and values have other sizes.
    pub fn new(map: Map) -> Result<Self, MeterError> {
        let Map::HashMap(data) = &map else {
            return Err(MeterError::Load("`meters` is not a hash".to_owned()));
        };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(failed)?;
        let map = HashMap::try_from(map).map_err(MeterError::map("meters"))?;
        Ok(Self { map, fd })
    }

    /// The meter of one address.
    ///
    /// # Errors
    ///
    /// [`MapError::KeyNotFound`] if it has none.
    pub fn get(&self, mac: Mac) -> Result<Meter, MapError> {
        self.map.get(&mac, 0)
    }

    /// Inserts a meter. Never replaces one.
    ///
    /// # Errors
    ///
    /// Fails if there is one already or the map is full.
    pub fn insert(&mut self, mac: Mac, meter: Meter) -> Result<(), MapError> {
        self.map.insert(mac, meter, NO_EXIST)
    }

    /// Deletes a meter. Who inserts the next one waits until no program can hold this one: the
    /// kernel gives its element away at once.
    ///
    /// # Errors
    ///
    /// [`MapError::KeyNotFound`] if it has none.
    pub fn remove(&mut self, mac: Mac) -> Result<(), MapError> {
        self.map.remove(&mac)
    }

    /// All meters: in batches, or one by one where the kernel can't.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn read_all(&self) -> Result<Vec<(Mac, Meter)>, MeterError> {
        match self.read_in_batches(BATCH_METERS).map_err(failed)? {
            Some(read) => Ok(read),
            None => self.read_one_by_one().map_err(MeterError::map("meters")),
        }
    }

    /// All meters, with two calls of the kernel for each.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn read_one_by_one(&self) -> Result<Vec<(Mac, Meter)>, MapError> {
        self.map.iter().collect()
    }

    /// All meters, `size` at a time to begin with; nothing if the kernel can't. At most
    /// [`MAX_METERS`] and one batch are read, whatever the kernel says.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn read_in_batches(&self, mut size: usize) -> io::Result<Option<Vec<(Mac, Meter)>>> {
        let mut read = Vec::new();
        let mut keys = vec![Mac::default(); size];
        let mut values = vec![Meter::default(); size];
        let mut position = None;
        while read.len() <= MAX_METERS {
            let (step, next) = self.next(position, &mut keys, &mut values)?;
            let (count, last) = match step {
                Step::More(count) => (count, false),
                Step::Last(count) => (count, true),
                Step::TooSmall if size < MAX_BATCH_METERS => {
                    size = (size * 2).min(MAX_BATCH_METERS);
                    keys.resize(size, Mac::default());
                    values.resize(size, Meter::default());
                    continue;
                }
                Step::TooSmall => return Err(io::ErrorKind::StorageFull.into()),
                Step::Unknown if position.is_none() => return Ok(None),
                Step::Unknown => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            };
            read.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
            if last {
                return Ok(Some(read));
            }
            position = Some(next);
        }
        Err(io::Error::other("it has more elements than it can have"))
    }

    /// One call. `position` is where the last one ended; gives where this one did.
    fn next(
        &self,
        position: Option<u32>,
        keys: &mut [Mac],
        values: &mut [Meter],
    ) -> io::Result<(Step, u32)> {
        let from = position.unwrap_or(0);
        // A hash says its position in 32 bits.
        let mut to = 0_u32;
        let room = keys.len().min(values.len());
        let mut batch = Batch {
            in_batch: if position.is_some() { (&raw const from) as u64 } else { 0 },
            out_batch: (&raw mut to) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(room).map_err(io::Error::other)?,
            map_fd: u32::try_from(self.fd.as_raw_fd()).map_err(io::Error::other)?,
            ..Batch::default()
        };
        // SAFETY: the kernel writes at most `count` keys and values of the map's sizes, which are
        // those of `Mac` and `Meter` (`new` made sure); both take any bytes. Buffers and positions
        // outlive the call.
        #[allow(unsafe_code)]
        let done = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) };
        let count = (batch.count as usize).min(room);
        let step = match done {
            Ok(_) => Step::More(count),
            // There is no bucket left; what was in the last ones has been copied.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Step::Last(count),
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Step::TooSmall,
            Err(error) if error.raw_os_error().is_some_and(|code| UNKNOWN.contains(&code)) => {
                Step::Unknown
            }
            Err(error) => return Err(error),
        };
        Ok((step, to))
    }
}

fn failed(error: io::Error) -> MeterError {
    MeterError::Map { map: "meters", error: error.to_string() }
}
