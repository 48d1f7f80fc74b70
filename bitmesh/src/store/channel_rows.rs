//! Channels, from records to rows and back.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use bitmesh_core::channel::message::{Agreement, MessageSignature};
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{
    ChannelEnd, ChannelPhase, ChannelState, ChannelUpdate, CloseTx, Countersigned, Frozen, Funding,
    Meter, SpendKind, Units,
};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::rows::number;
use super::u64_value::Stored;

const PUT_KEY_INDEX: &str = "
    INSERT INTO key_index VALUES (1, ?1)
    ON CONFLICT (only) DO UPDATE SET highest = max(highest, excluded.highest)";

const PUT_CHANNEL: &str = "
    INSERT INTO channels VALUES (:id, :revision, :key_index, :agreement, :payee_signature,
        :payer_signature, :confirmations, :opened_height, :opened_unix_s, :phase,
        :funding_outpoint, :capacity, :funding_height, :charged, :uplink, :downlink, :time,
        :frozen_height, :close_kind, :close_tx, :close_height, :end_kind, :end_txid, :end_height,
        :end_buried, :end_payout, :end_change, :end_fee, :end_returned, :end_payer_fee, :receipt)
    ON CONFLICT (id) DO UPDATE SET
        revision = excluded.revision, payer_signature = excluded.payer_signature,
        phase = excluded.phase, funding_outpoint = excluded.funding_outpoint,
        capacity_sat = excluded.capacity_sat, funding_height = excluded.funding_height,
        charged_units = excluded.charged_units, uplink_bytes = excluded.uplink_bytes,
        downlink_bytes = excluded.downlink_bytes,
        time_charged_units = excluded.time_charged_units,
        frozen_height = excluded.frozen_height, close_kind = excluded.close_kind,
        close_tx = excluded.close_tx, close_height = excluded.close_height,
        end_kind = excluded.end_kind, end_txid = excluded.end_txid,
        end_height = excluded.end_height, end_buried = excluded.end_buried,
        end_payout_sat = excluded.end_payout_sat, end_change_sat = excluded.end_change_sat,
        end_fee_sat = excluded.end_fee_sat, end_returned_sat = excluded.end_returned_sat,
        end_payer_fee_sat = excluded.end_payer_fee_sat, receipt = excluded.receipt
    WHERE excluded.revision >= revision";

const PUT_UPDATE: &str = "
    INSERT INTO channel_updates VALUES (:channel, :change, :signature, :uplink, :downlink, :time)
    ON CONFLICT (channel) DO UPDATE SET
        change_sat = excluded.change_sat, signature = excluded.signature
    WHERE excluded.change_sat < change_sat";

const FORGET: &str = "
    DELETE FROM channels
    WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM channel_updates WHERE channel = ?1)";

pub(super) fn write_key_index(db: &Connection, index: u32) -> rusqlite::Result<()> {
    db.prepare_cached(PUT_KEY_INDEX)?.execute([index]).map(drop)
}

pub(super) fn forget(db: &Connection, id: ChannelId) -> rusqlite::Result<()> {
    db.prepare_cached(FORGET)?.execute([id.0]).map(drop)
}

