//! The funding output: `tr(musig(C,R), {and_v(v:pk(C),pk(R)), and_v(v:pk(C),after(T))})`.

use std::fmt;

use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::key::TweakedPublicKey;
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TapNodeHash, TapTweakHash};
use bitcoin::{Address, Network, ScriptBuf};
use serde::{Deserialize, Serialize};

use super::error::{KeyError, TermsError};
use super::keys::PublicKey;
use super::musig::Aggregate;

/// The script tree of a channel and all that spending from it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingScript {
    internal_key: [u8; 32],
    output_key: [u8; 32],
    output_key_is_odd: bool,
    pay_leaf: ScriptBuf,
    refund_leaf: ScriptBuf,
    script_pubkey: ScriptBuf,
}

impl FundingScript {
    /// Builds the tree for C, R and the expiry T.
    pub(super) fn new(payer: &PublicKey, payee: &PublicKey, expiry: u32) -> Result<Self, KeyError> {
        let pay_leaf = pay_leaf(payer, payee);
        let refund_leaf = refund_leaf(payer, expiry);
        let root = TapNodeHash::from_node_hashes(leaf_node(&pay_leaf), leaf_node(&refund_leaf));
        let mut aggregate = Aggregate::of(payer, payee);
        let internal_key = aggregate.x_only();
        let (output_key, output_key_is_odd) = aggregate.tweak(tap_tweak(&internal_key, root)?)?;
        let tweaked = bitcoin::XOnlyPublicKey::from_slice(&output_key)
            .map(TweakedPublicKey::dangerous_assume_tweaked)
            .map_err(|_| KeyError::Derivation)?;
        let script_pubkey = ScriptBuf::new_p2tr_tweaked(tweaked);
        Ok(Self {
            internal_key,
            output_key,
            output_key_is_odd,
            pay_leaf,
            refund_leaf,
            script_pubkey,
        })
    }

    /// The MuSig2 aggregate of C and R, x-only, before the tweak.
    #[must_use]
    pub fn internal_key(&self) -> &[u8; 32] {
        &self.internal_key
    }

    /// The key in the output, x-only.
    #[must_use]
    pub fn output_key(&self) -> &[u8; 32] {
        &self.output_key
    }

    /// `<C> OP_CHECKSIGVERIFY <R> OP_CHECKSIG`, 68 bytes.
    #[must_use]
    pub fn pay_leaf(&self) -> &ScriptBuf {
        &self.pay_leaf
    }

    /// `<C> OP_CHECKSIGVERIFY <T> OP_CHECKLOCKTIMEVERIFY`, 36 to 40 bytes.
    #[must_use]
    pub fn refund_leaf(&self) -> &ScriptBuf {
        &self.refund_leaf
    }

    /// What the funding transaction pays to.
    #[must_use]
    pub fn script_pubkey(&self) -> &ScriptBuf {
        &self.script_pubkey
    }

    /// Root of the tree (BIP 341).
    #[must_use]
    pub fn merkle_root(&self) -> TapNodeHash {
        TapNodeHash::from_node_hashes(leaf_node(&self.pay_leaf), leaf_node(&self.refund_leaf))
    }

    /// Control block of the pay leaf (BIP 341), 65 bytes.
    #[must_use]
    pub fn pay_control_block(&self) -> Vec<u8> {
        self.control_block(&self.refund_leaf)
    }

    /// Control block of the refund leaf (BIP 341), 65 bytes.
    #[must_use]
    pub fn refund_control_block(&self) -> Vec<u8> {
        self.control_block(&self.pay_leaf)
    }

    fn control_block(&self, sibling: &ScriptBuf) -> Vec<u8> {
        let head = LeafVersion::TapScript.to_consensus() | u8::from(self.output_key_is_odd);
        let mut block = vec![head];
        block.extend_from_slice(&self.internal_key);
        block.extend_from_slice(leaf_node(sibling).as_byte_array());
        block
    }

    /// The address on `network` (BIP 350).
    pub(super) fn address(&self, network: Network) -> Result<Address, KeyError> {
        Address::from_script(&self.script_pubkey, network).map_err(|_| KeyError::Derivation)
    }

    /// The aggregate, tweaked, ready to sign for the key path.
    pub(super) fn aggregate(
        &self,
        payer: &PublicKey,
        payee: &PublicKey,
    ) -> Result<Aggregate, KeyError> {
        let mut aggregate = Aggregate::of(payer, payee);
        aggregate.tweak(tap_tweak(&self.internal_key, self.merkle_root())?)?;
        Ok(aggregate)
    }

    /// The output as a descriptor (BIP 380, 386, 379) with the aggregate as a plain key, without
    /// checksum: wallets that don't know `musig()` can read it too.
    #[must_use]
    pub fn descriptor(&self, payer: &PublicKey, payee: &PublicKey, expiry: u32) -> String {
        let (c, r) = (payer.x_only(), payee.x_only());
        let (c, r) = (c.as_hex(), r.as_hex());
        let key = self.internal_key.as_hex();
        format!("tr({key},{{and_v(v:pk({c}),pk({r})),and_v(v:pk({c}),after({expiry}))}})")
    }
}

fn pay_leaf(payer: &PublicKey, payee: &PublicKey) -> ScriptBuf {
    ScriptBuf::builder()
        .push_slice(payer.x_only())
        .push_opcode(OP_CHECKSIGVERIFY)
        .push_slice(payee.x_only())
        .push_opcode(OP_CHECKSIG)
        .into_script()
}

fn refund_leaf(payer: &PublicKey, expiry: u32) -> ScriptBuf {
    ScriptBuf::builder()
        .push_slice(payer.x_only())
        .push_opcode(OP_CHECKSIGVERIFY)
        .push_int(i64::from(expiry))
        .push_opcode(OP_CLTV)
        .into_script()
}

fn leaf_node(script: &ScriptBuf) -> TapNodeHash {
    TapNodeHash::from(TapLeafHash::from_script(script, LeafVersion::TapScript))
}

fn tap_tweak(internal_key: &[u8; 32], root: TapNodeHash) -> Result<[u8; 32], KeyError> {
    let internal =
        bitcoin::XOnlyPublicKey::from_slice(internal_key).map_err(|_| KeyError::Derivation)?;
    Ok(TapTweakHash::from_key_and_tweak(internal, Some(root)).to_byte_array())
}

/// A script that change, payouts and refunds may go to: P2WPKH, P2WSH or P2TR. With others a
/// close might not be relayed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ScriptBuf", into = "ScriptBuf")]
pub struct OutputScript(ScriptBuf);

impl OutputScript {
    /// Takes the script of an output.
    ///
    /// # Errors
    ///
    /// [`TermsError::OutputScript`] for any other kind.
    pub fn new(script: ScriptBuf) -> Result<Self, TermsError> {
        if script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr() {
            Ok(Self(script))
        } else {
            Err(TermsError::OutputScript)
        }
    }

    /// The script itself.
    #[must_use]
    pub fn as_script(&self) -> &ScriptBuf {
        &self.0
    }
}

impl fmt::Debug for OutputScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputScript({})", self.0.as_bytes().as_hex())
    }
}

impl TryFrom<ScriptBuf> for OutputScript {
    type Error = TermsError;

    fn try_from(script: ScriptBuf) -> Result<Self, TermsError> {
        Self::new(script)
    }
}

impl From<OutputScript> for ScriptBuf {
    fn from(script: OutputScript) -> Self {
        script.0
    }
}
