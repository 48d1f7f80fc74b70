//! Blocks, coins and mempool of the fake chain.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid,
};

use super::BLOCK_INTERVAL_SECONDS;
use crate::chain::event::{Broadcast, Refusal, Refused, Tip};
use crate::chain::{self, MIN_FEE_RATE};

/// An output in a block.
#[derive(Clone, Debug)]
pub(super) struct Coin {
    pub(super) output: TxOut,
    pub(super) height: u32,
}

/// The best chain and what is waiting for the next block.
#[derive(Debug)]
pub(super) struct Ledger {
    blocks: Vec<Block>,
    coins: BTreeMap<OutPoint, Coin>,
    /// Coins from nothing, for payments: as if older than every block.
    made: BTreeMap<OutPoint, Coin>,
    mempool: Vec<Transaction>,
    /// Of blocks that left the chain.
    orphaned: Vec<Transaction>,
    /// Blocks ever mined: makes each another one.
    mined: u64,
}

impl Ledger {
    pub(super) fn new(network: Network) -> Self {
        Self {
            blocks: vec![genesis_block(network)],
            coins: BTreeMap::new(),
            made: BTreeMap::new(),
            mempool: Vec::new(),
            orphaned: Vec::new(),
            mined: 0,
        }
    }

    pub(super) fn height(&self) -> u32 {
        u32::try_from(self.blocks.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    pub(super) fn block(&self, height: u32) -> Option<&Block> {
        self.blocks.get(usize::try_from(height).ok()?)
    }

    pub(super) fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.block(height).map(Block::block_hash)
    }

    pub(super) fn tip(&self) -> Tip {
        let (hash, time) = self
            .blocks
            .last()
            .map_or((BlockHash::all_zeros(), 0), |block| (block.block_hash(), block.header.time));
        Tip { block: chain::Block { height: self.height(), hash }, time }
    }

    pub(super) fn mempool(&self) -> &[Transaction] {
        &self.mempool
    }

    pub(super) fn confirmed(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    pub(super) fn spender_in_mempool(&self, outpoint: &OutPoint) -> Option<&Transaction> {
        self.mempool.iter().find(|tx| tx.input.iter().any(|i| i.previous_output == *outpoint))
    }

    /// A coin from nothing.
    pub(super) fn make_coin(&mut self, number: u32, value: Amount) -> OutPoint {
        let mut id = [0xc0; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        let outpoint = OutPoint::new(Txid::from_byte_array(id), 0);
        let output = TxOut { value, script_pubkey: ScriptBuf::new() };
        self.made.insert(outpoint, Coin { output, height: 0 });
        outpoint
    }

    pub(super) fn add_to_mempool(&mut self, transaction: Transaction) {
        self.mempool.push(transaction);
    }

    pub(super) fn mine_mempool(&mut self) {
        let transactions = std::mem::take(&mut self.mempool);
        self.mine(transactions);
    }

    /// Mines a block with these transactions, which are valid and in order.
    pub(super) fn mine(&mut self, mut transactions: Vec<Transaction>) {
        self.mined = self.mined.saturating_add(1);
        let tip = self.tip();
        transactions.insert(0, self.coinbase());
        let header = Header {
            version: bitcoin::block::Version::TWO,
            prev_blockhash: tip.block.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: tip.time.saturating_add(BLOCK_INTERVAL_SECONDS),
            bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        let mut block = Block { header, txdata: transactions };
        block.header.merkle_root = block.compute_merkle_root().unwrap_or(header.merkle_root);
        self.connect(&block);
        self.blocks.push(block);
    }

    fn coinbase(&self) -> Transaction {
        // The height (BIP 34), and a number that no other block has.
        let height = i64::from(self.height()) + 1;
        let number = i64::try_from(self.mined).unwrap_or(i64::MAX);
        let script_sig = Builder::new().push_int(height).push_int(number).into_script();
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { script_sig, ..TxIn::default() }],
            output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }],
        }
    }

    fn connect(&mut self, block: &Block) {
        let height = self.height().saturating_add(1);
        for transaction in &block.txdata {
            for input in &transaction.input {
                self.coins.remove(&input.previous_output);
            }
            let txid = transaction.compute_txid();
            for (vout, output) in (0..).zip(&transaction.output) {
                let coin = Coin { output: output.clone(), height };
                self.coins.insert(OutPoint::new(txid, vout), coin);
            }
        }
    }

    /// Takes the newest blocks off; their transactions wait for [`Self::refill_mempool`].
    pub(super) fn disconnect(&mut self, depth: u32) {
        let left = self.height().saturating_sub(depth).saturating_add(1);
        let stale = self.blocks.split_off(usize::try_from(left).unwrap_or(usize::MAX).max(1));
        let mined = stale.into_iter().flat_map(|block| block.txdata.into_iter().skip(1));
        self.orphaned.extend(mined);
        let blocks = std::mem::take(&mut self.blocks);
        self.coins.clear();
        for block in blocks {
            // The coins of the genesis block can't be spent.
            if !self.blocks.is_empty() {
                self.connect(&block);
            }
            self.blocks.push(block);
        }
    }

    /// Offers what was confirmed, and then what was waiting, to the mempool again.
    pub(super) fn refill_mempool(&mut self) {
        let waiting = std::mem::take(&mut self.mempool);
        let orphaned = std::mem::take(&mut self.orphaned);
        for transaction in orphaned.into_iter().chain(waiting) {
            // What is not valid any more is forgotten, as by a node.
            let _ = self.accept(&transaction);
        }
    }

