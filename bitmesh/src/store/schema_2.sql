-- The highest index of keys that was ever used: no key is used twice. One row.
CREATE TABLE key_index (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    highest INTEGER NOT NULL
) STRICT;

-- The newest revision of each channel. Groups of columns are null together: the funding that was
-- not seen, the charges that are not final, the close that was not built, the end that has not
-- come.
CREATE TABLE channels (
    id                   BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    revision             ANY NOT NULL,
    key_index            INTEGER NOT NULL,
    -- As JSON; `id` is its digest.
    agreement            TEXT NOT NULL,
    payee_signature      BLOB NOT NULL CHECK (length(payee_signature) = 64),
    payer_signature      BLOB CHECK (length(payer_signature) = 64),
    confirmations        INTEGER NOT NULL,
    opened_height        INTEGER NOT NULL,
    opened_unix_s        ANY NOT NULL,
    phase                TEXT NOT NULL
        CHECK (phase IN ('live', 'closing', 'closing_alone', 'lost', 'ended')),
    funding_outpoint     TEXT,
    capacity_sat         ANY,
    funding_height       INTEGER,
    charged_units        ANY,
    uplink_bytes         ANY,
    downlink_bytes       ANY,
    time_charged_units   ANY,
    frozen_height        INTEGER,
    close_kind           TEXT CHECK (close_kind IN ('together', 'alone', 'refund', 'other')),
    close_tx             BLOB,
    close_height         INTEGER,
    end_kind             TEXT CHECK (end_kind IN ('together', 'alone', 'refund', 'other')),
    end_txid             TEXT,
    end_height           INTEGER,
    end_buried           INTEGER CHECK (end_buried IN (0, 1)),
    end_payout_sat       ANY,
    end_change_sat       ANY,
    end_fee_sat          ANY,
    end_returned_sat     ANY,
    end_payer_fee_sat    ANY
) STRICT, WITHOUT ROWID;

-- The newest update of each channel that has one: its change only ever shrinks.
CREATE TABLE channel_updates (
    channel                  BLOB NOT NULL PRIMARY KEY REFERENCES channels (id),
    change_sat               ANY NOT NULL,
    signature                BLOB NOT NULL CHECK (length(signature) = 65),
    began_uplink_bytes       ANY NOT NULL,
    began_downlink_bytes     ANY NOT NULL,
    began_time_charged_units ANY NOT NULL
) STRICT, WITHOUT ROWID;
