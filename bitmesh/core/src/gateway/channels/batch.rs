//! Unilateral closes that fall due together, in one transaction: about 151 vB each instead of 205.
//!
//! A channel whose charges are final waits for those that are on the way to the same, no longer
//! than [`MAX_BATCH_WAIT`]. Each channel's row has the whole transaction, so any of them is enough
//! to broadcast it. A batch whose input is spent otherwise is built again without it. Late in the
//! margin each closes singly, unless a batch is on its way, which none could replace by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Transaction, Txid};

use super::alone::{build, raised};
use super::book::{Channel, Side};
use crate::channel::close_batch;
use crate::channel::{CloseError, MAX_BATCH_CHANNELS, MAX_FEERATE, MIN_FEERATE, PayeeClosing};
use crate::channel_record::{ChannelPhase, CloseTx, SpendKind};
use crate::gateway::Gateway;
use crate::wire::ChannelId;

/// How long a channel that could be closed waits for others that are about to be.
pub const MAX_BATCH_WAIT: Duration = Duration::from_secs(5);

/// With so many blocks left before the expiry, or fewer, a channel is closed singly.
pub const LATE_BLOCKS: u32 = 6;

/// What a batch took from one of its channels: its share of the fee. Shares differ by a satoshi at
/// most, and add up to the fee.
pub(super) fn share(fee: Amount, index: usize, count: usize) -> Amount {
    let (index, count) = (index as u128, count.max(1) as u128);
    let until = |index: u128| u128::from(fee.to_sat()) * index / count;
    Amount::from_sat(u64::try_from(until(index + 1) - until(index)).unwrap_or(u64::MAX))
}

impl Gateway {
    /// Has the unilateral close built, if it is time for one and there is none, together with
    /// those of others that are about to be closed.
    pub(super) fn close_alone(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        if !is_ready(channel) || has_close_alone(channel) {
            // Perhaps the others waited for this one.
            self.channels.ready.remove(&id);
        } else if self.channels.chain.tip.is_some() && self.channels.ready.insert(id) {
            self.channels.alarm(self.now.after(MAX_BATCH_WAIT), id);
        }
        if !self.channels.ready.is_empty() && !self.channels.all.values().any(is_on_the_way) {
            self.build_ready();
        }
    }

    /// Builds the closes of all channels that wait for others.
    pub(super) fn build_ready(&mut self) {
        let ready = std::mem::take(&mut self.channels.ready);
        self.build_closes(ready);
    }

    /// Builds closes for these channels, each dearer than the one before it, if there was one.
    pub(super) fn build_closes(&mut self, ids: BTreeSet<ChannelId>) {
        let mut groups: BTreeMap<Option<Txid>, BTreeSet<ChannelId>> = BTreeMap::new();
        for id in ids {
            let Some(channel) = self.channels.all.get(&id) else { continue };
            let before = channel.wanted().close.as_ref().map(|close| &close.tx);
            let group = groups.entry(before.map(Transaction::compute_txid)).or_default();
            group.insert(id);
            if let Some(tx) = before.filter(|tx| tx.input.len() > 1) {
                // A batch is raised as a whole: a part of it would not replace it.
                group.extend(self.closed_by(tx));
            }
        }
        for ids in groups.into_values() {
            self.build_group(ids.into_iter().collect());
        }
    }

    /// Channels that this transaction is to close.
    fn closed_by(&self, tx: &Transaction) -> Vec<ChannelId> {
        let spent: BTreeSet<_> = tx.input.iter().map(|input| input.previous_output).collect();
        let closed = self.channels.all.values().filter(|channel| {
            let funding = channel.wanted().funding;
            let spends = funding.is_some_and(|funding| spent.contains(&funding.outpoint));
            spends && is_ready(channel)
        });
        closed.map(|channel| channel.state.id).collect()
    }

    fn build_group(&mut self, ids: Vec<ChannelId>) {
        // Until there is a block, nobody knows how long it may take: the first one builds it.
        let Some(height) = self.channels.chain.tip else { return };
        let feerate = self.channels.chain.feerate;
        let mut singles = ids.clone();
        let mut built = Vec::new();
        if ids.len() > 1 {
            let after = self.feerate_after(&ids);
            let feerate = after.unwrap_or(feerate).max(feerate).clamp(MIN_FEERATE, MAX_FEERATE);
            // None of them could replace the batch that there is by itself.
            let late_from =
                if after.is_some() { None } else { Some(height.saturating_add(LATE_BLOCKS)) };
            built = self.batches(&self.batchable(&ids, feerate, late_from), feerate);
            singles.retain(|id| !built.iter().any(|(ids, _)| ids.contains(id)));
        }
        for id in singles {
            let Some(channel) = self.channels.all.get(&id) else { continue };
            let Side::Closing(closing) = &channel.side else { continue };
            let before = channel.wanted().close.as_ref().map(|close| &close.tx);
            built.extend(build(closing, before, feerate).map(|tx| (vec![id], tx)));
        }
        for (ids, tx) in built {
            for id in ids {
                let close = CloseTx { kind: SpendKind::Alone, tx: tx.clone(), height };
                self.want(id, |state| state.close = Some(close));
            }
        }
    }

