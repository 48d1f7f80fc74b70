//! What every store promises of channels.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Transaction, TxIn, Txid};
use bitmesh_core::channel::message::{Agreement, Message as _, MessageSignature, Receipt};
use bitmesh_core::channel::{OutputScript, Role, Seed, Terms};
use bitmesh_core::{
    BatchId, ChannelEnd, ChannelPhase, ChannelState, ChannelUpdate, CloseTx, Countersigned, Frozen,
    Funding, Meter, MilliSat, Record, SpendKind, Tariff, Transfer, Units,
};

use super::{Durable, mac, write};

/// The channel number `who` as it was opened: nothing that can be missing is there.
#[must_use]
pub fn channel(who: u8, revision: u64) -> ChannelState {
    let agreement = agreement(who);
    ChannelState {
        id: agreement.digest().into(),
        revision,
        index: u32::from(who),
        agreement,
        payee_signature: MessageSignature([7; 64]),
        payer_signature: None,
        confirmations: 1,
        opened_height: 100,
        opened_unix_s: 1_700_000_000,
        funding: None,
        phase: ChannelPhase::Live,
        frozen: None,
        receipt: None,
        close: None,
        end: None,
    }
}

/// The same with all that can be there.
#[must_use]
pub fn ended_channel(who: u8, revision: u64, number: u64) -> ChannelState {
    let tx = Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: outpoint(), ..TxIn::default() }],
        output: Vec::new(),
    };
    let sat = Amount::from_sat(number);
    let receipt = Receipt {
        agreement: agreement(who).digest(),
        outpoint: outpoint(),
        uplink_bytes: number,
        downlink_bytes: 1,
        time_ms: 2,
        charged_msat: MilliSat(3),
        credited: sat,
        settled: sat,
        returned: Amount::ZERO,
        fee: sat,
        close_txid: tx.compute_txid(),
    };
    let [payee_signature, payer_signature] = [9, 10].map(|byte| MessageSignature([byte; 64]));
    ChannelState {
        receipt: Some(Countersigned { receipt, payee_signature, payer_signature }),
        payer_signature: Some(MessageSignature([8; 64])),
        funding: Some(Funding { outpoint: outpoint(), capacity: sat, height: Some(u32::MAX) }),
        phase: ChannelPhase::Ended,
        frozen: Some(Frozen { charged: Units(number), meter: meter(number), height: 7 }),
        end: Some(ChannelEnd {
            kind: SpendKind::Alone,
            txid: tx.compute_txid(),
            height: 9,
            buried: true,
            payout: sat,
            change: Amount::ZERO,
            fee: sat,
            returned: sat,
            payer_fee: Amount::from_sat(1),
        }),
        close: Some(CloseTx { kind: SpendKind::Together, tx, height: 8 }),
        ..channel(who, revision)
    }
}

/// An update of the channel number `who`.
#[must_use]
pub fn update(who: u8, change_sat: u64) -> ChannelUpdate {
    let signature = [u8::try_from(change_sat % 251).unwrap_or(0); 65];
    ChannelUpdate { channel: channel(who, 1).id, change_sat, signature, began: meter(5) }
}

fn meter(count: u64) -> Meter {
    Meter { uplink_bytes: count, downlink_bytes: count, time_charged: Units(count) }
}

fn outpoint() -> OutPoint {
    OutPoint::new(Txid::from_byte_array([9; 32]), u32::MAX)
}

fn agreement(who: u8) -> Agreement {
    let seed = Seed::new([who; 32]);
    let key = |role| seed.channel_secret(Network::Regtest, role, 1).expect("a key").public_key();
    let session =
        |role| seed.session_secret(Network::Regtest, role, 1).expect("a key").public_key();
    let script = |byte| {
        let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat());
        OutputScript::new(script).expect("a script")
    };
    let terms = Terms {
        network: Network::Regtest,
        payer_key: key(Role::Payer),
        payee_key: key(Role::Payee),
        expiry_height: 300,
        margin_blocks: 36,
        change_script: script(1),
        payout_script: script(2),
        min_capacity: Amount::from_sat(10_000),
        max_capacity: Amount::from_sat(100_000),
        min_first_update: Amount::from_sat(1_000),
        max_close_fee: Amount::from_sat(500),
    };
    Agreement {
        offer: sha256::Hash::hash(&[who]),
        tariff: Tariff { msat_per_minute: 1, ..Tariff::default() },
        terms,
        payer_session_key: session(Role::Payer),
        payee_session_key: session(Role::Payee),
        mac: mac(who),
    }
}

fn rows(states: &[&ChannelState]) -> Vec<Record> {
    states.iter().map(|state| Record::Channel(Box::new((*state).clone()))).collect()
}

