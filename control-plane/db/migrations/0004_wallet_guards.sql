-- held <= balance for buyers, held to by the database itself. What is held of a buyer changes three ways: a grant raises
-- it (checked here), a charge lowers balance and held alike (settlement, nothing to check), and renouncing or closing
-- lowers it. The balance falls otherwise only by adjustments and refunds (checked here, too).

-- The wantGranted that was answered last: several control planes answer one ask once.
ALTER TABLE wallet_holds ADD COLUMN answered bigint NOT NULL DEFAULT 0;

CREATE FUNCTION wallet_held(of_kind text, of_owner uuid) RETURNS numeric LANGUAGE sql STABLE AS $$
  SELECT coalesce(sum(greatest(0, granted - renounced - spent)), 0)
    FROM wallet_holds WHERE kind = of_kind AND owner_id = of_owner AND closed_at IS NULL
$$;

CREATE FUNCTION wallet_holds_within_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  balance bigint;
BEGIN
  -- Whoever grants has locked the account already (control-plane/wallets); whoever has not is made to wait here.
  SELECT balance_micros INTO balance FROM ledger_accounts
   WHERE kind = 'buyer_prepaid' AND owner_id = NEW.owner_id FOR NO KEY UPDATE;
  IF coalesce(balance, 0) < wallet_held('buyer', NEW.owner_id) THEN
    RAISE EXCEPTION 'more would be held of buyer % than the balance', NEW.owner_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'held_within_balance';
  END IF;
  RETURN NULL;
END $$;
-- Settlement never names the column granted, so its updates do not come here.
CREATE TRIGGER held_within_balance AFTER UPDATE OF granted ON wallet_holds
  FOR EACH ROW WHEN (NEW.kind = 'buyer' AND NEW.granted > OLD.granted) EXECUTE FUNCTION wallet_holds_within_balance();
CREATE TRIGGER held_within_balance_new AFTER INSERT ON wallet_holds
  FOR EACH ROW WHEN (NEW.kind = 'buyer' AND NEW.granted > 0) EXECUTE FUNCTION wallet_holds_within_balance();

-- Fires after keep_accounts (by name), when the balances are the new ones.
CREATE FUNCTION ledger_entries_keep_held() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  wrong text;
BEGIN
  SELECT a.owner_id::text INTO wrong
    FROM (SELECT DISTINCT account_id FROM new_entries
           WHERE amount_micros < 0 AND kind IN ('admin_adjustment', 'refund', 'topup', 'promo_bonus')) n
    JOIN ledger_accounts a ON a.id = n.account_id AND a.kind = 'buyer_prepaid'
   WHERE a.balance_micros < wallet_held('buyer', a.owner_id) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'less would be left of buyer % than is held for traffic', wrong
      USING ERRCODE = 'check_violation', CONSTRAINT = 'held_by_traffic';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER keep_held AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS new_entries
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_keep_held();

-- Which meters a run still owes its FINAL for, when its holds are to be closed.
CREATE INDEX meters_open_run ON meters (gateway_id, left(epoch, 24)) WHERE NOT final AND written_off_at IS NULL;
