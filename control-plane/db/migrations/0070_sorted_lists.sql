-- What admins sort their lists by (control-plane/http/list-order.ts): each index leads with the expression of its list and then
-- the id, and is read in either direction. Of what grows with traffic only payouts and top-ups, which are few: an index on
-- a session's bytes would be written with every settlement.

CREATE INDEX users_username_sorted ON users (left(lower(coalesce(username, '')), 40), id);
CREATE INDEX buyers_name_sorted ON buyers (left(lower(name), 40), id);
CREATE INDEX payouts_amount ON payouts (amount_micros, id);
CREATE INDEX topups_amount ON topups (amount_micros, id);
CREATE INDEX devices_created ON devices (created_at, id) WHERE removed_at IS NULL;
CREATE INDEX devices_seen ON devices (coalesce(last_seen_at, '1970-01-01Z'), id) WHERE removed_at IS NULL;
CREATE INDEX devices_id_prefix ON devices (id COLLATE "C") WHERE removed_at IS NULL;
