//! MuSig2 of two keys (BIP 327): aggregation with KeySort, nonces, partial signatures.

use std::fmt;

use secp256k1::musig::{
    AggregatedNonce, KeyAggCache, SecretNonce, Session, SessionSecretRand, new_nonce_pair,
};
use secp256k1::{Scalar, musig};
use serde::{Deserialize, Serialize};

use super::error::KeyError;
use super::hex::hex_newtype;
use super::keys::{ChannelSecret, PublicKey};

/// 32 bytes from the system's source of randomness, for one secret nonce.
///
/// Neither `Clone` nor `Copy`: a nonce that signs twice gives the key away. Draw new bytes at
/// each attempt; never store them, never derive them.
pub struct NonceSeed([u8; 32]);

impl NonceSeed {
    /// Takes bytes that were drawn for this call alone.
    #[must_use]
    pub fn new(entropy: [u8; 32]) -> Self {
        Self(entropy)
    }
}

impl fmt::Debug for NonceSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceSeed(secret)")
    }
}

/// The public half of a nonce, 66 bytes (BIP 327, `pubnonce`).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicNonce(pub [u8; 66]);

/// A partial signature, 32 bytes (BIP 327, `psig`).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartialSignature(pub [u8; 32]);

hex_newtype!(PublicNonce, 66);
hex_newtype!(PartialSignature, 32);

/// The aggregate of C and R and how to sign for it.
pub(super) struct Aggregate(KeyAggCache);

impl Aggregate {
    /// KeySort, then KeyAgg (BIP 327).
    pub(super) fn of(first: &PublicKey, second: &PublicKey) -> Self {
        let mut keys = [first.point(), second.point()];
        secp256k1::sort_pubkeys(&mut keys);
        Self(KeyAggCache::new(&keys))
    }

    /// The aggregate as it is, x-only: Taproot's internal key.
    pub(super) fn x_only(&self) -> [u8; 32] {
        self.0.agg_pk().to_byte_array()
    }

    /// Adds Taproot's tweak (BIP 341, `taproot_tweak_pubkey`; BIP 327, ApplyTweak with
    /// `is_xonly_t`). Gives the output key and whether its Y is odd.
    pub(super) fn tweak(&mut self, tweak: [u8; 32]) -> Result<([u8; 32], bool), KeyError> {
        let tweak = Scalar::from_be_bytes(tweak).map_err(|_| KeyError::Derivation)?;
        let key = self.0.pubkey_xonly_tweak_add(&tweak).map_err(|_| KeyError::Derivation)?;
        let (x_only, parity) = key.x_only_public_key();
        Ok((x_only.to_byte_array(), parity == secp256k1::Parity::Odd))
    }

    /// NonceGen (BIP 327), bound to the key, the aggregate and the message.
    pub(super) fn nonce(
        &self,
        secret: &ChannelSecret,
        sighash: &[u8; 32],
        seed: NonceSeed,
    ) -> OwnNonce {
        let key = secret.keypair();
        // Mixing the secret key in keeps a weak source of randomness from being fatal at once.
        let rand = SessionSecretRand::assume_unique_per_nonce_gen(seed.0, &key.secret_key());
        let (secret, public) =
            new_nonce_pair(rand, Some(&self.0), None, key.public_key(), Some(sighash), None);
        OwnNonce { secret, public: PublicNonce(public.serialize()) }
    }

    /// Fixes both nonces and the message.
    pub(super) fn session(
        &self,
        first: &PublicNonce,
        second: &PublicNonce,
        sighash: &[u8; 32],
    ) -> Result<Signing<'_>, KeyError> {
        let parse = |nonce: &PublicNonce| {
            musig::PublicNonce::from_byte_array(&nonce.0).map_err(|_| KeyError::Malformed)
        };
        let aggregated = AggregatedNonce::new(&[&parse(first)?, &parse(second)?]);
        Ok(Signing { aggregate: self, session: Session::new(&self.0, aggregated, sighash) })
    }
}

/// A nonce of this side. Signing consumes it.
pub(super) struct OwnNonce {
    secret: SecretNonce,
    /// What the other side may see.
    pub(super) public: PublicNonce,
}

impl fmt::Debug for OwnNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnNonce({:?})", self.public)
    }
}

/// A signing session: two nonces, one message.
pub(super) struct Signing<'a> {
    aggregate: &'a Aggregate,
    session: Session,
}

impl Signing<'_> {
    /// Sign (BIP 327).
    pub(super) fn sign(&self, nonce: OwnNonce, secret: &ChannelSecret) -> PartialSignature {
        let partial = self.session.partial_sign(nonce.secret, secret.keypair(), &self.aggregate.0);
        PartialSignature(partial.serialize())
    }

    /// PartialSigVerify (BIP 327).
    pub(super) fn verifies(
        &self,
        partial: &PartialSignature,
        nonce: &PublicNonce,
        key: &PublicKey,
    ) -> bool {
        let Ok(partial) = musig::PartialSignature::from_byte_array(&partial.0) else {
            return false;
        };
        let Ok(nonce) = musig::PublicNonce::from_byte_array(&nonce.0) else {
            return false;
        };
        self.session.partial_verify(&self.aggregate.0, &partial, &nonce, *key.point())
    }

    /// PartialSigAgg (BIP 327): a BIP 340 signature of the tweaked aggregate.
    pub(super) fn aggregate(
        &self,
        first: &PartialSignature,
        second: &PartialSignature,
    ) -> Result<[u8; 64], KeyError> {
        let parse = |partial: &PartialSignature| {
            musig::PartialSignature::from_byte_array(&partial.0).map_err(|_| KeyError::Malformed)
        };
        let (first, second) = (parse(first)?, parse(second)?);
        let signature = self.session.partial_sig_agg(&[&first, &second]);
        Ok(signature.assume_valid().to_byte_array())
    }
}
