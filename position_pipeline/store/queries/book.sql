-- name: lock_account
-- One writer at a time for an account's book; freed with the transaction, however it ends. `at` is when this one's turn came, which is when
-- the book begins to say what it writes: now() is when the transaction began, and may lie before what the last writer wrote.
SELECT clock_timestamp() AS at
FROM (SELECT pg_advisory_xact_lock(hashtextextended('position_pipeline:book:' || %(account)s, 0)) OFFSET 0) AS lock

-- name: add_account
INSERT INTO accounts (account, broker, connection, base_currency, cost_method)
VALUES (%(account)s, %(broker)s, %(connection)s, %(base_currency)s, %(cost_method)s)
ON CONFLICT (account) DO UPDATE
SET connection = CASE WHEN excluded.connection = '' THEN accounts.connection ELSE excluded.connection END,
    base_currency = coalesce(excluded.base_currency, accounts.base_currency)
WHERE (excluded.connection <> '' AND excluded.connection <> accounts.connection)
   OR (accounts.base_currency IS NULL AND excluded.base_currency IS NOT NULL)

-- name: set_methods
-- What they were until now is kept beside them, so that it can be told what was believed at any time.
UPDATE accounts a
SET cost_method = %(cost_method)s, cost_methods = %(cost_methods)s,
    earlier_methods = earlier_methods || jsonb_build_array(jsonb_build_object(
        'until', %(at)s::timestamptz, 'cost_method', a.cost_method, 'cost_methods', a.cost_methods))
WHERE account = %(account)s

-- name: account
SELECT * FROM accounts WHERE account = %(account)s

-- name: known_instruments
SELECT instrument, symbol, exchange FROM instruments WHERE instrument = ANY(%(instruments)s)

-- name: add_instruments
-- The first description stays (expired contracts cannot be asked for again); the label follows the broker, and the exchange comes with the
-- first row that knows it: an execution does not.
INSERT INTO instruments
    (instrument, symbol, sec_type, currency, multiplier, exchange, expiry, strike, "right", underlying, description)
VALUES %s
ON CONFLICT (instrument) DO UPDATE
SET symbol = excluded.symbol, exchange = CASE WHEN instruments.exchange = '' THEN excluded.exchange ELSE instruments.exchange END
WHERE instruments.symbol <> excluded.symbol OR (instruments.exchange = '' AND excluded.exchange <> '')

-- name: rename_positions
UPDATE positions p SET symbol = i.symbol
FROM instruments i
WHERE i.instrument = p.instrument AND i.symbol <> p.symbol AND i.instrument = ANY(%(instruments)s)

-- name: instruments
SELECT * FROM instruments WHERE instrument = ANY(%(instruments)s)

-- name: known_executions
SELECT * FROM executions WHERE account = %(account)s AND execution_id = ANY(%(ids)s)

-- name: add_executions
INSERT INTO executions
    (account, execution_id, revision, instrument, side, quantity, price, multiplier, currency, commission,
     commission_currency, time, order_id, source, sequence, premium_from, broker_pnl, closes_lots, recorded_at)
VALUES %s

-- name: complete_executions
-- What the first delivery lacked: commission, sequence, premium link, named lots, the broker's own figure. What it said until now is kept beside it, so
-- that it can be told what was known at any time.
UPDATE executions e
SET earlier = coalesce(e.earlier, '[]') || jsonb_build_array(jsonb_build_object(
        'until', c.at, 'commission', e.commission::text, 'commission_currency', e.commission_currency, 'time', e.time,
        'sequence', e.sequence, 'premium_from', e.premium_from, 'closes_lots', e.closes_lots)),
    commission = c.commission, commission_currency = c.commission_currency, sequence = c.sequence, premium_from = c.premium_from,
    broker_pnl = c.broker_pnl, time = c.time, order_id = c.order_id, source = c.source,
    closes_lots = c.closes_lots
FROM (VALUES %s) AS c
    (account, execution_id, revision, commission, commission_currency, sequence, premium_from, broker_pnl, time, order_id, source,
     closes_lots, at)
WHERE e.account = c.account AND e.execution_id = c.execution_id AND e.revision = c.revision

-- name: add_adjustments
INSERT INTO adjustments
    (id, account, instrument, kind, time, quantity, currency, multiplier, price, cost, commission, basis, sequence, numerator,
     denominator, amount, share, takes_from, held, source, evidence, recorded_at)
VALUES %s

-- name: known_adjustments
SELECT * FROM adjustments WHERE account = %(account)s AND id = ANY(%(ids)s)

-- name: believed_executions
-- The latest revision of each fill, where it is of one of the instruments and after `since`, by time; a bust (quantity 0) drops out.
SELECT * FROM executions e
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND time > %(since)s AND quantity > 0
  AND NOT EXISTS (
    SELECT FROM executions l WHERE l.account = e.account AND l.execution_id = e.execution_id AND l.revision > e.revision
  )
