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
-- Without `known_at` what the book says now; with it what it said then.
SELECT c.account, i.symbol, c.instrument, c.closed_at, c.opened_at, c.quantity, c.entry_price, c.exit_price, c.gross_pnl,
       c.opening_commission, c.closing_commission, c.net_pnl, c.currency, c.method, c.execution_id, c.partial, c.opening_id,
       c.cycle, c.basis AS basis_quality, c.premium, c.fees, c.id
FROM closes c JOIN instruments i USING (instrument)
WHERE CASE WHEN %(known_at)s::timestamptz IS NULL THEN c.superseded_at IS NULL
           ELSE c.believed_at <= %(known_at)s AND (c.superseded_at IS NULL OR c.superseded_at > %(known_at)s) END
  AND (%(as_of)s::timestamptz IS NULL OR c.closed_at <= %(as_of)s)
  AND (%(accounts)s::text[] IS NULL OR c.account = ANY(%(accounts)s))
ORDER BY c.closed_at, c.account, i.symbol, c.id

-- name: explained_closes
-- The closes that somebody asks about, by their own id or by the id of the closing entry; by their own id superseded ones too.
SELECT c.*, i.symbol, c.basis AS basis_quality
FROM closes c JOIN instruments i USING (instrument)
WHERE (c.id::text = %(id)s OR (c.execution_id = %(id)s AND c.superseded_at IS NULL))
  AND (%(accounts)s::text[] IS NULL OR c.account = ANY(%(accounts)s))
ORDER BY c.account, c.closed_at, c.id

-- name: earlier_closes
-- What the book said of the same part before.
SELECT * FROM closes
WHERE account = %(account)s AND execution_id = %(execution_id)s AND opening_id = %(opening_id)s AND superseded_at <= %(until)s
ORDER BY id

-- name: explained_positions
SELECT p.instrument, p.account FROM positions p
WHERE (p.instrument = %(id)s OR p.symbol = %(id)s) AND (%(accounts)s::text[] IS NULL OR p.account = ANY(%(accounts)s))

-- name: execution
SELECT * FROM executions WHERE account = %(account)s AND execution_id = %(id)s AND revision = %(revision)s

-- name: adjustment
SELECT * FROM adjustments WHERE account = %(account)s AND id = %(id)s

-- name: lots
SELECT * FROM lots WHERE account = %(account)s AND instrument = %(instrument)s ORDER BY seq

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
SELECT b.id, b.account, i.symbol, b.instrument, b.subject, b.class, b.status, b.cause, b.book_quantity, b.broker_quantity,
       b.first_seen_at, b.last_seen_at, b.changed_at, b.seen, b.expected_clear_at, b.resolved_at, b.impact, b.impact_currency,
       b.proposal, b.evidence, b.signs, b.adopted, b.accepted_at, b.accepted_by, b.accepted_why, b.seconded_by,
       b.dismissed_at, b.dismissed_by, b.dismissed_reason,
       b.status <> 'resolved' AND (b.proposed <> '[]' OR b.adopted IS NOT NULL) AS can_be_accepted
FROM breaks b LEFT JOIN instruments i USING (instrument)
WHERE (%(all)s OR b.status = 'open') AND (%(accounts)s::text[] IS NULL OR b.account = ANY(%(accounts)s))
ORDER BY b.status, b.first_seen_at, b.account, i.symbol NULLS FIRST, b.subject

-- name: break_of_id
-- The breaks whose id begins so, with all that is kept of them, and the ids of others that stand for the same cause.
SELECT b.*, i.symbol, b.status <> 'resolved' AND (b.proposed <> '[]' OR b.adopted IS NOT NULL) AS can_be_accepted,
       array(SELECT o.id FROM breaks o
             WHERE o.account = b.account AND o.cause = b.cause AND b.cause <> '' AND o.id <> b.id AND o.status <> 'resolved'
             ORDER BY o.first_seen_at, o.id) AS same_cause
FROM breaks b LEFT JOIN instruments i USING (instrument)
WHERE starts_with(b.id, %(id)s)
ORDER BY b.first_seen_at, b.id
LIMIT 20

-- name: adjustments
SELECT a.id, a.account, i.symbol, a.instrument, a.kind, a.time, a.quantity, a.held, a.price, a.cost, a.currency, a.multiplier, a.amount,
       a.numerator, a.denominator, a.takes_from, a.basis, a.source, a.evidence, a.recorded_at, a.accepted_by, a.reversed_at,
       a.reversed_by, a.reversed_why
FROM adjustments a JOIN instruments i USING (instrument)
WHERE (%(all)s OR a.reversed_at IS NULL) AND (%(accounts)s::text[] IS NULL OR a.account = ANY(%(accounts)s))
ORDER BY a.time, a.account, i.symbol, a.id

