-- Limits of sub-users beside their bytes in all (SubUserLimits), within the buyer's.
ALTER TABLE sub_users ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';

-- Bytes a UTC day and month of a buyer (sub-users included) or a sub-user. The row is there once a limit was set; it
-- counts on when the limit is lifted. A period that is over counts 0, whether or not anybody has written that.
CREATE TABLE byte_quotas (
  owner_id            uuid PRIMARY KEY,              -- buyers.id or sub_users.id
  bytes_per_day_max   bigint CHECK (bytes_per_day_max >= 0),    -- null: no limit
  bytes_per_month_max bigint CHECK (bytes_per_month_max >= 0),
  day                 date NOT NULL,                 -- what day_bytes are of; never falls
  day_bytes           bigint NOT NULL DEFAULT 0 CHECK (day_bytes >= 0),     -- booked by settlement
  month               date NOT NULL,                 -- its first day
  month_bytes         bigint NOT NULL DEFAULT 0 CHECK (month_bytes >= 0)
);
ALTER TABLE byte_quotas SET (fillfactor = 60);

-- By this server's clock as it is now, not as it was when a transaction began that has waited for a lock over midnight.
CREATE FUNCTION utc_day() RETURNS date LANGUAGE sql VOLATILE AS $$
  SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date
$$;
CREATE FUNCTION utc_month() RETURNS date LANGUAGE sql VOLATILE AS $$
  SELECT date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC')::date
$$;

ALTER TABLE wallet_holds DROP CONSTRAINT wallet_holds_kind_check;
ALTER TABLE wallet_holds ADD CONSTRAINT wallet_holds_kind_check
  CHECK (kind IN ('buyer', 'package', 'sub_user', 'day', 'month'));

-- held <= max - used, held to by the database itself. Settlement raises what is used and lowers what is held alike; a
-- limit that is lowered, and only that, may leave more held than there is, and nothing is granted then.
CREATE FUNCTION wallet_holds_within_quota() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  bytes_left bigint;
BEGIN
  SELECT CASE NEW.kind
           WHEN 'day' THEN bytes_per_day_max - CASE WHEN day >= utc_day() THEN day_bytes ELSE 0 END
           ELSE bytes_per_month_max - CASE WHEN month >= utc_month() THEN month_bytes ELSE 0 END END
    INTO bytes_left FROM byte_quotas WHERE owner_id = NEW.owner_id FOR NO KEY UPDATE;
  IF bytes_left < wallet_held(NEW.kind, NEW.owner_id) THEN
    RAISE EXCEPTION 'more bytes of the % would be held of % than are left', NEW.kind, NEW.owner_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'held_within_quota';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER held_within_quota AFTER UPDATE OF granted ON wallet_holds
  FOR EACH ROW WHEN (NEW.kind IN ('day', 'month') AND NEW.granted > OLD.granted)
  EXECUTE FUNCTION wallet_holds_within_quota();
CREATE TRIGGER held_within_quota_new AFTER INSERT ON wallet_holds
  FOR EACH ROW WHEN (NEW.kind IN ('day', 'month') AND NEW.granted > 0)
  EXECUTE FUNCTION wallet_holds_within_quota();
