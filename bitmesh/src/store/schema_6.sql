-- A kind of credit more: what newcomers are given so that they can pay. A check can't be changed in
-- place, so the table is made anew.
CREATE TABLE credits_anew (
    id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    mac         BLOB NOT NULL CHECK (length(mac) = 6),
    kind        TEXT NOT NULL CHECK (kind IN ('allowance', 'grant', 'top_up', 'channel')),
    amount_msat ANY  NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO credits_anew SELECT id, mac, kind, amount_msat FROM credits;
DROP TABLE credits;
ALTER TABLE credits_anew RENAME TO credits;
-- An account that never had anything but allowances is forgotten with its credits.
CREATE INDEX credits_by_mac ON credits (mac);
