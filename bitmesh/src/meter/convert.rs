//! Between the kernel's records and the core's values.

use bitmesh_common::abi::{ACCOUNT_LIMITED, ACCOUNT_OPEN, Account, Mac, Meter};
use bitmesh_common::police::byte_time;
use bitmesh_core::{AccountImage, BootTime, Reading, Sample, Tariff, Units};

pub(super) fn account_of(image: &AccountImage) -> Account {
    let tariff = &image.tariff;
    Account {
        mac: image.mac.word(),
        state: if tariff.is_limited() { ACCOUNT_LIMITED } else { ACCOUNT_OPEN },
        prepaid: image.prepaid.0,
        uplink_msat_per_mib: tariff.uplink_msat_per_mib,
        downlink_msat_per_mib: tariff.downlink_msat_per_mib,
        msat_per_minute: tariff.msat_per_minute,
        start_ns: image.start.0,
        low_mark: image.low_mark.0,
        uplink_byte_time: byte_time(tariff.uplink_kbit_per_s),
        downlink_byte_time: byte_time(tariff.downlink_kbit_per_s),
        throttled_byte_time: byte_time(tariff.throttle_kbit_per_s),
        uplink_kbit_per_s: tariff.uplink_kbit_per_s,
        downlink_kbit_per_s: tariff.downlink_kbit_per_s,
        throttle_kbit_per_s: tariff.throttle_kbit_per_s,
        zero: [0; 2],
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
            uplink_kbit_per_s: account.uplink_kbit_per_s,
            downlink_kbit_per_s: account.downlink_kbit_per_s,
            throttle_kbit_per_s: account.throttle_kbit_per_s,
        },
        start: BootTime(account.start_ns),
        low_mark: Units(account.low_mark),
    }
}

/// The counts of a reading, on a meter that counts nothing else yet.
pub(super) fn meter_of(mac: Mac, reading: Reading) -> Meter {
    Meter {
        mac,
        uplink_bytes: reading.uplink_bytes,
        uplink_packets: reading.uplink_packets,
        downlink_bytes: reading.downlink_bytes,
        downlink_packets: reading.downlink_packets,
        spent: reading.spent.0,
        ..Meter::default()
    }
}

pub(super) fn sample_of(meter: &Meter) -> Sample {
    let reading = Reading {
        uplink_bytes: meter.uplink_bytes,
        uplink_packets: meter.uplink_packets,
        downlink_bytes: meter.downlink_bytes,
        downlink_packets: meter.downlink_packets,
        spent: Units(meter.spent),
    };
    Sample { mac: meter.mac, reading }
}
