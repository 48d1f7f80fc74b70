-- Speed limits of a session, in kbit/s. 0 is no limit; without a throttle who has nothing left is cut
-- off.
ALTER TABLE accounts ADD COLUMN uplink_kbit_per_s ANY NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN downlink_kbit_per_s ANY NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN throttle_kbit_per_s ANY NOT NULL DEFAULT 0;
