-- Legal holds: connection records of a buyer or a provider are kept although their days are over.

-- In force from the moment it is asked for, until it is lifted; without a second admin only until `lapses_at`.
CREATE TABLE legal_holds (
  id             uuid PRIMARY KEY,
  buyer_id       uuid REFERENCES buyers (id),
  user_id        uuid REFERENCES users (id),         -- the provider
  reason         text NOT NULL,
  asked_at       timestamptz(3) NOT NULL DEFAULT now(), -- pages are cut by it, in JSON
  asked_by       uuid NOT NULL REFERENCES users (id),
  lapses_at      timestamptz NOT NULL,
  confirmed_at   timestamptz,
  confirmed_by   uuid REFERENCES users (id),
  lift_reason    text,
  lift_asked_at  timestamptz,
  lift_asked_by  uuid REFERENCES users (id),
  lifted_at      timestamptz,
  lifted_by      uuid REFERENCES users (id),
  CHECK (num_nonnulls(buyer_id, user_id) = 1),
  CHECK (confirmed_by <> asked_by),
  CHECK ((confirmed_at IS NULL) = (confirmed_by IS NULL)),
  CHECK (lifted_by <> lift_asked_by),
  CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE INDEX legal_holds_time ON legal_holds (asked_at, id);
CREATE INDEX legal_holds_buyer ON legal_holds (buyer_id, asked_at, id) WHERE buyer_id IS NOT NULL;
CREATE INDEX legal_holds_user ON legal_holds (user_id, asked_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX legal_holds_open ON legal_holds (asked_at, id) WHERE lifted_at IS NULL;
CREATE INDEX legal_holds_lifted ON legal_holds (lifted_at) WHERE lifted_at IS NOT NULL;

-- What a hold says never changes, and it never goes: each step is written once.
CREATE FUNCTION legal_holds_go_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.lifted_at IS NULL
     AND (NEW.id, NEW.reason, NEW.asked_at, NEW.asked_by, NEW.lapses_at)
       = (OLD.id, OLD.reason, OLD.asked_at, OLD.asked_by, OLD.lapses_at)
     AND NEW.buyer_id IS NOT DISTINCT FROM OLD.buyer_id AND NEW.user_id IS NOT DISTINCT FROM OLD.user_id
     AND (OLD.confirmed_at IS NULL OR NEW.confirmed_at = OLD.confirmed_at AND NEW.confirmed_by = OLD.confirmed_by)
  THEN RETURN NEW; END IF;
  RAISE EXCEPTION 'legal_holds only go forward' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER go_forward BEFORE UPDATE OR DELETE ON legal_holds
  FOR EACH ROW EXECUTE FUNCTION legal_holds_go_forward();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON legal_holds FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
