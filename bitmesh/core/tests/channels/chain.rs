//! A chain in memory: blocks, a mempool that replaces by fee, reorganisations.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};

/// Height of the block below the first.
const BASE: u32 = 900;

/// Blocks before the evening.
const OLD_BLOCKS: usize = 100;

pub struct Chain {
    blocks: Vec<Vec<Transaction>>,
    pub mempool: Vec<Transaction>,
}

/// An output that pays a script, and its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    pub outpoint: OutPoint,
    pub value: Amount,
    pub height: Option<u32>,
}

impl Default for Chain {
    fn default() -> Self {
        Self { blocks: vec![Vec::new(); OLD_BLOCKS], mempool: Vec::new() }
    }
}

impl Chain {
    pub fn tip(&self) -> u32 {
        BASE + u32::try_from(self.blocks.len()).unwrap()
    }

    /// Blocks that can leave the chain.
    pub fn height(&self) -> u32 {
        self.tip() - BASE
    }

    fn all(&self) -> impl Iterator<Item = (Option<u32>, &Transaction)> {
        let blocks = (BASE + 1..).zip(&self.blocks);
        let confirmed =
            blocks.flat_map(|(height, block)| block.iter().map(move |tx| (Some(height), tx)));
        confirmed.chain(self.mempool.iter().map(|tx| (None, tx)))
    }

    pub fn paid(&self, script: &ScriptBuf) -> Vec<Paid> {
        let mut paid = Vec::new();
        for (height, tx) in self.all() {
            for (output, vout) in tx.output.iter().zip(0..) {
                if output.script_pubkey == *script {
                    let outpoint = OutPoint::new(tx.compute_txid(), vout);
                    paid.push(Paid { outpoint, value: output.value, height });
                }
            }
        }
        paid
    }

    pub fn spend(&self, outpoint: OutPoint) -> Option<(&Transaction, Option<u32>)> {
        let spends = |tx: &Transaction| tx.input.iter().any(|i| i.previous_output == outpoint);
        self.all().find(|(_, tx)| spends(tx)).map(|(height, tx)| (tx, height))
    }

    fn value(&self, outpoint: OutPoint) -> Option<Amount> {
        let (_, tx) = self.all().find(|(_, tx)| tx.compute_txid() == outpoint.txid)?;
        Some(tx.output.get(usize::try_from(outpoint.vout).ok()?)?.value)
    }

    /// What a transaction pays; coins from outside of this little chain are worth what they buy.
    pub fn fee(&self, tx: &Transaction) -> Option<Amount> {
        let out: Amount = tx.output.iter().map(|output| output.value).sum();
        let known: Option<Vec<Amount>> =
            tx.input.iter().map(|i| self.value(i.previous_output)).collect();
        known.map_or(Some(Amount::ZERO), |known| known.into_iter().sum::<Amount>().checked_sub(out))
    }

    /// Takes a transaction into the mempool, as a node does.
    pub fn submit(&mut self, tx: Transaction) -> Result<(), String> {
        let txid = tx.compute_txid();
        if self.all().any(|(_, known)| known.compute_txid() == txid) {
            return Ok(());
        }
        if tx.lock_time.is_block_height() && tx.lock_time.to_consensus_u32() > self.tip() {
            return Err("non-final".to_owned());
        }
        let fee = self.fee(&tx).ok_or("bad-txns-in-belowout")?;
        let mut rivals = Vec::new();
        for input in &tx.input {
            let outpoint = input.previous_output;
            if self.value(outpoint).is_none() && !is_outside(outpoint) {
                return Err("missing inputs".to_owned());
            }
            match self.spend(outpoint) {
                Some((_, Some(_))) => return Err("inputs are spent".to_owned()),
                Some((rival, None)) if self.fee(rival) >= Some(fee) => {
                    return Err("insufficient fee, rejecting replacement".to_owned());
                }
                Some((rival, None)) => rivals.push(rival.compute_txid()),
                None => {}
            }
        }
        rivals.into_iter().for_each(|rival| self.evict(rival));
        self.mempool.push(tx);
        Ok(())
    }

    /// Removes an unconfirmed transaction, and those that spend it.
    pub fn evict(&mut self, txid: Txid) {
        let mut gone = vec![txid];
        while let Some(txid) = gone.pop() {
            self.mempool.retain(|tx| tx.compute_txid() != txid);
            let spends =
                |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output.txid == txid);
            gone.extend(self.mempool.iter().filter(spends).map(Transaction::compute_txid));
        }
    }

    pub fn mine(&mut self) {
        self.blocks.push(std::mem::take(&mut self.mempool));
    }

    /// Blocks with nothing in them.
    pub fn mine_empty(&mut self, blocks: u32) {
        (0..blocks).for_each(|_| self.blocks.push(Vec::new()));
    }

    /// The newest block leaves the chain; what it confirmed is in the mempool again.
    pub fn disconnect(&mut self) {
        let mut freed = self.blocks.pop().unwrap_or_default();
        // Parents before children.
        freed.append(&mut self.mempool);
        self.mempool = freed;
    }

    /// The transactions of all blocks.
    pub fn confirmed(&self) -> BTreeMap<Txid, &Transaction> {
        self.blocks.iter().flatten().map(|tx| (tx.compute_txid(), tx)).collect()
    }
}

/// Where coins come from that nobody here follows.
pub fn outside(number: u64) -> OutPoint {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    OutPoint::new(Txid::from_byte_array(bytes), 0)
}

fn is_outside(outpoint: OutPoint) -> bool {
    outpoint.txid.to_byte_array()[8..] == [0xee; 24]
}
