//! An array of the kernel, mapped into memory.
//!
//! The kernel reads and writes these words meanwhile, so every access is to one aligned word.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::Map;
use memmap2::MmapMut;

use super::MeterError;

const WORD: usize = size_of::<u64>();

/// An array of so many records.
#[derive(Debug)]
pub(super) struct MappedArray<T> {
    words: MmapMut,
    elements: usize,
    records: PhantomData<T>,
}

impl<T: Pod> MappedArray<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(WORD) && align_of::<T>() <= WORD);
        size_of::<T>() / WORD
    };

    /// Maps the array with this name.
    ///
    /// # Errors
    ///
    /// Fails if it is no array, is not for mapping, or is smaller.
    pub(super) fn new(name: &'static str, map: &Map, elements: usize) -> Result<Self, MeterError> {
        let Map::Array(data) = map else {
            return Err(MeterError::Load(format!("`{name}` is not an array")));
        };
        let mut options = memmap2::MmapOptions::new();
        options.len(elements * size_of::<T>());
        let fd = data.fd().as_fd();
        // SAFETY: the kernel keeps the array's pages as long as they are mapped, and nobody can
        // truncate a map. All access goes through atomics.
        #[allow(unsafe_code)]
        let words = unsafe { options.map_mut(&fd) }
            .map_err(|error| MeterError::Map { map: name, error: error.to_string() })?;
        Ok(Self { words, elements, records: PhantomData })
    }

    /// A word of a record, by its number in there.
    fn word(&self, index: usize, word: usize) -> &AtomicU64 {
        // SAFETY: a page is aligned to a word, and the mapping as long as `elements` records; an
        // `AtomicU64` has the layout of a word, and whoever else writes these words does so
        // atomically.
        #[allow(unsafe_code)]
        let words = unsafe {
            let first = self.words.as_ptr().cast::<AtomicU64>();
            std::slice::from_raw_parts(first, self.elements * Self::WORDS)
        };
        &words[index * Self::WORDS + word]
    }

    /// A word of a record, at this offset in it.
    pub(super) fn load(&self, index: usize, offset: usize) -> u64 {
        self.word(index, offset / WORD).load(Ordering::Acquire)
    }

    /// Stores a word of a record, at this offset in it; whoever sees it sees all that was stored
    /// before.
    pub(super) fn store(&self, index: usize, offset: usize, value: u64) {
        self.word(index, offset / WORD).store(value, Ordering::Release);
    }

    /// A record, word by word.
    pub(super) fn read(&self, index: usize) -> T {
        let mut record = MaybeUninit::<T>::uninit();
        let to = record.as_mut_ptr().cast::<u64>();
        for word in 0..Self::WORDS {
            let value = self.word(index, word).load(Ordering::Acquire);
            // SAFETY: `T` is made of so many words, and aligned to no more than one.
            #[allow(unsafe_code)]
            unsafe {
                to.add(word).write_unaligned(value);
            }
        }
        // SAFETY: every word was written, and a `Pod` takes any bytes.
        #[allow(unsafe_code)]
        unsafe {
            record.assume_init()
        }
    }

    /// Writes a record, word by word. Only where no packet reads it.
    pub(super) fn write(&self, index: usize, record: &T) {
        let from = std::ptr::from_ref(record).cast::<u64>();
        for word in 0..Self::WORDS {
            // SAFETY: as in `read`; a `Pod` has no byte that was not written.
            #[allow(unsafe_code)]
            let value = unsafe { from.add(word).read_unaligned() };
            self.word(index, word).store(value, Ordering::Release);
        }
    }
}
