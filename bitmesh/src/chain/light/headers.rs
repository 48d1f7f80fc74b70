//! The best chain of headers, in memory and in a file.
//!
//! The file saves a start from the network's first blocks, and nothing else: it may be lost, cut
//! off or torn at any byte. So it is never synced; what does not follow from what is before it, or
//! has no proof of work, is cut off when it is read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bip157::HashCheckpoint;
use bip157::chain::{ChainState, IndexedHeader};
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::{BlockHash, Network};

use crate::chain::Block;
use crate::folder::make_durable;

/// Headers that are kept, at most: more than a channel can live
/// ([`MAX_LOCK_BLOCKS`](crate::config::MAX_LOCK_BLOCKS)). Twice as many are in memory before the
/// older half is forgotten.
pub const MAX_HEADERS: usize = 65_536;

/// Bytes of the file, at most: all headers that a first start reads, for decades.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Blocks from one change of the difficulty to the next.
const EPOCH_BLOCKS: u32 = 2_016;

const HEADER_BYTES: u64 = 80;
/// Height and hash of the block below the first header, and the hash of both.
const ANCHOR_BYTES: u64 = 68;

/// The best chain that is known.
#[derive(Debug)]
pub(super) struct Headers {
    network: Network,
    /// The block below the first of `list`. It is believed.
    anchor: Block,
    list: Vec<Header>,
    file: Option<Store>,
}

/// The file, which no other process writes.
#[derive(Debug)]
struct Store {
    path: PathBuf,
    file: File,
}

impl Headers {
    /// What the file in this folder holds, as far as it is sound. The folder is made if it is not
    /// there. While another process has the file, it is only read.
    pub(super) fn open(folder: &Path, network: Network) -> Result<Self, io::Error> {
        make_durable(folder, 0o700)?;
        let path = folder.join(format!("headers-{network}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let is_ours = file.try_lock().is_ok();
        let (anchor, list) = read(&file, network)?.unwrap_or((first_anchor(network), Vec::new()));
        let mut headers = Self { network, anchor, list, file: None };
        let is_long = headers.forget();
        if is_ours {
            headers.file = Some(Store { path, file });
            if is_long { headers.rewrite() } else { headers.cut_file() }
        }
        Ok(headers)
    }

    /// The newest block.
    pub(super) fn tip(&self) -> Block {
        let hash = self.list.last().map_or(self.anchor.hash, Header::block_hash);
        Block { height: self.height(), hash }
    }

    /// What the newest header says, in seconds since 1970; 0 without any.
    pub(super) fn time(&self) -> u32 {
        self.list.last().map_or(0, |header| header.time)
    }

    fn height(&self) -> u32 {
        let length = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.anchor.height.saturating_add(length)
    }

    /// The oldest block that is known.
    pub(super) const fn oldest(&self) -> u32 {
        self.anchor.height
    }

    fn header_at(&self, height: u32) -> Option<Header> {
        if height == 0 {
            return Some(genesis_block(self.network).header);
        }
        let index = height.checked_sub(self.anchor.height)?.checked_sub(1)?;
        self.list.get(usize::try_from(index).ok()?).copied()
    }

    /// The block at this height, if it is known.
    pub(super) fn hash_at(&self, height: u32) -> Option<BlockHash> {
        if height == self.anchor.height {
            return Some(self.anchor.hash);
        }
        self.header_at(height).map(|header| header.block_hash())
    }

    /// The header at this height, if it has this hash.
    pub(super) fn header(&self, block: Block) -> Option<Header> {
        self.header_at(block.height).filter(|header| header.block_hash() == block.hash)
    }

    /// A header joins, on top of the newest. Says whether it does.
    pub(super) fn connect(&mut self, header: Header) -> bool {
        if header.prev_blockhash != self.tip().hash {
            return false;
        }
        self.list.push(header);
        self.write(&serialize(&header));
        if self.list.len() > 2 * MAX_HEADERS && self.forget() {
            self.rewrite();
        }
        true
    }

    /// Every header from this height on leaves.
    pub(super) fn disconnect_from(&mut self, height: u32) {
        let kept = height.saturating_sub(self.anchor.height).saturating_sub(1);
        self.list.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.cut_file();
    }

    /// From where a peer's headers can be judged: the difficulty follows from a whole epoch. The
    /// block at `wanted` is in it, if it is known.
    pub(super) fn state(&self, wanted: Option<u32>) -> (u32, ChainState) {
        let epoch = (self.height() / EPOCH_BLOCKS).saturating_sub(1) * EPOCH_BLOCKS;
        let first = epoch.min(wanted.unwrap_or(u32::MAX)).saturating_sub(1);
        // Of the anchor only the hash is known, except if it is the first block of all.
        let known = if self.anchor.height == 0 { 0 } else { self.anchor.height.saturating_add(1) };
        let first = first.max(known);
        let all = first..=self.height();
        let headers = all
            .filter_map(|height| Some(IndexedHeader { height, header: self.header_at(height)? }));
        let headers: Vec<IndexedHeader> = headers.collect();
        if self.list.is_empty() {
            let Block { height, hash } = self.anchor;
            return (height, ChainState::Checkpoint(HashCheckpoint::new(height, hash)));
        }
        (first, ChainState::Snapshot(headers))
    }

    /// Forgets the oldest, beyond [`MAX_HEADERS`]. Says whether there were any.
    fn forget(&mut self) -> bool {
        let Some(surplus @ 1..) = self.list.len().checked_sub(MAX_HEADERS) else { return false };
        let Some(hash) = self.list.get(surplus - 1).map(Header::block_hash) else { return false };
        let forgotten = u32::try_from(surplus).unwrap_or(u32::MAX);
        self.anchor = Block { height: self.anchor.height.saturating_add(forgotten), hash };
        self.list.drain(..surplus);
        true
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(Store { file, .. }) = &mut self.file {
            let written = file.write_all(bytes);
            self.note(written);
        }
    }

    /// Makes the file as long as the list.
    fn cut_file(&mut self) {
        let headers = u64::try_from(self.list.len()).unwrap_or(u64::MAX);
        let Some(Store { file, .. }) = &mut self.file else { return };
        let length = ANCHOR_BYTES.saturating_add(headers.saturating_mul(HEADER_BYTES));
        let mut cut = || {
            if headers == 0 {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                return file.write_all(&anchor_bytes(self.anchor));
            }
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length)).map(drop)
        };
        let cut = cut();
        self.note(cut);
    }

