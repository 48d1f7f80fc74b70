use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, Txid};
use bitmesh_core::Mac;
use bitmesh_core::wire::ApiError;

use super::fake::{Lie, Side};
use super::*;

#[test]
fn a_channel_is_opened_funded_paid_through_and_closed_for_what_was_used() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let (result, told) = run(&fake, state(folder.path()), setup(&fake), 20);
    result.unwrap();
    let settled = told.settled().unwrap();
    let book = locked(&fake.book);
    let charged = book.charged().0;
    assert!(charged > 1_000_000, "traffic went beyond the first update: {charged}");
    assert_eq!(settled.settled_sat, Some(charged.div_ceil(1_000)));
    assert_eq!(settled.used_msat, charged);
    assert_eq!(settled.unseen_msat, 0);
    let rest = 50_000 - charged.div_ceil(1_000) - settled.fee_sat.unwrap();
    assert_eq!(settled.returned_sat, Some(rest));
    drop(book);
    let record = only_record(&folder);
    assert_eq!(record.phase, Phase::Over);
    assert_eq!(record.end.unwrap().txid, settled.txid);
}

#[test]
fn without_a_wallet_the_payer_shows_what_to_pay_and_waits_for_it() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let book = Arc::clone(&fake.book);
    let somebody = std::thread::spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(100));
            if let Some(channel) = locked(&book).channels.values_mut().next() {
                let outpoint = OutPoint::new(Txid::from_byte_array([3; 32]), 1);
                return channel.seen(outpoint, Amount::from_sat(40_000));
            }
        }
    });
    let (result, told) = run_with(&fake, state(folder.path()), setup(&fake), 5, false);
    somebody.join().unwrap();
    result.unwrap();
    let asked = told.0.iter().find_map(|event| match event {
        Event::Fund { uri, address, amount_sat, .. } => Some((uri, address, amount_sat)),
        _ => None,
    });
    let (uri, address, amount) = asked.unwrap();
    assert_eq!(
        (*amount, uri.starts_with(&format!("bitcoin:{address}?amount=0.0005"))),
        (50_000, true)
    );
    let settled = told.settled().unwrap();
    let all = settled.settled_sat.unwrap() + settled.returned_sat.unwrap();
    assert_eq!(all + settled.fee_sat.unwrap(), 40_000, "what was paid, not what was asked for");
}

#[test]
fn when_the_budget_is_used_up_the_channel_is_closed_by_itself() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let mut wants = setup(&fake);
    wants.limits.budget = Amount::from_sat(10_000);
    wants.step = Some(Amount::from_sat(2_000));
    let (result, told) = run(&fake, state(folder.path()), wants, u32::MAX);
    result.unwrap();
    assert!(
        told.0
            .iter()
            .any(|event| matches!(event, Event::Closing { why, .. } if why.contains("budget")))
    );
    let settled = told.settled().unwrap();
    assert!(settled.used_msat <= 10_000_000 && settled.used_msat > 9_000_000, "{settled:?}");
}

#[test]
fn a_channel_that_was_left_open_goes_on_and_what_passed_meanwhile_is_conceded() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    locked(&fake.book).confirms = true;
    {
        // The first run ends as by a power cut: its state can't be written any more.
        let mut saves = 0;
        let interrupt = move |step| {
            saves += u32::from(step == state::Step::Create);
            if saves > 9 { Err(std::io::Error::other("power cut")) } else { Ok(()) }
        };
        let cut = State::interrupted(folder.path(), Box::new(interrupt)).unwrap();
        let (result, _) = run(&fake, cut, setup(&fake), u32::MAX);
        assert!(matches!(result, Err(PayerError::State(_))), "{result:?}");
    }
    let before = locked(&fake.book).charged().0;
    for _ in 0..200 {
        locked(&fake.book).pass(10_000);
    }
    let unseen = locked(&fake.book).charged().0 - before;
    assert!(unseen > 0);
    let (result, told) = run(&fake, state(folder.path()), setup(&fake), 10);
    result.unwrap();
    assert!(told.0.iter().any(|event| matches!(event, Event::Resumed { .. })));
    let settled = told.settled().unwrap();
    assert!(settled.unseen_msat >= unseen, "{settled:?}, {unseen}");
    let charged = locked(&fake.book).charged().0;
    assert_eq!(settled.settled_sat, Some(charged.div_ceil(1_000)));
    assert_eq!(locked(&fake.book).channels.len(), 1);
}

#[test]
fn answers_that_get_lost_change_nothing() {
    for lose in [1, 2, 3] {
        let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
        let book = Arc::clone(&fake.book);
        let loser = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(150 * u64::from(lose)));
            locked(&book).lose = lose;
        });
        let (result, told) = run(&fake, state(folder.path()), setup(&fake), 12);
        loser.join().unwrap();
        result.unwrap();
        let settled = told.settled().unwrap();
        let charged = locked(&fake.book).charged().0;
        assert_eq!(settled.used_msat, charged);
    }
}

