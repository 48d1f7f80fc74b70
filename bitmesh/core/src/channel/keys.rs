//! Keys: derived hardened (BIP 32), one set for each channel, 33 bytes on the wire.
//!
//! The path is `m/16973'/coin'/index'/use'`: coin 0 on the main network and 1 elsewhere; the
//! index is new for each channel; use 0 is C, 1 is R, 2 and 3 are the session keys of payer and
//! payee, and 4 signs offers. A machine can be payer and payee under one seed.

use std::fmt;
use std::sync::OnceLock;

use bitcoin::Network;
use bitcoin::bip32::{self, ChildNumber, Xpriv};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::{All, Secp256k1};
use secp256k1::{Keypair, SecretKey, schnorr};
use serde::{Deserialize, Serialize};

use super::error::KeyError;

/// First step of every path, "BM" in ASCII; BIP 43 asks for a purpose of one's own.
const PURPOSE: u32 = 0x424d;

/// The largest index of a channel: hardened children have 31 bits (BIP 32).
pub const MAX_KEY_INDEX: u32 = (1 << 31) - 1;

/// A side of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The subscriber; owns C.
    Payer,
    /// The gateway; owns R.
    Payee,
}

/// A public key in its 33-byte form (compressed SEC 1, as BIP 327 wants it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(secp256k1::PublicKey);

impl PublicKey {
    /// Reads the 33 bytes that travel.
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`] if they are no point of the curve.
    pub fn from_bytes(bytes: &[u8; 33]) -> Result<Self, KeyError> {
        secp256k1::PublicKey::from_byte_array_compressed(*bytes)
            .map(Self)
            .map_err(|_| KeyError::Malformed)
    }

    /// The 33 bytes that travel.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 33] {
        self.0.serialize()
    }

    /// The 32 bytes that stand in a leaf (BIP 340, `bytes(P)`).
    #[must_use]
    pub fn x_only(self) -> [u8; 32] {
        self.0.x_only_public_key().0.to_byte_array()
    }

    pub(super) fn point(&self) -> &secp256k1::PublicKey {
        &self.0
    }

    /// Whether `signature` is this key's over `digest` (BIP 340).
    #[must_use]
    pub fn verifies(&self, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let signature = schnorr::Signature::from_byte_array(*signature);
        schnorr::verify(&signature, digest, &self.0.x_only_public_key().0).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_bytes().as_hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(hex: String) -> Result<Self, KeyError> {
        let bytes = <[u8; 33]>::from_hex(&hex).map_err(|_| KeyError::Malformed)?;
        Self::from_bytes(&bytes)
    }
}

/// The secret from which all keys of one machine come. Whoever has it has the money.
pub struct Seed {
    entropy: [u8; 32],
    /// Blinded by the seed. To make one takes as long as to derive a key.
    curve: Secp256k1<All>,
    /// `m/16973'/coin'`, which every key has above it.
    parents: [OnceLock<Xpriv>; 2],
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

impl Seed {
    /// Takes 32 bytes that the caller drew from the system's source of randomness.
    #[must_use]
    pub fn new(entropy: [u8; 32]) -> Self {
        // `gen_new` takes no randomness; blinding comes from the seed instead.
        let mut curve = Secp256k1::gen_new();
        curve.seeded_randomize(&entropy);
        Self { entropy, curve, parents: [const { OnceLock::new() }; 2] }
    }

    /// C of the payer or R of the payee for channel number `index`. Never use an index twice.
    ///
    /// # Errors
    ///
    /// [`KeyError::Index`] above [`MAX_KEY_INDEX`].
    pub fn channel_secret(
        &self,
        network: Network,
        role: Role,
        index: u32,
    ) -> Result<ChannelSecret, KeyError> {
        let usage = match role {
            Role::Payer => 0,
            Role::Payee => 1,
        };
        self.derive(network, index, usage).map(ChannelSecret)
    }

    /// The key that signs the messages of channel number `index`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Index`] above [`MAX_KEY_INDEX`].
    pub fn session_secret(
        &self,
        network: Network,
        role: Role,
        index: u32,
    ) -> Result<SessionSecret, KeyError> {
        let usage = match role {
            Role::Payer => 2,
            Role::Payee => 3,
        };
        self.derive(network, index, usage).map(SessionSecret)
    }

    /// The key that signs a gateway's offers, before there is a channel.
    ///
    /// # Errors
    ///
    /// None with a sound seed; [`KeyError::Derivation`] otherwise (a chance of 2⁻¹²⁷, BIP 32).
    pub fn offer_secret(&self, network: Network) -> Result<SessionSecret, KeyError> {
        self.derive(network, 0, 4).map(SessionSecret)
    }

    fn derive(&self, network: Network, index: u32, usage: u32) -> Result<Keypair, KeyError> {
        let path = hardened([index, usage]).map_err(|_| KeyError::Index(index))?;
        let leaf = self.parent(network)?.derive_priv(&self.curve, &path);
        let leaf = leaf.map_err(|_| KeyError::Derivation)?;
        let secret = SecretKey::from_secret_bytes(leaf.private_key.secret_bytes())
            .map_err(|_| KeyError::Derivation)?;
        Ok(Keypair::from_secret_key(&secret))
    }

    fn parent(&self, network: Network) -> Result<Xpriv, KeyError> {
        let coin = u32::from(network != Network::Bitcoin);
        let [main, others] = &self.parents;
        let known = if coin == 0 { main } else { others };
        if let Some(parent) = known.get() {
            return Ok(*parent);
        }
        let parent = Xpriv::new_master(network, &self.entropy)
            .and_then(|master| master.derive_priv(&self.curve, &hardened([PURPOSE, coin])?));
        let parent = parent.map_err(|_| KeyError::Derivation)?;
        Ok(*known.get_or_init(|| parent))
    }
}

