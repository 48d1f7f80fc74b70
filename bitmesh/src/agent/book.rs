//! The accounts as operators see them.

use std::collections::BTreeMap;

use bitmesh_core::{AccountView, Tariff};

use crate::control::AccountLine;
use crate::mac::MacText;

/// One account with the name of its prices.
pub(super) fn line_of(account: &AccountView, tariffs: &BTreeMap<String, Tariff>) -> AccountLine {
    let Tariff { uplink_msat_per_mib, downlink_msat_per_mib, msat_per_minute } = account.tariff;
    let name = tariffs.iter().find(|(_, tariff)| **tariff == account.tariff);
    AccountLine {
        mac: MacText(account.mac),
        open: account.open,
        tariff: name.map(|(name, _)| name.clone()),
        uplink_msat_per_mib,
        downlink_msat_per_mib,
        msat_per_minute,
        credited_msat: account.credited.0,
        charged_msat: account.credited.0.saturating_sub(account.balance.0),
        balance_msat: account.balance.0,
        uplink_bytes: account.reading.uplink_bytes,
        downlink_bytes: account.reading.downlink_bytes,
    }
}
