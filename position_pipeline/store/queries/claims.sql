-- name: positions_beside_their_lots
-- Positions whose own figures are not the sums of their lots. The cost of a position is known where that of every lot is.
SELECT p.account, p.symbol, p.instrument, p.currency, p.quantity, coalesce(l.quantity, 0) AS lots_quantity, p.cost,
       CASE WHEN l.quantity IS NULL THEN 0 ELSE l.cost END AS lots_cost, p.open_commission, coalesce(l.commission, 0) AS lots_commission
FROM positions p
LEFT JOIN (
    SELECT account, instrument, sum(quantity) AS quantity, CASE WHEN bool_and(cost IS NOT NULL) THEN sum(cost) END AS cost,
           sum(commission) AS commission
    FROM lots GROUP BY account, instrument
) l USING (account, instrument)
WHERE p.quantity <> coalesce(l.quantity, 0) OR p.open_commission <> coalesce(l.commission, 0)
   OR p.cost IS DISTINCT FROM CASE WHEN l.quantity IS NULL THEN 0 ELSE l.cost END
ORDER BY p.account, p.symbol

-- name: orphans
-- Believed closes that rest on something that is not believed: a fill that was corrected or busted, an adjustment that was taken back.
WITH last AS (
    SELECT DISTINCT ON (account, execution_id) account, execution_id, revision, quantity
    FROM executions ORDER BY account, execution_id, revision DESC
), gone AS (
    SELECT account, id FROM adjustments WHERE reversed_at IS NOT NULL
    UNION ALL
    SELECT account, takes_from FROM adjustments WHERE kind = 'void' AND reversed_at IS NULL
)
SELECT c.account, i.symbol, c.instrument, c.id, c.execution_id, c.opening_id, c.closed_at, c.quantity
FROM closes c JOIN instruments i USING (instrument)
LEFT JOIN last e ON e.account = c.account AND e.execution_id = c.execution_id AND c.execution_adjustment IS NULL
LEFT JOIN last o ON o.account = c.account AND o.execution_id = c.opening_id AND c.opening_adjustment IS NULL
WHERE c.superseded_at IS NULL
  AND (e.revision <> c.execution_revision OR e.quantity = 0 OR o.revision <> c.opening_revision OR o.quantity = 0
       OR EXISTS (SELECT FROM gone g WHERE g.account = c.account AND g.id IN (c.execution_id, c.opening_id)))
ORDER BY c.account, c.closed_at, c.id

-- name: without_commission
-- Fills whose commission has not come. A share leg of an assignment may never get one.
SELECT e.account, i.symbol, e.instrument, e.execution_id, e.time, e.quantity, e.side
FROM executions e JOIN instruments i USING (instrument)
WHERE e.commission IS NULL AND e.premium_from IS NULL AND e.quantity > 0 AND e.time < %(before)s
  AND NOT EXISTS (
    SELECT FROM executions l WHERE l.account = e.account AND l.execution_id = e.execution_id AND l.revision > e.revision
  )
ORDER BY e.time, e.account, e.execution_id

-- name: beside_the_brokers_pnl
-- The broker's own realised P&L of an execution, and the sum of the closes that it made. Only where both know what was closed, and the lots
-- were consumed in the order that the broker uses.
SELECT e.account, i.symbol, e.instrument, e.execution_id, e.time, e.currency, e.broker_pnl, coalesce(c.net_pnl, 0) AS net_pnl,
       coalesce(c.net_pnl, 0) - e.broker_pnl AS gap, coalesce(c.parts, 0) AS parts
FROM executions e
JOIN instruments i USING (instrument)
JOIN positions p USING (account, instrument)
LEFT JOIN LATERAL (
    SELECT sum(net_pnl) AS net_pnl, count(*) AS parts, bool_and(net_pnl IS NOT NULL AND basis IN ('fills', 'statement')) AS known
    FROM closes WHERE account = e.account AND instrument = e.instrument AND execution_id = e.execution_id AND superseded_at IS NULL
) c ON true
WHERE e.broker_pnl IS NOT NULL AND e.quantity > 0 AND p.method = 'fifo' AND coalesce(c.known, true)
  AND NOT EXISTS (
    SELECT FROM executions l WHERE l.account = e.account AND l.execution_id = e.execution_id AND l.revision > e.revision
  )
ORDER BY e.time, e.account, e.execution_id

-- name: last_proven
-- When each account's last proven answer was given, by the broker's own clock where it told it, and what the account holds.
SELECT a.account, a.connection, s.taken_at, coalesce(s.source_at, s.taken_at) AS source_at,
       coalesce((
           SELECT jsonb_agg(DISTINCT jsonb_build_array(i.sec_type, i.currency))
           FROM positions p JOIN instruments i USING (instrument)
           WHERE p.account = a.account AND (p.quantity <> 0 OR coalesce(p.broker_quantity, 0) <> 0)
       ), '[]') AS kinds
FROM accounts a
CROSS JOIN LATERAL (
    SELECT taken_at, source_at FROM snapshots WHERE account = a.account AND status <> 'rejected' ORDER BY id DESC LIMIT 1
) s
WHERE a.connection <> ''
ORDER BY a.account

-- name: unlistened
-- Where a night in the broker's zone lies between two proven answers of an account, the time between the first of them and the midnight before
-- the second: the broker lists the executions of its day only.
SELECT account, since, upto FROM (
    SELECT account, lag(taken_at) OVER (PARTITION BY account ORDER BY id) AS since,
           date_trunc('day', taken_at AT TIME ZONE %(zone)s) AT TIME ZONE %(zone)s AS upto
    FROM snapshots WHERE status <> 'rejected' AND taken_at > %(after)s
) pairs
WHERE since < upto - make_interval(secs => %(tolerance)s)
ORDER BY account, since

-- name: covered
-- The times that statements tell everything of.
SELECT account, from_at AS since, to_at AS upto FROM statement_imports WHERE to_at > %(after)s ORDER BY account, from_at

-- name: cost_breaks
SELECT b.account, i.symbol, b.instrument, b.evidence, b.first_seen_at, b.class
FROM breaks b JOIN instruments i USING (instrument) WHERE b.subject = 'cost' AND b.status = 'open' ORDER BY b.account, i.symbol

-- name: compared_costs
SELECT count(*) AS positions FROM positions WHERE quantity <> 0 AND quantity = broker_quantity AND broker_average_price IS NOT NULL

-- name: account_values
-- The totals of each account in its last proven answer, as the broker gave them.
SELECT DISTINCT ON (account) account, "values", taken_at FROM snapshots WHERE status <> 'rejected' ORDER BY account, id DESC

-- name: valued_positions
-- What the book's open positions are worth at the broker's last prices.
SELECT p.account, p.symbol, p.currency, p.market_value, i.sec_type
FROM positions p JOIN instruments i USING (instrument) WHERE p.quantity <> 0 ORDER BY p.account, p.symbol