ORDER BY time

-- name: adjustments_of
SELECT * FROM adjustments WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND reversed_at IS NULL

-- name: reverse_adjustments
-- A clock may be set back; nothing is taken back before it was recorded.
UPDATE adjustments SET reversed_at = greatest(%(at)s, recorded_at), reversed_by = %(by)s, reversed_why = %(why)s
WHERE account = %(account)s AND id = ANY(%(ids)s) AND reversed_at IS NULL
RETURNING instrument

-- name: linked_instruments
-- Instruments that exchange premiums or lots with the given ones: an option and the shares that it became, what was converted into what.
-- By adjustments that were taken back too: what they had passed is passed no more, and both ends are booked anew.
SELECT DISTINCT unnest(ARRAY[taker.instrument, giver.instrument]) AS instrument
FROM (
    SELECT account, instrument, premium_from AS giver_id FROM executions WHERE account = %(account)s AND premium_from IS NOT NULL
    UNION ALL
    SELECT account, instrument, takes_from FROM adjustments WHERE account = %(account)s AND takes_from IS NOT NULL AND kind <> 'void'
) taker
JOIN adjustments giver ON giver.account = taker.account AND giver.id = taker.giver_id
WHERE taker.instrument = ANY(%(instruments)s) OR giver.instrument = ANY(%(instruments)s)

-- name: with_entries_left_out
-- Instruments in which an entry may take another out of the history: a fill the opening lot that stands for it, a void a fill.
SELECT DISTINCT instrument FROM adjustments
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND kind IN ('opening_lot', 'void') AND reversed_at IS NULL

-- name: with_far_reach
-- Instruments with entries of which more is to be known than what is held when their turn comes: they give way, or take out others.
SELECT DISTINCT instrument FROM adjustments
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND NOT kind = ANY(%(kinds)s) AND reversed_at IS NULL

-- name: drop_checkpoints
DELETE FROM checkpoints c USING unnest(%(instruments)s::text[], %(since)s::timestamptz[]) AS gone (instrument, since)
WHERE c.account = %(account)s AND c.instrument = gone.instrument AND c.until_at >= gone.since

-- name: last_checkpoints
-- Of each instrument; none where booking has refused something, for what stands refused is told anew by whoever books it from the start.
SELECT DISTINCT ON (instrument) instrument, until_at, state FROM checkpoints JOIN positions USING (account, instrument)
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND NOT EXISTS (
    SELECT FROM rejects r
    WHERE r.account = positions.account AND r.symbol = positions.symbol AND r.source = 'booking' AND r.resolved_at IS NULL
)
ORDER BY instrument, until_at DESC

-- name: checkpoints_of
SELECT * FROM checkpoints WHERE account = %(account)s AND instrument = ANY(%(instruments)s) ORDER BY until_at

-- name: ends_of_checkpoints
SELECT until_at FROM checkpoints WHERE account = %(account)s AND instrument = ANY(%(instruments)s) ORDER BY until_at

-- name: add_checkpoints
INSERT INTO checkpoints (account, instrument, until_at, state) VALUES %s ON CONFLICT DO NOTHING

-- name: positions_of
SELECT * FROM positions WHERE account = %(account)s AND instrument = ANY(%(instruments)s)

-- name: last_entries_of
SELECT instrument, last_entry_at, last_entry_rank, last_entry_sequence, last_entry_id FROM positions
WHERE account = %(account)s AND instrument = ANY(%(instruments)s)

-- name: held_lots
-- As `lots_of`, for whoever books: the columns that it needs, in the order in which it takes them.
SELECT instrument, NULL AS last, seq, opening_revision, opening_id, opened_at, quantity, price, cost, commission, basis, fees FROM lots
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) ORDER BY instrument, seq

-- name: first_lots
-- The first few of each position, which may have thousands, and the place of the very last one.
SELECT wanted.instrument, (SELECT max(seq) FROM lots WHERE account = %(account)s AND instrument = wanted.instrument) AS last,
       seq, opening_revision, opening_id, opened_at, quantity, price, cost, commission, basis, fees
FROM unnest(%(instruments)s::text[]) AS wanted (instrument)
CROSS JOIN LATERAL (
    SELECT * FROM lots WHERE account = %(account)s AND instrument = wanted.instrument ORDER BY seq LIMIT %(most)s
) AS held
ORDER BY wanted.instrument, seq

-- name: lots_of
SELECT * FROM lots WHERE account = %(account)s AND instrument = ANY(%(instruments)s) ORDER BY instrument, seq

-- name: write_positions
INSERT INTO positions
    (account, instrument, symbol, currency, multiplier, quantity, average_price, cost, open_commission, realized_gross,
     relieved_commission, closing_commission, unknown_closes, basis_quality, method, cycle, opened_at, closed_at,
     last_entry_at, last_entry_rank, last_entry_sequence, last_entry_id)
