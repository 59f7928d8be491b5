-- The record: people, devices, buyers, packages, traffic sessions, meters, ledger, audit.
-- Money is whole micro-dollars in bigint; bytes are bigint; "up" is buyer -> destination, "down" the other way.

-- People -----------------------------------------------------------------------------------------------------------

CREATE TABLE users (
  id             uuid PRIMARY KEY,
  telegram_id    bigint UNIQUE,                      -- null once anonymised
  username       text,
  phone          text,
  email          text,
  language       text NOT NULL DEFAULT 'en' CHECK (language IN ('en', 'ru', 'uz')),
  is_verified    boolean NOT NULL DEFAULT false,
  is_admin       boolean NOT NULL DEFAULT false,
  status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'banned', 'deleted')),
  referral_code  text NOT NULL UNIQUE,
  referred_by    uuid REFERENCES users (id),
  settings       jsonb NOT NULL DEFAULT '{}',        -- caps, Wi-Fi only, charging only, hours, notifications
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX users_created ON users (created_at, id);

-- Six digits, five minutes, five tries, one use; only a salted hash is kept.
CREATE TABLE login_codes (
  id          uuid PRIMARY KEY,
  user_id     uuid NOT NULL REFERENCES users (id),
  code_hash   bytea NOT NULL,
  salt        bytea NOT NULL,
  tries       int NOT NULL DEFAULT 0,
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_codes_user ON login_codes (user_id, created_at DESC);

-- A login is a family of refresh tokens: reuse of a spent one revokes the family.
CREATE TABLE logins (
  id            uuid PRIMARY KEY,
  user_id       uuid NOT NULL REFERENCES users (id),
  ip            inet,
  user_agent    text,
  created_at    timestamptz NOT NULL DEFAULT now(),
  last_used_at  timestamptz NOT NULL DEFAULT now(),
  revoked_at    timestamptz
);
CREATE INDEX logins_user ON logins (user_id, created_at DESC);

CREATE TABLE refresh_tokens (
  token_hash  bytea PRIMARY KEY,                     -- SHA-256
  login_id    uuid NOT NULL REFERENCES logins (id),
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz
);
CREATE INDEX refresh_tokens_login ON refresh_tokens (login_id);

CREATE TABLE consents (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id        uuid NOT NULL REFERENCES users (id),
  terms_version  text NOT NULL,
  accepted_at    timestamptz NOT NULL DEFAULT now(),
  ip             inet,
  withdrawn_at   timestamptz
);
CREATE UNIQUE INDEX consents_in_force ON consents (user_id) WHERE withdrawn_at IS NULL;

CREATE TABLE devices (
  id              text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9._-]{8,64}$'),  -- drawn by the installation
  user_id         uuid NOT NULL REFERENCES users (id),
  key_hash        bytea NOT NULL UNIQUE,             -- SHA-256 of the device key, which is shown once
  os              text NOT NULL,
  model           text,
  client_version  text NOT NULL,
  claimed_ip      inet,                              -- advice only
  last_ip         inet,
  last_country    text,
  last_seen_at    timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  removed_at      timestamptz
);
CREATE INDEX devices_user ON devices (user_id, created_at);

-- Buyers -----------------------------------------------------------------------------------------------------------

