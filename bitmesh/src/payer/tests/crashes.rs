use std::sync::atomic::{AtomicU32, Ordering};

use super::fake::{Lie, Side};
use super::*;

/// Readings of traffic before the subscriber leaves.
const READS: u32 = 8;
/// Steps of writes in one life of a channel, at least.
const LEAST_STEPS: u32 = 40;
/// Runs side by side: they mostly wait.
const AT_ONCE: u32 = 12;

/// Runs until the power is cut before step `at` of all writes; gives whether it was.
fn cut_at(fake: &Fake, folder: &Path, at: u32) -> bool {
    let steps = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&steps);
    let interrupt = move |_| {
        // Without power nothing is written any more.
        if counted.fetch_add(1, Ordering::Relaxed) >= at {
            return Err(std::io::Error::other("power cut"));
        }
        Ok(())
    };
    match State::interrupted(folder, Box::new(interrupt)) {
        Ok(state) => drop(run(fake, state, setup(fake), READS)),
        Err(error) => assert!(error.to_string().contains("power cut"), "{error}"),
    }
    steps.load(Ordering::Relaxed) > at
}

fn comes_back(at: u32) -> bool {
    let (fake, folder) = (Fake::start(Lie::None), tempfile::tempdir().unwrap());
    let was_cut = cut_at(&fake, folder.path(), at);
    let (result, told) = run(&fake, state(folder.path()), setup(&fake), READS);
    result.unwrap_or_else(|error| panic!("cut at step {at}: {error}"));
    let book = locked(&fake.book);
    let funded = book.channels.values().filter(|channel| channel.funding.is_some());
    for channel in funded.clone() {
        assert!(matches!(channel.side, Side::Closed(_)), "cut at step {at}: a channel is left");
    }
    // A crash after the close, and before it was stored, makes a second channel.
    assert!((1..=2).contains(&funded.count()), "cut at step {at}");
    if let Some(settled) = told.settled() {
        assert!(settled.unseen_msat <= settled.used_msat, "cut at step {at}");
    }
    drop(book);
    for record in state(folder.path()).channels().unwrap() {
        assert!(
            matches!(record.phase, Phase::Over | Phase::Asked | Phase::Abandoned),
            "cut at step {at}: {record:?}"
        );
    }
    was_cut
}

#[test]
fn a_power_cut_before_any_step_of_any_write_loses_nothing_and_pays_no_funding_twice() {
    let next = AtomicU32::new(0);
    let end = AtomicU32::new(u32::MAX);
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    if !comes_back(at) {
                        end.fetch_min(at, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let steps = end.load(Ordering::Relaxed);
    assert!((LEAST_STEPS..1_000).contains(&steps), "{steps} steps were cut");
}