-- name: events
-- The steps in the life of positions, as the book tells them now. `held_for` is how long the cycle had lasted then.
SELECT e.account, i.symbol, e.instrument, e.type, e.at, e.quantity_before, e.quantity_after, e.cycle, e.cause,
       min(e.at) OVER cycle AS opened_at, e.at - min(e.at) OVER cycle AS held_for
FROM position_events e JOIN instruments i USING (instrument)
WHERE e.superseded_at IS NULL AND (%(accounts)s::text[] IS NULL OR e.account = ANY(%(accounts)s))
WINDOW cycle AS (PARTITION BY e.account, e.instrument, e.cycle)
ORDER BY e.at, e.account, i.symbol, e.cycle, e.id

-- name: cycles
SELECT * FROM position_cycles
WHERE %(accounts)s::text[] IS NULL OR account = ANY(%(accounts)s)
ORDER BY opened_at, account, symbol, cycle

-- name: history
SELECT * FROM position_history
WHERE (%(accounts)s::text[] IS NULL OR account = ANY(%(accounts)s))
  AND (%(at)s::timestamptz IS NULL OR (valid_from <= %(at)s AND (valid_to IS NULL OR valid_to > %(at)s)))
ORDER BY valid_from, account, symbol

-- name: accounts
SELECT a.account, a.broker, a.connection, a.base_currency, a.cost_method, a.cost_methods, a.first_seen_at, a.first_proven_at, a.last_synced_at,
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

-- name: sync_sums
-- Over all attempts: how many positions each of them created, updated and closed, and how often each trigger asked for one.
SELECT trigger, count(DISTINCT started_at) AS runs, coalesce(sum(cardinality(created)), 0) AS created,
       coalesce(sum(cardinality(updated)), 0) AS updated, coalesce(sum(cardinality(closed)), 0) AS closed
FROM syncs WHERE outcome <> 'already_running'
GROUP BY trigger ORDER BY trigger

-- name: last_sync
SELECT * FROM syncs WHERE outcome <> 'already_running' AND started_at = (
    SELECT started_at FROM syncs WHERE outcome <> 'already_running' ORDER BY id DESC LIMIT 1
)
ORDER BY account

-- name: last_error
SELECT account, errors, finished_at FROM syncs WHERE outcome IN ('failed', 'rejected', 'partial') ORDER BY id DESC LIMIT 1

-- name: rejects
-- Those of `waiting` are late facts: something was inferred in their place, and the next proven answer decides about it.
SELECT count(*) - count(*) FILTER (WHERE waits) AS rejects, count(*) FILTER (WHERE waits) AS waiting
FROM (
    SELECT r.source = 'booking' AND EXISTS (
        SELECT FROM instruments i JOIN adjustments a USING (instrument)
        WHERE i.symbol = r.symbol AND a.account = r.account AND a.doubted_at IS NOT NULL
    ) AS waits
    FROM rejects r WHERE r.resolved_at IS NULL
) AS told

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

-- name: to_fold
-- Instruments whose sums are not in the statement below: their lots were changed, moved or named, or something of their cost or of a pooled
-- commission is not known.
SELECT account, instrument FROM adjustments
WHERE reversed_at IS NULL AND (
    kind NOT IN ('opening_balance', 'opening_lot', 'expiry') OR (kind = 'opening_balance' AND cost IS NOT NULL) OR commission IS NULL
    OR held IS NOT NULL
)
UNION SELECT account, instrument FROM executions WHERE premium_from IS NOT NULL
UNION SELECT account, instrument FROM executions WHERE closes_lots IS NOT NULL
UNION SELECT account, instrument FROM positions WHERE unknown_closes > 0 OR basis_quality = 'unknown'
UNION SELECT account, instrument FROM executions JOIN positions USING (account, instrument)
      WHERE commission IS NULL AND method = 'average'

