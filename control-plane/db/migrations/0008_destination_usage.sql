-- Who reached which destination, when, with how many bytes: for providers, for buyers' cost labels and for abuse
-- handling. Kept for `destination_retention_days`, then deleted. Money is made of meters, never of this.

-- Which batches of a gateway's run are booked, so that each is booked once however often and late it comes. Batches come
-- nearly in order, so this is one range for a run, and a run is kept for ever: some hundred bytes a gateway start.
CREATE TABLE usage_runs (
  gateway_id  text NOT NULL,
  run         text NOT NULL CHECK (run ~ '^[0-9a-f]{24}$'),
  booked      int8multirange NOT NULL,               -- numbers of batches
  booked_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (gateway_id, run)
);

-- One row for a UTC day, session, allocation, destination, tag and session name; about half a kilobyte with its indexes.
-- No foreign keys: the row of an allocation made on connect may come later than its usage.
CREATE SEQUENCE destination_usage_id;
CREATE TABLE destination_usage (
  id             bigint NOT NULL DEFAULT nextval('destination_usage_id'),
  day            date NOT NULL,
  session_id     uuid NOT NULL,
  allocation_id  uuid NOT NULL,
  buyer_id       uuid NOT NULL,
  sub_user_id    uuid,                               -- null: the buyer's own account
  user_id        uuid NOT NULL,                      -- the provider; these three are the session's at booking
  exit_ip        inet NOT NULL,
  country        text NOT NULL,
  host           text NOT NULL,                      -- name in lower case, or address; '(other)' (port 0): one of many
  port           int NOT NULL,
  tag            text,                               -- of the proxy username
  session_name   text,
  bytes_up       bigint NOT NULL,
  bytes_down     bigint NOT NULL,
  streams        bigint NOT NULL,
  first_at       timestamptz NOT NULL,
  last_at        timestamptz NOT NULL
) PARTITION BY RANGE (day);
CREATE UNIQUE INDEX destination_usage_key ON destination_usage
  (session_id, day, allocation_id, sub_user_id, host, port, tag, session_name) NULLS NOT DISTINCT;
CREATE INDEX destination_usage_buyer ON destination_usage (buyer_id, day);
CREATE INDEX destination_usage_user ON destination_usage (user_id, day);
-- From the end, so that 'everything under example.com' is a range as well.
CREATE INDEX destination_usage_host ON destination_usage (reverse(host) text_pattern_ops, day);
CREATE INDEX destination_usage_day ON destination_usage (day, id);

-- Complaints name an exit address and a time.
CREATE INDEX traffic_sessions_exit_ip ON traffic_sessions (exit_ip, started_at);

-- Makes the partition of the month, named destination_usage_YYYY_MM, unless it is there. Attached, not created in place:
-- reading and booking go on meanwhile.
CREATE FUNCTION make_destination_usage_partition(of_day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  first date := date_trunc('month', of_day::timestamp)::date;
  name text := 'destination_usage_' || to_char(first, 'YYYY_MM');
BEGIN
  IF to_regclass(name) IS NOT NULL THEN RETURN; END IF;
  -- What attaching takes anyway; only a lock on a table makes what others committed meanwhile known here.
  LOCK TABLE ONLY destination_usage IN SHARE UPDATE EXCLUSIVE MODE;
  IF to_regclass(name) IS NOT NULL THEN RETURN; END IF;
  -- Rows of live streams are updated again and again: with room on their page no index is touched.
  EXECUTE format('CREATE TABLE %I (LIKE destination_usage INCLUDING ALL) WITH (fillfactor = 80)', name);
  EXECUTE format('ALTER TABLE destination_usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                 name, first, (first + interval '1 month')::date);
END $$;
