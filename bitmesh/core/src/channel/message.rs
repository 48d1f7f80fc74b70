//! Messages that the sides sign with their session keys: offers, bids, agreements, resumption,
//! close requests and receipts.
//!
//! What is signed (BIP 340) is a tagged hash of parsed fields in a fixed serialisation, never of
//! bytes as they came: `SHA256(SHA256(tag) ‖ SHA256(tag) ‖ fields)` with the tag
//! `BitMesh/<purpose>/v1`. Integers are little-endian, in the order of the fields; a key has 33
//! bytes, a script one byte of length before it, an outpoint its consensus form, the network the
//! four bytes that its peers greet with.

mod bid;

use bitcoin::amount::serde::as_sat;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Amount, Network, OutPoint, Txid};
use serde::{Deserialize, Serialize};

use super::SpendPath;
use super::error::MessageError;
use super::hex::hex_newtype;
use super::keys::{PublicKey, SessionSecret};
use super::script::OutputScript;
use super::terms::Terms;
use crate::{Mac, MilliSat, Tariff};

pub use self::bid::Bid;

/// A signature over a message (BIP 340), 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageSignature(pub [u8; 64]);

/// 32 bytes that the other side drew, so that a message can't be an old one.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Challenge(pub [u8; 32]);

hex_newtype!(MessageSignature, 64);
hex_newtype!(Challenge, 32);

/// Collects the fields of a message in their fixed serialisation.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn amount(&mut self, value: Amount) -> &mut Self {
        self.u64(value.to_sat())
    }

    fn key(&mut self, key: &PublicKey) -> &mut Self {
        self.bytes(&key.to_bytes())
    }

    fn network(&mut self, network: Network) -> &mut Self {
        self.bytes(&network.magic().to_bytes())
    }

    fn outpoint(&mut self, outpoint: &OutPoint) -> &mut Self {
        self.bytes(outpoint.txid.as_byte_array()).u32(outpoint.vout)
    }

    /// The three kinds of script that there are have 22 or 34 bytes.
    fn script(&mut self, script: &OutputScript) -> &mut Self {
        let bytes = script.as_script().as_bytes();
        self.bytes(&[u8::try_from(bytes.len()).unwrap_or(u8::MAX)]).bytes(bytes)
    }

    fn tariff(&mut self, tariff: &Tariff) -> &mut Self {
        self.u64(tariff.uplink_msat_per_mib)
            .u64(tariff.downlink_msat_per_mib)
            .u64(tariff.msat_per_minute)
            .u64(tariff.uplink_kbit_per_s)
            .u64(tariff.downlink_kbit_per_s)
            .u64(tariff.throttle_kbit_per_s)
    }

    fn terms(&mut self, terms: &Terms) -> &mut Self {
        self.network(terms.network)
            .key(&terms.payer_key)
            .key(&terms.payee_key)
            .u32(terms.expiry_height)
            .u32(terms.margin_blocks)
            .script(&terms.change_script)
            .script(&terms.payout_script)
            .amount(terms.min_capacity)
            .amount(terms.max_capacity)
            .amount(terms.min_first_update)
            .amount(terms.max_close_fee)
    }
}

/// Something that is signed with a session key.
pub trait Message {
    /// `BitMesh/<purpose>/v1`.
    const TAG: &'static str;

    /// Writes the fields, in order.
    fn fields(&self, fields: &mut Fields);

    /// The fixed serialisation.
    fn serialize_fields(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        self.fields(&mut fields);
        fields.0
    }

    /// The tagged hash that is signed; also the message's name in others.
    fn digest(&self) -> sha256::Hash {
        let tag = sha256::Hash::hash(Self::TAG.as_bytes());
        let mut engine = sha256::Hash::engine();
        engine.input(tag.as_byte_array());
        engine.input(tag.as_byte_array());
        engine.input(&self.serialize_fields());
        sha256::Hash::from_engine(engine)
    }

    /// Signs.
    fn sign(&self, secret: &SessionSecret) -> MessageSignature {
        MessageSignature(secret.sign(self.digest().as_byte_array()))
    }

