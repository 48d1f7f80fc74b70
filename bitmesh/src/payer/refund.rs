//! Taking everything back after the expiry, without the gateway.

use bitcoin::{Amount, FeeRate, OutPoint, Script, Transaction, Txid};
use bitmesh_core::channel::{
    MAX_REFUND_INPUTS, OutputScript, SignedRefund, first_refund_block, refund,
};
use bitmesh_core::wire::RawTx;

use super::error::PayerError;
use super::state::{ChannelRecord, End, Phase, State};

/// A node that knows the chain. Its errors are lines for people.
#[allow(clippy::missing_errors_doc)]
pub trait Node {
    /// The height of the chain.
    fn height(&mut self) -> Result<u32, String>;

    /// The confirmed outputs that pay this script and are not spent.
    fn outputs(&mut self, script: &Script) -> Result<Vec<(OutPoint, Amount)>, String>;

    /// What a transaction pays to be confirmed soon.
    fn feerate(&mut self) -> Result<FeeRate, String>;

    /// Sends a transaction to the network.
    fn broadcast(&mut self, tx: &Transaction) -> Result<(), String>;
}

/// What became of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refunded {
    /// It can be had from this block on.
    NotBefore(u32),
    /// Nothing is at its address: it was never funded, or is closed.
    Nothing,
    /// A transaction takes everything back.
    Built(SignedRefund),
}

/// Builds the refund of one channel from what is on disk and on the chain, and sends it if
/// `broadcast`. Outputs that were paid to the address by mistake come back too.
///
/// # Errors
///
/// [`PayerError`] says why not; it can be tried again.
pub fn build_refund(
    state: &mut State,
    record: &mut ChannelRecord,
    node: &mut dyn Node,
    to: Option<&OutputScript>,
    feerate: Option<FeeRate>,
    broadcast: bool,
) -> Result<Refunded, PayerError> {
    let opened = record.opened()?;
    let expiry = opened.terms().expiry_height;
    let outputs = node.outputs(opened.script().script_pubkey()).map_err(PayerError::Node)?;
    if outputs.is_empty() {
        return Ok(Refunded::Nothing);
    }
    // A node takes a transaction for its next block (BIP 65, BIP 113).
    if node.height().map_err(PayerError::Node)? < expiry {
        return Ok(Refunded::NotBefore(first_refund_block(expiry)));
    }
    let feerate = match feerate {
        Some(feerate) => feerate,
        None => node.feerate().map_err(PayerError::Node)?,
    };
    let outputs = outputs.get(..MAX_REFUND_INPUTS).unwrap_or(&outputs);
    let to = to.unwrap_or(&record.change_script);
    let signed = refund(&opened, &record.secret(state)?, outputs, to, feerate)?;
    if broadcast {
        let txid = signed.tx.compute_txid();
        remember(state, record, &signed, txid)?;
        node.broadcast(&signed.tx).map_err(PayerError::Node)?;
    }
    Ok(Refunded::Built(signed))
}

/// The refund is on disk before it is sent. It can be made anew, with a higher fee.
fn remember(
    state: &mut State,
    record: &mut ChannelRecord,
    signed: &SignedRefund,
    txid: Txid,
) -> Result<(), PayerError> {
    let raw_tx = RawTx::new(bitcoin::consensus::serialize(&signed.tx)).ok();
    record.phase = Phase::Abandoned;
    let returned_sat = Some(signed.returned.to_sat());
    record.end = Some(End { txid, raw_tx, returned_sat });
    Ok(state.save(record)?)
}
