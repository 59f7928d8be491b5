-- Settlement of wallets, sub-users and meters that were written off.

ALTER TABLE meters
  ADD COLUMN sub_user_id uuid REFERENCES sub_users (id),     -- null: the buyer's own account
  -- Bytes that came although an admin had given the meter up; booked like all others, and listed for people to see.
  ADD COLUMN bytes_after_write_off bigint NOT NULL DEFAULT 0;
CREATE INDEX meters_sub_user ON meters (sub_user_id) WHERE sub_user_id IS NOT NULL;
CREATE INDEX meters_late ON meters (id) WHERE bytes_after_write_off > 0;

-- The guard of 0002 holds the same, for a third of the time: it compares each entry with the one before it instead of
-- summing numerics over windows, and looks transactions and accounts up once each.
CREATE OR REPLACE FUNCTION ledger_entries_keep_accounts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  wrong record;
BEGIN
  SELECT g.transaction_id AS id, t.id IS NULL AS missing INTO wrong
    FROM (SELECT transaction_id, sum(amount_micros) AS total FROM new_entries GROUP BY transaction_id) g
    LEFT JOIN ledger_transactions t ON t.id = g.transaction_id
   WHERE t.id IS NULL OR g.total <> 0 LIMIT 1;
  IF FOUND AND wrong.missing THEN
    RAISE EXCEPTION 'an entry of ledger transaction % has no transaction', wrong.id
      USING ERRCODE = 'foreign_key_violation';
  ELSIF FOUND THEN
    RAISE EXCEPTION 'ledger transaction % does not sum to zero', wrong.id USING ERRCODE = 'check_violation';
  END IF;

  -- The versions follow the account's without a gap and the running balance is right. The account rows are locked
  -- by the writer; an unlocked writer fails on the unique (account_id, account_version) instead.
  SELECT e.account_id AS id, a.id IS NULL AS missing INTO wrong
    FROM (
      SELECT account_id, kind, amount_micros, account_version, balance_after_micros,
             lag(account_version) OVER w AS version_before, lag(balance_after_micros) OVER w AS balance_before
        FROM new_entries WINDOW w AS (PARTITION BY account_id ORDER BY account_version)
    ) e
    LEFT JOIN ledger_accounts a ON a.id = e.account_id
   WHERE a.id IS NULL
      OR e.account_version <> coalesce(e.version_before, a.version) + 1
      OR e.balance_after_micros <> coalesce(e.balance_before, a.balance_micros) + e.amount_micros
      OR (e.balance_after_micros < 0 AND e.amount_micros < 0 AND e.kind <> 'admin_adjustment'
          AND a.kind IN ('provider_pending', 'provider_available'))
   LIMIT 1;
  IF FOUND AND wrong.missing THEN
    RAISE EXCEPTION 'an entry has no ledger account %', wrong.id USING ERRCODE = 'foreign_key_violation';
  ELSIF FOUND THEN
    RAISE EXCEPTION 'ledger account % would not follow from its entries, or fall below zero', wrong.id
      USING ERRCODE = 'check_violation';
  END IF;

  UPDATE ledger_accounts a
     SET balance_micros = a.balance_micros + d.amount, version = a.version + d.entries
    FROM (SELECT account_id, sum(amount_micros) AS amount, count(*) AS entries FROM new_entries GROUP BY account_id) d
   WHERE a.id = d.account_id;
  RETURN NULL;
END $$;

-- Nothing reads an account's entries by time: their versions are in that order.
DROP INDEX ledger_entries_account_time;
