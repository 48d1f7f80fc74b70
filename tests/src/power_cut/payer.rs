//! The payer's state on its disk: the seed, and a file for each channel that is replaced with each
//! update.

use std::path::Path;

use anyhow::Result;
use bitcoin::{Amount, Network, ScriptBuf};
use bitmesh::payer::{ChannelRecord, Phase, State};
use bitmesh::store::conformance::channels::{channel, update};
use bitmesh_core::MilliSat;
use bitmesh_core::payer::Used;
use bitmesh_core::wire::UpdateBody;

use super::session::{Said, Session};

/// Updates of each of the two channels, in each of two lives.
const UPDATES: u64 = 40;

/// The payer.
#[derive(Debug)]
pub struct PayerSession;

impl Session for PayerSession {
    type State = Vec<ChannelRecord>;

    const NAME: &'static str = "payer";

    fn run(folder: &Path, said: Said<'_, Self::State>) -> Result<()> {
        for life in 0..2 {
            // It has a home, but no state: two folders are made.
            let mut state = State::open(&folder.join("data/bitmesh"))?;
            for number in life * UPDATES..(life + 1) * UPDATES {
                for who in 1..=2 {
                    let record = record(&state, who, number)?;
                    state.save(&record)?;
                    said(&|| Ok(state.channels()?.into_iter().map(without_seed).collect()))?;
                }
            }
        }
        Ok(())
    }

    fn restart(folder: &Path) -> Result<Self::State> {
        let state = State::open(&folder.join("data/bitmesh"))?;
        let channels = state.channels()?;
        for channel in &channels {
            // The keys follow from the seed: another seed is as bad as none.
            let key = state.seed().session_secret(NETWORK, ROLE, channel.index)?.public_key();
            anyhow::ensure!(channel.gateway_url.ends_with(&key.to_string()), "another seed");
        }
        Ok(channels.into_iter().map(without_seed).collect())
    }
}

const NETWORK: Network = Network::Regtest;
const ROLE: bitmesh_core::channel::Role = bitmesh_core::channel::Role::Payer;

/// Each run draws its own seed: what follows from it is checked, and left out of the comparison.
fn without_seed(record: ChannelRecord) -> ChannelRecord {
    ChannelRecord { gateway_url: String::new(), ..record }
}

fn record(state: &State, who: u8, number: u64) -> Result<ChannelRecord> {
    let agreed = channel(who, 1);
    let index = u32::from(who);
    let key = state.seed().session_secret(NETWORK, ROLE, index)?.public_key();
    let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[7; 32]].concat());
    let change = update(who, 200_000 - number);
    Ok(ChannelRecord {
        version: 1,
        index,
        // The record has no place for a key of ours; this one is as good.
        gateway_url: format!("http://192.0.2.1:2121/{key}"),
        gateway_key: agreed.agreement.payee_session_key,
        network: NETWORK,
        change_script: script.try_into()?,
        wanted: Amount::from_sat(200_000),
        budget: Amount::from_sat(200_000),
        phase: Phase::Open,
        agreement: Some(agreed.agreement),
        payee_signature: Some(agreed.payee_signature),
        raw_funding: None,
        funding: None,
        newest: Some(UpdateBody {
            change_sat: change.change_sat,
            signature: bitmesh_core::wire::UpdateSignature(change.signature),
        }),
        used: Used::default(),
        unseen_msat: MilliSat(number),
        end: None,
    })
}
