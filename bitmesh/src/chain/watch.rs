//! What is looked for in blocks and mempool.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Script, ScriptBuf, Transaction, Txid};

use super::event::TxMatch;
use super::{MAX_OUTPOINTS_PER_SCRIPT, MAX_WATCHED_OUTPOINTS, MAX_WATCHED_SCRIPTS};

/// The watch list has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many channels are watched on the chain: close some first")]
pub struct Full;

/// Scripts and outpoints of interest. Ordered, so that a simulation replays.
#[derive(Clone, Debug, Default)]
pub struct WatchList {
    /// Each with the outpoints that were seen to pay it.
    scripts: BTreeMap<ScriptBuf, BTreeSet<OutPoint>>,
    /// Each with the script that it pays, if that was said.
    named: BTreeMap<OutPoint, Option<ScriptBuf>>,
    /// The outpoints of all scripts.
    derived: BTreeSet<OutPoint>,
}

impl WatchList {
    /// Adds a script.
    ///
    /// # Errors
    ///
    /// [`Full`] beyond [`MAX_WATCHED_SCRIPTS`].
    pub fn add_script(&mut self, script: ScriptBuf) -> Result<(), Full> {
        if self.scripts.contains_key(&script) {
            return Ok(());
        }
        if self.scripts.len() >= MAX_WATCHED_SCRIPTS {
            return Err(Full);
        }
        self.scripts.insert(script, BTreeSet::new());
        Ok(())
    }

    /// Adds an outpoint.
    ///
    /// # Errors
    ///
    /// [`Full`] beyond [`MAX_WATCHED_OUTPOINTS`].
    pub fn add_outpoint(&mut self, outpoint: OutPoint) -> Result<(), Full> {
        self.add_named(outpoint, None)
    }

    /// Adds an outpoint that pays this script.
    ///
    /// # Errors
    ///
    /// [`Full`] beyond [`MAX_WATCHED_OUTPOINTS`].
    pub fn add_coin(&mut self, outpoint: OutPoint, script: &Script) -> Result<(), Full> {
        self.add_named(outpoint, Some(script.to_owned()))
    }

    fn add_named(&mut self, outpoint: OutPoint, script: Option<ScriptBuf>) -> Result<(), Full> {
        if self.named.len() >= MAX_WATCHED_OUTPOINTS && !self.named.contains_key(&outpoint) {
            return Err(Full);
        }
        let known = self.named.entry(outpoint).or_default();
        if script.is_some() {
            *known = script;
        }
        Ok(())
    }

    /// Every script that a filter must be asked for: those that are watched, and those of the
    /// outpoints. `None` if some outpoint's script was not said: then a filter can't tell.
    #[must_use]
    pub fn filter_scripts(&self) -> Option<BTreeSet<&Script>> {
        let watched = self.scripts.keys().map(|script| Some(script.as_script()));
        watched.chain(self.named.values().map(Option::as_deref)).collect()
    }

    /// Forgets a script and the outpoints that pay it.
    pub fn remove_script(&mut self, script: &Script) {
        for outpoint in self.scripts.remove(script).unwrap_or_default() {
            self.derived.remove(&outpoint);
        }
    }

    /// Forgets an outpoint that was added by name.
    pub fn remove_outpoint(&mut self, outpoint: &OutPoint) {
        self.named.remove(outpoint);
    }

    /// Whether a script is watched, so that strangers' transactions matter.
    #[must_use]
    pub fn has_scripts(&self) -> bool {
        !self.scripts.is_empty()
    }

    /// All scripts.
    pub fn scripts(&self) -> impl Iterator<Item = &Script> {
        self.scripts.keys().map(ScriptBuf::as_script)
    }

    /// All outpoints, named or derived, each once.
    pub fn outpoints(&self) -> impl Iterator<Item = OutPoint> + '_ {
        let named = self.named.keys().filter(|outpoint| !self.derived.contains(*outpoint));
        named.chain(&self.derived).copied()
    }

    /// What in this transaction is of interest, if anything. Its outputs that pay a watched
    /// script are watched from then on.
    pub fn matches(&mut self, transaction: &Transaction) -> Option<TxMatch> {
        // Hashing a transaction costs more than looking through it.
        let of_interest = transaction
            .output
            .iter()
            .any(|output| self.scripts.contains_key(output.script_pubkey.as_script()))
            || transaction.input.iter().any(|input| self.is_watched(&input.previous_output));
        if !of_interest {
            return None;
        }
        let txid = transaction.compute_txid();
        let spends = numbered(&transaction.input)
            .filter(|(_, input)| self.is_watched(&input.previous_output))
            .map(|(index, _)| index)
            .collect();
        let pays = self.payments(txid, transaction);
        Some(TxMatch { txid, transaction: transaction.clone(), pays, spends })
    }

    fn payments(&mut self, txid: Txid, transaction: &Transaction) -> Vec<u32> {
        let mut pays = Vec::new();
        for (vout, output) in numbered(&transaction.output) {
            let Some(outpoints) = self.scripts.get_mut(output.script_pubkey.as_script()) else {
                continue;
            };
            pays.push(vout);
            let outpoint = OutPoint::new(txid, vout);
            if outpoints.len() < MAX_OUTPOINTS_PER_SCRIPT {
                outpoints.insert(outpoint);
                self.derived.insert(outpoint);
            }
        }
        pays
    }

    fn is_watched(&self, outpoint: &OutPoint) -> bool {
        self.named.contains_key(outpoint) || self.derived.contains(outpoint)
    }
}