#[test]
fn a_gateway_that_is_busy_is_asked_again() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let book = Arc::clone(&fake.book);
    let clerk = std::thread::spawn(move || {
        while locked(&book).channels.values().all(|channel| channel.updates == 0) {
            std::thread::yield_now();
        }
        locked(&book).refuse = Some(ApiError::new("not_durable", "the disk is full"));
        std::thread::sleep(std::time::Duration::from_millis(700));
        locked(&book).refuse = None;
    });
    let (result, told) = run(&fake, state(folder.path()), setup(&fake), 40);
    clerk.join().unwrap();
    result.unwrap();
    assert!(told.warnings().contains("the disk is full"), "{}", told.warnings());
    assert_eq!(told.settled().unwrap().used_msat, locked(&fake.book).charged().0);
}

#[test]
fn a_gateway_that_is_gone_leaves_the_exact_commands_to_close_and_to_refund() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let book = Arc::clone(&fake.book);
    let end = std::thread::spawn(move || {
        while locked(&book).charged().0 == 0 {
            std::thread::yield_now();
        }
        locked(&book).lose = u32::MAX;
    });
    let (result, _) = run(&fake, state(folder.path()), setup(&fake), 6);
    end.join().unwrap();
    let line = result.unwrap_err().to_string();
    let record = only_record(&folder);
    let id = record.id().unwrap();
    assert!(line.contains(&format!("`bitmesh connect --gateway {} --close`", fake.url)), "{line}");
    assert!(
        line.contains(&format!("from block 1289 on by `bitmesh refund {id} --node URL`")),
        "{line}"
    );
    assert_eq!(record.phase, Phase::Closing);
    // Later it is back.
    locked(&fake.book).lose = 0;
    let close = Setup { only_close: true, ..setup(&fake) };
    let (result, told) = run(&fake, state(folder.path()), close.clone(), 1);
    result.unwrap();
    assert!(told.settled().is_some());
    assert!(matches!(locked(&fake.book).channels[&id].side, Side::Closed(_)));
    let (result, _) = run(&fake, state(folder.path()), close, 1);
    assert!(matches!(result, Err(PayerError::NothingToClose)));
}

#[test]
fn a_payer_restored_from_an_old_state_goes_on_from_the_gateways_newest_update() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let old = tempfile::tempdir().unwrap();
    let mut saves = 0;
    let (from, to) = (folder.path().to_owned(), old.path().to_owned());
    // A copy is made at the first update; then it goes on, and ends as by a power cut.
    let interrupt = move |step| {
        saves += u32::from(step == state::Step::Create);
        if saves == 8 && step == state::Step::Create {
            for entry in std::fs::read_dir(&from)? {
                let entry = entry?;
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        if saves > 14 { Err(std::io::Error::other("power cut")) } else { Ok(()) }
    };
    let cut = State::interrupted(folder.path(), Box::new(interrupt)).unwrap();
    run(&fake, cut, setup(&fake), u32::MAX).0.unwrap_err();
    let newest = only_record(&folder).newest.unwrap().change_sat;
    let restored = only_record(&old).newest.map_or(50_000, |newest| newest.change_sat);
    assert!(restored > newest, "the copy is older: {restored} {newest}");
    let (result, told) = run(&fake, state(old.path()), setup(&fake), 10);
    result.unwrap();
    let charged = locked(&fake.book).charged().0;
    assert_eq!(told.settled().unwrap().settled_sat, Some(charged.div_ceil(1_000)));
    let record = only_record(&old);
    assert!(record.newest.unwrap().change_sat <= newest, "{record:?}");
}

#[test]
fn a_payer_under_another_address_proves_whose_the_channel_is_and_goes_on() {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let book = Arc::clone(&fake.book);
    let other = Mac::new([2, 0, 0, 0, 0, 9]);
    let mover = std::thread::spawn(move || {
        for _ in 0..1_000 {
            if locked(&book).channels.values().any(|channel| channel.updates > 1) {
                locked(&book).station = other;
                return locked(&book).charged().0;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no second update within 10 s");
    });
    let (result, told) = run(&fake, state(folder.path()), setup(&fake), 120);
    let before = mover.join().unwrap();
    result.unwrap();
    let moved = |event: &Event| matches!(event, Event::Moved { mac, .. } if mac.0 == other);
    assert_eq!(told.0.iter().filter(|event| moved(event)).count(), 1, "{:?}", told.warnings());
    let charged = locked(&fake.book).charged().0;
    assert!(charged > before, "it is served under the other address");
    assert_eq!(told.settled().unwrap().used_msat, charged);
}