VALUES %s
ON CONFLICT (account, instrument) DO UPDATE SET
    symbol = excluded.symbol, currency = excluded.currency, multiplier = excluded.multiplier, quantity = excluded.quantity,
    average_price = excluded.average_price, cost = excluded.cost, open_commission = excluded.open_commission,
    realized_gross = excluded.realized_gross, relieved_commission = excluded.relieved_commission,
    closing_commission = excluded.closing_commission, unknown_closes = excluded.unknown_closes,
    basis_quality = excluded.basis_quality, method = excluded.method, cycle = excluded.cycle, opened_at = excluded.opened_at,
    closed_at = excluded.closed_at, last_entry_at = excluded.last_entry_at, last_entry_rank = excluded.last_entry_rank,
    last_entry_sequence = excluded.last_entry_sequence, last_entry_id = excluded.last_entry_id,
    other_costs = NULL -- of a quantity of the same cost, but perhaps by another history

-- name: drop_lots
DELETE FROM lots WHERE account = %(account)s AND instrument = ANY(%(instruments)s)

-- name: add_lots
INSERT INTO lots
    (account, instrument, opening_id, seq, opening_revision, opened_at, quantity, price, cost, commission, basis, fees)
VALUES %s

-- name: believed_closes
SELECT * FROM closes
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND closed_at > %(since)s AND superseded_at IS NULL
ORDER BY closed_at, id

-- name: believed_events
SELECT * FROM position_events
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND at > %(since)s AND superseded_at IS NULL
ORDER BY at, id

-- name: supersede_closes
-- A clock may be set back; nothing ceases to be said before it was said.
UPDATE closes SET superseded_at = greatest(%(at)s, believed_at) WHERE id = ANY(%(ids)s)

-- name: supersede_events
UPDATE position_events SET superseded_at = greatest(%(at)s, believed_at) WHERE id = ANY(%(ids)s)

-- name: add_closes
INSERT INTO closes
    (account, instrument, execution_id, execution_revision, execution_adjustment, opening_id, opening_revision,
     opening_adjustment, cycle, closed_at, opened_at, quantity, entry_price, exit_price, cost, gross_pnl, opening_commission,
     closing_commission, premium, fees, currency, method, basis, partial, believed_at)
VALUES %s

-- name: add_events
INSERT INTO position_events (account, instrument, type, at, quantity_before, quantity_after, cycle, cause, believed_at)
VALUES %s

-- name: add_rejects
INSERT INTO rejects (id, account, symbol, reason, source) VALUES %s ON CONFLICT (id) DO NOTHING RETURNING id

-- name: keep_refusals
-- What booking refused; it may have been resolved in between.
INSERT INTO rejects (id, account, symbol, reason, source) VALUES %s
ON CONFLICT (id) DO UPDATE SET resolved_at = NULL WHERE rejects.resolved_at IS NOT NULL

-- name: resolve_refusals
-- Of instruments that were booked anew: what booking does not refuse any more.
UPDATE rejects SET resolved_at = %(at)s
WHERE account = %(account)s AND source = 'booking' AND symbol = ANY(%(symbols)s) AND resolved_at IS NULL AND NOT id = ANY(%(ids)s)

-- name: waiting
-- What booking refuses and the next proven answer decides about: late facts, with what was inferred in their place and may go for them.
SELECT r.id, (array_agg(a.id ORDER BY a.held IS NULL, a.id))[1] AS inferred
FROM rejects r
JOIN instruments i ON i.symbol = r.symbol
JOIN adjustments a ON a.account = r.account AND a.instrument = i.instrument AND a.doubted_at IS NOT NULL
WHERE r.account = %(account)s AND r.source = 'booking' AND r.resolved_at IS NULL
GROUP BY r.id

-- name: add_cash_rows
INSERT INTO cash_rows (account, id, type, currency, amount, time, instrument, description) VALUES %s
ON CONFLICT (account, id) DO NOTHING RETURNING id

-- name: add_import
INSERT INTO statement_imports (account, file, sha256, from_at, to_at, counts, notes)
VALUES (%(account)s, %(file)s, %(sha256)s, %(from_at)s, %(to_at)s, %(counts)s, %(notes)s)

-- name: notify
SELECT pg_notify('position_pipeline', %(payload)s)

-- name: drop_lots_named
DELETE FROM lots l USING unnest(%(instruments)s::text[], %(ids)s::text[]) AS gone (instrument, opening_id)
WHERE l.account = %(account)s AND l.instrument = gone.instrument AND l.opening_id = gone.opening_id

-- name: move_lots
-- Lots that are as they were but for their place among the others.
UPDATE lots l SET seq = moved.seq
FROM unnest(%(instruments)s::text[], %(ids)s::text[], %(seqs)s::integer[]) AS moved (instrument, opening_id, seq)
WHERE l.account = %(account)s AND l.instrument = moved.instrument AND l.opening_id = moved.opening_id
