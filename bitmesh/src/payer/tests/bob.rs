//! What Bob brings: coins, and traffic with its count.

use std::sync::{Arc, Mutex};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Address, Amount, OutPoint, Transaction, TxIn, TxOut, Txid};
use bitmesh_common::abi::Tally;
use bitmesh_core::MilliSat;
use bitmesh_core::channel::OutputScript;

use super::fake::{Book, CHANGE, TIP, script};
use crate::payer::counter::CounterError;
use crate::payer::state::random;
use crate::payer::{Meter, Stop, Wallet};

/// What passes between two readings of the meter, if it is paid for.
const BYTES_PER_READ: u64 = 400_000;

/// A wallet with enough coins, whose transactions differ each time.
pub(super) struct FakeWallet {
    pub(super) book: Arc<Mutex<Book>>,
}

impl Wallet for FakeWallet {
    fn height(&mut self) -> Result<u32, String> {
        Ok(TIP)
    }

    fn change_script(&mut self) -> Result<OutputScript, String> {
        Ok(script(CHANGE))
    }

    fn pay(&mut self, to: &Address, amount: Amount) -> Result<Vec<u8>, String> {
        self.book.lock().unwrap().asked.push("wallet pays".to_owned());
        let coin: [u8; 32] = random().map_err(|e| e.to_string())?;
        let previous_output = OutPoint::new(Txid::from_byte_array(coin), 0);
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output, ..TxIn::default() }],
            output: vec![TxOut { value: amount, script_pubkey: to.script_pubkey() }],
        };
        Ok(bitcoin::consensus::serialize(&tx))
    }

    fn broadcast(&mut self, _: &Transaction) -> Result<(), String> {
        Ok(())
    }
}

/// Traffic and its count: some bytes at each reading. After so many readings with credit it asks
/// to stop.
pub(super) struct FakeMeter {
    book: Arc<Mutex<Book>>,
    left: u32,
    stop: Stop,
    before: u64,
}

impl FakeMeter {
    pub(super) fn new(book: &Arc<Mutex<Book>>, reads: u32, stop: Stop) -> Self {
        // A new counter starts from zero.
        let before = book.lock().unwrap().passed.downlink_bytes;
        Self { book: Arc::clone(book), left: reads, stop, before }
    }
}

impl Meter for FakeMeter {
    fn read(&mut self) -> Result<Tally, CounterError> {
        let mut book = self.book.lock().unwrap();
        if book.credit() > MilliSat(0) {
            book.pass(BYTES_PER_READ);
            self.left = self.left.saturating_sub(1);
            if self.left == 0 && self.stop.asked() == 0 {
                self.stop.ask();
            }
        }
        let downlink_bytes = book.passed.downlink_bytes - self.before;
        Ok(Tally { downlink_bytes, ..Tally::default() })
    }
}
