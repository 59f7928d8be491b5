-- Payments through Cryptomus: who released a payout, how sending it stands, and top-ups of buyers.

CREATE TABLE payout_approvals (
  payout_id    uuid NOT NULL REFERENCES payouts (id),
  admin_id     uuid NOT NULL REFERENCES users (id),
  approved_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (payout_id, admin_id)                  -- the same admin twice is one
);
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON payout_approvals FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON payout_approvals FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A released payout on its way. `sending` is committed before Cryptomus is called: whoever finds it after a crash asks
-- what became of the call and never just calls again.
CREATE TABLE payout_sends (
  payout_id        uuid PRIMARY KEY REFERENCES payouts (id),
  state            text NOT NULL DEFAULT 'queued'
                   CHECK (state IN ('queued', 'sending', 'unknown', 'accepted', 'refused', 'ended')),
  calls            int NOT NULL DEFAULT 0,           -- times the payout was sent
  sent_at          timestamptz,                      -- when it was sent last
  provider_uuid    text,                             -- at Cryptomus
  provider_status  text,                             -- as Cryptomus said last
  last_error       text,
  next_at          timestamptz NOT NULL DEFAULT now(),         -- when it is looked at next
  leased_until     timestamptz NOT NULL DEFAULT '-infinity',   -- one worker at a time …
  claims           bigint NOT NULL DEFAULT 0,                  -- … and one that lost its lease writes nothing
  hints            bigint NOT NULL DEFAULT 0                   -- webhooks seen
);
CREATE INDEX payout_sends_next ON payout_sends (next_at) WHERE state IN ('queued', 'sending', 'unknown', 'accepted');
INSERT INTO payout_sends (payout_id, state) SELECT id, 'unknown' FROM payouts WHERE status = 'processing';

CREATE INDEX payouts_status ON payouts (status, created_at DESC, id DESC);
CREATE INDEX payouts_completed ON payouts (ended_at) WHERE status = 'completed';

-- Money of buyers on its way in. `completed` is credited: ledger kind `topup`, source id = topups.id.
CREATE TABLE topups (
  id               uuid PRIMARY KEY,
  buyer_id         uuid NOT NULL REFERENCES buyers (id),
  amount_micros    bigint NOT NULL CHECK (amount_micros > 0),  -- of the invoice
  credited_micros  bigint CHECK (credited_micros > 0),         -- what was really paid
  status           text NOT NULL DEFAULT 'pending'
                   CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  url              text,                             -- where the buyer pays
  tx_reference     text,
  failure_reason   text,
  provider_uuid    text,
  provider_status  text,
  created_at       timestamptz NOT NULL DEFAULT now(),
  expires_at       timestamptz,
  ended_at         timestamptz,
  next_at          timestamptz,                      -- when it is looked at next; null: only when a webhook asks
  leased_until     timestamptz NOT NULL DEFAULT '-infinity',
  claims           bigint NOT NULL DEFAULT 0,
  hints            bigint NOT NULL DEFAULT 0,
  CHECK ((status = 'completed') = (credited_micros IS NOT NULL)),
  CHECK ((status IN ('completed', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
);
CREATE INDEX topups_buyer ON topups (buyer_id, created_at DESC, id DESC);
CREATE INDEX topups_created ON topups (created_at DESC, id DESC);
CREATE INDEX topups_status ON topups (status, created_at DESC, id DESC);
CREATE INDEX topups_next ON topups (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX topups_completed ON topups (ended_at) WHERE status = 'completed';

-- Whose and how much never changes, and what was credited stays so, whoever writes. A cancelled or failed one may still
-- be paid late.
CREATE FUNCTION topups_follow_states() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.id, NEW.buyer_id, NEW.amount_micros, NEW.created_at)
     IS DISTINCT FROM (OLD.id, OLD.buyer_id, OLD.amount_micros, OLD.created_at) THEN
    RAISE EXCEPTION 'top-up % would become another one', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  IF OLD.status = 'completed' AND (NEW.status, NEW.credited_micros) IS DISTINCT FROM (OLD.status, OLD.credited_micros) THEN
    RAISE EXCEPTION 'top-up % is credited', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER follow_states BEFORE UPDATE ON topups FOR EACH ROW EXECUTE FUNCTION topups_follow_states();
CREATE TRIGGER immutable BEFORE DELETE ON topups FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON topups FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
