-- What providers and admins do with people: several Telegram accounts on one user, bans, what a device was refused for,
-- the inbox, news, promo codes, support threads, broadcasts.

-- Telegram accounts ------------------------------------------------------------------------------------------------

-- All of them; users.telegram_id is the main one, which messages go to. One Telegram account belongs to one user.
CREATE TABLE telegram_accounts (
  telegram_id  bigint PRIMARY KEY,
  user_id      uuid NOT NULL REFERENCES users (id),
  position     int NOT NULL DEFAULT 0,               -- what the API calls it by; stays when others go
  username     text,
  linked_at    timestamptz NOT NULL DEFAULT now(),
  UNIQUE (user_id, position)
);
INSERT INTO telegram_accounts (telegram_id, user_id, username, linked_at)
  SELECT telegram_id, id, username, created_at FROM users WHERE telegram_id IS NOT NULL;

-- A user is not made for a Telegram account that is linked to another user: the insert then does nothing, as ON CONFLICT
-- DO NOTHING does for users.telegram_id. Whoever links takes the same lock.
CREATE FUNCTION telegram_lock(id bigint) RETURNS void LANGUAGE sql VOLATILE AS $$
  SELECT pg_advisory_xact_lock(hashtextextended('telegram:' || id, 0))
$$;
CREATE FUNCTION users_telegram_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM telegram_lock(NEW.telegram_id);
  IF EXISTS (SELECT 1 FROM telegram_accounts WHERE telegram_id = NEW.telegram_id) THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER telegram_is_free BEFORE INSERT ON users
  FOR EACH ROW WHEN (NEW.telegram_id IS NOT NULL) EXECUTE FUNCTION users_telegram_is_free();
-- The main account is one of the user's.
CREATE FUNCTION users_have_telegram() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO telegram_accounts (telegram_id, user_id, position, username)
    SELECT NEW.telegram_id, NEW.id, coalesce(max(position) + 1, 0), NEW.username
      FROM telegram_accounts WHERE user_id = NEW.id
    ON CONFLICT (telegram_id) DO NOTHING;
  IF NOT EXISTS (SELECT 1 FROM telegram_accounts WHERE telegram_id = NEW.telegram_id AND user_id = NEW.id) THEN
    RAISE EXCEPTION 'Telegram account % belongs to another user', NEW.telegram_id USING ERRCODE = 'unique_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER have_telegram AFTER INSERT OR UPDATE OF telegram_id ON users
  FOR EACH ROW WHEN (NEW.telegram_id IS NOT NULL) EXECUTE FUNCTION users_have_telegram();

