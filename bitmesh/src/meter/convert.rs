//! Between the kernel's records and the core's values.

use bitmesh_common::abi::{ACCOUNT_OPEN, Account, Mac, Meter};
use bitmesh_core::{AccountImage, BootTime, Reading, Sample, Tariff, Units};

pub(super) fn account_of(image: &AccountImage) -> Account {
    Account {
        mac: image.mac.word(),
        state: ACCOUNT_OPEN,
        prepaid: image.prepaid.0,
        uplink_msat_per_mib: image.tariff.uplink_msat_per_mib,
        downlink_msat_per_mib: image.tariff.downlink_msat_per_mib,
        msat_per_minute: image.tariff.msat_per_minute,
        start_ns: image.start.0,
        low_mark: image.low_mark.0,
    }
}

pub(super) fn image_of(mac: Mac, account: &Account) -> AccountImage {
    AccountImage {
        mac,
        prepaid: Units(account.prepaid),
        tariff: Tariff {
            uplink_msat_per_mib: account.uplink_msat_per_mib,
            downlink_msat_per_mib: account.downlink_msat_per_mib,
            msat_per_minute: account.msat_per_minute,
        },
        start: BootTime(account.start_ns),
        low_mark: Units(account.low_mark),
    }
}

pub(super) fn sample_of(mac: Mac, meter: &Meter) -> Sample {
    let reading = Reading {
        uplink_bytes: meter.uplink_bytes,
        uplink_packets: meter.uplink_packets,
        downlink_bytes: meter.downlink_bytes,
        downlink_packets: meter.downlink_packets,
        spent: Units(meter.spent),
    };
    Sample { mac, reading }
}