CREATE TABLE buyers (
  id                   uuid PRIMARY KEY,
  account              text NOT NULL UNIQUE CHECK (account ~ '^[a-z0-9]{4,32}$'),  -- the proxy username
  name                 text NOT NULL,
  contact              text,
  region               text,
  status               text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closed')),
  kyc_status           text NOT NULL DEFAULT 'pending' CHECK (kyc_status IN ('pending', 'approved', 'rejected')),
  aup_accepted_at      timestamptz,
  price_micros_per_gb  bigint CHECK (price_micros_per_gb >= 0),   -- null: the default of settings
  limits               jsonb NOT NULL DEFAULT '{}',
  version              bigint NOT NULL DEFAULT 1,    -- of the snapshot at the gateways
  created_at           timestamptz NOT NULL DEFAULT now(),
  updated_at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX buyers_created ON buyers (created_at, id);

-- What opens a buyer's doors: API tokens (REST and proxy, by scope) and the proxy password.
CREATE TABLE buyer_tokens (
  id            uuid PRIMARY KEY,
  buyer_id      uuid NOT NULL REFERENCES buyers (id),
  kind          text NOT NULL DEFAULT 'token' CHECK (kind IN ('token', 'proxy_password')),
  token_hash    bytea NOT NULL UNIQUE,               -- SHA-256
  prefix        text NOT NULL,                       -- the first characters, to recognise it in a list
  scopes        text[] NOT NULL DEFAULT '{proxy,api}',
  allowed_ips   cidr[] NOT NULL DEFAULT '{}',
  description   text,
  expires_at    timestamptz,
  last_used_at  timestamptz,
  created_at    timestamptz NOT NULL DEFAULT now(),
  revoked_at    timestamptz
);
CREATE INDEX buyer_tokens_buyer ON buyer_tokens (buyer_id, created_at);

-- Traffic ----------------------------------------------------------------------------------------------------------

CREATE TABLE traffic_sessions (
  id                   uuid PRIMARY KEY,
  user_id              uuid NOT NULL REFERENCES users (id),
  device_id            text NOT NULL REFERENCES devices (id),
  -- stopping: no more streams, meters not all FINAL yet. completed: every meter FINAL and booked.
  status               text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'stopping', 'completed', 'failed')),
  exit_ip              inet NOT NULL,
  country              text NOT NULL,
  city                 text,
  asn                  bigint,
  network_type         text NOT NULL DEFAULT 'unknown',
  client_version       text NOT NULL,
  local_ip             inet,                         -- advice only
  claimed_public_ip    inet,                         -- advice only
  bytes_up             bigint NOT NULL DEFAULT 0,    -- booked by settlement
  bytes_down           bigint NOT NULL DEFAULT 0,
  earned_micros        bigint NOT NULL DEFAULT 0,
  charged_micros       bigint NOT NULL DEFAULT 0,
  reported_bytes_tx    bigint NOT NULL DEFAULT 0,    -- the device's own count, advice only
  reported_bytes_rx    bigint NOT NULL DEFAULT 0,
  stop_reason          text,
  started_at           timestamptz NOT NULL DEFAULT now(),
  stopped_at           timestamptz,
  completed_at         timestamptz
);
CREATE UNIQUE INDEX traffic_sessions_live ON traffic_sessions (device_id) WHERE status = 'active';
CREATE INDEX traffic_sessions_user ON traffic_sessions (user_id, started_at DESC, id);
CREATE INDEX traffic_sessions_stopping ON traffic_sessions (stopped_at) WHERE status = 'stopping';

CREATE TABLE packages (
  id            uuid PRIMARY KEY,
  user_id       uuid NOT NULL REFERENCES users (id), -- the provider
  exit_ip       inet NOT NULL,
  country       text,
  city          text,
  asn           bigint,
  size_bytes    bigint NOT NULL CHECK (size_bytes > 0),
  status        text NOT NULL DEFAULT 'available'
                CHECK (status IN ('available', 'allocated', 'in_progress', 'completed', 'failed', 'revoked')),
  origin        text NOT NULL CHECK (origin IN ('offer', 'ingest')),
  session_id    uuid REFERENCES traffic_sessions (id),  -- of an offer
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now()
);
-- One provider + one IP serves one package at a time.
CREATE UNIQUE INDEX packages_one_live ON packages (user_id, exit_ip) WHERE status IN ('allocated', 'in_progress');
-- A session has one open offer at a time.
CREATE UNIQUE INDEX packages_one_offer ON packages (session_id) WHERE status = 'available' AND origin = 'offer';
CREATE INDEX packages_available ON packages (created_at, id) WHERE status = 'available';
CREATE INDEX packages_created ON packages (created_at, id);
CREATE INDEX packages_user ON packages (user_id, created_at);

