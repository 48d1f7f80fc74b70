//! The pin directory: one agent at a time, and only maps of this version.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapInfo};
use bitmesh_common::abi::{ABI_VERSION, House};
use rustix::fs::statfs;

use super::{Kernel, MeterError, layout};
use crate::exclusive;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The pin directory, held by this agent.
pub(super) struct Home {
    path: PathBuf,
    /// The lock goes with it, also when the agent is killed.
    _lock: OwnedFd,
}

impl Home {
    /// Makes the directory if it is missing, and takes its lock.
    ///
    /// # Errors
    ///
    /// Fails on a kernel that is too old, without a BPF file system or the right to use it, and while another agent runs.
    pub(super) fn open(path: &Path) -> Result<Self, MeterError> {
        Kernel::running().check().map_err(MeterError::KernelTooOld)?;
        let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        if !is_bpffs(existing) {
            return Err(MeterError::NoBpffs(path.to_owned()));
        }
        let failed = |error| MeterError::PinDirectory { path: path.to_owned(), error };
        fs::create_dir_all(path).map_err(failed)?;
        let directory = OwnedFd::from(File::open(path).map_err(failed)?);
        if !exclusive::lock(&directory).map_err(failed)? {
            return Err(MeterError::Held(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), _lock: directory })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the map or link with this name is pinned.
    pub(super) fn pin(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the link of this program on the interface with this index is pinned.
    pub(super) fn link_pin(&self, ifindex: u32, program: &str) -> PathBuf {
        self.path.join(format!("link-{ifindex}-{program}"))
    }

    /// The maps that a former agent left, if it got as far as to use them.
    ///
    /// # Errors
    ///
    /// Fails if they are of another version.
    pub(super) fn adopt(&self, object: &[u8]) -> Result<Option<House>, MeterError> {
        if !self.pin("house").exists() {
            return Ok(None);
        }
        let house = self.house()?;
        if house.abi_version == 0 {
            return Ok(None);
        }
        if house.abi_version != ABI_VERSION {
            let what = format!("layout {} instead of {ABI_VERSION}", house.abi_version);
            return Err(MeterError::OtherLayout { path: self.path.clone(), what });
        }
        layout::check(self, object)?;
        Ok(Some(house))
    }

    fn house(&self) -> Result<House, MeterError> {
        // Of another size it can't be read, and tells no version.
        let info = MapInfo::from_pin(self.pin("house")).map_err(MeterError::map("house"))?;
        if info.value_size() as usize != size_of::<House>() {
            let what = format!("`house` has {} bytes", info.value_size());
            return Err(MeterError::OtherLayout { path: self.path.clone(), what });
        }
        let house: Array<_, House> = self.array("house")?;
        house.get(&0, 0).map_err(MeterError::map("house"))
    }

    /// The pinned array with this name.
    pub(super) fn array<T: aya::Pod>(
        &self,
        name: &'static str,
    ) -> Result<Array<MapData, T>, MeterError> {
        let data = MapData::from_pin(self.pin(name)).map_err(MeterError::map(name))?;
        Array::try_from(Map::Array(data)).map_err(MeterError::map(name))
    }

    /// Removes all pins, and with them the maps and links that nothing else holds.
    ///
    /// # Errors
    ///
    /// Fails at the first pin that can't be removed.
    pub(super) fn clear(&self) -> Result<Vec<PathBuf>, MeterError> {
        let failed = |error: io::Error| MeterError::PinDirectory { path: self.path.clone(), error };
        let mut removed = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            fs::remove_file(&path).map_err(failed)?;
            removed.push(path);
        }
        Ok(removed)
    }

    /// Removes all pins and the directory.
    ///
    /// # Errors
    ///
    /// As [`Self::clear`].
    pub(super) fn remove(self) -> Result<Vec<PathBuf>, MeterError> {
        let removed = self.clear()?;
        fs::remove_dir(&self.path)
            .map_err(|error| MeterError::PinDirectory { path: self.path.clone(), error })?;
        Ok(removed)
    }
}

/// Whether this path is on a BPF file system.
pub(crate) fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.f_type == BPF_FS_MAGIC)
}
