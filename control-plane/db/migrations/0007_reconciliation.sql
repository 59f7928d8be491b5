-- What devices and buyers say beside what was metered and booked. Flagged, never paid.

CREATE TABLE reconciliation_flags (
  id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  session_id          uuid NOT NULL REFERENCES traffic_sessions (id),
  -- device_report, buyer_report: advice that is too far from the meters. books: meters, session and ledger disagree.
  kind                text NOT NULL CHECK (kind IN ('device_report', 'buyer_report', 'books')),
  allocation_id       uuid REFERENCES allocations (id),  -- of buyer_report
  metered_bytes       bigint NOT NULL,
  difference_bytes    bigint NOT NULL,                   -- the other count minus the metered one
  difference_micros   bigint NOT NULL DEFAULT 0,         -- of books, the largest
  detail              text NOT NULL,
  first_seen_at       timestamptz NOT NULL DEFAULT now(),
  last_seen_at        timestamptz NOT NULL DEFAULT now(),
  resolved_at         timestamptz,                       -- a later look did not find it any more
  UNIQUE NULLS NOT DISTINCT (session_id, kind, allocation_id)
);
CREATE INDEX reconciliation_flags_open ON reconciliation_flags (kind) WHERE resolved_at IS NULL;

-- How far the job has come: one row.
CREATE TABLE reconciliation_state (
  one              boolean PRIMARY KEY DEFAULT true CHECK (one),
  completed_until  timestamptz NOT NULL DEFAULT '-infinity',  -- sessions completed before were looked at
  swept_until      timestamptz NOT NULL DEFAULT '-infinity',  -- where the walk over old sessions goes on …
  swept_id         uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  leased_until     timestamptz NOT NULL DEFAULT '-infinity'   -- one control plane at a time
);
INSERT INTO reconciliation_state DEFAULT VALUES;

CREATE INDEX traffic_sessions_completed ON traffic_sessions (completed_at, id) WHERE completed_at IS NOT NULL;

-- Transactions of one meter are the range 'meter:<id>:' of source ids: found by the unique index when it sorts by bytes.
ALTER TABLE ledger_transactions ALTER COLUMN source_id TYPE text COLLATE "C";
