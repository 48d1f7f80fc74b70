//! Where the money went: what is read from a spend, and what the ledger makes of it.
//!
//! The rest of the gateway's promises is held in `tests/channels`, with a chain and a disk.

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, FeeRate, Network, OutPoint, ScriptBuf, Transaction, Txid, Witness};
use proptest::prelude::*;

use super::end::{read_spend, whole_sat};
use crate::channel::{
    CooperativePlan, Count, Funded, NonceSeed, Opened, OutputScript, Payee, PayeeClosing, Payer,
    PayerClosing, Role, Seed, SpendPath, Terms, refund,
};
use crate::channel_record::{ChannelEnd, SpendKind};
use crate::units::{MilliSat, Units};

const CAPACITY: u64 = 100_000;
const TIP: u32 = 100;
const PLENTY: Count = Count { counted: MilliSat(u64::MAX), step: Amount::ZERO };

fn sat(sat: u64) -> Amount {
    Amount::from_sat(sat)
}

fn seed(role: Role) -> Seed {
    Seed::new(match role {
        Role::Payer => [1; 32],
        Role::Payee => [2; 32],
    })
}

fn secret(role: Role) -> crate::channel::ChannelSecret {
    seed(role).channel_secret(Network::Regtest, role, 1).unwrap()
}

fn script(byte: u8) -> OutputScript {
    OutputScript::new(ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat())).unwrap()
}

fn funded() -> Funded {
    let terms = Terms {
        network: Network::Regtest,
        payer_key: secret(Role::Payer).public_key(),
        payee_key: secret(Role::Payee).public_key(),
        expiry_height: 300,
        margin_blocks: 36,
        change_script: script(1),
        payout_script: script(2),
        min_capacity: sat(10_000),
        max_capacity: sat(1_000_000),
        min_first_update: sat(540),
        max_close_fee: sat(700),
    };
    let outpoint = OutPoint::new(Txid::from_byte_array([9; 32]), 1);
    Opened::new(terms).unwrap().pinned(outpoint, sat(CAPACITY)).unwrap()
}

/// Both ends of a channel that is being closed.
fn closing(credit: u64, charges: u64) -> (PayerClosing, PayeeClosing) {
    let mut payer = Payer::new(funded(), secret(Role::Payer), None).unwrap();
    let mut payee = Payee::new(funded(), secret(Role::Payee), None).unwrap();
    if credit > 0 {
        let update = payer.sign(sat(credit), &PLENTY).unwrap();
        let verified = payee.verify(update, TIP).unwrap();
        payee.accept(verified).unwrap();
    }
    (payer.close(), payee.close(MilliSat(charges * 1_000)).unwrap())
}

fn together(credit: u64, charges: u64, fee: u64, path: SpendPath) -> Option<Transaction> {
    let (payer, payee) = closing(credit, charges);
    let plan = CooperativePlan::new(&funded(), path, sat(charges), sat(fee)).ok()?;
    Some(match path {
        SpendPath::KeyPath => {
            let signing = payee.start_key_path(plan.clone(), NonceSeed::new([3; 32])).unwrap();
            let nonce = signing.nonce();
            let seed = NonceSeed::new([4; 32]);
            let signed = payer.sign_key_path(&plan, &PLENTY, &nonce, seed).unwrap();
            signing.complete(&payee, &signed).unwrap()
        }
        SpendPath::PayLeaf => {
            let signed = payer.sign_pay_leaf(&plan, &PLENTY).unwrap();
            payee.complete_pay_leaf(&plan, &signed).unwrap()
        }
    })
}

fn read(tx: &Transaction, credit: u64, charges: u64) -> ChannelEnd {
    read_spend(&funded(), sat(credit), sat(charges), tx, (7, None)).unwrap()
}

