//! What sells channels: the chain, and the terms.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bitcoin::{Amount, Network};
use bitmesh_core::bargain::BargainPolicy;
use bitmesh_core::channel::{MAX_CAPACITY, MIN_FEERATE, MIN_MARGIN_BLOCKS, first_update_for};
use bitmesh_core::{EarlyCredit, Tariff};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

use super::DEFAULT_TARIFF;
use super::bargaining::{self, RawBargaining};
use super::chain::{self, Chain, ChainKind, RawChain};
use super::check::absolute;
use super::error::Wrong;
use super::payout::PayTo;

/// The longest life of a channel, in blocks: about a year.
pub const MAX_LOCK_BLOCKS: u32 = 52_560;

/// The least life of a channel beyond its margin, in blocks.
pub const MIN_OPEN_BLOCKS: u32 = 6;

/// Confirmations that can be asked for, at most: a day.
pub const MAX_CONFIRMATIONS: u32 = 144;

/// The seed's file beside the database, unless another is named.
const SEED_FILE: &str = "seed";

/// The terms on which channels are sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Where the money goes.
    pub payout: PayTo,
    /// The prices.
    pub tariff: Tariff,
    /// The least that a channel holds.
    pub min_capacity: Amount,
    /// The most that a channel holds.
    pub max_capacity: Amount,
    /// What the first update credits at least.
    pub min_first_update: Amount,
    /// How many times the present feerate the first update pays for a close.
    pub headroom: u64,
    /// The most that the payer's change pays to the fee of a cooperative close.
    pub max_close_fee: Amount,
    /// Blocks from the open to the expiry.
    pub lock_blocks: u32,
    /// Blocks before the expiry in which there is no credit.
    pub margin_blocks: u32,
    /// Confirmations of the funding before there is credit without limit.
    pub confirmations: u32,
    /// What is credited before that.
    pub early: Option<EarlyCredit>,
    /// The file with the secret of all keys.
    pub seed_file: PathBuf,
}

/// Both, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payments {
    /// Where the chain is read.
    pub chain: Chain,
    /// The terms.
    pub channels: Channels,
    /// How far prices may be bargained down; not at all without it.
    pub bargaining: Option<BargainPolicy>,
}

/// `[channels]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChannels {
    payout_address: Option<Spanned<String>>,
    payout_descriptor: Option<Spanned<String>>,
    #[serde(default = "default_tariff")]
    tariff: Spanned<String>,
    #[serde(default = "sat::<10_000>")]
    min_capacity_sat: Spanned<u64>,
    #[serde(default = "sat::<1_000_000>")]
    max_capacity_sat: Spanned<u64>,
    #[serde(default = "sat::<1_000>")]
    min_first_update_sat: Spanned<u64>,
    #[serde(default = "sat::<2>")]
    close_fee_headroom: Spanned<u64>,
    #[serde(default = "sat::<5_000>")]
    max_close_fee_sat: Spanned<u64>,
    #[serde(default = "blocks::<1_008>")]
    lock_blocks: Spanned<u32>,
    #[serde(default = "blocks::<144>")]
    margin_blocks: Spanned<u32>,
    #[serde(default = "blocks::<1>")]
    confirmations: Spanned<u32>,
    unconfirmed_sat: Option<Spanned<u64>>,
    unconfirmed_total_sat: Option<Spanned<u64>>,
    seed_file: Option<Spanned<PathBuf>>,
}

fn default_tariff() -> Spanned<String> {
    Spanned::new(0..0, DEFAULT_TARIFF.to_owned())
}

fn sat<const SAT: u64>() -> Spanned<u64> {
    Spanned::new(0..0, SAT)
}

fn blocks<const BLOCKS: u32>() -> Spanned<u32> {
    Spanned::new(0..0, BLOCKS)
}

