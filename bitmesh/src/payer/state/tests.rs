use std::os::unix::fs::PermissionsExt as _;

use bitcoin::{Amount, Network};
use bitmesh_core::MilliSat;
use bitmesh_core::payer::Used;

use super::*;

fn record(state: &State, index: u32, budget: u64) -> ChannelRecord {
    let key = state.seed().offer_secret(Network::Regtest).unwrap().public_key();
    let script = [&[0x51, 0x20][..], &[7; 32]].concat();
    ChannelRecord {
        version: ChannelRecord::VERSION,
        index,
        gateway_url: "http://192.0.2.1:2121".to_owned(),
        gateway_key: key,
        network: Network::Regtest,
        change_script: bitcoin::ScriptBuf::from_bytes(script).try_into().unwrap(),
        wanted: Amount::from_sat(budget),
        budget: Amount::from_sat(budget),
        phase: Phase::Asked,
        agreement: None,
        payee_signature: None,
        raw_funding: None,
        funding: None,
        newest: None,
        used: Used::default(),
        unseen_msat: MilliSat(0),
        end: None,
    }
}

#[test]
fn a_record_is_read_as_it_was_written_and_the_seed_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/state");
    let mut state = State::open(&path).unwrap();
    let written = record(&state, 5, 10);
    state.save(&written).unwrap();
    drop(state);
    let state = State::open(&path).unwrap();
    assert_eq!(state.channels().unwrap(), std::slice::from_ref(&written));
    assert_eq!(record(&state, 5, 10).gateway_key, written.gateway_key);
}

#[test]
fn files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut state = State::open(&path).unwrap();
    let written = record(&state, 5, 10);
    state.save(&written).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn two_agents_can_not_have_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let _state = State::open(folder.path()).unwrap();
    assert!(matches!(State::open(folder.path()), Err(StateError::Locked(_))));
}

#[test]
fn a_write_that_is_cut_off_at_any_step_leaves_the_old_record_or_the_new_one() {
    for at in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(folder.path()).unwrap();
        let (old, new) = (record(&state, 1, 10), record(&state, 1, 20));
        state.save(&old).unwrap();
        drop(state);
        let mut step = 0;
        let interrupt = move |_| {
            step += 1;
            if step > at { Err(io::Error::other("power cut")) } else { Ok(()) }
        };
        let mut state = State::interrupted(folder.path(), Box::new(interrupt)).unwrap();
        state.save(&new).unwrap_err();
        drop(state);
        let mut state = State::open(folder.path()).unwrap();
        let found = state.channels().unwrap();
        assert!(found == [old.clone()] || found == [new.clone()], "step {at}");
        assert_eq!(found == [new.clone()], at == 4, "renamed before the directory is synced");
        state.save(&new).unwrap();
        assert_eq!(state.channels().unwrap(), [new]);
    }
}

#[test]
fn what_is_damaged_is_named_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::open(folder.path()).unwrap();
    let written = record(&state, 3, 10);
    state.save(&written).unwrap();
    let file = folder.path().join("channel-0000000003.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for damage in [
        text.replace("\"version\": 1", "\"version\": 2"),
        text.replace("\"index\": 3", "\"index\": 4"),
        text.replace("\"phase\"", "\"phrase\""),
        text[..text.len() / 2].to_owned(),
    ] {
        std::fs::write(&file, damage).unwrap();
        let error = state.channels().unwrap_err().to_string();
        assert!(error.contains("channel-0000000003.json") && error.contains("do not delete"));
    }
    drop(state);
    std::fs::remove_file(folder.path().join("seed")).unwrap();
    let missing = State::open(folder.path()).err().unwrap();
    assert!(matches!(missing, StateError::Seed(SeedError::Missing(_))), "{missing}");
}

#[test]
fn an_index_is_never_one_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::open(folder.path()).unwrap();
    for _ in 0..20 {
        let index = state.new_index().unwrap();
        assert!(state.channels().unwrap().iter().all(|record| record.index != index));
        let taken = record(&state, index, 10);
        state.save(&taken).unwrap();
    }
}