    /// Drops a transaction from the mempool, and what spends it.
    pub(super) fn evict(&mut self, txid: &Txid) {
        let mut dropped = BTreeSet::from([*txid]);
        self.mempool.retain(|tx| {
            let id = tx.compute_txid();
            let stays = !dropped.contains(&id)
                && !tx.input.iter().any(|input| dropped.contains(&input.previous_output.txid));
            if !stays {
                dropped.insert(id);
            }
            stays
        });
    }

    /// Takes a transaction into the mempool, or says why not.
    pub(super) fn accept(&mut self, transaction: &Transaction) -> Broadcast {
        let txid = transaction.compute_txid();
        if self.mempool.iter().any(|tx| tx.compute_txid() == txid) {
            return Broadcast::AlreadyInMempool;
        }
        let outputs = 0..u32::try_from(transaction.output.len()).unwrap_or(u32::MAX);
        if outputs.into_iter().any(|vout| self.coins.contains_key(&OutPoint::new(txid, vout))) {
            return Broadcast::AlreadyConfirmed;
        }
        match self.examine(transaction) {
            Ok(conflicts) => {
                for conflict in conflicts {
                    self.evict(&conflict);
                }
                self.mempool.push(transaction.clone());
                Broadcast::Accepted
            }
            Err((kind, reason)) => Broadcast::Refused(Refused { kind, reason: reason.to_owned() }),
        }
    }

    /// The transactions that this one replaces, if it is valid.
    fn examine(
        &self,
        transaction: &Transaction,
    ) -> Result<BTreeSet<Txid>, (Refusal, &'static str)> {
        if !self.is_final(transaction) {
            return Err((Refusal::NotFinal, "non-final"));
        }
        let fee = self.fee(transaction)?;
        if self.has_young_inputs(transaction) {
            return Err((Refusal::NotFinal, "non-BIP68-final"));
        }
        let wanted = MIN_FEE_RATE.fee_wu(transaction.weight()).unwrap_or(Amount::MAX_MONEY);
        if fee < wanted && !self.is_made(transaction) {
            return Err((Refusal::FeeTooLow, "min relay fee not met"));
        }
        let mut conflicts = BTreeSet::new();
        let mut to_beat = Amount::ZERO;
        for input in &transaction.input {
            if let Some(other) = self.spender_in_mempool(&input.previous_output)
                && conflicts.insert(other.compute_txid())
            {
                to_beat += self.fee(other).unwrap_or(Amount::ZERO);
            }
        }
        if !conflicts.is_empty() && fee < to_beat + wanted {
            return Err((Refusal::Conflict, "insufficient fee, rejecting replacement"));
        }
        Ok(conflicts)
    }

    /// Whether it is a payment from coins that were made from nothing: those pay no fee.
    fn is_made(&self, transaction: &Transaction) -> bool {
        transaction.input.iter().all(|input| self.made.contains_key(&input.previous_output))
    }

    /// Whether its lock time allows it in the next block. Times are compared with the tip's.
    fn is_final(&self, transaction: &Transaction) -> bool {
        if transaction.input.iter().all(|input| input.sequence.is_final()) {
            return true;
        }
        match transaction.lock_time {
            LockTime::Blocks(height) => height.to_consensus_u32() <= self.height(),
            LockTime::Seconds(time) => time.to_consensus_u32() < self.tip().time,
        }
    }

    /// Whether an input is younger than its relative lock (BIP 68). Blocks only.
    fn has_young_inputs(&self, transaction: &Transaction) -> bool {
        let next = self.height().saturating_add(1);
        transaction.version.0 >= 2
            && transaction.input.iter().any(|input| {
                let sequence = input.sequence;
                let lock = sequence.to_consensus_u32() & 0xffff;
                let age = self
                    .coins
                    .get(&input.previous_output)
                    .map_or(0, |coin| next.saturating_sub(coin.height));
                sequence.is_height_locked() && age < lock
            })
    }

    fn fee(&self, transaction: &Transaction) -> Result<Amount, (Refusal, &'static str)> {
        let mut value_in = Amount::ZERO;
        let mut used = BTreeSet::new();
        for input in &transaction.input {
            let value = self.value(&input.previous_output);
            let value = value.ok_or((Refusal::MissingInputs, "bad-txns-inputs-missingorspent"))?;
            if !used.insert(input.previous_output) {
                return Err((Refusal::Invalid, "bad-txns-inputs-duplicate"));
            }
            value_in = value_in.checked_add(value).unwrap_or(Amount::MAX_MONEY);
        }
        let mut value_out = transaction.output.iter().map(|output| output.value);
        let value_out = value_out.try_fold(Amount::ZERO, Amount::checked_add);
        value_out
            .and_then(|value_out| value_in.checked_sub(value_out))
            .ok_or((Refusal::Invalid, "bad-txns-in-belowout"))
    }

    /// What an output holds that is not spent in a block.
    fn value(&self, outpoint: &OutPoint) -> Option<Amount> {
        let coin = self.coins.get(outpoint).or_else(|| self.made.get(outpoint));
        if let Some(coin) = coin {
            return Some(coin.output.value);
        }
        let parent = self.mempool.iter().find(|tx| tx.compute_txid() == outpoint.txid)?;
        Some(parent.output.get(usize::try_from(outpoint.vout).ok()?)?.value)
    }
}
