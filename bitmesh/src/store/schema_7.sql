-- Channels that went from one account to another: what they paid at the old one stays there, and
-- the rest of their credit is the new one's. A line of the ledger, written once.
CREATE TABLE channel_transfers (
    channel                  BLOB NOT NULL REFERENCES channels (id),
    -- From 1 on.
    number                   INTEGER NOT NULL,
    from_mac                 BLOB NOT NULL CHECK (length(from_mac) = 6),
    to_mac                   BLOB NOT NULL CHECK (length(to_mac) = 6),
    kept_msat                ANY NOT NULL,
    -- What was used before, in all accounts.
    used_uplink_bytes        ANY NOT NULL,
    used_downlink_bytes      ANY NOT NULL,
    used_time_charged_units  ANY NOT NULL,
    -- What the meter of the new account said; null if nothing was paid yet.
    began_uplink_bytes       ANY,
    began_downlink_bytes     ANY,
    began_time_charged_units ANY,
    PRIMARY KEY (channel, number)
) STRICT, WITHOUT ROWID;
