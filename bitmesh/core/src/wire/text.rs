//! Bytes that have a form of their own as text: hex.

use std::fmt;
use std::str::FromStr;

use bitcoin::hashes::sha256;
use bitcoin::hex::{DisplayHex, FromHex};
use serde::{Deserialize, Serialize};

use crate::channel::{MAX_RAW_TX_BYTES, WIRE_SIGNATURE_BYTES};

/// Gives a type that prints itself as text, and reads itself from it, its form in JSON.
macro_rules! text_in_json {
    ($name:ident) => {
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = <$name as FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}

/// The name of a channel: the digest of its agreement. 32 bytes, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelId(pub [u8; 32]);

impl From<sha256::Hash> for ChannelId {
    fn from(digest: sha256::Hash) -> Self {
        Self(bitcoin::hashes::Hash::to_byte_array(digest))
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hex())
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChannelId {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        <[u8; 32]>::from_hex(text).map(Self).map_err(|_| WireError::ChannelId)
    }
}

text_in_json!(ChannelId);

/// What a text can't be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No name of a channel.
    #[error("a channel is named by 64 hexadecimal digits: see `bitmesh channels`")]
    ChannelId,
    /// No signature of an update.
    #[error("an update's signature has {WIRE_SIGNATURE_BYTES} bytes: send them as hex")]
    UpdateSignature,
    /// No transaction, or too long a one.
    #[error("a raw transaction is hex of at most {MAX_RAW_TX_BYTES} bytes")]
    RawTx,
}

/// An update's signature with its hash type, 65 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpdateSignature(pub [u8; WIRE_SIGNATURE_BYTES]);

impl fmt::Display for UpdateSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hex())
    }
}

impl fmt::Debug for UpdateSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UpdateSignature {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        <[u8; WIRE_SIGNATURE_BYTES]>::from_hex(text)
            .map(Self)
            .map_err(|_| WireError::UpdateSignature)
    }
}

text_in_json!(UpdateSignature);

/// A transaction as it is broadcast (BIP 144), at most [`MAX_RAW_TX_BYTES`] long.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawTx(Vec<u8>);

impl RawTx {
    /// Takes the bytes of a transaction. Whether they are one is not looked at.
    ///
    /// # Errors
    ///
    /// [`WireError::RawTx`] if there are too many.
    pub fn new(bytes: Vec<u8>) -> Result<Self, WireError> {
        if bytes.len() > MAX_RAW_TX_BYTES { Err(WireError::RawTx) } else { Ok(Self(bytes)) }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RawTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hex())
    }
}

impl fmt::Debug for RawTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RawTx {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        if text.len() > 2 * MAX_RAW_TX_BYTES {
            return Err(WireError::RawTx);
        }
        Vec::from_hex(text).map_err(|_| WireError::RawTx).and_then(Self::new)
    }
}

text_in_json!(RawTx);
