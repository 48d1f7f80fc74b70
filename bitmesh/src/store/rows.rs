//! From records to rows and back.

use bitmesh_common::abi::Mac;
use bitmesh_core::{
    AccountState, BootTime, Credit, CreditId, CreditKind, Epoch, MilliSat, Reading, Record,
    Snapshot, Tariff, Units, Usage,
};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, Row, named_params};

use super::u64_value::Stored;
use super::{channel_rows, transfer_rows};

const ADD_CREDIT: &str = "
    INSERT INTO credits (id, mac, kind, amount_msat) VALUES (:id, :mac, :kind, :amount)
    ON CONFLICT (id) DO NOTHING";

const PUT_ACCOUNT: &str = "
    INSERT INTO accounts VALUES (:mac, :revision, :session, :open, :uplink, :downlink, :minute,
        :epoch, :start, :time_settled, :uplink_limit, :downlink_limit, :throttle)
    ON CONFLICT (mac) DO UPDATE SET
        revision = excluded.revision, session = excluded.session, open = excluded.open,
        uplink_msat_per_mib = excluded.uplink_msat_per_mib,
        downlink_msat_per_mib = excluded.downlink_msat_per_mib,
        msat_per_minute = excluded.msat_per_minute,
        epoch = excluded.epoch, start_ns = excluded.start_ns,
        time_settled_units = excluded.time_settled_units,
        uplink_kbit_per_s = excluded.uplink_kbit_per_s,
        downlink_kbit_per_s = excluded.downlink_kbit_per_s,
        throttle_kbit_per_s = excluded.throttle_kbit_per_s
    WHERE excluded.revision >= revision";

const PUT_USAGE: &str = "
    INSERT INTO usages VALUES (:mac, :epoch, :uplink_bytes, :uplink_packets, :downlink_bytes,
        :downlink_packets, :spent, :time_charged)
    ON CONFLICT (mac, epoch) DO UPDATE SET
        uplink_bytes = max(uplink_bytes, excluded.uplink_bytes),
        uplink_packets = max(uplink_packets, excluded.uplink_packets),
        downlink_bytes = max(downlink_bytes, excluded.downlink_bytes),
        downlink_packets = max(downlink_packets, excluded.downlink_packets),
        spent_units = max(spent_units, excluded.spent_units),
        time_charged_units = max(time_charged_units, excluded.time_charged_units)";

const FORGET_ACCOUNT: [&str; 3] = [
    "DELETE FROM credits WHERE mac = :mac AND kind = 'allowance'
        AND NOT EXISTS (SELECT 1 FROM credits WHERE mac = :mac AND kind <> 'allowance')",
    "DELETE FROM usages WHERE mac = :mac
        AND NOT EXISTS (SELECT 1 FROM credits WHERE mac = :mac)",
    "DELETE FROM accounts WHERE mac = :mac
        AND NOT EXISTS (SELECT 1 FROM credits WHERE mac = :mac)",
];

/// Writes one record; see [`Record`] for which one stays when it is there already.
///
/// # Errors
///
/// Fails if the disk does, if usage belongs to an epoch that was never begun, or an update or a
/// transfer to a channel that is not there.
pub(super) fn write(db: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Credit(credit) => write_credit(db, credit),
        Record::Account(account) => write_account(db, account),
        Record::Usage(usage) => write_usage(db, usage),
        Record::KeyIndex(index) => channel_rows::write_key_index(db, *index),
        Record::Channel(state) => channel_rows::write_channel(db, state),
        Record::Update(update) => channel_rows::write_update(db, update),
        Record::Transfer(transfer) => transfer_rows::write_transfer(db, transfer),
        Record::Forget(id) => {
            transfer_rows::forget(db, *id)?;
            channel_rows::forget(db, *id)
        }
        Record::ForgetAccount(mac) => forget_account(db, *mac),
    }
}

fn write_credit(db: &Connection, credit: &Credit) -> rusqlite::Result<()> {
    let parameters = named_params! {
        ":id": credit.id.0.to_be_bytes(),
        ":mac": credit.mac.octets,
        ":kind": kind_name(credit.kind),
        ":amount": Stored(credit.amount.0),
    };
    db.prepare_cached(ADD_CREDIT)?.execute(parameters).map(drop)
}

fn write_account(db: &Connection, account: &AccountState) -> rusqlite::Result<()> {
    let parameters = named_params! {
        ":mac": account.mac.octets,
        ":revision": Stored(account.revision),
        ":session": Stored(account.session),
        ":open": account.open,
        ":uplink": Stored(account.tariff.uplink_msat_per_mib),
        ":downlink": Stored(account.tariff.downlink_msat_per_mib),
        ":minute": Stored(account.tariff.msat_per_minute),
        ":epoch": Stored(account.epoch.0),
        ":start": Stored(account.start.0),
        ":time_settled": Stored(account.time_settled.0),
        ":uplink_limit": Stored(account.tariff.uplink_kbit_per_s),
        ":downlink_limit": Stored(account.tariff.downlink_kbit_per_s),
        ":throttle": Stored(account.tariff.throttle_kbit_per_s),
    };
    db.prepare_cached(PUT_ACCOUNT)?.execute(parameters).map(drop)
}

