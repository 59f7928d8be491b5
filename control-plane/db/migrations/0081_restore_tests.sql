-- What became of tests of backups: each restores the newest one into a database of its own and proves it there.
CREATE TABLE restore_tests (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  started_at  timestamptz NOT NULL DEFAULT now(),
  ended_at    timestamptz NOT NULL DEFAULT now(),
  file        text,                                  -- null: no backup was found
  made_at     timestamptz,                           -- when the backup was made
  error_code  text,                                  -- null: it was restored and everything adds up
  detail      text
);
CREATE INDEX restore_tests_passed ON restore_tests (ended_at DESC) WHERE error_code IS NULL;
CREATE INDEX backups_done ON backups (ended_at DESC) WHERE state IN ('done', 'removed');
