-- A number without a sign is an INTEGER up to 2^63 - 1, else a BLOB of 8 bytes, big-endian; hence
-- ANY. Amounts end in their unit: msat, or units of 2^-20 msat.

-- Lives of the kernel's meters, in their order.
CREATE TABLE epochs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch  ANY NOT NULL UNIQUE
) STRICT;

-- Money that was added. Only ever appended to.
CREATE TABLE credits (
    id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    mac         BLOB NOT NULL CHECK (length(mac) = 6),
    kind        TEXT NOT NULL CHECK (kind IN ('grant', 'top_up', 'channel')),
    amount_msat ANY  NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest revision of each account.
CREATE TABLE accounts (
    mac                    BLOB NOT NULL PRIMARY KEY CHECK (length(mac) = 6),
    revision               ANY NOT NULL,
    session                ANY NOT NULL,
    open                   INTEGER NOT NULL CHECK (open IN (0, 1)),
    uplink_msat_per_mib    ANY NOT NULL,
    downlink_msat_per_mib  ANY NOT NULL,
    msat_per_minute        ANY NOT NULL,
    epoch                  ANY NOT NULL,
    start_ns               ANY NOT NULL,
    time_settled_units     ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- What each meter said last in each of its lives. All of it only grows.
CREATE TABLE usages (
    mac                BLOB NOT NULL CHECK (length(mac) = 6),
    epoch              ANY NOT NULL REFERENCES epochs (epoch),
    uplink_bytes       ANY NOT NULL,
    uplink_packets     ANY NOT NULL,
    downlink_bytes     ANY NOT NULL,
    downlink_packets   ANY NOT NULL,
    spent_units        ANY NOT NULL,
    time_charged_units ANY NOT NULL,
    PRIMARY KEY (mac, epoch)
) STRICT, WITHOUT ROWID;