/// Every field of a channel comes back after a crash, whether it is there or missing.
pub fn a_channel_comes_back_as_it_was<S: Durable>(mut store: S) {
    let mut expected = vec![channel(1, 1)];
    for (number, who) in [0, 1, i64::MAX as u64 + 1, u64::MAX].iter().zip(2_u8..) {
        expected.push(ended_channel(who, *number, *number));
    }
    write(&mut store, rows(&expected.iter().collect::<Vec<_>>()));
    let mut loaded = store.crash().load().channels;
    loaded.sort_by_key(|state| state.index);
    assert_eq!(loaded, expected);
}

/// A channel never goes back to an older revision, in whatever order they come.
pub fn the_newest_revision_of_a_channel_stays<S: Durable>(mut store: S) {
    let newest = i64::MAX as u64 + 2;
    for revision in [3, 1, newest, 2, 0] {
        write(&mut store, rows(&[&channel(1, revision)]));
    }
    assert_eq!(store.load().channels, [channel(1, newest)]);
    let ended = ended_channel(1, u64::MAX, 5);
    write(&mut store, rows(&[&ended]));
    write(&mut store, rows(&[&channel(1, newest)]));
    assert_eq!(store.load().channels, [ended]);
}

/// An update that leaves more change never replaces one that leaves less, nor is it one more row.
pub fn the_newest_update_of_a_channel_stays<S: Durable>(mut store: S) {
    write(&mut store, rows(&[&channel(1, 1), &channel(2, 1)]));
    for change_sat in [900, 1_000, 500, 700, 500, u64::MAX] {
        write(&mut store, vec![Record::Update(update(1, change_sat))]);
    }
    write(&mut store, vec![Record::Update(update(2, 800))]);
    let mut updates = store.crash().load().updates;
    updates.sort_by_key(|update| update.change_sat);
    assert_eq!(updates, [update(1, 500), update(2, 800)]);
}

/// An update of a channel that is not there is not written, nor what came with it.
pub fn an_update_without_its_channel_fails_its_batch<S: Durable>(mut store: S) {
    let batch = vec![Record::Channel(Box::new(channel(2, 1))), Record::Update(update(1, 5))];
    assert_eq!(store.commit(&[(BatchId(1), batch)]), [(BatchId(1), false)]);
    assert_eq!(store.load().channels, []);
}

/// A transfer stays as it was first written, in whatever order they come, and goes only with a
/// channel that never had an update.
pub fn a_transfer_is_written_once<S: Durable>(mut store: S) {
    let of = |who, number: u32, count, began| Transfer {
        channel: channel(who, 1).id,
        number,
        from: mac(who),
        to: mac(who + 1),
        kept: MilliSat(count),
        used: meter(count),
        began,
    };
    write(&mut store, rows(&[&channel(1, 1), &channel(2, 1)]));
    write(&mut store, vec![Record::Update(update(1, 5))]);
    let all = [of(1, 1, 0, None), of(1, 2, u64::MAX, Some(meter(u64::MAX))), of(2, 1, 7, None)];
    write(&mut store, all.iter().rev().copied().map(Record::Transfer).collect());
    write(&mut store, vec![Record::Transfer(of(1, 2, 3, None))]);
    let mut store = store.crash();
    let mut loaded = store.load().transfers;
    loaded.sort_by_key(|transfer| (transfer.from.octets, transfer.number));
    assert_eq!(loaded, all);
    let forget = |who| Record::Forget(channel(who, 1).id);
    write(&mut store, vec![forget(1), forget(2)]);
    assert_eq!(store.load().transfers.len(), 2, "what was paid on keeps its transfers");
    let orphan = vec![Record::Transfer(of(9, 1, 1, None))];
    assert_eq!(store.commit(&[(BatchId(1), orphan)]), [(BatchId(1), false)]);
}

/// The highest key index stays, whatever comes after it.
pub fn the_key_index_never_goes_back<S: Durable>(mut store: S) {
    assert_eq!(store.load().key_index, None, "a new store has used no key");
    for index in [0, 7, 3, (1 << 31) - 1, 8] {
        write(&mut store, vec![Record::KeyIndex(index)]);
    }
    assert_eq!(store.crash().load().key_index, Some((1 << 31) - 1));
}

/// A channel that is forgotten is gone, unless something was paid on it.
pub fn only_a_channel_without_an_update_is_forgotten<S: Durable>(mut store: S) {
    write(&mut store, rows(&[&channel(1, 1), &channel(2, 1)]));
    write(&mut store, vec![Record::Update(update(1, 5))]);
    let forget = |who| Record::Forget(channel(who, 1).id);
    write(&mut store, vec![forget(1), forget(2), forget(3)]);
    assert_eq!(store.crash().load().channels, [channel(1, 1)]);
}
