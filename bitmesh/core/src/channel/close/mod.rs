//! Closing: alone by the payee, several at once, or together.

mod batch;
mod cooperative;
mod plan;
mod unilateral;

pub use batch::{MAX_BATCH_CHANNELS, close_batch};
pub use cooperative::{PayeeSigning, PayerKeyPathSignature};
pub use plan::{CooperativePlan, Settlement, SpendPath};
pub use unilateral::SignedClose;

use bitcoin::{ScriptBuf, Witness};

use super::script::FundingScript;

/// Witness of the pay leaf (BIP 342): the payee's signature, then the payer's, which
/// `OP_CHECKSIGVERIFY` takes from the top; the leaf; the control block.
fn pay_leaf_witness(script: &FundingScript, payee: &[u8], payer: &[u8]) -> Witness {
    leaf_witness(&[payee, payer], script.pay_leaf(), script.pay_control_block())
}

/// Witness of a leaf: what the script takes, the leaf, the control block (BIP 341).
pub(super) fn leaf_witness(stack: &[&[u8]], leaf: &ScriptBuf, control_block: Vec<u8>) -> Witness {
    let mut witness = Witness::from_slice(stack);
    witness.push(leaf.as_bytes());
    witness.push(control_block);
    witness
}