/// Checks the tables.
pub(super) fn check(
    chain: Option<Spanned<RawChain>>,
    channels: Option<Spanned<RawChannels>>,
    bargaining: Option<Spanned<RawBargaining>>,
    tariffs: &BTreeMap<String, Tariff>,
    database: &Path,
) -> Result<Option<Payments>, Wrong> {
    match (chain, channels) {
        (None, None) => match bargaining {
            None => Ok(None),
            Some(bargaining) => {
                let what =
                    "[bargaining] is about the price of channels: add [chain] and [channels]";
                Err(Wrong::new(bargaining.span(), what.to_owned()))
            }
        },
        (Some(chain), None) => {
            let what = "[chain] is of no use alone: add [channels] with `payout_address = \"…\"`";
            Err(Wrong::new(chain.span(), what.to_owned()))
        }
        (None, Some(channels)) => {
            let what = "[channels] needs the bitcoin chain: add [chain] with `network`, and with `kind` \
                        and `url` if you have a node";
            Err(Wrong::new(channels.span(), what.to_owned()))
        }
        (Some(raw), Some(channels)) => {
            let chain = chain::check(raw, database)?;
            if let (ChainKind::Bip157(_), Some(early)) =
                (&chain.kind, &channels.get_ref().unconfirmed_sat)
            {
                let what = "`unconfirmed_sat` counts what is in no block yet, and a light client sees \
                            nothing of it: leave it out, or ask a node (`kind = \"bitcoind\"`)";
                return Err(Wrong::new(early.span(), what.to_owned()));
            }
            let terms = Terms { network: chain.network, tariffs, database };
            let channels = terms.channels(channels)?;
            let bargaining = bargaining.map(bargaining::check).transpose()?;
            Ok(Some(Payments { chain, channels, bargaining }))
        }
    }
}

/// What the terms are checked against.
struct Terms<'a> {
    network: Network,
    tariffs: &'a BTreeMap<String, Tariff>,
    database: &'a Path,
}

impl Terms<'_> {
    fn channels(&self, raw: Spanned<RawChannels>) -> Result<Channels, Wrong> {
        let table = raw.span();
        let raw = raw.into_inner();
        let (min_capacity, max_capacity, min_first_update) = capacities(&raw, &table)?;
        let (lock_blocks, margin_blocks) = life(&raw, &table)?;
        let confirmations = within(&raw.confirmations, "confirmations", 1, MAX_CONFIRMATIONS)?;
        let headroom = within(&raw.close_fee_headroom, "close_fee_headroom", 1, 100)?;
        let most = MAX_CAPACITY.to_sat();
        let max_close_fee = within(&raw.max_close_fee_sat, "max_close_fee_sat", 0, most)?;
        Ok(Channels {
            payout: self.payout(&raw, &table)?,
            tariff: self.tariff(&raw.tariff, &table)?,
            min_capacity,
            max_capacity,
            min_first_update,
            headroom,
            max_close_fee: Amount::from_sat(max_close_fee),
            lock_blocks,
            margin_blocks,
            confirmations,
            early: early(&raw, min_first_update)?,
            seed_file: match raw.seed_file {
                Some(path) => absolute("seed_file", path)?.1,
                None => self.database.with_file_name(SEED_FILE),
            },
        })
    }

    fn payout(&self, raw: &RawChannels, table: &Range<usize>) -> Result<PayTo, Wrong> {
        let (key, given, read) = match (&raw.payout_address, &raw.payout_descriptor) {
            (Some(given), None) => {
                ("payout_address", given, PayTo::address(given.get_ref(), self.network))
            }
            (None, Some(given)) => {
                ("payout_descriptor", given, PayTo::descriptor(given.get_ref(), self.network))
            }
            (Some(_), Some(given)) => {
                let what = "give either `payout_address` or `payout_descriptor`, not both";
                return Err(Wrong::new(given.span(), what.to_owned()));
            }
            (None, None) => {
                let what = "the gateway's money has nowhere to go: add `payout_address = \"…\"` or \
                            `payout_descriptor = \"…\"` to this table";
                return Err(Wrong::new(table.clone(), what.to_owned()));
            }
        };
        read.map_err(|why| Wrong::new(given.span(), format!("`{key}` {why}")))
    }

    fn tariff(&self, name: &Spanned<String>, table: &Range<usize>) -> Result<Tariff, Wrong> {
        self.tariffs.get(name.get_ref()).copied().ok_or_else(|| {
            let known = self.tariffs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let what = format!("there is no tariff `{}`: use one of {known}", name.get_ref());
            Wrong::new(place(name.span(), table), what)
        })
    }
}