#[test]
fn every_way_to_spend_is_told_by_its_witness() {
    for path in [SpendPath::KeyPath, SpendPath::PayLeaf] {
        let tx = together(5_000, 3_000, 200, path).unwrap();
        assert_eq!(read(&tx, 5_000, 3_000).kind, SpendKind::Together);
    }
    let rate = FeeRate::from_sat_per_vb_u32(1);
    let alone = closing(5_000, 3_000).1.unilateral(&script(2), rate).unwrap();
    assert_eq!(read(&alone.tx, 5_000, 3_000).kind, SpendKind::Alone);
    let outputs = [(funded().outpoint(), sat(CAPACITY))];
    let opened = funded().opened().clone();
    let back = refund(&opened, &secret(Role::Payer), &outputs, &script(5), rate).unwrap();
    let end = read(&back.tx, 5_000, 3_000);
    assert_eq!((end.kind, end.change, end.fee), (SpendKind::Refund, back.returned, back.fee));
    assert_eq!((end.returned, end.payer_fee), (sat(2_000), sat(0)));
    let mut strange = alone.tx;
    strange.input[0].witness = Witness::from_slice(&[[1; 64]; 3]);
    let end = read(&strange, 5_000, 3_000);
    assert_eq!((end.kind, end.returned), (SpendKind::Other, sat(0)));
}

#[test]
fn a_transaction_that_spends_something_else_is_no_end() {
    let mut tx = together(5_000, 3_000, 200, SpendPath::KeyPath).unwrap();
    tx.input[0].previous_output.vout += 1;
    assert_eq!(read_spend(&funded(), sat(5_000), sat(3_000), &tx, (7, None)), None);
}

#[test]
fn charges_are_rounded_up_to_the_satoshi() {
    assert_eq!(whole_sat(Units(0)), sat(0));
    assert_eq!(whole_sat(Units(1)), sat(1));
    assert_eq!(whole_sat(MilliSat(1_000).units()), sat(1));
    assert_eq!(whole_sat(MilliSat(1_001).units()), sat(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_close_together_returns_what_was_not_used_less_the_payers_fee(
        credit in 540..99_000_u64, part in 0..=1_000_u64, fee in 111..3_000_u64, leaf: bool,
    ) {
        let charges = credit * part / 1_000;
        let path = if leaf { SpendPath::PayLeaf } else { SpendPath::KeyPath };
        let Some(tx) = together(credit, charges, fee, path) else { return Ok(()) };
        let end = read(&tx, credit, charges);
        prop_assert_eq!(end.payout + end.change + end.fee, sat(CAPACITY));
        prop_assert_eq!(end.fee, sat(fee));
        let unused = sat(credit - charges);
        let kept = unused.checked_sub(end.returned + end.payer_fee).unwrap();
        prop_assert!(end.payer_fee <= sat(700).min(end.fee));
        // What stays with the gateway is dust, and it has it.
        prop_assert!(kept == Amount::ZERO || (end.change == Amount::ZERO && kept < sat(330)));
        if end.change > Amount::ZERO && end.payout > Amount::ZERO && unused >= sat(fee.min(700)) {
            prop_assert_eq!(end.returned, unused - sat(fee.min(700)));
        }
    }

    #[test]
    fn a_close_alone_pays_the_newest_update_less_what_it_returns_and_the_fee(
        credit in 2_000..99_000_u64, part in 0..=1_000_u64, rate in 1..4_u32,
    ) {
        let charges = credit * part / 1_000;
        let rate = FeeRate::from_sat_per_vb_u32(rate);
        let close = closing(credit, charges).1.unilateral(&script(2), rate).unwrap();
        let end = read(&close.tx, credit, charges);
        prop_assert_eq!(end.payout, close.payout);
        prop_assert_eq!(end.fee, close.fee);
        prop_assert_eq!(end.returned, close.returned);
        prop_assert_eq!(end.payout + end.fee + end.returned, sat(credit));
        let rest = sat(credit - charges) - end.returned;
        let share = if end.returned > Amount::ZERO { rest } else { Amount::ZERO };
        prop_assert_eq!(end.payer_fee, share);
    }
}
