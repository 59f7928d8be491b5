-- A secret that was rotated works on for its grace; this tells it from those that still have to be rotated.
ALTER TABLE buyer_tokens ADD COLUMN replaced_at timestamptz;
