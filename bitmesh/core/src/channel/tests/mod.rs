//! The channel's promises, on paper: no node, no clock.

mod closes;
mod fundings;
mod messages;
mod updates;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid};

use super::*;
use crate::MilliSat;

const CAPACITY: u64 = 100_000;
const TIP: u32 = 100;
const PLENTY: Count = Count { counted: MilliSat(u64::MAX), step: Amount::from_sat(0) };

fn sat(sat: u64) -> Amount {
    Amount::from_sat(sat)
}

fn p2tr(byte: u8) -> OutputScript {
    let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat());
    OutputScript::new(script).unwrap()
}

fn secret(role: Role, index: u32) -> ChannelSecret {
    let seed = match role {
        Role::Payer => Seed::new([1; 32]),
        Role::Payee => Seed::new([2; 32]),
    };
    seed.channel_secret(Network::Regtest, role, index).unwrap()
}

fn terms(index: u32) -> Terms {
    Terms {
        network: Network::Regtest,
        payer_key: secret(Role::Payer, index).public_key(),
        payee_key: secret(Role::Payee, index).public_key(),
        expiry_height: 300,
        margin_blocks: 36,
        change_script: p2tr(0xaa),
        payout_script: p2tr(0xbb),
        min_capacity: sat(10_000),
        max_capacity: sat(1_000_000),
        min_first_update: sat(1_000),
        max_close_fee: sat(5_000),
    }
}

/// A funding transaction that pays `amounts` to the channel's address.
fn paying(opened: &Opened, amounts: &[u64]) -> Transaction {
    let outpoint = OutPoint::new(Txid::from_byte_array([9; 32]), 1);
    let elsewhere = TxOut { value: sat(5_000), script_pubkey: p2tr(0xcc).into() };
    let mut output = vec![elsewhere];
    output.extend(amounts.iter().map(|amount| TxOut {
        value: sat(*amount),
        script_pubkey: opened.script().script_pubkey().clone(),
    }));
    let input = vec![TxIn { previous_output: outpoint, ..TxIn::default() }];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}

fn funded(index: u32) -> Funded {
    let opened = Opened::new(terms(index)).unwrap();
    let raw = serialize(&paying(&opened, &[CAPACITY]));
    opened.fund(&raw).unwrap()
}

fn payer(index: u32) -> Payer {
    Payer::new(funded(index), secret(Role::Payer, index), None).unwrap()
}

fn payee(index: u32) -> Payee {
    Payee::new(funded(index), secret(Role::Payee, index), None).unwrap()
}

/// Both ends of a channel on which `credit` was paid.
fn paid(index: u32, credit: u64) -> (Payer, Payee) {
    let (mut payer, mut payee) = (payer(index), payee(index));
    if credit > 0 {
        let update = payer.sign(sat(credit), &PLENTY).unwrap();
        let verified = payee.verify(update, TIP).unwrap();
        payee.accept(verified).unwrap();
    }
    (payer, payee)
}

/// A channel that is being closed, with `charges` in satoshi.
fn closing(index: u32, credit: u64, charges: u64) -> (PayerClosing, PayeeClosing) {
    let (payer, payee) = paid(index, credit);
    (payer.close(), payee.close(MilliSat(charges * 1_000)).unwrap())
}