fn capacities(raw: &RawChannels, table: &Range<usize>) -> Result<(Amount, Amount, Amount), Wrong> {
    let most = MAX_CAPACITY.to_sat();
    let least_first = first_update_for(MIN_FEERATE, 1).to_sat();
    let first = within(&raw.min_first_update_sat, "min_first_update_sat", least_first, most)?;
    let max = within(&raw.max_capacity_sat, "max_capacity_sat", least_first, most)?;
    let min = within(&raw.min_capacity_sat, "min_capacity_sat", least_first, most)?;
    if min < first {
        let what = format!(
            "`min_capacity_sat` ({min}) is below `min_first_update_sat` ({first}): raise it"
        );
        return Err(Wrong::new(place(raw.min_capacity_sat.span(), table), what));
    }
    if max < min {
        let what =
            format!("`max_capacity_sat` ({max}) is below `min_capacity_sat` ({min}): raise it");
        return Err(Wrong::new(place(raw.max_capacity_sat.span(), table), what));
    }
    Ok((Amount::from_sat(min), Amount::from_sat(max), Amount::from_sat(first)))
}

/// Both limits, or neither: nothing is credited before its funding is confirmed then.
fn early(raw: &RawChannels, first: Amount) -> Result<Option<EarlyCredit>, Wrong> {
    let (most, first) = (MAX_CAPACITY.to_sat(), first.to_sat());
    match (&raw.unconfirmed_sat, &raw.unconfirmed_total_sat) {
        (None, None) => Ok(None),
        (Some(channel), Some(total)) => {
            let per_channel = within(channel, "unconfirmed_sat", first, most)?;
            let in_total = within(total, "unconfirmed_total_sat", per_channel, most)?;
            let [per_channel, in_total] = [per_channel, in_total].map(Amount::from_sat);
            Ok(Some(EarlyCredit { per_channel, in_total }))
        }
        (Some(one), None) | (None, Some(one)) => {
            let what = "credit before the funding is confirmed has two limits: give both \
                        `unconfirmed_sat`, of one channel, and `unconfirmed_total_sat`, of all";
            Err(Wrong::new(one.span(), what.to_owned()))
        }
    }
}

fn life(raw: &RawChannels, table: &Range<usize>) -> Result<(u32, u32), Wrong> {
    let margin = within(&raw.margin_blocks, "margin_blocks", MIN_MARGIN_BLOCKS, MAX_LOCK_BLOCKS)?;
    let lock = within(&raw.lock_blocks, "lock_blocks", 1, MAX_LOCK_BLOCKS)?;
    if lock < margin.saturating_add(MIN_OPEN_BLOCKS) {
        let what = format!(
            "`lock_blocks` ({lock}) must be `margin_blocks` ({margin}) and at least \
             {MIN_OPEN_BLOCKS} more: raise it"
        );
        return Err(Wrong::new(place(raw.lock_blocks.span(), table), what));
    }
    Ok((lock, margin))
}

pub(super) fn within<T: Copy + PartialOrd + std::fmt::Display>(
    value: &Spanned<T>,
    key: &str,
    least: T,
    most: T,
) -> Result<T, Wrong> {
    let given = *value.get_ref();
    if given >= least && given <= most {
        return Ok(given);
    }
    let what = format!("`{key}` is {given}: give {least} to {most}");
    Err(Wrong::new(value.span(), what))
}

/// The value's place, or its table's if it was not written.
fn place(value: Range<usize>, table: &Range<usize>) -> Range<usize> {
    if value.is_empty() { table.clone() } else { value }
}