-- One use, a few minutes; confirmed by the bot, which knows who pressed the link.
CREATE TABLE telegram_link_tokens (
  token_hash  bytea PRIMARY KEY,                     -- SHA-256
  user_id     uuid NOT NULL REFERENCES users (id),
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX telegram_link_tokens_user ON telegram_link_tokens (user_id);

-- Users as admins look for them ------------------------------------------------------------------------------------

ALTER TABLE users
  ADD COLUMN ban_reason          text,
  ADD COLUMN banned_at           timestamptz,
  ADD COLUMN deleted_at          timestamptz,
  ADD COLUMN telegram_blocked_at timestamptz;        -- the bot was told that the person blocked it
CREATE INDEX users_status ON users (status, created_at, id);
CREATE INDEX users_admins ON users (created_at) WHERE is_admin;
CREATE INDEX users_referrals ON users (referred_by) WHERE referred_by IS NOT NULL;
CREATE INDEX users_username ON users (lower(username) text_pattern_ops);
CREATE INDEX users_email ON users (lower(email) text_pattern_ops);
CREATE INDEX users_phone ON users (phone text_pattern_ops);
CREATE INDEX devices_country ON devices (last_country, user_id) WHERE removed_at IS NULL;
CREATE INDEX ledger_entries_referrals ON ledger_entries (account_id) INCLUDE (amount_micros)
  WHERE kind = 'referral_bonus';

-- Why a start was refused because of the address; null again once one was accepted.
ALTER TABLE devices
  ADD COLUMN refused_code text,
  ADD COLUMN refused_rule text,
  ADD COLUMN refused_at   timestamptz;

-- Inbox ------------------------------------------------------------------------------------------------------------

CREATE TABLE notifications (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id     uuid NOT NULL REFERENCES users (id),
  kind        text NOT NULL,
  title       text NOT NULL,
  body        text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  read_at     timestamptz
);
CREATE INDEX notifications_user ON notifications (user_id, id);
CREATE INDEX notifications_unread ON notifications (user_id) WHERE read_at IS NULL;

-- News -------------------------------------------------------------------------------------------------------------

CREATE TABLE news (
  id          uuid PRIMARY KEY,
  texts       jsonb NOT NULL CHECK (texts ?& '{en,ru,uz}'),  -- {en: {title, body}, ru: …, uz: …}
  publish_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz,
  created_by  uuid REFERENCES users (id),
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX news_published ON news (publish_at, id);

-- Promo codes ------------------------------------------------------------------------------------------------------

CREATE TABLE promo_codes (
  id            uuid PRIMARY KEY,
  code          text NOT NULL UNIQUE CHECK (code ~ '^[A-Z0-9_-]{3,32}$'),
  bonus_micros  bigint NOT NULL CHECK (bonus_micros > 0),
  uses_max      int NOT NULL CHECK (uses_max > 0),
  per_user_max  int NOT NULL DEFAULT 1 CHECK (per_user_max > 0),
  uses          int NOT NULL DEFAULT 0 CHECK (uses >= 0),
  status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'deleted')),
  description   text,
  expires_at    timestamptz,
  created_by    uuid REFERENCES users (id),
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX promo_codes_created ON promo_codes (created_at, id);
CREATE TABLE promo_redemptions (
  promo_id        uuid NOT NULL REFERENCES promo_codes (id),
  user_id         uuid NOT NULL REFERENCES users (id),
  nth             int NOT NULL,                      -- 1, 2, 3 … of this user with this code
  transaction_id  uuid NOT NULL REFERENCES ledger_transactions (id),
  redeemed_at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (promo_id, user_id, nth)
);
CREATE INDEX promo_redemptions_user ON promo_redemptions (user_id, redeemed_at);

-- Support ----------------------------------------------------------------------------------------------------------

CREATE TABLE support_threads (
  id          uuid PRIMARY KEY,
  user_id     uuid NOT NULL REFERENCES users (id),
  subject     text NOT NULL,
  status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'answered', 'closed')),
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()     -- of the last message
);
CREATE INDEX support_threads_user ON support_threads (user_id, updated_at, id);
CREATE INDEX support_threads_updated ON support_threads (updated_at, id);
CREATE INDEX support_threads_status ON support_threads (status, updated_at, id);
CREATE TABLE support_messages (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  thread_id   uuid NOT NULL REFERENCES support_threads (id) ON DELETE CASCADE,
  author      text NOT NULL CHECK (author IN ('user', 'admin')),
  admin_id    uuid REFERENCES users (id),
  body        text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX support_messages_thread ON support_messages (thread_id, id);

-- Broadcasts -------------------------------------------------------------------------------------------------------

CREATE TABLE broadcasts (
  id          uuid PRIMARY KEY,
  target      text NOT NULL,
  message     text NOT NULL,
  status      text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'sending', 'done', 'cancelled')),
  created_by  uuid REFERENCES users (id),
  created_at  timestamptz NOT NULL DEFAULT now(),
  started_at  timestamptz,
  ended_at    timestamptz
);
CREATE INDEX broadcasts_created ON broadcasts (created_at, id);
CREATE INDEX broadcasts_sending ON broadcasts (started_at, id) WHERE status = 'sending';
-- pending → sending (claimed, before the call) → sent, blocked, failed or unknown. unknown: the call was made, or may have
-- been, and nobody knows what came of it; it is not made again. skipped: no Telegram account left.
CREATE TABLE broadcast_recipients (
  broadcast_id  uuid NOT NULL REFERENCES broadcasts (id),
  user_id       uuid NOT NULL REFERENCES users (id),
  state         text NOT NULL DEFAULT 'pending' CHECK (state IN
                  ('pending', 'sending', 'sent', 'blocked', 'failed', 'unknown', 'skipped', 'cancelled')),
  claimed_by    uuid,                                -- the sender's run
  claimed_at    timestamptz,
  ended_at      timestamptz,
  PRIMARY KEY (broadcast_id, user_id)
);
CREATE INDEX broadcast_recipients_state ON broadcast_recipients (broadcast_id, state, user_id);
CREATE INDEX broadcast_recipients_user ON broadcast_recipients (user_id);
CREATE INDEX broadcast_recipients_claimed ON broadcast_recipients (claimed_at) WHERE state = 'sending';
-- Telegram's limit is for the bot, so one process sends at a time. Held for a while and renewed; free when it ran out.
CREATE TABLE broadcast_sender (
  one          boolean PRIMARY KEY DEFAULT true CHECK (one),
  run          uuid,
  lease_until  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO broadcast_sender DEFAULT VALUES;