    /// Writes the file anew.
    fn rewrite(&mut self) {
        let Some(Store { path, .. }) = self.file.take() else { return };
        let written = write_new(&path, self.anchor, &self.list);
        match written {
            Ok(file) => self.file = Some(Store { path, file }),
            Err(error) => self.note(Err(error)),
        }
    }

    /// Without a file, everything goes on: only the next start reads more.
    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(%error, "the chain's headers are not kept: the next start reads them anew");
            self.file = None;
        }
    }
}

/// Where a network's headers begin: with its first block, or with one that is in the code. On
/// bitcoin, no channel is older than Taproot.
fn first_anchor(network: Network) -> Block {
    if network == Network::Bitcoin {
        let HashCheckpoint { height, hash } = HashCheckpoint::taproot_activation();
        return Block { height, hash };
    }
    Block { height: 0, hash: genesis_block(network).block_hash() }
}

fn anchor_bytes(anchor: Block) -> Vec<u8> {
    let bytes = [&anchor.height.to_le_bytes()[..], &anchor.hash.to_byte_array()[..]].concat();
    let seal = sha256::Hash::hash(&bytes).to_byte_array();
    [&bytes[..], &seal[..]].concat()
}

/// The file's sound part; nothing if there is none.
fn read(mut file: &File, network: Network) -> io::Result<Option<(Block, Vec<Header>)>> {
    if file.metadata()?.len() > MAX_FILE_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let Some((height, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let Some((hash, rest)) = rest.split_first_chunk::<32>() else { return Ok(None) };
    let Some((_, rest)) = rest.split_first_chunk::<32>() else { return Ok(None) };
    let anchor =
        Block { height: u32::from_le_bytes(*height), hash: BlockHash::from_byte_array(*hash) };
    let first = first_anchor(network);
    let is_torn = !bytes.starts_with(&anchor_bytes(anchor));
    if is_torn || anchor.height < first.height || (anchor.height == first.height && anchor != first)
    {
        return Ok(None);
    }
    let mut newest = anchor.hash;
    let mut list = Vec::new();
    for bytes in rest.as_chunks::<80>().0 {
        let Ok(header) = deserialize::<Header>(bytes) else { break };
        let Ok(hash) = header.validate_pow(header.target()) else { break };
        if header.prev_blockhash != newest {
            break;
        }
        newest = hash;
        list.push(header);
    }
    Ok(Some((anchor, list)))
}

/// A new file in the place of the old one, which is ours too.
fn write_new(path: &Path, anchor: Block, list: &[Header]) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.try_lock()?;
    let mut bytes = anchor_bytes(anchor);
    list.iter().for_each(|header| bytes.extend(serialize(header)));
    file.write_all(&bytes)?;
    fs::rename(&new, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use bitcoin::TxMerkleNode;

    use super::*;

    /// A header on top of another, with the proof of work of regtest.
    fn on_top(below: BlockHash, number: u32) -> Header {
        let mut header = Header {
            version: bitcoin::block::Version::TWO,
            prev_blockhash: below,
            merkle_root: TxMerkleNode::all_zeros(),
            time: number,
            bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        while header.validate_pow(header.target()).is_err() {
            header.nonce += 1;
        }
        header
    }

    fn grow(headers: &mut Headers, count: u32) {
        for number in 0..count {
            let header = on_top(headers.tip().hash, number);
            assert!(headers.connect(header));
        }
    }

    fn open(folder: &Path) -> Headers {
        Headers::open(folder, Network::Regtest).unwrap()
    }

    #[test]
    fn a_new_start_goes_on_from_what_was_written_and_follows_a_reorganisation() {
        let folder = tempfile::tempdir().unwrap();
        let mut headers = open(folder.path());
        assert_eq!(headers.tip().height, 0);
        grow(&mut headers, 30);
        headers.disconnect_from(21);
        assert_eq!(headers.tip().height, 20);
        let stranger = on_top(BlockHash::all_zeros(), 1);
        assert!(!headers.connect(stranger), "it does not follow");
        let other = on_top(headers.tip().hash, 99);
        assert!(headers.connect(other));
        let tip = headers.tip();
        drop(headers);
        let headers = open(folder.path());
        assert_eq!((headers.tip(), headers.time()), (tip, 99));
        assert_eq!(headers.hash_at(0), Some(genesis_block(Network::Regtest).block_hash()));
        assert_eq!((headers.hash_at(21), headers.hash_at(22)), (Some(tip.hash), None));
    }

    #[test]
    fn a_file_cut_or_torn_at_any_byte_only_costs_what_is_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path());
        grow(&mut first, 5);
        let hashes: Vec<_> = (0..=5).map(|height| first.hash_at(height)).collect();
        drop(first);
        let path = folder.path().join("headers-regtest");
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            for (torn, rest) in [(false, vec![]), (true, vec![0xa5; whole.len() - length])] {
                fs::write(&path, [&whole[..length], &rest[..]].concat()).unwrap();
                let mut headers = open(folder.path());
                let sound = u32::try_from(length.saturating_sub(68) / 80).unwrap();
                // Half of all numbers are a proof of work on regtest: there, one torn may be taken.
                let surplus = headers.tip().height - sound;
                assert!(surplus <= u32::from(torn), "{length} {torn}: {:?}", headers.tip());
                for (height, hash) in (0..=sound).zip(&hashes) {
                    assert_eq!(headers.hash_at(height), *hash, "{length} {torn}");
                }
                let below = headers.tip();
                grow(&mut headers, 2);
                drop(headers);
                let headers = open(folder.path());
                assert_eq!(headers.tip().height, below.height + 2);
                assert_eq!(headers.hash_at(below.height), Some(below.hash));
            }
        }
    }

    #[test]
    fn only_one_process_writes_and_another_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path());
        grow(&mut first, 3);
        let mut second = open(folder.path());
        assert_eq!(second.tip(), first.tip());
        grow(&mut second, 4);
        drop((first, second));
        assert_eq!(open(folder.path()).tip().height, 3);
    }

    #[test]
    fn peers_are_judged_from_a_whole_epoch_or_from_what_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut headers = open(folder.path());
        assert!(matches!(headers.state(None), (0, ChainState::Checkpoint(_))));
        grow(&mut headers, 5_000);
        let length = |wanted| match headers.state(wanted) {
            (first, ChainState::Snapshot(list)) => {
                assert_eq!(list[0].height, first);
                assert_eq!(list.last().unwrap().height, 5_000);
                first
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(length(None), 2_015);
        assert_eq!(length(Some(100)), 99);
        assert_eq!(length(Some(4_900)), 2_015);
        assert_eq!(length(Some(0)), 0);
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut headers = open(folder.path());
        let all = 2 * u32::try_from(MAX_HEADERS).unwrap() + 10;
        grow(&mut headers, all);
        assert_eq!(headers.oldest(), all - 9 - u32::try_from(MAX_HEADERS).unwrap());
        let (tip, oldest) = (headers.tip(), headers.oldest());
        assert_eq!(tip.height, all);
        assert_eq!(headers.hash_at(oldest - 1), None);
        let below = headers.hash_at(oldest).unwrap();
        drop(headers);
        let headers = open(folder.path());
        assert_eq!(headers.tip(), tip);
        assert!(headers.header_at(headers.oldest() + 1).is_some());
        assert!(headers.oldest() >= oldest && below != tip.hash);
    }
}