-- name: cash_flows
-- The sums behind the cash identity, per account and instrument (accounting.cash.CashFlow says what each is). Amounts are signed like a
-- cost. A commission in another currency, or one that has not come, is not in this currency's cash.
WITH believed AS MATERIALIZED (
    SELECT DISTINCT ON (account, execution_id)
           account, instrument, CASE side WHEN 'BUY' THEN quantity ELSE -quantity END AS quantity, price * multiplier AS unit,
           CASE WHEN commission_currency = currency THEN commission ELSE 0 END AS commission
    FROM executions ORDER BY account, execution_id, revision DESC
), expired AS (
    -- What expiries cost that ended contracts which were there, be it fewer than they say.
    SELECT account, instrument, commission FROM adjustments a
    WHERE kind = 'expiry' AND EXISTS (
        SELECT FROM closes c WHERE c.account = a.account AND c.execution_adjustment = a.id AND c.superseded_at IS NULL
    )
), entered AS (
    -- What opening balances and lots booked, by their events: a balance books only what the fills do not explain.
    SELECT e.account, e.instrument, coalesce(min(a.commission), 0) AS commission,
           coalesce(min(a.cost), sum((e.quantity_after - e.quantity_before) * a.price * a.multiplier), 0) AS amount
    FROM position_events e JOIN adjustments a ON a.account = e.account AND a.id = e.cause
    WHERE e.superseded_at IS NULL AND a.kind IN ('opening_balance', 'opening_lot')
    GROUP BY e.account, e.instrument, a.id
), flows AS (
    SELECT account, instrument, -quantity * unit - coalesce(commission, 0) AS traded, 0 AS contributed FROM believed WHERE quantity <> 0
    UNION ALL SELECT account, instrument, -commission, 0 FROM expired
    UNION ALL SELECT account, instrument, 0, amount + commission FROM entered
)
SELECT p.account, p.instrument, p.symbol, p.currency, p.basis_quality, p.unknown_closes, p.realized_pnl AS realized,
       coalesce((SELECT sum(cost) FROM lots l WHERE l.account = p.account AND l.instrument = p.instrument), 0) AS cost,
       p.open_commission, coalesce(sum(traded), 0) AS traded, coalesce(sum(contributed), 0) AS contributed,
       0::numeric AS handed_over, 0::numeric AS taken_up, 0::numeric AS unknown
FROM positions p LEFT JOIN flows USING (account, instrument)
GROUP BY p.account, p.instrument
ORDER BY p.account, p.symbol, p.instrument

-- name: disagreements
SELECT p.account, p.symbol, p.instrument, p.quantity, p.broker_quantity, b.class, b.first_seen_at, b.evidence, b.proposal
FROM positions p
LEFT JOIN breaks b ON b.account = p.account AND b.instrument = p.instrument AND b.subject = 'quantity' AND b.status <> 'resolved'
WHERE p.broker_quantity IS NOT NULL AND p.quantity <> p.broker_quantity
ORDER BY p.account, p.symbol

-- name: scheduler_beat
-- When Dagster's scheduler last said that it lives; its tables may not be there.
SELECT max(timestamp) AS beat FROM dagster.daemon_heartbeats WHERE daemon_type = 'SCHEDULER'

-- name: has_scheduler
SELECT to_regclass('dagster.daemon_heartbeats') IS NOT NULL AS has

-- name: row_counts
-- All rows of the tables that are assets, superseded and corrected ones too.
SELECT (SELECT count(*) FROM snapshots) AS snapshots, (SELECT count(*) FROM executions) AS executions,
       (SELECT count(*) FROM positions) AS positions, (SELECT count(*) FROM closes) AS closes,
       (SELECT count(*) FROM position_events) AS position_events

-- name: position_sums
-- Per currency; a sum leaves out what is not known, and `unpriced` says how many positions that is.
SELECT currency, count(*) FILTER (WHERE quantity <> 0) AS positions, count(*) FILTER (WHERE quantity <> 0 AND market_value IS NULL) AS unpriced,
       sum(market_value) AS market_value, sum(unrealized_pnl) AS unrealized_pnl
FROM positions GROUP BY currency ORDER BY currency

-- name: close_sums
SELECT currency, count(*) AS closes, count(*) FILTER (WHERE net_pnl IS NULL) AS unknown, sum(net_pnl) AS net_pnl
FROM closes WHERE superseded_at IS NULL GROUP BY currency ORDER BY currency

-- name: event_counts
SELECT type, count(*) AS events FROM position_events WHERE superseded_at IS NULL GROUP BY type ORDER BY type

-- name: newest_executions
SELECT e.time, e.account, i.symbol, e.side, e.quantity, e.price, e.currency, e.commission, e.execution_id, e.revision, e.source
FROM executions e JOIN instruments i USING (instrument) ORDER BY e.time DESC, e.id DESC LIMIT %(limit)s

-- name: newest_closes
SELECT c.closed_at, c.account, i.symbol, c.quantity, c.entry_price, c.exit_price, c.gross_pnl, c.net_pnl, c.currency, c.method, c.basis
FROM closes c JOIN instruments i USING (instrument)
WHERE c.superseded_at IS NULL ORDER BY c.closed_at DESC, c.id DESC LIMIT %(limit)s

-- name: newest_events
SELECT e.at, e.account, i.symbol, e.type, e.quantity_before, e.quantity_after, e.cycle, e.cause
FROM position_events e JOIN instruments i USING (instrument)
WHERE e.superseded_at IS NULL ORDER BY e.at DESC, e.id DESC LIMIT %(limit)s
