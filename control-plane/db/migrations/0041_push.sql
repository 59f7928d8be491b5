-- Push notices to devices, through Firebase Cloud Messaging.

-- Given by the app. A token is one installation's: whoever registers it last has it.
ALTER TABLE devices ADD COLUMN push_token text;
CREATE UNIQUE INDEX devices_push_token ON devices (push_token) WHERE push_token IS NOT NULL;
CREATE INDEX devices_push_user ON devices (user_id) WHERE push_token IS NOT NULL;

-- What waits to be pushed; rows go when they have been, or are too old to be of use.
CREATE TABLE pushes (
  notification_id  bigint NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
  device_id        text NOT NULL REFERENCES devices (id),
  attempts         int NOT NULL DEFAULT 0,
  due_at           timestamptz NOT NULL DEFAULT now(),
  created_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (notification_id, device_id)
);
CREATE INDEX pushes_due ON pushes (due_at);
CREATE INDEX pushes_device ON pushes (device_id);
CREATE INDEX pushes_age ON pushes (created_at);

-- Whoever puts a notice into an inbox, in the same transaction: each device of its reader that can be pushed to gets it,
-- unless they turned notifications off.
CREATE FUNCTION queue_pushes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO pushes (notification_id, device_id)
  SELECT n.id, d.id
    FROM added n
    JOIN devices d ON d.user_id = n.user_id AND d.push_token IS NOT NULL AND d.removed_at IS NULL
    JOIN users u ON u.id = n.user_id AND u.settings->'notifications' IS DISTINCT FROM 'false'::jsonb;
  RETURN NULL;
END $$;
CREATE TRIGGER queue_pushes AFTER INSERT ON notifications
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION queue_pushes();
