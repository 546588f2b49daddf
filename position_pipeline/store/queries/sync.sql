-- name: try_sync_lock
-- Session lock: held over the whole pass, freed when the connection ends, also by kill -9.
SELECT pg_try_advisory_lock(hashtextextended('position_pipeline:sync:' || %(account)s, 0)) AS held

-- name: sync_lock
SELECT pg_advisory_lock(hashtextextended('position_pipeline:sync:' || %(account)s, 0))

-- name: wait_for_lock
-- For one transaction: longer than any pass takes.
SELECT set_config('lock_timeout', %(patience)s, true), set_config('statement_timeout', '0', true)

-- name: sync_unlock
SELECT pg_advisory_unlock(hashtextextended('position_pipeline:sync:' || %(account)s, 0))

-- name: end_when_idle
-- A process that hangs between two statements loses its connection, and with it its locks.
SELECT set_config('idle_session_timeout', %(after)s, false)

-- name: last_answer
-- The last proven answer of an account, with what is known of it where that is of this very answer. `is_newest`: no rejected one came since;
-- `is_of_today`: by the days of the exchange, at which a thin history of answers is kept.
SELECT s.id, s.status, s.connection, s.broker, s.taken_at, s."values", s.id = (SELECT max(id) FROM snapshots WHERE account = s.account) AS is_newest,
       date_trunc('day', s.taken_at AT TIME ZONE 'America/New_York') = date_trunc('day', %(at)s AT TIME ZONE 'America/New_York') AS is_of_today,
       l.prints, l.named, l.agreed_to, l.touched
FROM snapshots s LEFT JOIN last_answers l ON l.account = s.account AND l.snapshot_id = s.id
WHERE s.account = %(account)s AND s.status <> 'rejected' ORDER BY s.id DESC LIMIT 1

-- name: add_snapshot
INSERT INTO snapshots (account, connection, broker, first_at, taken_at, source_at, status, reason, holdings, "values", errors, unread)
VALUES (%(account)s, %(connection)s, %(broker)s, %(taken_at)s, %(taken_at)s, %(source_at)s, %(status)s, %(reason)s, %(holdings)s,
        %(values)s, %(errors)s, %(unread)s)
RETURNING id

-- name: repeat_snapshot
-- The same answer again: it is one row, however often it is given.
UPDATE snapshots SET taken_at = %(taken_at)s, source_at = %(source_at)s, times = times + 1 WHERE id = %(id)s

-- name: add_snapshot_again
INSERT INTO snapshots (account, connection, broker, first_at, taken_at, source_at, status, reason, holdings, "values", errors, unread)
SELECT account, connection, broker, %(taken_at)s, %(taken_at)s, %(source_at)s, status, reason, holdings, "values", errors, unread
FROM snapshots WHERE id = %(id)s
RETURNING id

-- name: move_last_answer
UPDATE last_answers SET snapshot_id = %(new)s WHERE account = %(account)s AND snapshot_id = %(id)s

-- name: lock_last_answer
-- Whoever writes to the book touches it too, and may take long: it is not waited for, and `is_free` says so.
SELECT l.snapshot_id, ours.account IS NOT NULL AS is_free
FROM last_answers l LEFT JOIN (SELECT account FROM last_answers WHERE account = %(account)s FOR UPDATE SKIP LOCKED) ours USING (account)
WHERE l.account = %(account)s

-- name: add_last_answer
INSERT INTO last_answers (account, snapshot_id, prints, named) VALUES (%(account)s, %(id)s, %(prints)s, %(named)s)
ON CONFLICT (account) DO NOTHING

-- name: keep_last_answer
UPDATE last_answers SET snapshot_id = %(id)s, prints = %(prints)s, named = %(named)s WHERE account = %(account)s

-- name: agreement
-- How far both sides agreed, beside a proven answer that is the last one.
SELECT agreed_to, touched FROM last_answers WHERE account = %(account)s AND snapshot_id = %(id)s

-- name: keep_agreement
-- What somebody wrote to an instrument that was not looked at (NULL: all were) stays to be looked at.
UPDATE last_answers
SET agreed_to = snapshot_id,
    touched = CASE WHEN %(looked)s::text[] IS NULL THEN '{}' ELSE array(SELECT unnest(touched) EXCEPT SELECT unnest(%(looked)s::text[])) END
WHERE account = %(account)s AND snapshot_id = %(id)s AND (agreed_to IS DISTINCT FROM snapshot_id OR touched <> '{}')

-- name: end_agreement
UPDATE last_answers SET agreed_to = NULL, touched = '{}' WHERE account = %(account)s AND agreed_to IS NOT NULL

-- name: last_holdings
-- What the last proven answer said of some instruments, or of all (NULL).
SELECT instrument, quantity, average_price, raw_average_cost FROM holdings
WHERE account = %(account)s AND until_id IS NULL AND (%(instruments)s::text[] IS NULL OR instrument = ANY(%(instruments)s))

-- name: end_holdings
UPDATE holdings SET until_id = %(id)s WHERE account = %(account)s AND until_id IS NULL AND instrument = ANY(%(instruments)s)

