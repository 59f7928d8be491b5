-- Indexes that lists of the API go by, so that no list reads or sorts a table as a whole however large it is
-- (test/control-plane/lists/). Each has what the list filters by, then what it is sorted by.

-- Lists of packages have an order of their own, NULLS LAST though there are no nulls: whoever pulls the oldest available
-- package must not be led along an index of all packages, past those that were given out since Postgres last counted
-- how many are available. Only packages_available has the order of the pull.
DROP INDEX packages_created;
CREATE INDEX packages_newest ON packages (created_at DESC NULLS LAST, id DESC NULLS LAST);
CREATE INDEX packages_status ON packages (status, created_at DESC NULLS LAST, id DESC NULLS LAST);
CREATE INDEX packages_exit_ip ON packages (exit_ip, created_at DESC NULLS LAST, id DESC NULLS LAST);

CREATE INDEX buyers_status ON buyers (status, created_at, id);
CREATE INDEX buyers_kyc_status ON buyers (kyc_status, created_at, id);
CREATE INDEX buyers_region ON buyers (region, created_at, id);
CREATE INDEX traffic_sessions_started ON traffic_sessions (started_at, id);
CREATE INDEX reconciliation_flags_open_session ON reconciliation_flags (session_id) WHERE resolved_at IS NULL;
CREATE INDEX meters_gateway ON meters (gateway_id, id);
CREATE INDEX meters_session ON meters (session_id, id);
CREATE INDEX meters_owing ON meters (id) WHERE NOT final AND written_off_at IS NULL;

-- What a provider has withdrawn is a sum over few of many entries: read with every balance.
CREATE INDEX ledger_entries_withdrawn ON ledger_entries (account_id) INCLUDE (amount_micros)
  WHERE kind IN ('payout', 'payout_refund');

-- What a buyer has in hand now, of everything they ever had: counted with the buyer's figures.
CREATE INDEX allocations_live ON allocations (buyer_id) WHERE status IN ('allocated', 'in_progress');
