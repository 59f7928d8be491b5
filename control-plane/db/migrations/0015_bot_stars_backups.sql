-- The Telegram bot: updates it was sent, Telegram accounts of buyers, top-ups in Telegram Stars. And what is known of a
-- backup's file.

-- Updates ----------------------------------------------------------------------------------------------------------

-- Each update once: written down before Telegram is answered, handled from here in one transaction with its effects.
-- Kept for longer than Telegram delivers again (a day).
CREATE TABLE telegram_updates (
  update_id    bigint PRIMARY KEY,
  chat_id      bigint,                               -- its updates are handled in order; null: in any
  payload      text,                                 -- JSON as it came; null once it is over: people write in it
  state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
  attempts     int NOT NULL DEFAULT 0,
  due_at       timestamptz NOT NULL DEFAULT now(),
  error        text,                                 -- of the last attempt
  received_at  timestamptz NOT NULL DEFAULT now(),
  ended_at     timestamptz,
  CHECK ((state = 'waiting') = (ended_at IS NULL))
);
CREATE INDEX telegram_updates_waiting ON telegram_updates (update_id) WHERE state = 'waiting';
CREATE INDEX telegram_updates_chat ON telegram_updates (chat_id, update_id) WHERE state = 'waiting';
CREATE INDEX telegram_updates_ended ON telegram_updates (ended_at) WHERE ended_at IS NOT NULL;

-- Telegram accounts of buyers --------------------------------------------------------------------------------------

-- Who may top a buyer up by the bot's /topup. An account is one buyer's; it may be a provider's as well.
CREATE TABLE buyer_telegrams (
  telegram_id  bigint PRIMARY KEY,
  buyer_id     uuid NOT NULL REFERENCES buyers (id),
  username     text,
  linked_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX buyer_telegrams_buyer ON buyer_telegrams (buyer_id, linked_at);
CREATE TABLE buyer_link_tokens (
  token_hash  bytea PRIMARY KEY,                     -- SHA-256
  buyer_id    uuid NOT NULL REFERENCES buyers (id),
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX buyer_link_tokens_buyer ON buyer_link_tokens (buyer_id, created_at);
CREATE INDEX buyer_link_tokens_expiry ON buyer_link_tokens (expires_at);

-- Telegram Stars ---------------------------------------------------------------------------------------------------

ALTER TABLE topups
  ADD COLUMN method       text NOT NULL DEFAULT 'cryptomus' CHECK (method IN ('cryptomus', 'telegram_stars')),
  ADD COLUMN stars        int CHECK (stars > 0),     -- what the invoice asks
  ADD COLUMN checkout_at  timestamptz,               -- Telegram was told that it may be paid
  ADD COLUMN refunded_at  timestamptz,               -- what was credited has been taken back
  ADD CONSTRAINT topups_stars CHECK ((method = 'telegram_stars') = (stars IS NOT NULL)),
  ADD CONSTRAINT topups_refunded CHECK (refunded_at IS NULL OR status = 'completed');
CREATE INDEX topups_stars_open ON topups (expires_at) WHERE method = 'telegram_stars' AND status IN ('pending', 'processing');

-- One row a payment that Telegram reported. Credited by ledger kind `topup_stars`, source id = charge_id; taken back by
-- `topup_stars_refund`. `refused` was never credited, since it fits no order of ours: the Stars go back.
CREATE TABLE star_payments (
  charge_id         text PRIMARY KEY,                -- telegram_payment_charge_id
  topup_id          uuid REFERENCES topups (id),     -- null: of no order of ours
  telegram_id       bigint NOT NULL,                 -- who paid
  stars             int NOT NULL CHECK (stars > 0),
  state             text NOT NULL CHECK (state IN ('credited', 'refused', 'refunding', 'refunded')),
  credited_micros   bigint CHECK (credited_micros > 0),
  refund_asked_by   uuid REFERENCES users (id),
  refund_reason     text,
  refunds           int NOT NULL DEFAULT 0,          -- times the credit was taken back: refused by Telegram, it returns
  last_error        text,
  paid_at           timestamptz NOT NULL DEFAULT now(),
  refunded_at       timestamptz,
  CHECK ((state = 'refunded') = (refunded_at IS NOT NULL)),
  CHECK (state <> 'credited' OR credited_micros IS NOT NULL)
);
CREATE INDEX star_payments_topup ON star_payments (topup_id);
CREATE UNIQUE INDEX star_payments_credited ON star_payments (topup_id) WHERE credited_micros IS NOT NULL;
CREATE TRIGGER immutable BEFORE DELETE ON star_payments FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON star_payments FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How many transfers of Telegram's list of the bot's Stars have been looked at (job `stars`).
CREATE TABLE star_watch (
  one   boolean PRIMARY KEY DEFAULT true CHECK (one),
  seen  int NOT NULL DEFAULT 0
);
INSERT INTO star_watch DEFAULT VALUES;

-- Backups ----------------------------------------------------------------------------------------------------------

ALTER TABLE backups
  ADD COLUMN storage       text NOT NULL DEFAULT 'folder' CHECK (storage IN ('folder', 's3')),
  ADD COLUMN sha256        text,                     -- of the file, hexadecimal; read back from the storage and compared
  ADD COLUMN bytes_so_far  bigint;                   -- of a dump under way
