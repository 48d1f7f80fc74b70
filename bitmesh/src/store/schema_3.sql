-- Where the chain was read to, as JSON: the newest blocks that were taken in. One row.
CREATE TABLE chain_cursor (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    blocks TEXT NOT NULL
) STRICT;
