-- A broadcast's recipient whose request to Telegram has begun is told from one who was only claimed: what a killed sender
-- had claimed is given back, and only what it had begun may have arrived or not.

-- pending → claimed (by a sender, in memory) → sending (its request begins now) → sent, blocked, failed or unknown.
-- claimed → pending: given back. unknown → pending or given_up: an admin decided. skipped: no Telegram account left.
ALTER TABLE broadcast_recipients
  DROP CONSTRAINT broadcast_recipients_state_check,
  ADD CONSTRAINT broadcast_recipients_state_check CHECK (state IN
    ('pending', 'claimed', 'sending', 'sent', 'blocked', 'failed', 'unknown', 'given_up', 'skipped', 'cancelled'));
DROP INDEX broadcast_recipients_claimed;
CREATE INDEX broadcast_recipients_claimed ON broadcast_recipients (claimed_at) WHERE state IN ('claimed', 'sending');
-- What admins are warned of (alerts/).
CREATE INDEX broadcast_recipients_unknown ON broadcast_recipients (broadcast_id) WHERE state = 'unknown';
