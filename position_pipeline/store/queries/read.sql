-- name: positions
SELECT p.account, a.broker, p.symbol, p.instrument, i.sec_type, p.currency, p.multiplier, p.quantity, p.broker_quantity,
       p.average_price, p.cost, p.open_commission, p.broker_average_price, p.market_price, p.market_value, p.unrealized_pnl,
       p.realized_pnl, p.realized_gross AS realized_pnl_gross, p.status, p.basis_quality, p.unknown_closes, p.method, p.cycle,
       p.opened_at, p.closed_at, p.priced_at, p.sync_error,
       CASE WHEN p.sync_error IS NULL THEN a.last_synced_at ELSE p.last_synced_at END AS last_synced_at
FROM positions p
JOIN accounts a USING (account)
JOIN instruments i USING (instrument)
WHERE (%(all)s OR p.quantity <> 0 OR coalesce(p.broker_quantity, 0) <> 0)
  AND (%(accounts)s::text[] IS NULL OR p.account = ANY(%(accounts)s))
ORDER BY p.account, p.symbol, p.instrument

-- name: closes
SELECT c.account, i.symbol, c.instrument, c.closed_at, c.opened_at, c.quantity, c.entry_price, c.exit_price, c.gross_pnl,
       c.opening_commission, c.closing_commission, c.net_pnl, c.currency, c.method, c.execution_id, c.partial, c.opening_id,
       c.cycle, c.basis AS basis_quality, c.premium, c.fees
FROM closes c JOIN instruments i USING (instrument)
WHERE c.superseded_at IS NULL AND (%(accounts)s::text[] IS NULL OR c.account = ANY(%(accounts)s))
ORDER BY c.closed_at, c.account, i.symbol, c.id

-- name: executions
SELECT e.execution_id, e.revision, e.account, i.symbol, e.instrument, e.side, e.quantity, e.price, e.multiplier, e.currency,
       e.commission, e.commission_currency, e.time, e.order_id, e.source, i.sec_type, e.broker_pnl
FROM (
    SELECT DISTINCT ON (account, execution_id) * FROM executions
    WHERE %(accounts)s::text[] IS NULL OR account = ANY(%(accounts)s)
    ORDER BY account, execution_id, revision DESC
) e
JOIN instruments i USING (instrument)
WHERE e.quantity > 0
ORDER BY e.time, e.account, e.sequence, e.execution_id

-- name: breaks
SELECT b.id, b.account, i.symbol, b.instrument, b.class, b.status, b.book_quantity, b.broker_quantity, b.first_seen_at,
       b.last_seen_at, b.resolved_at, b.proposal, b.evidence
FROM breaks b JOIN instruments i USING (instrument)
WHERE (%(all)s OR b.status = 'open') AND (%(accounts)s::text[] IS NULL OR b.account = ANY(%(accounts)s))
ORDER BY b.status, b.first_seen_at, b.account, i.symbol

-- name: accounts
SELECT a.account, a.broker, a.connection, a.base_currency, a.cost_method, a.first_seen_at, a.first_proven_at, a.last_synced_at,
       (SELECT count(*) FROM positions p WHERE p.account = a.account AND p.quantity <> 0) AS positions,
       (SELECT count(*) FROM breaks b WHERE b.account = a.account AND b.status = 'open') AS open_breaks,
       s.outcome AS last_outcome, s.finished_at AS last_attempt_at, s.errors AS last_errors
FROM accounts a
LEFT JOIN LATERAL (SELECT * FROM syncs WHERE account = a.account ORDER BY id DESC LIMIT 1) s ON true
ORDER BY a.account

-- name: sync_totals
-- One attempt may cover several accounts: rows that started together under one trigger are one run.
SELECT count(*) AS total_runs,
       count(*) FILTER (WHERE good) AS successful_runs,
       count(*) FILTER (WHERE NOT good) AS failed_runs
FROM (
    SELECT bool_and(outcome IN ('synced', 'unchanged', 'partial')) AS good
    FROM syncs WHERE outcome <> 'already_running'
    GROUP BY started_at, trigger
) runs

-- name: last_sync
SELECT * FROM syncs WHERE outcome <> 'already_running' AND started_at = (
    SELECT started_at FROM syncs WHERE outcome <> 'already_running' ORDER BY id DESC LIMIT 1
)
ORDER BY account

-- name: last_error
SELECT account, errors, finished_at FROM syncs WHERE outcome IN ('failed', 'rejected', 'partial') ORDER BY id DESC LIMIT 1

-- name: rejects
SELECT count(*) AS rejects FROM rejects

