//! The channels of the vectors.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Network, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid, WPubkeyHash,
    WScriptHash,
};
use bitmesh_core::MilliSat;
use bitmesh_core::channel::{
    ChannelSecret, Count, Funded, MAX_KEY_INDEX, Opened, OutputScript, Payee, Payer, Role, Seed,
    Terms, Update, update_sighash, update_template,
};
use serde_json::{Value, json};

const PAYER_SEED: [u8; 32] = [0x11; 32];
const PAYEE_SEED: [u8; 32] = [0x22; 32];

/// Allows anything: the vectors are about bytes, not about what a payer accepts.
pub(crate) const PLENTY: Count = Count { counted: MilliSat(u64::MAX), step: Amount::ZERO };

/// One channel.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    index: u32,
    pub(crate) terms: Terms,
    funding: Transaction,
}

pub(crate) fn sat(sat: u64) -> Amount {
    Amount::from_sat(sat)
}

fn p2tr(byte: u8) -> OutputScript {
    let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat());
    OutputScript::new(script).unwrap()
}

/// A channel a line: P2TR throughout; P2WPKH and P2WSH; the longest refund leaf; and one more
/// for the batches.
pub(crate) fn cases() -> Vec<Case> {
    let wpkh = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([0x33; 20]));
    let wsh = ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([0x44; 32]));
    let wpkh = OutputScript::new(wpkh).unwrap();
    let wsh = OutputScript::new(wsh).unwrap();
    vec![
        Case::new("p2tr", Network::Regtest, 1, 300, (p2tr(0xaa), p2tr(0xbb)), 100_000),
        Case::new("p2wpkh", Network::Bitcoin, 7, 950_000, (wpkh, wsh), 2_500_000),
        Case::new("late", Network::Signet, MAX_KEY_INDEX, 499_999_999, (p2tr(1), p2tr(2)), 10_000),
        Case::new("spent", Network::Regtest, 2, 4_320, (p2tr(0xcc), p2tr(0xdd)), 50_000),
    ]
}

impl Case {
    fn new(
        name: &'static str,
        network: Network,
        index: u32,
        expiry_height: u32,
        (change_script, payout_script): (OutputScript, OutputScript),
        capacity: u64,
    ) -> Self {
        let key = |role| secret(network, role, index).public_key();
        let terms = Terms {
            network,
            payer_key: key(Role::Payer),
            payee_key: key(Role::Payee),
            expiry_height,
            margin_blocks: 36,
            change_script,
            payout_script,
            min_capacity: sat(10_000),
            max_capacity: sat(10_000_000),
            min_first_update: sat(1_000),
            max_close_fee: sat(5_000),
        };
        let funding = funding(&Opened::new(terms.clone()).unwrap(), capacity);
        Self { name, index, terms, funding }
    }

    pub(crate) fn opened(&self) -> Opened {
        Opened::new(self.terms.clone()).unwrap()
    }

    pub(crate) fn funded(&self) -> Funded {
        self.opened().fund(&serialize(&self.funding)).unwrap()
    }

    pub(crate) fn secret(&self, role: Role) -> ChannelSecret {
        secret(self.terms.network, role, self.index)
    }

    /// Both ends, after an update that leaves `change`, if any.
    pub(crate) fn paid(&self, change: Option<u64>) -> (Payer, Payee) {
        let mut payer = Payer::new(self.funded(), self.secret(Role::Payer), None).unwrap();
        let update = change.map(|change| {
            let credit = self.funded().credit(sat(change));
            payer.sign(credit, &PLENTY).unwrap()
        });
        let payee = Payee::new(self.funded(), self.secret(Role::Payee), update).unwrap();
        (payer, payee)
    }

    pub(crate) fn describe(&self) -> Value {
        let (opened, channel) = (self.opened(), self.funded());
        let script = opened.script();
        let capacity = channel.capacity();
        let half = capacity.to_sat() / 2;
        let updates = [half, 330, 0].map(|change| self.update(change));
        let addresses: serde_json::Map<String, Value> =
            [Network::Bitcoin, Network::Testnet, Network::Signet, Network::Regtest]
                .map(|network| {
                    let address = Address::from_script(script.script_pubkey(), network).unwrap();
                    (network.to_string(), address.to_string().into())
                })
                .into_iter()
                .collect();
        json!({
            "name": self.name,
            "payer_seed": PAYER_SEED.to_lower_hex_string(),
            "payee_seed": PAYEE_SEED.to_lower_hex_string(),
            "index": self.index,
            "terms": self.terms,
            "internal_key": script.internal_key().to_lower_hex_string(),
            "pay_leaf": script.pay_leaf(),
            "refund_leaf": script.refund_leaf(),
            "merkle_root": script.merkle_root().to_byte_array().to_lower_hex_string(),
            "output_key": script.output_key().to_lower_hex_string(),
            "pay_control_block": script.pay_control_block().to_lower_hex_string(),
            "refund_control_block": script.refund_control_block().to_lower_hex_string(),
            "script_pubkey": script.script_pubkey(),
            "address": opened.address().to_string(),
            "addresses": addresses,
            "descriptor": opened.descriptor(),
            "uri": opened.uri(capacity),
            "funding_tx": serialize_hex(&self.funding),
            "outpoint": channel.outpoint(),
            "capacity_sat": capacity.to_sat(),
            "updates": updates,
        })
    }

    fn update(&self, change: u64) -> Value {
        let channel = self.funded();
        let (payer, _) = self.paid(Some(change));
        let update: &Update = payer.newest().unwrap();
        json!({
            "change_sat": change,
            "template": serialize_hex(&update_template(&channel, sat(change))),
            "sighash": update_sighash(&channel, sat(change)).unwrap().to_lower_hex_string(),
            "signature": update.wire_signature().to_lower_hex_string(),
        })
    }
}

fn secret(network: Network, role: Role, index: u32) -> ChannelSecret {
    let seed = match role {
        Role::Payer => Seed::new(PAYER_SEED),
        Role::Payee => Seed::new(PAYEE_SEED),
    };
    seed.channel_secret(network, role, index).unwrap()
}

/// Pays to the channel in its second output.
fn funding(opened: &Opened, capacity: u64) -> Transaction {
    let spent = OutPoint::new(Txid::from_byte_array([0x55; 32]), 3);
    let output = [
        (sat(12_345), p2tr(0xee).into()),
        (sat(capacity), opened.script().script_pubkey().clone()),
        (sat(777), opened.script().script_pubkey().clone()),
    ];
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: spent, ..TxIn::default() }],
        output: output
            .map(|(value, script_pubkey)| TxOut { value, script_pubkey })
            .into_iter()
            .collect(),
    }
}