CREATE TABLE allocations (
  id                     uuid PRIMARY KEY,
  package_id             uuid REFERENCES packages (id),  -- null: relayed, but the package was lost to a conflict
  buyer_id               uuid NOT NULL REFERENCES buyers (id),
  session_id             uuid REFERENCES traffic_sessions (id),
  via                    text NOT NULL CHECK (via IN ('pull', 'connect')),
  status                 text NOT NULL CHECK (status IN ('allocated', 'in_progress', 'completed', 'failed', 'revoked')),
  proxy_password_hash    bytea,                      -- of a pulled package, SHA-256
  size_bytes             bigint NOT NULL,
  bytes_up               bigint NOT NULL DEFAULT 0,  -- booked by settlement
  bytes_down             bigint NOT NULL DEFAULT 0,
  charged_micros         bigint NOT NULL DEFAULT 0,
  reported_bytes         bigint,                     -- the buyer's own count, advice only
  assigned_at            timestamptz NOT NULL DEFAULT now(),
  expires_at             timestamptz,
  ended_at               timestamptz
);
CREATE INDEX allocations_buyer ON allocations (buyer_id, assigned_at DESC, id);
CREATE INDEX allocations_package ON allocations (package_id);
CREATE INDEX allocations_stale ON allocations (expires_at) WHERE status = 'allocated';
CREATE INDEX allocations_session ON allocations (session_id);

-- Money ------------------------------------------------------------------------------------------------------------

-- What settlement has booked of each meter. The marks never fall.
CREATE TABLE meters (
  id                           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  session_id                   uuid NOT NULL REFERENCES traffic_sessions (id),
  allocation_id                uuid NOT NULL REFERENCES allocations (id),
  gateway_id                   text NOT NULL,
  epoch                        text NOT NULL CHECK (epoch ~ '^[0-9a-f]{32}$'),
  provider_price_micros_per_gb bigint NOT NULL,
  buyer_price_micros_per_gb    bigint NOT NULL,
  bytes_up                     bigint NOT NULL DEFAULT 0,
  bytes_down                   bigint NOT NULL DEFAULT 0,
  charged_micros               bigint NOT NULL DEFAULT 0,
  earned_micros                bigint NOT NULL DEFAULT 0,
  referral_micros              bigint NOT NULL DEFAULT 0,
  final                        boolean NOT NULL DEFAULT false,
  opened_at                    timestamptz NOT NULL,
  updated_at                   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (session_id, allocation_id, gateway_id, epoch, provider_price_micros_per_gb, buyer_price_micros_per_gb)
);
CREATE INDEX meters_open ON meters (session_id) WHERE NOT final;
CREATE FUNCTION meters_never_fall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.bytes_up < OLD.bytes_up OR NEW.bytes_down < OLD.bytes_down THEN
    RAISE EXCEPTION 'meter % would fall', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  IF OLD.final AND (NEW.bytes_up, NEW.bytes_down, NEW.final) IS DISTINCT FROM (OLD.bytes_up, OLD.bytes_down, true) THEN
    RAISE EXCEPTION 'meter % is final', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER meters_never_fall BEFORE UPDATE ON meters FOR EACH ROW EXECUTE FUNCTION meters_never_fall();