    /// Checks a signature.
    ///
    /// # Errors
    ///
    /// [`MessageError::Forged`] if it does not hold.
    fn verify(&self, key: &PublicKey, signature: &MessageSignature) -> Result<(), MessageError> {
        if key.verifies(self.digest().as_byte_array(), &signature.0) {
            Ok(())
        } else {
            Err(MessageError::Forged)
        }
    }
}

/// What a gateway sells, and how. Signed with its offer key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The chain.
    pub network: Network,
    /// The key that signs this offer.
    pub gateway_key: PublicKey,
    /// The prices.
    pub tariff: Tariff,
    /// The least that a channel holds.
    #[serde(rename = "min_capacity_sat", with = "as_sat")]
    pub min_capacity: Amount,
    /// The most that a channel holds.
    #[serde(rename = "max_capacity_sat", with = "as_sat")]
    pub max_capacity: Amount,
    /// What the first update credits at least.
    #[serde(rename = "min_first_update_sat", with = "as_sat")]
    pub min_first_update: Amount,
    /// The most that the payer's change pays to the fee of a cooperative close.
    #[serde(rename = "max_close_fee_sat", with = "as_sat")]
    pub max_close_fee: Amount,
    /// Blocks from the open to the expiry.
    pub lock_blocks: u32,
    /// Blocks before the expiry in which there is no credit.
    pub margin_blocks: u32,
    /// Confirmations of the funding before there is credit.
    pub confirmations: u32,
    /// Until when it holds, in seconds since 1970.
    pub valid_until_unix_s: u64,
    /// What the subscriber sent with its question.
    pub challenge: Challenge,
}

impl Message for Offer {
    const TAG: &'static str = "BitMesh/offer/v1";

    fn fields(&self, fields: &mut Fields) {
        fields
            .network(self.network)
            .key(&self.gateway_key)
            .tariff(&self.tariff)
            .amount(self.min_capacity)
            .amount(self.max_capacity)
            .amount(self.min_first_update)
            .amount(self.max_close_fee)
            .u32(self.lock_blocks)
            .u32(self.margin_blocks)
            .u32(self.confirmations)
            .u64(self.valid_until_unix_s)
            .bytes(&self.challenge.0);
    }
}

/// An offer that was taken. Signed with both session keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Digest of the offer.
    pub offer: sha256::Hash,
    /// The prices.
    pub tariff: Tariff,
    /// The terms of the channel.
    pub terms: Terms,
    /// The session key of the payer.
    pub payer_session_key: PublicKey,
    /// The session key of the payee.
    pub payee_session_key: PublicKey,
    /// The station that is served.
    #[serde(with = "mac_text")]
    pub mac: Mac,
}

impl Agreement {
    /// Checks that nothing but what was left open (keys, scripts, the expiry) differs from the
    /// offer. The expiry is for who knows the chain's height: it is to be at most
    /// [`Offer::lock_blocks`] away.
    ///
    /// # Errors
    ///
    /// [`MessageError::NotAsOffered`] names the first field that differs.
    pub fn check_against(&self, offer: &Offer) -> Result<(), MessageError> {
        let terms = &self.terms;
        let fields = [
            ("offer", self.offer == offer.digest()),
            ("network", terms.network == offer.network),
            ("tariff", self.tariff == offer.tariff),
            ("min_capacity_sat", terms.min_capacity == offer.min_capacity),
            ("max_capacity_sat", terms.max_capacity == offer.max_capacity),
            ("min_first_update_sat", terms.min_first_update == offer.min_first_update),
            ("max_close_fee_sat", terms.max_close_fee == offer.max_close_fee),
            ("margin_blocks", terms.margin_blocks == offer.margin_blocks),
        ];
        match fields.iter().find(|(_, same)| !same) {
            Some((field, _)) => Err(MessageError::NotAsOffered(field)),
            None => Ok(()),
        }
    }
}

impl Message for Agreement {
    const TAG: &'static str = "BitMesh/agreement/v1";