pub(super) fn write_channel(db: &Connection, state: &ChannelState) -> rusqlite::Result<()> {
    let agreement = serde_json::to_string(&state.agreement)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let receipt = state.receipt.as_ref().map(serde_json::to_string).transpose();
    let receipt = receipt.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let (funding, frozen) = (state.funding, state.frozen);
    let (close, end) = (state.close.as_ref(), state.end);
    let sat = |amount: fn(&ChannelEnd) -> Amount| end.as_ref().map(|e| Stored(amount(e).to_sat()));
    let parameters = named_params! {
        ":id": state.id.0,
        ":revision": Stored(state.revision),
        ":key_index": state.index,
        ":agreement": agreement,
        ":payee_signature": state.payee_signature.0,
        ":payer_signature": state.payer_signature.map(|signature| signature.0),
        ":confirmations": state.confirmations,
        ":opened_height": state.opened_height,
        ":opened_unix_s": Stored(state.opened_unix_s),
        ":phase": phase_name(state.phase),
        ":funding_outpoint": funding.map(|funding| funding.outpoint.to_string()),
        ":capacity": funding.map(|funding| Stored(funding.capacity.to_sat())),
        ":funding_height": funding.and_then(|funding| funding.height),
        ":charged": frozen.map(|frozen| Stored(frozen.charged.0)),
        ":uplink": frozen.map(|frozen| Stored(frozen.meter.uplink_bytes)),
        ":downlink": frozen.map(|frozen| Stored(frozen.meter.downlink_bytes)),
        ":time": frozen.map(|frozen| Stored(frozen.meter.time_charged.0)),
        ":frozen_height": frozen.map(|frozen| frozen.height),
        ":close_kind": close.map(|close| kind_name(close.kind)),
        ":close_tx": close.map(|close| serialize(&close.tx)),
        ":close_height": close.map(|close| close.height),
        ":end_kind": end.map(|end| kind_name(end.kind)),
        ":end_txid": end.map(|end| end.txid.to_string()),
        ":end_height": end.map(|end| end.height),
        ":end_buried": end.map(|end| end.buried),
        ":end_payout": sat(|end| end.payout),
        ":end_change": sat(|end| end.change),
        ":end_fee": sat(|end| end.fee),
        ":end_returned": sat(|end| end.returned),
        ":end_payer_fee": sat(|end| end.payer_fee),
        ":receipt": receipt,
    };
    db.prepare_cached(PUT_CHANNEL)?.execute(parameters).map(drop)
}

pub(super) fn write_update(db: &Connection, update: &ChannelUpdate) -> rusqlite::Result<()> {
    let parameters = named_params! {
        ":channel": update.channel.0,
        ":change": Stored(update.change_sat),
        ":signature": update.signature,
        ":uplink": Stored(update.began.uplink_bytes),
        ":downlink": Stored(update.began.downlink_bytes),
        ":time": Stored(update.began.time_charged.0),
    };
    db.prepare_cached(PUT_UPDATE)?.execute(parameters).map(drop)
}

pub(super) fn key_index(db: &Connection) -> rusqlite::Result<Option<u32>> {
    db.query_row("SELECT highest FROM key_index", [], |row| row.get(0)).optional()
}

pub(super) fn channel(row: &Row<'_>) -> rusqlite::Result<ChannelState> {
    let signature = |column| -> rusqlite::Result<Option<MessageSignature>> {
        Ok(row.get::<_, Option<[u8; 64]>>(column)?.map(MessageSignature))
    };
    Ok(ChannelState {
        id: ChannelId(row.get("id")?),
        revision: number(row, "revision")?,
        index: row.get("key_index")?,
        agreement: agreement(row)?,
        payee_signature: MessageSignature(row.get("payee_signature")?),
        payer_signature: signature("payer_signature")?,
        confirmations: row.get("confirmations")?,
        opened_height: row.get("opened_height")?,
        opened_unix_s: number(row, "opened_unix_s")?,
        funding: funding(row)?,
        phase: phase(row)?,
        frozen: frozen(row)?,
        receipt: receipt(row)?,
        close: close(row)?,
        end: end(row)?,
    })
}

pub(super) fn update(row: &Row<'_>) -> rusqlite::Result<ChannelUpdate> {
    Ok(ChannelUpdate {
        channel: ChannelId(row.get("channel")?),
        change_sat: number(row, "change_sat")?,
        signature: row.get("signature")?,
        began: Meter {
            uplink_bytes: number(row, "began_uplink_bytes")?,
            downlink_bytes: number(row, "began_downlink_bytes")?,
            time_charged: Units(number(row, "began_time_charged_units")?),
        },
    })
}

fn agreement(row: &Row<'_>) -> rusqlite::Result<Agreement> {
    let text: String = row.get("agreement")?;
    serde_json::from_str(&text).map_err(|error| unreadable(row, "agreement", error))
}

fn receipt(row: &Row<'_>) -> rusqlite::Result<Option<Countersigned>> {
    let Some(text) = row.get::<_, Option<String>>("receipt")? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| unreadable(row, "receipt", error))
}

