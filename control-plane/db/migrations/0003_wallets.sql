-- Wallets: what is set aside for a run of a gateway before it may spend it, so that no buyer overdraws, on any number
-- of gateways. Everything here only grows; what is held of an owner is
--   sum over its open rows of (granted - renounced - spent)
-- and for buyers: held <= balance, at every moment (0004 holds the database to it).

-- Proxy users of one buyer, each with a password and a byte limit of its own.
CREATE TABLE sub_users (
  id             uuid PRIMARY KEY,
  buyer_id       uuid NOT NULL REFERENCES buyers (id),
  account        text NOT NULL UNIQUE CHECK (account ~ '^[a-z0-9]{4,32}$'),
  name           text NOT NULL,
  status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closed')),
  password_hash  bytea NOT NULL,                     -- SHA-256 of a secret of at least 128 random bits
  bytes_max      bigint CHECK (bytes_max >= 0),      -- null: bounded by the buyer's balance alone
  bytes_used     bigint NOT NULL DEFAULT 0,          -- booked by settlement
  allowed_ips    cidr[] NOT NULL DEFAULT '{}',
  version        bigint NOT NULL DEFAULT 1,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sub_users_buyer ON sub_users (buyer_id, created_at, id);

-- Buyers and sub-users share one name space: it is what stands in front of the proxy's username parameters.
CREATE FUNCTION account_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('account:' || NEW.account, 0));
  IF (TG_TABLE_NAME = 'sub_users' AND EXISTS (SELECT 1 FROM buyers WHERE account = NEW.account))
     OR (TG_TABLE_NAME = 'buyers' AND EXISTS (SELECT 1 FROM sub_users WHERE account = NEW.account)) THEN
    RAISE EXCEPTION 'account % is taken', NEW.account USING ERRCODE = 'unique_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER account_is_free BEFORE INSERT OR UPDATE OF account ON sub_users
  FOR EACH ROW EXECUTE FUNCTION account_is_free();
CREATE TRIGGER account_is_free BEFORE INSERT OR UPDATE OF account ON buyers
  FOR EACH ROW EXECUTE FUNCTION account_is_free();

ALTER TABLE allocations ADD COLUMN sub_user_id uuid REFERENCES sub_users (id);
CREATE INDEX allocations_sub_user ON allocations (sub_user_id, assigned_at DESC) WHERE sub_user_id IS NOT NULL;

CREATE TABLE wallet_holds (
  kind        text NOT NULL CHECK (kind IN ('buyer', 'package', 'sub_user')),
  owner_id    uuid NOT NULL,                         -- buyers.id, allocations.id, sub_users.id
  gateway_id  text NOT NULL,
  run         text NOT NULL CHECK (run ~ '^[0-9a-f]{24}$'),  -- the first 96 bits of the run's epochs
  granted     bigint NOT NULL DEFAULT 0,             -- micro-dollars for 'buyer', bytes for the others
  renounced   bigint NOT NULL DEFAULT 0,             -- the run will never spend this much of it
  spent       bigint NOT NULL DEFAULT 0,             -- booked by settlement, in the transaction that books the meters
  closed_at   timestamptz,                           -- the run is over, each of its meters FINAL or written off
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, owner_id, gateway_id, run),
  CHECK (granted >= 0 AND renounced >= 0 AND spent >= 0)
);
CREATE INDEX wallet_holds_open ON wallet_holds (gateway_id, run) WHERE closed_at IS NULL;
ALTER TABLE wallet_holds SET (fillfactor = 60);

CREATE FUNCTION wallet_holds_never_fall() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.granted < OLD.granted OR NEW.renounced < OLD.renounced OR NEW.spent < OLD.spent
     OR (OLD.closed_at IS NOT NULL AND (NEW.granted > OLD.granted OR NEW.closed_at IS NULL)) THEN
    RAISE EXCEPTION 'the hold of % % for run % would fall or open again', OLD.kind, OLD.owner_id, OLD.run
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER wallet_holds_never_fall BEFORE UPDATE ON wallet_holds
  FOR EACH ROW EXECUTE FUNCTION wallet_holds_never_fall();

-- Given up by an admin: its gateway is lost, and nobody waits for its FINAL. Bytes that come all the same are booked.
ALTER TABLE meters
  ADD COLUMN written_off_at timestamptz,
  ADD COLUMN written_off_by uuid REFERENCES users (id);
DROP INDEX meters_open;
CREATE INDEX meters_open ON meters (session_id) WHERE NOT final AND written_off_at IS NULL;
