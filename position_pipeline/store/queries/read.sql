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
SELECT count(*) AS rejects FROM rejects WHERE resolved_at IS NULL

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

-- name: restated
-- Instruments with entries that change lots where they are, or that move them: their sums are not in the statement below.
SELECT DISTINCT account, instrument FROM adjustments
WHERE kind NOT IN ('opening_balance', 'opening_lot', 'expiry', 'assignment', 'exercise') OR (kind = 'opening_balance' AND cost IS NOT NULL)

-- name: cash_flows
-- The sums behind the cash identity, per account and instrument (accounting.invariants.CashFlow says what each is). Amounts are signed
-- like a cost. A commission in another currency, or one that has not come, is not in this currency's cash.
WITH believed AS MATERIALIZED (
    SELECT DISTINCT ON (account, execution_id)
           account, instrument, execution_id, revision, premium_from,
           CASE side WHEN 'BUY' THEN quantity ELSE -quantity END AS quantity, price * multiplier AS unit,
           CASE WHEN commission_currency = currency THEN commission ELSE 0 END AS commission
    FROM executions ORDER BY account, execution_id, revision DESC
), realised AS MATERIALIZED (
    SELECT c.*, p.method = 'average' AS pooled, a.kind AS closing_kind, a.quantity AS closing_quantity,
           a.commission AS adjustment_commission, coalesce(f.unit, c.exit_price * a.multiplier) AS exit_unit, o.unit AS opening_unit
    FROM closes c
    JOIN positions p USING (account, instrument)
    LEFT JOIN believed f ON f.account = c.account AND f.execution_id = c.execution_id AND f.revision = c.execution_revision
    LEFT JOIN believed o ON o.account = c.account AND o.execution_id = c.opening_id AND o.revision = c.opening_revision
    LEFT JOIN adjustments a ON a.account = c.account AND a.id = c.execution_adjustment
    WHERE c.superseded_at IS NULL
), open_lots AS MATERIALIZED (
    SELECT l.*, p.method = 'average' AS pooled, o.unit AS opening_unit
    FROM lots l
    JOIN positions p USING (account, instrument)
    LEFT JOIN believed o ON o.account = l.account AND o.execution_id = l.opening_id AND o.revision = l.opening_revision
), option_ends AS (
    -- What expiries, assignments and exercises cost, as far as they ended contracts that were there.
    SELECT account, instrument, execution_adjustment AS id,
           round(coalesce(min(adjustment_commission), 0) * sum(quantity) / -min(closing_quantity), 10) AS commission,
           sum(premium) FILTER (WHERE closing_kind <> 'expiry') AS premium,
           bool_and(basis <> 'unknown') AND sum(quantity) = -min(closing_quantity) AS premium_is_known
    FROM realised WHERE closing_kind IN ('expiry', 'assignment', 'exercise')
    GROUP BY account, instrument, execution_adjustment
), entered AS (
    -- What opening balances and lots booked, by their events: a balance books only what the fills do not explain, and what it takes off
    -- an opposite position went for a price that nobody knows.
    SELECT e.account, e.instrument, min(a.commission) AS commission,
           CASE WHEN min(a.kind) = 'opening_lot' OR bool_and(abs(e.quantity_after) > abs(e.quantity_before))
                THEN coalesce(min(a.cost), sum((e.quantity_after - e.quantity_before) * a.price * a.multiplier)) END AS amount
    FROM position_events e JOIN adjustments a ON a.account = e.account AND a.id = e.cause
    WHERE e.superseded_at IS NULL AND a.kind IN ('opening_balance', 'opening_lot')
    GROUP BY e.account, e.instrument, a.id
), taken AS (
    SELECT b.account, b.instrument, b.execution_id, o.premium
    FROM believed b JOIN option_ends o ON o.account = b.account AND o.id = b.premium_from
    WHERE b.quantity <> 0 AND o.premium_is_known
), went_unknown AS (
    -- A close without a P&L: what it brought, less what is known of what it had cost. Where the cost is not known because a share leg
    -- lacks its premium, the rest of that cost was paid all the same.
    SELECT account, instrument,
           CASE WHEN closing_kind = 'opening_balance' THEN 0
                ELSE quantity * exit_unit - premium - coalesce(closing_commission, 0) END
           - coalesce(opening_commission, 0)
           - coalesce(cost, CASE WHEN pooled THEN 0 ELSE quantity * opening_unit END, 0) AS amount
    FROM realised WHERE gross_pnl IS NULL
    UNION ALL
    SELECT account, instrument, -quantity * opening_unit FROM open_lots WHERE cost IS NULL AND NOT pooled
    UNION ALL
    -- A pool of unknown cost no longer tells what is known of it: that is all that went in, less all that came out while it was known.
    SELECT account, instrument, -sum(amount) FROM (
        SELECT e.account, e.instrument, (e.quantity_after - e.quantity_before) * b.unit AS amount
        FROM position_events e JOIN believed b ON b.account = e.account AND b.execution_id = e.cause
        WHERE e.superseded_at IS NULL AND abs(e.quantity_after) > abs(e.quantity_before)
        UNION ALL SELECT account, instrument, premium FROM taken
        UNION ALL SELECT account, instrument, -premium FROM realised WHERE execution_revision IS NOT NULL
        UNION ALL SELECT account, instrument, amount FROM entered
        UNION ALL SELECT account, instrument, -cost FROM realised
        UNION ALL SELECT account, instrument, -cost FROM open_lots
    ) pool
    WHERE (account, instrument) IN (
        SELECT account, instrument FROM realised WHERE pooled AND cost IS NULL
        UNION SELECT account, instrument FROM open_lots WHERE pooled AND cost IS NULL
    )
    GROUP BY account, instrument
), flows AS (
    SELECT account, instrument, -quantity * unit - coalesce(commission, 0) AS traded,
           0 AS contributed, 0 AS handed_over, 0 AS taken_up, 0 AS unknown
    FROM believed WHERE quantity <> 0
    UNION ALL SELECT account, instrument, -commission, 0, coalesce(premium, 0), 0, 0 FROM option_ends
    UNION ALL SELECT account, instrument, 0, coalesce(amount, 0) + coalesce(commission, 0), 0, 0, 0 FROM entered
    UNION ALL SELECT account, instrument, 0, 0, 0, premium, 0 FROM taken
    UNION ALL SELECT account, instrument, 0, 0, 0, 0, coalesce(amount, 0) FROM went_unknown
)
SELECT p.account, p.instrument, p.symbol, p.currency, p.basis_quality, p.unknown_closes, p.realized_pnl AS realized,
       coalesce((SELECT sum(cost) FROM lots l WHERE l.account = p.account AND l.instrument = p.instrument), 0) AS cost,
       p.open_commission, coalesce(sum(traded), 0) AS traded, coalesce(sum(contributed), 0) AS contributed,
       coalesce(sum(handed_over), 0) AS handed_over, coalesce(sum(taken_up), 0) AS taken_up, coalesce(sum(unknown), 0) AS unknown
FROM positions p LEFT JOIN flows USING (account, instrument)
GROUP BY p.account, p.instrument
ORDER BY p.account, p.symbol, p.instrument

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