-- name: sync_is_running
-- Session advisory locks show as two halves of the 64-bit key.
SELECT EXISTS (
    SELECT 1 FROM accounts a JOIN pg_locks l
      ON l.locktype = 'advisory' AND l.objsubid = 1
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended('position_pipeline:sync:' || a.account, 0)
) AS is_running

-- name: snapshots_latest
-- The last answer for each account, and the last proven one's age.
SELECT DISTINCT ON (s.account) s.account, s.id, s.connection, s.taken_at, s.status, s.reason, s.holdings, s.errors
FROM snapshots s ORDER BY s.account, s.id DESC

-- name: cash_flows
-- The sums behind the cash identity, per account and instrument (accounting.invariants.CashFlow says what each is).
-- A commission in another currency, or one that has not come, is not in this currency's cash.
WITH believed AS (
    SELECT DISTINCT ON (account, execution_id) * FROM executions ORDER BY account, execution_id, revision DESC
), traded AS (
    SELECT account, instrument,
           sum(CASE side WHEN 'SELL' THEN quantity ELSE -quantity END * price * multiplier)
             - coalesce(sum(commission) FILTER (WHERE coalesce(commission_currency, currency) = currency), 0) AS traded
    FROM believed WHERE quantity > 0 GROUP BY account, instrument
), contributed AS (
    -- What an opening entry booked is told by its events: an opening balance books only what the fills do not explain.
    SELECT e.account, e.instrument,
           sum(CASE WHEN a.cost IS NOT NULL THEN a.cost ELSE (e.quantity_after - e.quantity_before) * a.price * a.multiplier END
               + coalesce(a.commission, 0)) AS contributed
    FROM position_events e JOIN adjustments a ON a.id = e.cause
    WHERE e.superseded_at IS NULL AND a.kind IN ('opening_balance', 'opening_lot') AND (a.price IS NOT NULL OR a.cost IS NOT NULL)
      AND abs(e.quantity_after) > abs(e.quantity_before)
    GROUP BY e.account, e.instrument
), believed_closes AS (
    SELECT c.*, a.kind AS closing_kind FROM closes c LEFT JOIN adjustments a ON a.id = c.execution_adjustment
    WHERE c.superseded_at IS NULL
), closed AS (
    SELECT c.account, c.instrument,
           coalesce(sum(c.premium) FILTER (WHERE c.closing_kind IN ('assignment', 'exercise')), 0) AS handed_over,
           coalesce(sum(
               CASE WHEN c.execution_revision IS NOT NULL
                    THEN c.quantity * c.exit_price * i.multiplier - c.premium - coalesce(c.closing_commission, 0) ELSE 0 END
               - coalesce(c.cost + coalesce(c.opening_commission, 0), 0)
           ) FILTER (WHERE c.gross_pnl IS NULL), 0) AS unknown
    FROM believed_closes c JOIN instruments i USING (instrument)
    GROUP BY c.account, c.instrument
), taken AS (
    SELECT e.account, e.instrument, sum(c.premium) AS taken_up
    FROM believed e JOIN believed_closes c ON c.execution_adjustment = e.premium_from
    WHERE e.quantity > 0
    GROUP BY e.account, e.instrument
)
SELECT p.account, p.instrument, p.symbol, p.currency, p.basis_quality, p.unknown_closes, p.realized_pnl AS realized,
       coalesce((SELECT sum(cost) FROM lots l WHERE l.account = p.account AND l.instrument = p.instrument), 0) AS cost,
       p.open_commission, coalesce(t.traded, 0) AS traded, coalesce(b.contributed, 0) AS contributed,
       coalesce(c.handed_over, 0) AS handed_over, coalesce(k.taken_up, 0) AS taken_up, coalesce(c.unknown, 0) AS unknown
FROM positions p
LEFT JOIN traded t USING (account, instrument)
LEFT JOIN contributed b USING (account, instrument)
LEFT JOIN closed c USING (account, instrument)
LEFT JOIN taken k USING (account, instrument)
ORDER BY p.account, p.symbol

-- name: disagreements
SELECT p.account, p.symbol, p.instrument, p.quantity, p.broker_quantity, b.class, b.first_seen_at, b.evidence, b.proposal
FROM positions p
LEFT JOIN breaks b ON b.account = p.account AND b.instrument = p.instrument AND b.status = 'open'
WHERE p.broker_quantity IS NOT NULL AND p.quantity <> p.broker_quantity
ORDER BY p.account, p.symbol

-- name: scheduler_beat
-- When Dagster's scheduler last said that it lives; its tables may not be there.
SELECT max(timestamp) AS beat FROM dagster.daemon_heartbeats WHERE daemon_type = 'SCHEDULER'

-- name: has_scheduler
SELECT to_regclass('dagster.daemon_heartbeats') IS NOT NULL AS has
