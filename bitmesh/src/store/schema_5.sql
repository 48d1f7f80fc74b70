-- What both sides signed at the end of a session: the receipt with both signatures, as JSON.
ALTER TABLE channels ADD COLUMN receipt TEXT;
