//! Where the operator's money goes.

use std::fmt;

use bitcoin::NetworkKind;
use bitcoin::address::NetworkUnchecked;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, Network};
use bitmesh_core::Payout;
use bitmesh_core::channel::{KeyError, OutputScript, TermsError};
use miniscript::ForEachKey as _;
use miniscript::descriptor::{Descriptor, DescriptorPublicKey, Wildcard};

/// One address for all channels, or a new one for each.
#[derive(Clone, PartialEq, Eq)]
pub enum PayTo {
    /// The script of an address.
    Address(OutputScript),
    /// An output descriptor of public keys (BIP 380). If it is ranged, each channel has the
    /// output at the index of its keys, which is durable before it is shown and never used again.
    Descriptor(Box<Descriptor<DescriptorPublicKey>>),
}

/// Public keys let whoever has them see all payouts.
impl fmt::Debug for PayTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(script) => f.debug_tuple("Address").field(script).finish(),
            Self::Descriptor(_) => f.write_str("Descriptor(private)"),
        }
    }
}

impl PayTo {
    /// Reads an address; the error ends a sentence that begins with the key's name.
    pub(super) fn address(text: &str, network: Network) -> Result<Self, String> {
        let address: Address<NetworkUnchecked> =
            text.parse().map_err(|_| "is no bitcoin address: mend its letters".to_owned())?;
        let address = address
            .require_network(network)
            .map_err(|_| format!("is not of {network}: give one of the chain's own"))?;
        OutputScript::new(address.script_pubkey()).map(Self::Address).map_err(|_| {
            "is of an old kind: give one that starts with bc1 (or tb1, bcrt1)".to_owned()
        })
    }

    /// Reads a descriptor; the error ends a sentence that begins with the key's name. Nothing of
    /// it is repeated: it could hold a private key by mistake.
    pub(super) fn descriptor(text: &str, network: Network) -> Result<Self, String> {
        let descriptor: Descriptor<DescriptorPublicKey> = text.parse().map_err(|_| {
            "is no output descriptor of public keys: export one from the wallet, without private \
             keys, and keep its checksum"
                .to_owned()
        })?;
        descriptor
            .sanity_check()
            .map_err(|_| "can't be spent safely: export one from the wallet".to_owned())?;
        if descriptor.is_multipath() {
            return Err("has several paths: give the one for receiving alone".to_owned());
        }
        if !descriptor.for_each_key(|key| is_of(key, network)) {
            return Err(format!("has keys of another chain than {network}: give its own"));
        }
        // Asked before anything is derived: the library takes for granted that it can be.
        if !descriptor.for_each_key(is_public) {
            return Err("needs private keys: no step after the key may be hardened".to_owned());
        }
        let pay_to = Self::Descriptor(Box::new(descriptor));
        match pay_to.script(0) {
            Ok(_) => Ok(pay_to),
            Err(TermsError::OutputScript) => {
                Err("is of an old kind: give one of wpkh(…), wsh(…) or tr(…)".to_owned())
            }
            Err(error) => Err(format!("gives no output: {error}")),
        }
    }
}

/// Whether an extended key has the chain's prefix; a bare one fits any.
fn is_of(key: &DescriptorPublicKey, network: Network) -> bool {
    let kind = NetworkKind::from(network);
    match key {
        DescriptorPublicKey::Single(_) => true,
        DescriptorPublicKey::XPub(key) => key.xkey.network == kind,
        DescriptorPublicKey::MultiXPub(key) => key.xkey.network == kind,
    }
}

/// Whether all of a key's children can be had without its private key (BIP 32).
fn is_public(key: &DescriptorPublicKey) -> bool {
    match key {
        DescriptorPublicKey::Single(_) => true,
        DescriptorPublicKey::XPub(key) => {
            let is_normal = key.derivation_path.into_iter().all(|step| step.is_normal());
            is_normal && key.wildcard != Wildcard::Hardened
        }
        DescriptorPublicKey::MultiXPub(_) => false,
    }
}

impl Payout for PayTo {
    fn script(&self, index: u32) -> Result<OutputScript, TermsError> {
        match self {
            Self::Address(script) => Ok(script.clone()),
            Self::Descriptor(descriptor) => {
                let derived = descriptor
                    .at_derivation_index(index)
                    .map_err(|_| TermsError::Key(KeyError::Index(index)))?
                    .derived_descriptor(&Secp256k1::verification_only())
                    .map_err(|_| TermsError::Key(KeyError::Index(index)))?;
                OutputScript::new(derived.script_pubkey())
            }
        }
    }
}
