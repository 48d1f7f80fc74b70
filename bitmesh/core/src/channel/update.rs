//! An update: the payer's signature that leaves itself less change than the one before.

use std::fmt;

use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Amount, OutPoint};
use serde::{Deserialize, Serialize};

use super::error::{KeyError, UpdateError};
use super::funding::Funded;
use super::keys::ChannelSecret;
use super::sighash::{update_hash_type, update_sighash};
use super::terms::is_legal_change;

/// A signature on the wire: 64 bytes (BIP 340) and the hash type (BIP 341).
pub const WIRE_SIGNATURE_BYTES: usize = 65;

/// An update that can be read. Whether it holds is [`super::Payee::verify`]'s to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Update {
    outpoint: OutPoint,
    change: Amount,
    signature: [u8; 64],
}

/// How an update travels and is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireUpdate {
    outpoint: OutPoint,
    change_sat: u64,
    signature: String,
}

impl Update {
    /// Reads what travels: the change in satoshi and 65 bytes of signature.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Malformed`], [`UpdateError::OverCapacity`] beyond all the bitcoin there is,
    /// [`UpdateError::DustChange`] or [`UpdateError::HashType`].
    pub fn from_wire(
        outpoint: OutPoint,
        change_sat: u64,
        signature: &[u8],
    ) -> Result<Self, UpdateError> {
        let change = Amount::from_sat(change_sat);
        let (got, signature) = signature.split_last().ok_or(UpdateError::Malformed)?;
        let signature = <[u8; 64]>::try_from(signature).map_err(|_| UpdateError::Malformed)?;
        if !is_legal_change(change) {
            return Err(UpdateError::DustChange(change));
        }
        let want = update_hash_type(change) as u8;
        if *got != want {
            return Err(UpdateError::HashType { got: *got, want });
        }
        Ok(Self { outpoint, change, signature })
    }

    /// Reads the signature as hex.
    ///
    /// # Errors
    ///
    /// As [`Self::from_wire`].
    pub fn from_hex(
        outpoint: OutPoint,
        change_sat: u64,
        signature: &str,
    ) -> Result<Self, UpdateError> {
        let bytes = <[u8; WIRE_SIGNATURE_BYTES]>::from_hex(signature)
            .map_err(|_| UpdateError::Malformed)?;
        Self::from_wire(outpoint, change_sat, &bytes)
    }

    /// Which channel it is for.
    #[must_use]
    pub fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// What it leaves to the payer.
    #[must_use]
    pub fn change(&self) -> Amount {
        self.change
    }

    /// The signature as it travels, hash type included.
    #[must_use]
    pub fn wire_signature(&self) -> [u8; WIRE_SIGNATURE_BYTES] {
        let mut wire = [0; WIRE_SIGNATURE_BYTES];
        for (to, from) in wire.iter_mut().zip(self.signature) {
            *to = from;
        }
        wire[WIRE_SIGNATURE_BYTES - 1] = update_hash_type(self.change) as u8;
        wire
    }

    /// Signs. Whether the payer may is [`super::Payer::sign`]'s to say.
    pub(super) fn signed(
        channel: &Funded,
        change: Amount,
        secret: &ChannelSecret,
    ) -> Result<Self, KeyError> {
        let signature = secret.sign(&update_sighash(channel, change)?);
        Ok(Self { outpoint: channel.outpoint(), change, signature })
    }

    /// Whether the update is one of this channel, signed by its payer.
    pub(super) fn check(&self, channel: &Funded) -> Result<(), UpdateError> {
        if self.outpoint != channel.outpoint() {
            return Err(UpdateError::WrongChannel(self.outpoint));
        }
        let capacity = channel.capacity();
        if self.change > capacity {
            return Err(UpdateError::OverCapacity { change: self.change, capacity });
        }
        let sighash = update_sighash(channel, self.change).map_err(|_| UpdateError::Forged)?;
        if channel.terms().payer_key.verifies(&sighash, &self.signature) {
            Ok(())
        } else {
            Err(UpdateError::Forged)
        }
    }
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Update({} leaves {} sat)", self.outpoint, self.change.to_sat())
    }
}

impl Serialize for Update {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WireUpdate {
            outpoint: self.outpoint,
            change_sat: self.change.to_sat(),
            signature: self.wire_signature().to_lower_hex_string(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Update {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireUpdate::deserialize(deserializer)?;
        Self::from_hex(wire.outpoint, wire.change_sat, &wire.signature)
            .map_err(serde::de::Error::custom)
    }
}