CREATE TABLE ledger_accounts (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind            text NOT NULL CHECK (kind IN (
                    'buyer_prepaid',        -- what a buyer has left; grows by top-ups, falls by charges
                    'provider_pending',     -- earned, still on hold
                    'provider_available',   -- free to withdraw
                    'platform_revenue',     -- charge minus earning minus referral
                    'platform_funding'      -- counterpart of money that came from or went to the outside
                  )),
  owner_id        uuid,                              -- null for the platform's own
  balance_micros  bigint NOT NULL DEFAULT 0,         -- equals the sum of its entries, kept by the entries' trigger
  version         bigint NOT NULL DEFAULT 0,         -- number of its entries
  created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ledger_accounts_owner ON ledger_accounts (kind, owner_id) NULLS NOT DISTINCT;

CREATE TABLE ledger_transactions (
  id            uuid PRIMARY KEY,
  kind          text NOT NULL,
  source_id     text NOT NULL,                       -- the idempotency key within its kind
  content_hash  bytea NOT NULL,                      -- of the entries: tells "exists" from "exists with other content"
  description   text,
  created_at    timestamptz NOT NULL DEFAULT now(),
  UNIQUE (kind, source_id)
);

CREATE TABLE ledger_entries (
  id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  transaction_id   uuid NOT NULL REFERENCES ledger_transactions (id),
  account_id       bigint NOT NULL REFERENCES ledger_accounts (id),
  kind             text NOT NULL CHECK (kind IN (
                     'traffic_earning', 'traffic_charge', 'platform_revenue', 'hold_release', 'payout', 'payout_refund',
                     'topup', 'admin_adjustment', 'referral_bonus', 'promo_bonus', 'refund')),
  amount_micros    bigint NOT NULL,
  account_version  bigint NOT NULL,                  -- 1, 2, 3 … within the account
  balance_after_micros bigint NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT now(),
  UNIQUE (account_id, account_version)
);
CREATE INDEX ledger_entries_transaction ON ledger_entries (transaction_id);
CREATE INDEX ledger_entries_account_time ON ledger_entries (account_id, created_at);

CREATE TABLE daily_prices (
  day            date PRIMARY KEY,
  micros_per_gb  bigint NOT NULL CHECK (micros_per_gb >= 0),
  set_by         uuid REFERENCES users (id),
  set_at         timestamptz NOT NULL DEFAULT now()
);

-- Sums for charts and lists, booked in settlement's own transaction.
CREATE TABLE usage_daily_buyer (
  buyer_id        uuid NOT NULL REFERENCES buyers (id),
  day             date NOT NULL,
  country         text NOT NULL,
  bytes_up        bigint NOT NULL DEFAULT 0,
  bytes_down      bigint NOT NULL DEFAULT 0,
  charged_micros  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (buyer_id, day, country)
);
CREATE TABLE usage_daily_provider (
  user_id        uuid NOT NULL REFERENCES users (id),
  day            date NOT NULL,
  bytes_up       bigint NOT NULL DEFAULT 0,
  bytes_down     bigint NOT NULL DEFAULT 0,
  earned_micros  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (user_id, day)
);

-- Housekeeping -----------------------------------------------------------------------------------------------------

CREATE TABLE settings (
  key         text PRIMARY KEY,
  value       jsonb NOT NULL,
  updated_at  timestamptz NOT NULL DEFAULT now(),
  updated_by  uuid REFERENCES users (id)
);

-- The first answer to a write, replayed for the same key and body for 24 h.
CREATE TABLE idempotency_keys (
  actor         text NOT NULL,
  key           text NOT NULL,
  request_hash  bytea NOT NULL,                      -- method, path and body
  status        int,                                 -- null while the first request is still running
  response      jsonb,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE audit_log (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at           timestamptz NOT NULL DEFAULT now(),
  actor_role   text NOT NULL,
  actor_id     text,
  action       text NOT NULL,
  object_type  text NOT NULL,
  object_id    text,
  before       jsonb,
  after        jsonb,
  ip           inet,
  request_id   text
);
CREATE INDEX audit_log_object ON audit_log (object_type, object_id, at);
CREATE INDEX audit_log_actor ON audit_log (actor_id, at);

-- What must never change, not even by the application's own role: refused by the database itself.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON ledger_transactions FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON ledger_transactions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Each transaction's entries sum to zero, checked at commit.
CREATE FUNCTION ledger_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT sum(amount_micros) FROM ledger_entries WHERE transaction_id = NEW.transaction_id) <> 0 THEN
    RAISE EXCEPTION 'ledger transaction % does not sum to zero', NEW.transaction_id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER sums_to_zero AFTER INSERT ON ledger_entries
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_sums_to_zero();
