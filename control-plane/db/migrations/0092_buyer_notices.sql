-- What buyers were told of how they use the network: when they were warned, limited, suspended, or let go again.

CREATE TABLE buyer_notices (
  id          uuid PRIMARY KEY,
  buyer_id    uuid NOT NULL REFERENCES buyers (id),
  finding_id  uuid NOT NULL REFERENCES abuse_findings (id),
  kind        text NOT NULL CHECK (kind IN ('warned', 'throttled', 'suspended', 'lifted')),
  rule        text NOT NULL CHECK (rule ~ '^[a-z_]{1,40}$'),
  message     text,                                  -- an admin's own words
  created_at  timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX buyer_notices_buyer ON buyer_notices (buyer_id, created_at, id);
CREATE INDEX buyer_notices_finding ON buyer_notices (finding_id);

INSERT INTO buyer_notices (id, buyer_id, finding_id, kind, rule, message, created_at)
SELECT gen_random_uuid(), buyer_id, id, 'warned', rule, message, decided_at FROM abuse_findings
 WHERE buyer_id IS NOT NULL AND message IS NOT NULL AND decided_at IS NOT NULL;

-- A notice of the bot goes to a user, or to a Telegram account that a buyer has linked.
ALTER TABLE bot_notices ALTER COLUMN user_id DROP NOT NULL;
ALTER TABLE bot_notices ADD COLUMN buyer_telegram_id bigint REFERENCES buyer_telegrams (telegram_id) ON DELETE CASCADE;
ALTER TABLE bot_notices ADD CONSTRAINT bot_notices_to CHECK (num_nonnulls(user_id, buyer_telegram_id) = 1);
CREATE INDEX bot_notices_buyer_telegram ON bot_notices (buyer_telegram_id) WHERE buyer_telegram_id IS NOT NULL;
