mod bob;
mod crashes;
mod fake;
mod honest;
mod lies;
mod serve;

use std::path::Path;
use std::sync::{Arc, Mutex};

use bitcoin::{Amount, Network};
use bitmesh_core::payer::Limits;
use tempfile::TempDir;

use self::bob::{FakeMeter, FakeWallet};
use self::fake::{Book, CHANGE, script};
use self::serve::Fake;
use super::*;

/// Remembers what the subscriber was told.
#[derive(Default)]
struct Told(Vec<Event>);

impl Watch for Told {
    fn tell(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}

impl Told {
    fn warnings(&self) -> String {
        let warnings = self.0.iter().filter_map(|event| match event {
            Event::Warning { message } => Some(message.as_str()),
            _ => None,
        });
        warnings.collect::<Vec<_>>().join("; ")
    }

    fn settled(&self) -> Option<&event::Settled> {
        self.0.iter().rev().find_map(|event| match event {
            Event::Closed(settled) => Some(settled),
            _ => None,
        })
    }
}

fn limits() -> Limits {
    Limits {
        network: Network::Regtest,
        max_msat_per_mib: 1_000_000,
        max_msat_per_minute: 1_000,
        budget: Amount::from_sat(50_000),
        max_first_update: Amount::from_sat(2_000),
        max_lock_blocks: 300,
    }
}

fn setup(fake: &Fake) -> Setup {
    Setup {
        bid_percent: None,
        gateway: fake.url.parse().unwrap(),
        limits: limits(),
        step: None,
        change_script: Some(script(CHANGE)),
        tip_height: Some(fake::TIP),
        only_close: false,
    }
}

/// Connects with a wallet, passes `reads` readings of traffic, then is asked to stop.
fn run(fake: &Fake, state: State, setup: Setup, reads: u32) -> (Result<(), PayerError>, Told) {
    run_with(fake, state, setup, reads, true)
}

fn run_with(
    fake: &Fake,
    state: State,
    setup: Setup,
    reads: u32,
    has_wallet: bool,
) -> (Result<(), PayerError>, Told) {
    let (mut told, stop) = (Told::default(), Stop::default());
    let meter = Box::new(FakeMeter::new(&fake.book, reads, stop.clone()));
    let wallet: Box<dyn Wallet> = Box::new(FakeWallet { book: Arc::clone(&fake.book) });
    let wallet = has_wallet.then_some(wallet);
    let station = Box::new(|| Some(locked(&fake.book).station));
    let mut agent = Agent { setup, state, wallet, meter, station, watch: &mut told, stop };
    let result = agent.run();
    drop(agent);
    (result, told)
}

fn state(folder: &Path) -> State {
    State::open(folder).unwrap()
}

fn only_record(folder: &TempDir) -> ChannelRecord {
    let mut records = state(folder.path()).channels().unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0)
}

fn locked(book: &Arc<Mutex<Book>>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap()
}
