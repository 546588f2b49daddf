-- name: touch
-- Notes that something of some instruments of an account is not as it was when both sides agreed. Beyond a thousand it is simpler to
-- look at everything.
CREATE FUNCTION touch(of_account text, instruments text[]) RETURNS void LANGUAGE sql AS $$
    UPDATE last_answers
    SET agreed_to = CASE WHEN cardinality(touched || instruments) <= 1000 THEN agreed_to END,
        touched = CASE WHEN cardinality(touched || instruments) <= 1000
                       THEN array(SELECT DISTINCT unnest(touched || instruments) ORDER BY 1) ELSE '{}' END
    WHERE account = of_account AND agreed_to IS NOT NULL AND NOT touched @> instruments
$$

-- name: touch_written
CREATE FUNCTION touch_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM touch(account, array_agg(DISTINCT instrument)) FROM written GROUP BY account;
    RETURN NULL;
END $$

-- name: touch_deleted
CREATE FUNCTION touch_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM touch(account, array_agg(DISTINCT instrument)) FROM gone GROUP BY account;
    RETURN NULL;
END $$

-- name: touch_positions
-- Only what is compared: prices and the times of syncs change all day long. The plan is kept from the first call on, which is of one row
-- more often than not; each row in a loop over all would take seconds for some thousand.
CREATE FUNCTION touch_positions() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    PERFORM touch(w.account, array_agg(w.instrument))
    FROM written w LEFT JOIN gone g USING (account, instrument)
    WHERE (w.quantity, w.multiplier, w.cost, w.open_commission, w.method, w.opened_at, w.broker_quantity, w.broker_average_price, w.sync_error)
          IS DISTINCT FROM
          (g.quantity, g.multiplier, g.cost, g.open_commission, g.method, g.opened_at, g.broker_quantity, g.broker_average_price, g.sync_error)
    GROUP BY w.account;
    RETURN NULL;
END $$

-- name: positions_inserted
CREATE TRIGGER positions_inserted AFTER INSERT ON positions REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION touch_written()

-- name: positions_updated
CREATE TRIGGER positions_updated AFTER UPDATE ON positions REFERENCING OLD TABLE AS gone NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION touch_positions()

-- name: positions_deleted
CREATE TRIGGER positions_deleted AFTER DELETE ON positions REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION touch_deleted()

-- name: adjustments_inserted
CREATE TRIGGER adjustments_inserted AFTER INSERT ON adjustments REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION touch_written()

-- name: adjustments_updated
CREATE TRIGGER adjustments_updated AFTER UPDATE ON adjustments REFERENCING NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION touch_written()

-- name: adjustments_deleted
CREATE TRIGGER adjustments_deleted AFTER DELETE ON adjustments REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION touch_deleted()