fn funding(row: &Row<'_>) -> rusqlite::Result<Option<Funding>> {
    let Some(outpoint) = row.get::<_, Option<String>>("funding_outpoint")? else {
        return Ok(None);
    };
    let outpoint: OutPoint =
        outpoint.parse().map_err(|error| unreadable(row, "funding_outpoint", error))?;
    Ok(Some(Funding {
        outpoint,
        capacity: amount(row, "capacity_sat")?,
        height: row.get("funding_height")?,
    }))
}

fn frozen(row: &Row<'_>) -> rusqlite::Result<Option<Frozen>> {
    let Some(Stored(charged)) = row.get::<_, Option<Stored>>("charged_units")? else {
        return Ok(None);
    };
    let meter = Meter {
        uplink_bytes: number(row, "uplink_bytes")?,
        downlink_bytes: number(row, "downlink_bytes")?,
        time_charged: Units(number(row, "time_charged_units")?),
    };
    Ok(Some(Frozen { charged: Units(charged), meter, height: row.get("frozen_height")? }))
}

fn close(row: &Row<'_>) -> rusqlite::Result<Option<CloseTx>> {
    let Some(kind) = kind(row, "close_kind")? else { return Ok(None) };
    let raw: Vec<u8> = row.get("close_tx")?;
    let tx: Transaction = deserialize(&raw).map_err(|error| unreadable(row, "close_tx", error))?;
    Ok(Some(CloseTx { kind, tx, height: row.get("close_height")? }))
}

fn end(row: &Row<'_>) -> rusqlite::Result<Option<ChannelEnd>> {
    let Some(kind) = kind(row, "end_kind")? else { return Ok(None) };
    let txid: Txid = row
        .get::<_, String>("end_txid")?
        .parse()
        .map_err(|error| unreadable(row, "end_txid", error))?;
    Ok(Some(ChannelEnd {
        kind,
        txid,
        height: row.get("end_height")?,
        buried: row.get("end_buried")?,
        payout: amount(row, "end_payout_sat")?,
        change: amount(row, "end_change_sat")?,
        fee: amount(row, "end_fee_sat")?,
        returned: amount(row, "end_returned_sat")?,
        payer_fee: amount(row, "end_payer_fee_sat")?,
    }))
}

fn amount(row: &Row<'_>, column: &str) -> rusqlite::Result<Amount> {
    number(row, column).map(Amount::from_sat)
}

const fn phase_name(phase: ChannelPhase) -> &'static str {
    match phase {
        ChannelPhase::Live => "live",
        ChannelPhase::Closing => "closing",
        ChannelPhase::ClosingAlone => "closing_alone",
        ChannelPhase::Lost => "lost",
        ChannelPhase::Ended => "ended",
    }
}

fn phase(row: &Row<'_>) -> rusqlite::Result<ChannelPhase> {
    let name: String = row.get("phase")?;
    match name.as_str() {
        "live" => Ok(ChannelPhase::Live),
        "closing" => Ok(ChannelPhase::Closing),
        "closing_alone" => Ok(ChannelPhase::ClosingAlone),
        "lost" => Ok(ChannelPhase::Lost),
        "ended" => Ok(ChannelPhase::Ended),
        other => Err(unreadable(row, "phase", format!("no phase of a channel: {other}"))),
    }
}

const fn kind_name(kind: SpendKind) -> &'static str {
    match kind {
        SpendKind::Together => "together",
        SpendKind::Alone => "alone",
        SpendKind::Refund => "refund",
        SpendKind::Other => "other",
    }
}

fn kind(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<SpendKind>> {
    let name: Option<String> = row.get(column)?;
    match name.as_deref() {
        None => Ok(None),
        Some("together") => Ok(Some(SpendKind::Together)),
        Some("alone") => Ok(Some(SpendKind::Alone)),
        Some("refund") => Ok(Some(SpendKind::Refund)),
        Some("other") => Ok(Some(SpendKind::Other)),
        Some(other) => Err(unreadable(row, column, format!("no way to spend: {other}"))),
    }
}

fn unreadable(
    row: &Row<'_>,
    column: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error.into())
}
