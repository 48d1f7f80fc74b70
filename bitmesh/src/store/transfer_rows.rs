//! Transfers of channels, from records to rows and back.

use bitmesh_common::abi::Mac;
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{Meter, MilliSat, Transfer, Units};
use rusqlite::{Connection, Row, named_params};

use super::rows::number;
use super::u64_value::Stored;

const ADD_TRANSFER: &str = "
    INSERT INTO channel_transfers VALUES (:channel, :number, :from, :to, :kept, :used_uplink,
        :used_downlink, :used_time, :began_uplink, :began_downlink, :began_time)
    ON CONFLICT (channel, number) DO NOTHING";

const FORGET: &str = "
    DELETE FROM channel_transfers
    WHERE channel = ?1 AND NOT EXISTS (SELECT 1 FROM channel_updates WHERE channel = ?1)";

pub(super) fn write_transfer(db: &Connection, transfer: &Transfer) -> rusqlite::Result<()> {
    let (used, began) = (transfer.used, transfer.began);
    let parameters = named_params! {
        ":channel": transfer.channel.0,
        ":number": transfer.number,
        ":from": transfer.from.octets,
        ":to": transfer.to.octets,
        ":kept": Stored(transfer.kept.0),
        ":used_uplink": Stored(used.uplink_bytes),
        ":used_downlink": Stored(used.downlink_bytes),
        ":used_time": Stored(used.time_charged.0),
        ":began_uplink": began.map(|began| Stored(began.uplink_bytes)),
        ":began_downlink": began.map(|began| Stored(began.downlink_bytes)),
        ":began_time": began.map(|began| Stored(began.time_charged.0)),
    };
    db.prepare_cached(ADD_TRANSFER)?.execute(parameters).map(drop)
}

/// The transfers of a channel on which nothing was ever paid.
pub(super) fn forget(db: &Connection, id: ChannelId) -> rusqlite::Result<()> {
    db.prepare_cached(FORGET)?.execute([id.0]).map(drop)
}

pub(super) fn transfer(row: &Row<'_>) -> rusqlite::Result<Transfer> {
    let used = Meter {
        uplink_bytes: number(row, "used_uplink_bytes")?,
        downlink_bytes: number(row, "used_downlink_bytes")?,
        time_charged: Units(number(row, "used_time_charged_units")?),
    };
    Ok(Transfer {
        channel: ChannelId(row.get("channel")?),
        number: row.get("number")?,
        from: Mac::new(row.get("from_mac")?),
        to: Mac::new(row.get("to_mac")?),
        kept: MilliSat(number(row, "kept_msat")?),
        used,
        began: began(row)?,
    })
}

fn began(row: &Row<'_>) -> rusqlite::Result<Option<Meter>> {
    let Some(Stored(uplink_bytes)) = row.get::<_, Option<Stored>>("began_uplink_bytes")? else {
        return Ok(None);
    };
    Ok(Some(Meter {
        uplink_bytes,
        downlink_bytes: number(row, "began_downlink_bytes")?,
        time_charged: Units(number(row, "began_time_charged_units")?),
    }))
}
