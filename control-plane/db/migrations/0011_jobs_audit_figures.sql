-- Background jobs and what they leave, the chain over the audit log, a day's figures, backups.

-- Each run of a background job; the queue itself is graphile-worker's, in a schema of its own.
CREATE TABLE job_runs (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job         text NOT NULL,
  attempt     int NOT NULL,
  started_at  timestamptz NOT NULL DEFAULT now(),
  ended_at    timestamptz,
  -- lost: its control plane went away in the middle, found by the next run.
  outcome     text NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'succeeded', 'failed', 'lost')),
  result      jsonb,                                 -- what it says of itself
  error       text,
  CHECK ((outcome = 'running') = (ended_at IS NULL))
);
CREATE INDEX job_runs_job ON job_runs (job, id DESC);
CREATE INDEX job_runs_started ON job_runs (started_at);

-- What must go out after a commit: put in with the change itself, delivered by the job 'notifications'.
CREATE TABLE outbox (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind        text NOT NULL,                         -- who delivers it
  key         text,                                  -- the same of one kind goes in once; null: always
  payload     jsonb NOT NULL,
  due_at      timestamptz NOT NULL DEFAULT now(),
  attempts    int NOT NULL DEFAULT 0,
  state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'given_up')),
  error       text,                                  -- of the last attempt
  created_at  timestamptz NOT NULL DEFAULT now(),
  ended_at    timestamptz,
  UNIQUE (kind, key)
);
CREATE INDEX outbox_due ON outbox (kind, due_at, id) WHERE state = 'waiting';
CREATE INDEX outbox_ended ON outbox (ended_at) WHERE ended_at IS NOT NULL;

CREATE INDEX login_codes_expiry ON login_codes (expires_at);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);
CREATE INDEX logins_last_used ON logins (last_used_at);

-- Audit ------------------------------------------------------------------------------------------------------------

-- One link a row of audit_log: hash = sha256(hash of the link before || the row). Links follow each other in the order
-- they were made, without a gap; rows wait in audit_unchained until they have one. A writer never waits for the chain.
CREATE TABLE audit_chain (
  seq       bigint PRIMARY KEY,
  audit_id  bigint NOT NULL UNIQUE REFERENCES audit_log (id),
  hash      bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE TABLE audit_unchained (audit_id bigint PRIMARY KEY);
-- Where the chain ends: one row, locked by whoever makes links.
CREATE TABLE audit_head (
  one   boolean PRIMARY KEY DEFAULT true CHECK (one),
  seq   bigint NOT NULL,
  hash  bytea NOT NULL CHECK (length(hash) = 32)
);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));
INSERT INTO audit_unchained SELECT id FROM audit_log;

CREATE FUNCTION audit_log_wants_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_unchained SELECT id FROM new_rows;
  RETURN NULL;
END $$;
CREATE TRIGGER wants_link AFTER INSERT ON audit_log REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION audit_log_wants_link();

CREATE FUNCTION audit_head_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.one AND NEW.seq > OLD.seq THEN RETURN NEW; END IF;
  RAISE EXCEPTION 'audit_head only grows' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE ON audit_head
  FOR EACH ROW EXECUTE FUNCTION audit_head_only_grows();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON audit_chain FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON audit_chain FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Searching: newest first, each filter with an index of its own. Two of 0001 are replaced: they lack the id.
CREATE INDEX audit_log_time ON audit_log (at, id);
CREATE INDEX audit_log_action ON audit_log (action, at, id);
CREATE INDEX audit_log_actor_time ON audit_log (actor_id, at, id);
CREATE INDEX audit_log_role_time ON audit_log (actor_role, at, id);
CREATE INDEX audit_log_object_time ON audit_log (object_type, object_id, at, id);
CREATE INDEX audit_log_type_time ON audit_log (object_type, at, id);
DROP INDEX audit_log_object;
DROP INDEX audit_log_actor;

-- Figures ----------------------------------------------------------------------------------------------------------

-- A UTC day at a glance, for charts and reports: what would need the whole ledger or all users otherwise. Written by the
-- job 'stats', every hour, for today and yesterday; never the source of money.
CREATE TABLE daily_figures (
  day                 date PRIMARY KEY,
  new_users           bigint NOT NULL,
  new_buyers          bigint NOT NULL,
  active_providers    bigint NOT NULL,               -- whose devices carried bytes
  active_buyers       bigint NOT NULL,               -- who used bytes
  sessions_completed  bigint NOT NULL,
  bytes_up            bigint NOT NULL,
  bytes_down          bigint NOT NULL,
  charged_micros      bigint NOT NULL,               -- booked that day, as the following
  earned_micros       bigint NOT NULL,
  referral_micros     bigint NOT NULL,
  revenue_micros      bigint NOT NULL,
  topup_micros        bigint NOT NULL,
  payouts_completed   bigint NOT NULL,
  payout_micros       bigint NOT NULL,               -- of the completed ones
  computed_at         timestamptz NOT NULL DEFAULT now()
);

-- A day is a few thousand neighbouring pages of an append-only table: block ranges find them, and cost next to nothing
-- to keep (a btree would cost settlement a page a batch).
CREATE INDEX ledger_entries_day ON ledger_entries USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX usage_daily_buyer_day ON usage_daily_buyer (day);
CREATE INDEX usage_daily_provider_day ON usage_daily_provider (day);
CREATE INDEX payouts_ended ON payouts (ended_at) WHERE ended_at IS NOT NULL;

-- Backups ----------------------------------------------------------------------------------------------------------

CREATE TABLE backups (
  id            uuid PRIMARY KEY,
  state         text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'removed')),
  requested_by  uuid REFERENCES users (id),          -- null: the schedule
  file          text,                                -- name within the folder
  size_bytes    bigint,
  error_code    text,
  detail        text,
  created_at    timestamptz(3) NOT NULL DEFAULT now(),  -- pages are cut by it, in JSON
  started_at    timestamptz,
  ended_at      timestamptz
);
CREATE INDEX backups_created ON backups (created_at DESC, id DESC);
CREATE INDEX backups_open ON backups (created_at, id) WHERE state IN ('queued', 'running');

-- Address reputation -----------------------------------------------------------------------------------------------

-- What a service for IP reputation says (POST /api/webhook/ipintel): devices on refused networks may not share.
CREATE TABLE ip_reputation (
  network     cidr PRIMARY KEY,
  verdict     text NOT NULL CHECK (verdict IN ('vpn', 'proxy', 'tor', 'hosting', 'abuse', 'clean')),
  source      text NOT NULL,
  expires_at  timestamptz,                           -- null: until it is said otherwise
  updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ip_reputation_network ON ip_reputation USING gist (network inet_ops);
CREATE INDEX ip_reputation_expiry ON ip_reputation (expires_at) WHERE expires_at IS NOT NULL;