    /// The feerate at which a batch of all these replaces the one that they have; `None` if they
    /// have none, or it holds others, too, and can't be confirmed any more.
    fn feerate_after(&self, ids: &[ChannelId]) -> Option<FeeRate> {
        let channels = || ids.iter().filter_map(|id| self.channels.all.get(id));
        let before = &channels().next()?.wanted().close.as_ref()?.tx;
        let capacity: Amount =
            channels().filter_map(|channel| channel.wanted().funding).map(|f| f.capacity).sum();
        let out: Amount = before.output.iter().map(|output| output.value).sum();
        let fee = capacity.checked_sub(out).filter(|_| before.input.len() == ids.len())?;
        Some(raised(before, fee.to_sat()))
    }

    /// Those that may go together: confirmed, each paying its own way, no two with the same change
    /// script, so that the block says what each got, and none that expires by `late_from`.
    fn batchable(
        &self,
        ids: &[ChannelId],
        feerate: FeeRate,
        late_from: Option<u32>,
    ) -> Vec<ChannelId> {
        let tip = self.channels.chain.tip.unwrap_or(0);
        let mut scripts = BTreeSet::new();
        let may = |id: &&ChannelId| {
            let Some(channel) = self.channels.all.get(id) else { return false };
            let Side::Closing(closing) = &channel.side else { return false };
            let terms = closing.channel().terms();
            let is_late = late_from.is_some_and(|late| late >= terms.expiry_height);
            channel.confirmations(tip) > 0
                && !is_late
                && closing.pays_its_way(feerate)
                && scripts.insert(terms.change_script.as_script().clone())
        };
        ids.iter().filter(may).copied().collect()
    }

    /// The transactions, of as many channels each as fit; none for one that is left over.
    fn batches(&self, ids: &[ChannelId], feerate: FeeRate) -> Vec<(Vec<ChannelId>, Transaction)> {
        let chunks = ids.chunks(MAX_BATCH_CHANNELS).filter(|chunk| chunk.len() > 1);
        chunks.flat_map(|chunk| self.batch(chunk, feerate)).collect()
    }

    fn batch(&self, ids: &[ChannelId], feerate: FeeRate) -> Vec<(Vec<ChannelId>, Transaction)> {
        let closings: Vec<(&PayeeClosing, u32)> = ids
            .iter()
            .filter_map(|id| self.channels.all.get(id))
            .filter_map(|channel| match &channel.side {
                Side::Closing(closing) => {
                    Some((&**closing, channel.confirmations(self.channels.chain.tip?)))
                }
                _ => None,
            })
            .collect();
        let Some((first, _)) = closings.first() else { return Vec::new() };
        match close_batch(&closings, &first.channel().terms().payout_script, feerate) {
            Ok(close) => vec![(ids.to_vec(), close.tx)],
            Err(CloseError::BatchTooLarge) => {
                let (first, second) = ids.split_at(ids.len() / 2);
                let both = [first, second].into_iter().filter(|half| half.len() > 1);
                both.flat_map(|half| self.batch(half, feerate)).collect()
            }
            Err(_) => Vec::new(),
        }
    }

    /// This channel's share of a batch's fee; `None` if the transaction closes it alone, or
    /// spends what the books don't know.
    pub(super) fn share_of(&self, channel: &Channel, tx: &Transaction) -> Option<Amount> {
        if tx.input.len() < 2 {
            return None;
        }
        let funding = channel.state.funding?;
        let index = tx.input.iter().position(|i| i.previous_output == funding.outpoint)?;
        let spent: BTreeSet<_> = tx.input.iter().map(|input| input.previous_output).collect();
        let fundings = self.channels.all.values().filter_map(|channel| channel.state.funding);
        let capacities: BTreeMap<_, Amount> = fundings
            .filter(|funding| spent.contains(&funding.outpoint))
            .map(|funding| (funding.outpoint, funding.capacity))
            .collect();
        let known: Option<Vec<Amount>> =
            tx.input.iter().map(|i| capacities.get(&i.previous_output).copied()).collect();
        let out: Amount = tx.output.iter().map(|output| output.value).sum();
        let fee = known?.into_iter().sum::<Amount>().checked_sub(out)?;
        Some(share(fee, index, tx.input.len()))
    }
}

fn has_close_alone(channel: &Channel) -> bool {
    channel.wanted().close.as_ref().is_some_and(|close| close.kind == SpendKind::Alone)
}

/// Whether a unilateral close can be built by now.
fn is_ready(channel: &Channel) -> bool {
    let wanted = channel.wanted();
    let is_final = channel.state.frozen.is_some() && wanted.end.is_none();
    wanted.phase == ChannelPhase::ClosingAlone && is_final
}

/// Whether it is about to be closed alone: its gate is being closed, or that is being written.
fn is_on_the_way(channel: &Channel) -> bool {
    let alone = Some(ChannelPhase::ClosingAlone);
    let freezing = channel.freezing.as_ref().map(|row| row.phase);
    channel.newest.is_some()
        && channel.state.frozen.is_none()
        && (channel.to_freeze == alone || freezing == alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_fee_add_up_and_differ_by_a_satoshi_at_most() {
        for (fee, count) in [(9_061, 60), (1, 7), (0, 3), (10_000, 64), (u64::MAX / 64, 3)] {
            let shares: Vec<u64> = (0..count)
                .map(|index| share(Amount::from_sat(fee), index, count).to_sat())
                .collect();
            assert_eq!(shares.iter().sum::<u64>(), fee);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
