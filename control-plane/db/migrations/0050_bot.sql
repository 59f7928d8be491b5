-- What the bot keeps of people, conversations, notices and live messages; and what the admins were warned of.

-- Of people, by their Telegram account: they need not be users.
CREATE TABLE bot_people (
  telegram_id  bigint PRIMARY KEY,
  language     text CHECK (language IN ('en', 'ru', 'uz')),  -- chosen by /language; of a user their own row has it, too
  commands     text                                  -- the list of commands last set for their chat: '<language>:<role>'
);

-- Messages, guesses … of a person in a time (bot/guests.ts); above it they are refused.
CREATE TABLE bot_counts (
  telegram_id  bigint NOT NULL,
  what         text NOT NULL,
  since        timestamptz NOT NULL,
  n            int NOT NULL,
  PRIMARY KEY (telegram_id, what)
);
CREATE INDEX bot_counts_since ON bot_counts (since);

-- Where a conversation is; moved in the transaction of the update that moves it.
CREATE TABLE bot_conversations (
  telegram_id  bigint PRIMARY KEY,
  kind         text NOT NULL,
  state        jsonb NOT NULL,
  updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX bot_conversations_updated ON bot_conversations (updated_at);

-- Notices to users by the bot: put in by the transaction that is the reason, the same key of one kind once. Sent at least
-- once: a sender that dies between the call and the note leaves its claim to run out, and the notice goes again.
CREATE TABLE bot_notices (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind           text NOT NULL,
  key            text NOT NULL,
  user_id        uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  payload        jsonb NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  state          text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'dropped')),
  attempts       int NOT NULL DEFAULT 0,
  due_at         timestamptz NOT NULL DEFAULT now(),  -- of a claimed one: when the claim runs out
  ended_at       timestamptz,
  UNIQUE (kind, key),
  CHECK ((state = 'waiting') = (ended_at IS NULL))
);
CREATE INDEX bot_notices_due ON bot_notices (due_at, id) WHERE state = 'waiting';
CREATE INDEX bot_notices_ended ON bot_notices (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX bot_notices_user ON bot_notices (user_id);

-- Payouts the admins are asked about, with buttons.
CREATE TABLE bot_payout_requests (
  payout_id  uuid PRIMARY KEY REFERENCES payouts (id) ON DELETE CASCADE,
  told       boolean NOT NULL DEFAULT false,
  due_at     timestamptz NOT NULL                    -- while not told: when it is tried again
);

-- The message that shows a running session, one a session.
CREATE TABLE bot_live_messages (
  session_id   uuid PRIMARY KEY REFERENCES traffic_sessions (id) ON DELETE CASCADE,
  chat_id      bigint NOT NULL,
  message_id   bigint,                               -- null: being sent
  text         text,                                 -- what it says
  bytes        bigint NOT NULL DEFAULT 0,            -- at the last look, for the speed
  looked_at    timestamptz NOT NULL DEFAULT now(),
  due_at       timestamptz NOT NULL DEFAULT now(),   -- the next look
  ended_at     timestamptz                           -- it is not edited any more
);
CREATE INDEX bot_live_messages_due ON bot_live_messages (due_at) WHERE ended_at IS NULL;
CREATE INDEX bot_live_messages_ended ON bot_live_messages (ended_at) WHERE ended_at IS NOT NULL;

-- Warnings of the admins (alerts/): one row for what is wrong, as long as it is.
CREATE TABLE admin_alerts (
  key          text PRIMARY KEY,                     -- 'ledger_sum', 'gateway_lost:<id>', …
  detail       text NOT NULL,
  raised_at    timestamptz NOT NULL DEFAULT now()
);
-- Gateways as they were last seen, to tell one that is lost from one that ended.
CREATE TABLE alert_gateways (
  gateway_id   text PRIMARY KEY,
  draining     boolean NOT NULL,
  seen_at      timestamptz NOT NULL DEFAULT now()
);