fn hardened([first, second]: [u32; 2]) -> Result<[ChildNumber; 2], bip32::Error> {
    Ok([ChildNumber::from_hardened_idx(first)?, ChildNumber::from_hardened_idx(second)?])
}

/// C or R: signs transactions that this side built, and nothing else. Its signing functions are
/// private to the channel for that reason.
pub struct ChannelSecret(Keypair);

impl ChannelSecret {
    /// The half that travels.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key())
    }

    pub(super) fn keypair(&self) -> &Keypair {
        &self.0
    }

    /// BIP 340 without auxiliary randomness: the same transaction gives the same signature.
    pub(super) fn sign(&self, sighash: &[u8; 32]) -> [u8; 64] {
        schnorr::sign_no_aux_rand(sighash, &self.0).to_byte_array()
    }
}

impl fmt::Debug for ChannelSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelSecret(of {})", self.public_key())
    }
}

impl Drop for ChannelSecret {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// Signs messages ([`super::message`]), never transactions.
pub struct SessionSecret(Keypair);

impl SessionSecret {
    /// The half that travels.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key())
    }

    pub(super) fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        schnorr::sign_no_aux_rand(digest, &self.0).to_byte_array()
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionSecret(of {})", self.public_key())
    }
}

impl Drop for SessionSecret {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_role_network_and_use_has_a_key_of_its_own() {
        let seed = Seed::new([7; 32]);
        let mut keys = Vec::new();
        for network in [Network::Bitcoin, Network::Regtest] {
            keys.push(seed.offer_secret(network).unwrap().public_key());
            for role in [Role::Payer, Role::Payee] {
                for index in [0, 1, MAX_KEY_INDEX] {
                    keys.push(seed.channel_secret(network, role, index).unwrap().public_key());
                    keys.push(seed.session_secret(network, role, index).unwrap().public_key());
                }
            }
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn an_index_beyond_31_bits_is_refused() {
        let seed = Seed::new([7; 32]);
        let refused = seed.channel_secret(Network::Regtest, Role::Payer, MAX_KEY_INDEX + 1);
        assert_eq!(refused.unwrap_err(), KeyError::Index(MAX_KEY_INDEX + 1));
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let seed = Seed::new([0xab; 32]);
        let secret = seed.channel_secret(Network::Regtest, Role::Payer, 1).unwrap();
        let hex = secret.keypair().to_secret_bytes().to_lower_hex_string();
        assert!(!format!("{seed:?} {secret:?}").contains(&hex));
        assert!(!format!("{seed:?}").contains("abab"));
    }

    #[test]
    fn a_public_key_survives_the_wire_and_rubbish_does_not() {
        let key = Seed::new([1; 32]).offer_secret(Network::Regtest).unwrap().public_key();
        assert_eq!(PublicKey::from_bytes(&key.to_bytes()), Ok(key));
        assert_eq!(PublicKey::try_from(key.to_string()), Ok(key));
        assert_eq!(PublicKey::from_bytes(&[0; 33]), Err(KeyError::Malformed));
        assert_eq!(PublicKey::try_from("02zz".to_owned()), Err(KeyError::Malformed));
    }
}
