-- Indexes that lists of the API go by, so that no list reads or sorts a table as a whole however large it is
-- (test/control-plane/lists/). Each has what the list filters by, then what it is sorted by.

CREATE INDEX packages_status ON packages (status, created_at, id);
CREATE INDEX packages_exit_ip ON packages (exit_ip, created_at, id);
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