fn write_usage(db: &Connection, usage: &Usage) -> rusqlite::Result<()> {
    let reading = usage.reading;
    let parameters = named_params! {
        ":mac": usage.mac.octets,
        ":epoch": Stored(usage.epoch.0),
        ":uplink_bytes": Stored(reading.uplink_bytes),
        ":uplink_packets": Stored(reading.uplink_packets),
        ":downlink_bytes": Stored(reading.downlink_bytes),
        ":downlink_packets": Stored(reading.downlink_packets),
        ":spent": Stored(reading.spent.0),
        ":time_charged": Stored(usage.time_charged.0),
    };
    db.prepare_cached(PUT_USAGE)?.execute(parameters).map(drop)
}

/// What was paid or granted is never deleted, whoever asks: nor is the account that it belongs to.
fn forget_account(db: &Connection, mac: Mac) -> rusqlite::Result<()> {
    for step in FORGET_ACCOUNT {
        db.prepare_cached(step)?.execute(named_params! { ":mac": mac.octets })?;
    }
    Ok(())
}

/// Reads all that is there.
///
/// # Errors
///
/// Fails if the disk does, or if a row is not one that [`write`] can have written.
pub(super) fn load(db: &Connection) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot {
        credits: all(db, "SELECT * FROM credits", credit)?,
        accounts: all(db, "SELECT * FROM accounts", account)?,
        usages: all(db, "SELECT * FROM usages", usage)?,
        key_index: channel_rows::key_index(db)?,
        channels: all(db, "SELECT * FROM channels", channel_rows::channel)?,
        updates: all(db, "SELECT * FROM channel_updates", channel_rows::update)?,
        transfers: all(db, "SELECT * FROM channel_transfers", transfer_rows::transfer)?,
    })
}

fn all<T>(
    db: &Connection,
    query: &str,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare(query)?.query_map([], read)?.collect()
}

fn credit(row: &Row<'_>) -> rusqlite::Result<Credit> {
    Ok(Credit {
        id: CreditId(u128::from_be_bytes(row.get("id")?)),
        mac: Mac::new(row.get("mac")?),
        kind: row.get::<_, Kind>("kind")?.0,
        amount: MilliSat(number(row, "amount_msat")?),
    })
}

fn account(row: &Row<'_>) -> rusqlite::Result<AccountState> {
    Ok(AccountState {
        mac: Mac::new(row.get("mac")?),
        revision: number(row, "revision")?,
        session: number(row, "session")?,
        open: row.get("open")?,
        tariff: Tariff {
            uplink_msat_per_mib: number(row, "uplink_msat_per_mib")?,
            downlink_msat_per_mib: number(row, "downlink_msat_per_mib")?,
            msat_per_minute: number(row, "msat_per_minute")?,
            uplink_kbit_per_s: number(row, "uplink_kbit_per_s")?,
            downlink_kbit_per_s: number(row, "downlink_kbit_per_s")?,
            throttle_kbit_per_s: number(row, "throttle_kbit_per_s")?,
        },
        epoch: Epoch(number(row, "epoch")?),
        start: BootTime(number(row, "start_ns")?),
        time_settled: Units(number(row, "time_settled_units")?),
    })
}

fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        mac: Mac::new(row.get("mac")?),
        epoch: Epoch(number(row, "epoch")?),
        reading: Reading {
            uplink_bytes: number(row, "uplink_bytes")?,
            uplink_packets: number(row, "uplink_packets")?,
            downlink_bytes: number(row, "downlink_bytes")?,
            downlink_packets: number(row, "downlink_packets")?,
            spent: Units(number(row, "spent_units")?),
        },
        time_charged: Units(number(row, "time_charged_units")?),
    })
}

pub(super) fn number(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get::<_, Stored>(column).map(|Stored(number)| number)
}

struct Kind(CreditKind);

const fn kind_name(kind: CreditKind) -> &'static str {
    match kind {
        CreditKind::Allowance => "allowance",
        CreditKind::Grant => "grant",
        CreditKind::TopUp => "top_up",
        CreditKind::Channel => "channel",
    }
}

impl FromSql for Kind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "allowance" => Ok(Self(CreditKind::Allowance)),
            "grant" => Ok(Self(CreditKind::Grant)),
            "top_up" => Ok(Self(CreditKind::TopUp)),
            "channel" => Ok(Self(CreditKind::Channel)),
            other => Err(FromSqlError::Other(format!("no kind of credit: {other}").into())),
        }
    }
}
