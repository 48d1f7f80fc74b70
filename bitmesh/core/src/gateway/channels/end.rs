//! Where the money of a channel went, to the satoshi: what the chain says, and what the account's
//! ledger says of it.

use bitcoin::{Amount, Transaction, TxIn};

use super::book::Channel;
use crate::channel::Funded;
use crate::channel_record::{ChannelEnd, ChannelPhase, SpendKind};
use crate::ledger::Withdrawals;
use crate::units::{MilliSat, Units};

/// A payer's signature in a cooperative close has no hash type (SIGHASH_DEFAULT, BIP 341).
const DEFAULT_SIGNATURE_BYTES: usize = 64;

/// How the input spends the channel's output.
fn spend_kind(channel: &Funded, input: &TxIn) -> SpendKind {
    let script = channel.opened().script();
    let stack: Vec<&[u8]> = input.witness.iter().collect();
    match stack.as_slice() {
        [_] => SpendKind::Together,
        [_, payer, leaf, _] if *leaf == script.pay_leaf().as_bytes() => {
            if payer.len() == DEFAULT_SIGNATURE_BYTES {
                SpendKind::Together
            } else {
                SpendKind::Alone
            }
        }
        [_, leaf, _] if *leaf == script.refund_leaf().as_bytes() => SpendKind::Refund,
        _ => SpendKind::Other,
    }
}

/// Reads a transaction that spends the channel's output; `None` if it does not. `credit` is what
/// was paid, `charges` what of it was used, in whole satoshi, `share` what this channel paid of the
/// fee of a transaction that closes several.
pub(super) fn read_spend(
    channel: &Funded,
    credit: Amount,
    charges: Amount,
    tx: &Transaction,
    (height, share): (u32, Option<Amount>),
) -> Option<ChannelEnd> {
    let input = tx.input.iter().find(|input| input.previous_output == channel.outpoint())?;
    let (terms, capacity) = (channel.terms(), channel.capacity());
    let to = |script: &bitcoin::ScriptBuf| -> Amount {
        let outputs = tx.output.iter().filter(|output| output.script_pubkey == *script);
        outputs.map(|output| output.value).fold(Amount::ZERO, plus)
    };
    let kind = spend_kind(channel, input);
    let whole =
        less(capacity, tx.output.iter().map(|output| output.value).fold(Amount::ZERO, plus));
    let fee = share.unwrap_or(whole);
    let (payout, change) = match (kind, share) {
        // One output pays the gateway for all of the batch.
        (SpendKind::Alone, Some(share)) => {
            let change = to(terms.change_script.as_script());
            (less(less(capacity, change), share), change)
        }
        // It may go anywhere the payer likes.
        (SpendKind::Refund, _) => (Amount::ZERO, less(capacity, fee)),
        _ => (to(terms.payout_script.as_script()), to(terms.change_script.as_script())),
    };
    let unused = less(credit, charges);
    let returned = match kind {
        SpendKind::Refund => unused,
        SpendKind::Together | SpendKind::Alone => unused.min(less(change, less(capacity, credit))),
        SpendKind::Other => Amount::ZERO,
    };
    let rest = less(unused, returned);
    let payer_fee = match kind {
        SpendKind::Together => rest.min(fee).min(terms.max_close_fee),
        SpendKind::Alone if returned > Amount::ZERO => rest,
        SpendKind::Alone | SpendKind::Refund | SpendKind::Other => Amount::ZERO,
    };
    let txid = tx.compute_txid();
    Some(ChannelEnd { kind, txid, height, buried: false, payout, change, fee, returned, payer_fee })
}

fn less(a: Amount, b: Amount) -> Amount {
    a.checked_sub(b).unwrap_or(Amount::ZERO)
}

fn plus(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap_or(Amount::MAX_MONEY)
}

fn msat(amount: Amount) -> MilliSat {
    MilliSat(amount.to_sat().saturating_mul(1_000))
}

/// What is charged, in whole satoshi.
pub(super) fn whole_sat(charged: Units) -> Amount {
    Amount::from_sat(charged.ceil().0.div_ceil(1_000))
}

impl Channel {
    /// What this channel's end takes out of the account; `None` while it takes updates. What a
    /// close could not return, because it would be dust, is the gateway's on the chain, and stays
    /// on the account once the close is buried.
    pub(super) fn withdrawals(&self) -> Option<Withdrawals> {
        let frozen = self.state.frozen?;
        let charges = whole_sat(frozen.charged);
        let unused = less(Amount::from_sat(self.credit().0 / 1_000), charges);
        let rounding = msat(charges).units().saturating_sub(frozen.charged);
        let lines = Withdrawals { rounding, ..Withdrawals::default() };
        Some(match (self.state.end, self.state.phase) {
            (Some(end), _) if end.kind == SpendKind::Other => {
                Withdrawals { undone: msat(unused), ..lines }
            }
            (Some(end), _) => {
                let rest = less(less(unused, end.returned), end.payer_fee);
                let settling = if end.buried { MilliSat(0) } else { msat(rest) };
                let (returned, fees) = (msat(end.returned), msat(end.payer_fee));
                Withdrawals { settling, returned, fees, ..lines }
            }
            (None, ChannelPhase::Lost) => Withdrawals { undone: msat(unused), ..lines },
            (None, _) => Withdrawals { settling: msat(unused), ..lines },
        })
    }
}
