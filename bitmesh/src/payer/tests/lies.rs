use super::fake::{Lie, Side};
use super::*;

/// What the payer says to this lie, with the gateway as it is then.
fn told_a_lie(lie: Lie) -> (String, Told, Fake, TempDir) {
    let (fake, folder) = (Fake::start(lie), tempfile::tempdir().unwrap());
    let (result, told) = run(&fake, state(folder.path()), setup(&fake), 20);
    let said = result.err().map(|error| error.to_string()).unwrap_or_default();
    (said, told, fake, folder)
}

#[test]
fn a_lie_about_the_offer_or_the_agreement_is_refused_before_anything_is_signed_or_paid() {
    for (lie, words) in [
        (Lie::OfferSignature, "offer's signature does not hold"),
        (Lie::Address, "don't pay it"),
        (Lie::ChangeScript, "the change script"),
        (Lie::Expiry, "would end at block 499999999"),
        (Lie::Price, "tariff"),
        (Lie::PayerKey, "the payer's key"),
    ] {
        let (said, _, fake, folder) = told_a_lie(lie);
        assert!(said.contains(words), "{lie:?}: {said}");
        let book = locked(&fake.book);
        assert!(book.channels.values().all(|channel| !channel.is_countersigned), "{lie:?}");
        assert!(!book.asked.iter().any(|asked| asked == "wallet pays"), "{lie:?}");
        drop(book);
        let records = state(folder.path()).channels().unwrap();
        assert!(records.iter().all(|record| record.agreement.is_none()), "{lie:?}");
    }
}

#[test]
fn an_offer_beyond_a_limit_is_refused_and_no_channel_is_asked_for() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let mut wants = setup(&fake);
    wants.limits.max_msat_per_mib = 999_999;
    let (result, _) = run(&fake, state(folder.path()), wants, 1);
    let said = result.unwrap_err().to_string();
    assert!(said.contains("1000000") && said.contains("--max-msat-per-mib 999999"), "{said}");
    assert_eq!(locked(&fake.book).asked.len(), 1);
    assert!(state(folder.path()).channels().unwrap().is_empty());
}

#[test]
fn another_outpoint_than_was_paid_gets_no_update() {
    let (said, _, fake, folder) = told_a_lie(Lie::Outpoint);
    assert!(said.contains("nothing is signed"), "{said}");
    let book = locked(&fake.book);
    assert!(book.channels.values().all(|channel| channel.updates == 0));
    drop(book);
    assert_eq!(only_record(&folder).funding, None);
}

#[test]
fn a_newest_update_that_this_side_never_signed_is_not_taken_up() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let book = Arc::clone(&fake.book);
    let liar = std::thread::spawn(move || {
        while locked(&book).credit().0 == 0 {
            std::thread::yield_now();
        }
        locked(&book).lie = Lie::Newest;
    });
    let (result, _) = run(&fake, state(folder.path()), setup(&fake), u32::MAX);
    liar.join().unwrap();
    let said = result.unwrap_err().to_string();
    assert!(said.contains("not this payer's"), "{said}");
    assert!(only_record(&folder).newest.unwrap().change_sat > 0);
}

#[test]
fn a_count_beyond_the_own_one_is_warned_of_and_not_paid() {
    let (said, told, fake, folder) = told_a_lie(Lie::Count);
    assert_eq!(said, "", "the close is honest here");
    assert!(told.warnings().contains("this side counted"), "{}", told.warnings());
    let charged = locked(&fake.book).charged().0;
    assert_eq!(told.settled().unwrap().settled_sat, Some(charged.div_ceil(1_000)));
    assert_eq!(only_record(&folder).unseen_msat.0, 0, "nothing was conceded");
}

#[test]
fn a_close_that_charges_or_pays_otherwise_is_not_signed() {
    for (lie, words) in
        [(Lie::Charges, "own count and one step allow"), (Lie::Payout, "not signed")]
    {
        let (said, _, fake, folder) = told_a_lie(lie);
        assert!(said.contains(words) && said.contains("bitmesh refund"), "{lie:?}: {said}");
        let book = locked(&fake.book);
        assert!(book.channels.values().all(|channel| !matches!(channel.side, Side::Closed(_))));
        assert!(!book.asked.iter().any(|asked| asked.ends_with("complete")), "{lie:?}");
        drop(book);
        assert_eq!(only_record(&folder).phase, Phase::Closing);
    }
}

#[test]
fn a_close_that_is_not_the_one_that_was_signed_is_noticed_and_the_refund_stays_possible() {
    for lie in [Lie::ClosedTxid, Lie::ClosedWitness] {
        let (said, told, _, folder) = told_a_lie(lie);
        assert!(said.contains("another close"), "{lie:?}: {said}");
        assert!(told.settled().is_none(), "{lie:?}");
        assert_ne!(only_record(&folder).phase, Phase::Over, "{lie:?}");
    }
}

#[test]
fn a_false_receipt_is_warned_of_and_the_close_counts() {
    let (said, told, _, folder) = told_a_lie(Lie::Receipt);
    assert_eq!(said, "");
    assert!(told.warnings().contains("receipt does not fit"), "{}", told.warnings());
    assert!(told.settled().is_some());
    assert_eq!(only_record(&folder).phase, Phase::Over);
}