-- name: add_holdings
INSERT INTO holdings
    (account, snapshot_id, instrument, quantity, average_price, raw_average_cost, market_price, market_value, unrealized_pnl)
VALUES %s

-- name: book_side
-- What the book holds of some instruments of an account, or of every one (NULL).
SELECT p.instrument, p.quantity, p.multiplier, p.cost, p.open_commission, p.method, p.broker_quantity, p.broker_average_price, p.market_price, p.sync_error,
       p.other_costs, p.opened_at, i.symbol
FROM positions p JOIN instruments i USING (instrument)
WHERE p.account = %(account)s AND NOT i.sec_type = ANY(%(not_booked)s)
  AND (%(instruments)s::text[] IS NULL OR p.instrument = ANY(%(instruments)s))

-- name: what_it_rests_on
-- When an instrument's first entry is, what its fills come to, and whether the broker listed them all to us.
SELECT instrument, min(time) AS first_entry_at, sum(bought) AS bought, sum(sold) AS sold, bool_and(listed) AS listed FROM (
    SELECT instrument, time, CASE side WHEN 'BUY' THEN quantity ELSE 0 END AS bought, CASE side WHEN 'SELL' THEN quantity ELSE 0 END AS sold,
           NOT source = ANY(%(statements)s) AS listed
    FROM executions e
    WHERE account = %(account)s AND quantity > 0
      AND NOT EXISTS (
        SELECT FROM executions l WHERE l.account = e.account AND l.execution_id = e.execution_id AND l.revision > e.revision
      )
    UNION ALL
    SELECT instrument, time, 0, 0, false FROM adjustments WHERE account = %(account)s AND reversed_at IS NULL
) entries
GROUP BY instrument

-- name: fills_not_listed
-- What fills from a moment on come to, without those that are listed.
SELECT e.instrument, coalesce(sum(e.quantity) FILTER (WHERE e.side = 'BUY'), 0) AS bought,
       coalesce(sum(e.quantity) FILTER (WHERE e.side = 'SELL'), 0) AS sold
FROM executions e JOIN positions p USING (account, instrument)
WHERE e.account = %(account)s AND e.time >= %(since)s AND e.quantity > 0 AND NOT e.execution_id = ANY(%(listed)s)
  AND NOT EXISTS (
    SELECT FROM executions l WHERE l.account = e.account AND l.execution_id = e.execution_id AND l.revision > e.revision
  )
GROUP BY e.instrument

-- name: unread_at_first
-- What the first proven snapshot of an account could not read: symbols as it named them, and the instruments that they are.
SELECT array(SELECT jsonb_object_keys(errors)) AS symbols, unread FROM snapshots
WHERE account = %(account)s AND status <> 'rejected' ORDER BY id LIMIT 1

-- name: mark_positions
-- The broker's side of each position that it changed for.
UPDATE positions p
SET broker_quantity = m.quantity, broker_average_price = m.average, market_price = coalesce(m.price, p.market_price),
    priced_at = CASE WHEN m.price IS NULL THEN p.priced_at ELSE m.at END, last_synced_at = m.at, sync_error = NULL
FROM (VALUES %s) AS m (account, instrument, quantity, average, price, at)
WHERE p.account = m.account AND p.instrument = m.instrument

-- name: mark_unread
-- Until now the row was read with every sync of its account, changed or not: that is the time that it shows from here on.
UPDATE positions p
SET sync_error = m.error, last_synced_at = CASE WHEN p.sync_error IS NULL THEN a.last_synced_at ELSE p.last_synced_at END
FROM (VALUES %s) AS m (account, instrument, error) JOIN accounts a USING (account)
WHERE p.account = m.account AND p.instrument = m.instrument AND p.sync_error IS DISTINCT FROM m.error

-- name: keep_other_costs
UPDATE positions SET other_costs = %(costs)s WHERE account = %(account)s AND instrument = %(instrument)s

-- name: mark_account
UPDATE accounts
SET last_synced_at = %(synced_at)s, answered_at = %(answered_at)s, first_proven_at = coalesce(first_proven_at, %(synced_at)s)
WHERE account = %(account)s

-- name: add_sync
INSERT INTO syncs (account, connection, trigger, started_at, finished_at, outcome, created, updated, closed, unchanged, fills,
                   errors, snapshot_id, snapshot_status, duration_ms, own_ms)
VALUES (%(account)s, %(connection)s, %(trigger)s, %(started_at)s, %(finished_at)s, %(outcome)s, %(created)s, %(updated)s,
        %(closed)s, %(unchanged)s, %(fills)s, %(errors)s, %(snapshot_id)s, %(snapshot_status)s, %(duration_ms)s, %(own_ms)s)

-- name: accounts_of_connection
SELECT account FROM accounts WHERE connection = %(connection)s ORDER BY account

-- name: run_lock
-- Session lock of a run: a sign that its process lives.
SELECT pg_advisory_lock(hashtextextended('position_pipeline:run:' || %(run)s, 0))

-- name: run_is_running
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (classid::bigint << 32) | objid::bigint = hashtextextended('position_pipeline:run:' || %(run)s, 0)
) AS running