    fn fields(&self, fields: &mut Fields) {
        fields
            .bytes(self.offer.as_byte_array())
            .tariff(&self.tariff)
            .terms(&self.terms)
            .key(&self.payer_session_key)
            .key(&self.payee_session_key)
            .bytes(&self.mac.octets);
    }
}

/// The payer is back, perhaps with another address. Signed with its session key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Digest of the agreement.
    pub agreement: sha256::Hash,
    /// The channel.
    pub outpoint: OutPoint,
    /// The station that is served from now on.
    #[serde(with = "mac_text")]
    pub mac: Mac,
    /// What the gateway sent.
    pub challenge: Challenge,
}

impl Message for Resume {
    const TAG: &'static str = "BitMesh/resume/v1";

    fn fields(&self, fields: &mut Fields) {
        fields
            .bytes(self.agreement.as_byte_array())
            .outpoint(&self.outpoint)
            .bytes(&self.mac.octets)
            .bytes(&self.challenge.0);
    }
}

/// The payer asks for a cooperative close. Signed with its session key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {
    /// Digest of the agreement.
    pub agreement: sha256::Hash,
    /// The channel.
    pub outpoint: OutPoint,
    /// How the payer can sign.
    pub path: SpendPath,
    /// What the payer counted.
    pub counted_msat: MilliSat,
    /// What the gateway sent.
    pub challenge: Challenge,
}

impl Message for CloseRequest {
    const TAG: &'static str = "BitMesh/close/v1";

    fn fields(&self, fields: &mut Fields) {
        let path = match self.path {
            SpendPath::KeyPath => 0,
            SpendPath::PayLeaf => 1,
        };
        fields
            .bytes(self.agreement.as_byte_array())
            .outpoint(&self.outpoint)
            .bytes(&[path])
            .u64(self.counted_msat.0)
            .bytes(&self.challenge.0);
    }
}

/// The end state of a session. Signed with both session keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Digest of the agreement.
    pub agreement: sha256::Hash,
    /// The channel.
    pub outpoint: OutPoint,
    /// Billed bytes from the subscriber.
    pub uplink_bytes: u64,
    /// Billed bytes to the subscriber.
    pub downlink_bytes: u64,
    /// Billed time.
    pub time_ms: u64,
    /// What bytes and time cost.
    pub charged_msat: MilliSat,
    /// What the newest update credits.
    #[serde(rename = "credited_sat", with = "as_sat")]
    pub credited: Amount,
    /// What the close pays to the payee.
    #[serde(rename = "settled_sat", with = "as_sat")]
    pub settled: Amount,
    /// What the close returns to the payer.
    #[serde(rename = "returned_sat", with = "as_sat")]
    pub returned: Amount,
    /// What the close costs.
    #[serde(rename = "fee_sat", with = "as_sat")]
    pub fee: Amount,
    /// The close.
    pub close_txid: Txid,
}

impl Message for Receipt {
    const TAG: &'static str = "BitMesh/receipt/v1";

    fn fields(&self, fields: &mut Fields) {
        fields
            .bytes(self.agreement.as_byte_array())
            .outpoint(&self.outpoint)
            .u64(self.uplink_bytes)
            .u64(self.downlink_bytes)
            .u64(self.time_ms)
            .u64(self.charged_msat.0)
            .amount(self.credited)
            .amount(self.settled)
            .amount(self.returned)
            .amount(self.fee)
            .bytes(self.close_txid.as_byte_array());
    }
}

/// A MAC address in JSON: `02:00:00:00:00:01`.
pub(crate) mod mac_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::Mac;

    pub(crate) fn serialize<S: Serializer>(mac: &Mac, serializer: S) -> Result<S::Ok, S::Error> {
        let [a, b, c, d, e, f] = mac.octets;
        serializer.collect_str(&format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("a MAC address reads 02:00:00:00:00:01"))
    }

    fn parse(text: &str) -> Option<Mac> {
        let mut parts = text.split(':');
        let mut octets = [0; 6];
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && is_hex(part))?;
            *octet = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then(|| Mac::new(octets))
    }

    fn is_hex(text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}
