-- What the ledger's one writer promises, held by the database itself, so that a mistake elsewhere cannot bend it:
--   * a balance changes only by inserting entries (ledger_accounts cannot be written directly);
--   * an entry belongs to a transaction and an account that exist;
--   * each statement that inserts entries leaves every transaction it touches summing to zero;
--   * an account's versions have no gap, and each entry's balance_after is the one before plus its amount;
--   * a provider's money does not go below zero, except by an admin's adjustment.
-- One set-based trigger a statement: the row trigger of 0001 costs a query for every entry (a batch of settlement
-- inserts thousands), and its deferral is not needed, because all entries of a transaction arrive in one statement.

DROP TRIGGER sums_to_zero ON ledger_entries;
DROP FUNCTION ledger_sums_to_zero();

-- The two foreign keys cost a query each for every entry, too (half of what settlement asked of Postgres). The trigger
-- below checks them for the whole statement; accounts and transactions cannot be deleted, so the other side holds.
ALTER TABLE ledger_entries
  DROP CONSTRAINT ledger_entries_transaction_id_fkey,
  DROP CONSTRAINT ledger_entries_account_id_fkey;

CREATE FUNCTION ledger_entries_keep_accounts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  wrong text;
BEGIN
  SELECT n.transaction_id::text INTO wrong
    FROM new_entries n
   WHERE NOT EXISTS (SELECT 1 FROM ledger_transactions t WHERE t.id = n.transaction_id)
      OR NOT EXISTS (SELECT 1 FROM ledger_accounts a WHERE a.id = n.account_id) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'an entry of ledger transaction % has no transaction or no account', wrong
      USING ERRCODE = 'foreign_key_violation';
  END IF;

  SELECT transaction_id::text INTO wrong
    FROM new_entries GROUP BY transaction_id HAVING sum(amount_micros) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'ledger transaction % does not sum to zero', wrong USING ERRCODE = 'check_violation';
  END IF;

  -- The versions follow the account's without a gap and the running balance is right. The account rows are locked
  -- by the writer; an unlocked writer fails on the unique (account_id, account_version) instead.
  SELECT e.account_id::text INTO wrong
    FROM (
      SELECT n.account_id, n.kind, n.amount_micros, n.account_version, n.balance_after_micros,
             row_number() OVER w AS nth,
             sum(n.amount_micros) OVER w AS running
        FROM new_entries n
      WINDOW w AS (PARTITION BY n.account_id ORDER BY n.account_version)
    ) e
    JOIN ledger_accounts a ON a.id = e.account_id
   WHERE e.account_version <> a.version + e.nth
      OR e.balance_after_micros <> a.balance_micros + e.running
      OR (e.balance_after_micros < 0 AND e.amount_micros < 0 AND e.kind <> 'admin_adjustment'
          AND a.kind IN ('provider_pending', 'provider_available'))
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'ledger account % would not follow from its entries, or fall below zero', wrong
      USING ERRCODE = 'check_violation';
  END IF;

  UPDATE ledger_accounts a
     SET balance_micros = a.balance_micros + d.amount, version = a.version + d.entries
    FROM (SELECT account_id, sum(amount_micros) AS amount, count(*) AS entries FROM new_entries GROUP BY account_id) d
   WHERE a.id = d.account_id;
  RETURN NULL;
END $$;
CREATE TRIGGER keep_accounts AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS new_entries
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_keep_accounts();

CREATE FUNCTION ledger_accounts_only_by_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.balance_micros <> 0 OR NEW.version <> 0 THEN
      RAISE EXCEPTION 'a ledger account starts empty' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
  END IF;
  -- Depth 1 is a direct statement; the entries' trigger comes at depth 2.
  IF TG_OP = 'UPDATE' AND pg_trigger_depth() >= 2
     AND (NEW.id, NEW.kind, NEW.owner_id) IS NOT DISTINCT FROM (OLD.id, OLD.kind, OLD.owner_id) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'ledger_accounts changes only with its entries' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER only_by_entries BEFORE INSERT OR UPDATE OR DELETE ON ledger_accounts
  FOR EACH ROW EXECUTE FUNCTION ledger_accounts_only_by_entries();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON ledger_accounts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How far a provider's pending earnings have come of age: entries up to matured_version are past the hold, and
-- owed_micros of them is not yet moved to provider_available. A cursor over the ledger, not a balance.
CREATE TABLE provider_holds (
  account_id       bigint PRIMARY KEY REFERENCES ledger_accounts (id),  -- of kind provider_pending
  matured_version  bigint NOT NULL,
  owed_micros      bigint NOT NULL
);

-- What a provider has withdrawn is the sum of a few entries among very many.
CREATE INDEX ledger_entries_payouts ON ledger_entries (account_id) WHERE kind IN ('payout', 'payout_refund');

-- Rows that settlement updates again and again: room on the page keeps the new version beside the old one, and the
-- indexes untouched.
ALTER TABLE meters SET (fillfactor = 60);
ALTER TABLE allocations SET (fillfactor = 60);
ALTER TABLE traffic_sessions SET (fillfactor = 60);
ALTER TABLE ledger_accounts SET (fillfactor = 50);
ALTER TABLE usage_daily_buyer SET (fillfactor = 60);
ALTER TABLE usage_daily_provider SET (fillfactor = 60);
