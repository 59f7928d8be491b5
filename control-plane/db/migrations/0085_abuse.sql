-- Abuse: what detection looks at, what it found, what people report.

-- What each buyer did in an hour, in a row of at most some 2 KB whatever that was; the job `cleanup` deletes those of more
-- than a week ago. The sketches are registers of gateway/runtime/sketch.ts; empty: nothing was seen.
CREATE TABLE buyer_activity (
  buyer_id         uuid NOT NULL REFERENCES buyers (id),
  hour             timestamptz NOT NULL,             -- its beginning
  streams          bigint NOT NULL CHECK (streams >= 0),
  hosts            smallint[] NOT NULL,              -- reached
  failed_targets   smallint[] NOT NULL,              -- host:port that could not be reached
  failed_samples   text[] NOT NULL,                  -- a few of them
  blocked_samples  text[] NOT NULL,                  -- of what the policy refused
  PRIMARY KEY (buyer_id, hour)
) WITH (fillfactor = 50);
CREATE INDEX buyer_activity_hour ON buyer_activity (hour);

-- One open finding a rule and subject, kept up to date while it goes on.
CREATE TABLE abuse_findings (
  id            uuid PRIMARY KEY,
  rule          text NOT NULL CHECK (rule ~ '^[a-z_]{1,40}$'),
  subject       text NOT NULL,                       -- the buyer's id, or the host that many reach
  buyer_id      uuid REFERENCES buyers (id),         -- null: of many buyers
  host          text,
  state         text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'dismissed', 'warned', 'suspended')),
  measured      bigint NOT NULL,                     -- what the rule compares, when it was last seen
  measured_max  bigint NOT NULL,
  threshold     bigint NOT NULL,
  seen          bigint NOT NULL DEFAULT 1,           -- looks of the job that found it so
  evidence      jsonb NOT NULL,                      -- of the latest look
  opened_at     timestamptz(3) NOT NULL DEFAULT now(), -- pages are cut by it, in JSON
  seen_at       timestamptz NOT NULL DEFAULT now(),
  automatic     text CHECK (automatic IN ('throttled', 'suspended')), -- done without an admin
  automatic_at  timestamptz,
  limit_before  int,                                 -- connections a second before throttling; null: the default
  limit_after   int,                                 -- and with it
  decided_at    timestamptz,
  decided_by    uuid REFERENCES users (id),
  reason        text,
  message       text,                                -- what the buyer was told
  forgotten_at  timestamptz,                         -- evidence and texts were deleted
  CHECK ((state = 'open') = (decided_at IS NULL)),
  CHECK ((automatic IS NULL) = (automatic_at IS NULL))
);
CREATE UNIQUE INDEX abuse_findings_open ON abuse_findings (rule, subject) WHERE state = 'open';
CREATE INDEX abuse_findings_subject ON abuse_findings (rule, subject, decided_at);
CREATE INDEX abuse_findings_time ON abuse_findings (opened_at, id);
CREATE INDEX abuse_findings_state ON abuse_findings (state, opened_at, id);
CREATE INDEX abuse_findings_rule ON abuse_findings (rule, opened_at, id);
CREATE INDEX abuse_findings_buyer ON abuse_findings (buyer_id, opened_at, id);
CREATE INDEX abuse_findings_decided ON abuse_findings (decided_at) WHERE decided_at IS NOT NULL;

-- What anybody reported of traffic that left from an exit address of ours.
CREATE TABLE abuse_reports (
  id            uuid PRIMARY KEY,
  reference     text NOT NULL UNIQUE,                -- what the reporter is told
  secret_hash   bytea NOT NULL CHECK (length(secret_hash) = 32),
  state         text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'answered', 'closed')),
  outcome       text CHECK (outcome IN ('acted', 'not_found', 'no_abuse', 'duplicate', 'spam')),
  exit_ip       inet,                                -- these until the report is forgotten
  happened_at   timestamptz NOT NULL,
  port          int CHECK (port BETWEEN 1 AND 65535),-- of the destination
  destination   text,
  description   text,
  contact       text,
  reporter_ip   inet,
  answer        text,
  answered_at   timestamptz,                         -- the first time
  answered_by   uuid REFERENCES users (id),
  closed_at     timestamptz,
  finding_id    uuid REFERENCES abuse_findings (id),
  received_at   timestamptz(3) NOT NULL DEFAULT now(), -- pages are cut by it, in JSON
  forgotten_at  timestamptz,                         -- addresses and texts were deleted
  CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
  CHECK ((state = 'closed') = (outcome IS NOT NULL))
);
CREATE INDEX abuse_reports_time ON abuse_reports (received_at, id);
CREATE INDEX abuse_reports_state ON abuse_reports (state, received_at, id);
CREATE INDEX abuse_reports_exit_ip ON abuse_reports (exit_ip, received_at, id);
CREATE INDEX abuse_reports_finding ON abuse_reports (finding_id, received_at, id) WHERE finding_id IS NOT NULL;
CREATE INDEX abuse_reports_closed ON abuse_reports (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX abuse_reports_answered ON abuse_reports (answered_at) WHERE answered_at IS NOT NULL;
