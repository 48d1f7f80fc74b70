//! `bitmesh init`

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::config::Config;
use crate::seed;

/// Bytes of words that are read, at most: 24 of 8 letters, and much space.
const MAX_WORDS_BYTES: u64 = 1_024;

/// Make the seed of a gateway's keys, and show its words once
///
/// The keys of every channel follow from it. Write the words down, and keep them from others: with
/// them and a backup or a copy of the database a new machine closes every channel (`bitmesh
/// recover`). The words alone bring back
/// the keys, not which channels there were, nor the updates that payers signed.
#[derive(Args)]
pub(super) struct Init {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Make the seed again, from the words on standard input
    #[arg(long)]
    words: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.config)?;
        let Some(payments) = &config.payments else {
            let what = "the configuration sells no channels, which have keys: add [channels]";
            return Err(Failure::Told(what.to_owned()));
        };
        let path = &payments.channels.seed_file;
        if self.words {
            let mut words = String::new();
            let read = io::stdin().take(MAX_WORDS_BYTES).read_to_string(&mut words);
            read.map_err(|error| Failure::Told(format!("standard input: {error}: try again")))?;
            seed::make_again(path, &words)?;
            return output::write(&format!("{} is made again\n", path.display()));
        }
        let words = seed::make(path)?;
        let mut text = String::from("Write these words down. They are not shown again.\n\n");
        for (number, word) in words.words().enumerate() {
            let _ = writeln!(text, "{:>2}  {word}", number + 1);
        }
        output::write(&text)
    }
}