fn numbered<T>(items: &[T]) -> impl Iterator<Item = (u32, &T)> {
    (0..=u32::MAX).zip(items)
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash as _;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, TxIn, TxOut};

    use super::*;

    fn script(number: u32) -> ScriptBuf {
        ScriptBuf::from_bytes(number.to_le_bytes().to_vec())
    }

    fn transaction(from: Vec<OutPoint>, to: Vec<ScriptBuf>) -> Transaction {
        let input = |previous_output| TxIn { previous_output, ..TxIn::default() };
        let output = |script_pubkey| TxOut { value: Amount::from_sat(1_000), script_pubkey };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: from.into_iter().map(input).collect(),
            output: to.into_iter().map(output).collect(),
        }
    }

    fn outpoint(number: u32) -> OutPoint {
        OutPoint::new(Txid::all_zeros(), number)
    }

    #[test]
    fn what_pays_a_watched_script_is_itself_watched_until_the_script_is_forgotten() {
        let mut list = WatchList::default();
        list.add_script(script(1)).unwrap();
        let funding = transaction(vec![outpoint(0)], vec![script(9), script(1)]);
        let found = list.matches(&funding).unwrap();
        assert_eq!((found.pays.as_slice(), found.spends.as_slice()), (&[1][..], &[][..]));
        let spend = transaction(vec![outpoint(5), OutPoint::new(found.txid, 1)], vec![]);
        assert_eq!(list.matches(&spend).unwrap().spends, [1]);
        list.remove_script(&script(1));
        assert_eq!(list.matches(&spend), None);
    }

    #[test]
    fn an_outpoint_watched_by_name_stays_when_its_script_is_forgotten() {
        let mut list = WatchList::default();
        list.add_script(script(1)).unwrap();
        let found = list.matches(&transaction(vec![], vec![script(1)])).unwrap();
        let paid = OutPoint::new(found.txid, 0);
        list.add_outpoint(paid).unwrap();
        list.remove_script(&script(1));
        assert!(list.matches(&transaction(vec![paid], vec![])).is_some());
        list.remove_outpoint(&paid);
        assert_eq!(list.matches(&transaction(vec![paid], vec![])), None);
    }

    #[test]
    fn a_filter_is_asked_for_every_script_and_none_will_do_if_one_is_unknown() {
        let mut list = WatchList::default();
        assert_eq!(list.filter_scripts().unwrap().len(), 0);
        list.add_script(script(1)).unwrap();
        list.add_coin(outpoint(0), &script(1)).unwrap();
        list.add_coin(outpoint(1), &script(2)).unwrap();
        let asked = list.filter_scripts().unwrap();
        assert_eq!(asked, BTreeSet::from([script(1).as_script(), script(2).as_script()]));
        list.add_outpoint(outpoint(1)).unwrap();
        assert!(list.filter_scripts().is_some(), "what is known is not forgotten");
        list.add_outpoint(outpoint(2)).unwrap();
        assert_eq!(list.filter_scripts(), None);
        list.remove_outpoint(&outpoint(2));
        assert!(list.filter_scripts().is_some());
    }

    #[test]
    fn the_list_has_its_limits_and_dust_does_not_fill_it() {
        let mut list = WatchList::default();
        for number in 0..u32::try_from(MAX_WATCHED_SCRIPTS).unwrap() {
            list.add_script(script(number)).unwrap();
            list.add_outpoint(outpoint(number)).unwrap();
        }
        assert_eq!(list.add_script(script(u32::MAX)), Err(Full));
        assert_eq!(list.add_outpoint(outpoint(u32::MAX)), Err(Full));
        assert_eq!(list.add_script(script(1)), Ok(()));
        assert_eq!(list.add_outpoint(outpoint(1)), Ok(()));
        let dust = transaction(vec![], vec![script(7); 100]);
        assert_eq!(list.matches(&dust).unwrap().pays.len(), 100);
        assert_eq!(list.derived.len(), MAX_OUTPOINTS_PER_SCRIPT);
    }
}
