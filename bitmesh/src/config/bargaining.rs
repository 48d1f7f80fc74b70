//! How far prices may be bargained down.
//!
//! ```toml
//! [bargaining]
//! floor_percent = 60
//! step_percent = 10
//! rounds = 4
//! capacity_kbit_per_s = 50000
//! busy_percent = 50
//!
//! [[bargaining.hours]]
//! from = "18:00"
//! until = "23:00"
//! floor_percent = 90
//! ```

use bitmesh_core::bargain::{BargainPolicy, DemandPolicy, Hours, MAX_HOURS, MAX_ROUNDS};
use serde::Deserialize;
use toml::Spanned;

use super::error::Wrong;
use super::payments::within;

/// What a connection carries, at most, in kbit/s: 1 Tbit/s.
const MAX_CAPACITY_KBIT_PER_S: u64 = 1_000_000_000;

/// `[bargaining]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBargaining {
    floor_percent: Spanned<u32>,
    #[serde(default = "number::<10>")]
    step_percent: Spanned<u32>,
    #[serde(default = "number::<4>")]
    rounds: Spanned<u32>,
    capacity_kbit_per_s: Option<Spanned<u64>>,
    #[serde(default = "number::<50>")]
    busy_percent: Spanned<u32>,
    #[serde(default)]
    hours: Vec<Spanned<RawHours>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHours {
    from: Spanned<String>,
    until: Spanned<String>,
    floor_percent: Spanned<u32>,
}

fn number<const NUMBER: u32>() -> Spanned<u32> {
    Spanned::new(0..0, NUMBER)
}

/// Checks the table.
pub(super) fn check(raw: Spanned<RawBargaining>) -> Result<BargainPolicy, Wrong> {
    let raw = raw.into_inner();
    let busy_percent = within(&raw.busy_percent, "busy_percent", 0, 99)?;
    let demand = raw.capacity_kbit_per_s.map(|capacity| {
        let key = "capacity_kbit_per_s";
        let capacity_kbit_per_s = within(&capacity, key, 1, MAX_CAPACITY_KBIT_PER_S)?;
        Ok(DemandPolicy { capacity_kbit_per_s, busy_percent })
    });
    Ok(BargainPolicy {
        floor_percent: within(&raw.floor_percent, "floor_percent", 1, 100)?,
        step_percent: within(&raw.step_percent, "step_percent", 1, 100)?,
        rounds: within(&raw.rounds, "rounds", 1, MAX_ROUNDS)?,
        demand: demand.transpose()?,
        hours: hours(raw.hours)?,
    })
}

fn hours(raw: Vec<Spanned<RawHours>>) -> Result<Vec<Hours>, Wrong> {
    if let Some(more) = raw.get(MAX_HOURS) {
        let what = format!("more than {MAX_HOURS} times of day: remove some");
        return Err(Wrong::new(more.span(), what));
    }
    let each = raw.into_iter().map(|hours| {
        let RawHours { from, until, floor_percent } = hours.into_inner();
        Ok(Hours {
            from_minute: minute("from", &from)?,
            until_minute: minute("until", &until)?,
            floor_percent: within(&floor_percent, "floor_percent", 1, 100)?,
        })
    });
    each.collect()
}

fn minute(key: &str, time: &Spanned<String>) -> Result<u16, Wrong> {
    read_minute(time.get_ref()).ok_or_else(|| {
        let what = format!("`{key}` is `{}`: give a time of day as \"18:00\"", time.get_ref());
        Wrong::new(time.span(), what)
    })
}

fn read_minute(time: &str) -> Option<u16> {
    let (hour, minute) = time.split_once(':')?;
    let two = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two(hour) || !two(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}
