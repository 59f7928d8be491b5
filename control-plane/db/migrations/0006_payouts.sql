-- Withdrawals of providers. The money leaves `provider_available` in the transaction that makes the row (ledger kind
-- `payout`, source id = payouts.id) and comes back in the one that ends it as cancelled or failed (`payout_refund`).

CREATE TABLE payouts (
  id              uuid PRIMARY KEY,
  user_id         uuid NOT NULL REFERENCES users (id),
  amount_micros   bigint NOT NULL CHECK (amount_micros > 0),
  method          text NOT NULL CHECK (method IN ('cryptomus')),
  network         text NOT NULL,
  currency        text NOT NULL CHECK (currency IN ('USDT')),
  target          text NOT NULL,                     -- the address, as the provider gave it
  status          text NOT NULL DEFAULT 'pending'
                  CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  tx_reference    text,                              -- of the chain, once it is paid
  failure_reason  text,
  created_at      timestamptz NOT NULL DEFAULT now(),
  processing_at   timestamptz,
  ended_at        timestamptz,                       -- completed, failed or cancelled
  CHECK ((status IN ('completed', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
);
CREATE INDEX payouts_user ON payouts (user_id, created_at DESC, id DESC);
CREATE INDEX payouts_created ON payouts (created_at DESC, id DESC);
CREATE INDEX payouts_open ON payouts (status) WHERE status IN ('pending', 'processing');

-- Whom, how much and where to never changes, and states follow each other as drawn, whoever writes.
CREATE FUNCTION payouts_follow_states() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.id, NEW.user_id, NEW.amount_micros, NEW.method, NEW.network, NEW.currency, NEW.target, NEW.created_at)
     IS DISTINCT FROM
     (OLD.id, OLD.user_id, OLD.amount_micros, OLD.method, OLD.network, OLD.currency, OLD.target, OLD.created_at) THEN
    RAISE EXCEPTION 'payout % would become another one', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.status <> OLD.status AND NOT (
       (OLD.status = 'pending' AND NEW.status IN ('processing', 'cancelled'))
    OR (OLD.status = 'processing' AND NEW.status IN ('completed', 'failed'))) THEN
    RAISE EXCEPTION 'payout % can not go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER follow_states BEFORE UPDATE ON payouts FOR EACH ROW EXECUTE FUNCTION payouts_follow_states();
CREATE TRIGGER immutable BEFORE DELETE ON payouts FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON payouts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
