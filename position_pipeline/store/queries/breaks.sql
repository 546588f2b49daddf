-- name: standing
-- The breaks of an account that are open or dismissed, each with the last proven answer before its difference, and with what the adjustment
-- that follows the broker books today.
SELECT b.*, s.taken_at AS agreed_at, s."values" AS agreed_values,
       h.instrument AS held_instrument, h.quantity AS held_quantity, h.average_price AS held_average, h.raw_average_cost AS held_raw_cost,
       h.market_price AS held_price,
       a.id AS follows,
       (SELECT coalesce(sum(e.quantity_after - e.quantity_before), 0) FROM position_events e
        WHERE e.account = b.account AND e.cause = b.adopted AND e.superseded_at IS NULL) AS booked
FROM breaks b
LEFT JOIN adjustments a ON a.account = b.account AND a.id = b.adopted AND a.reversed_at IS NULL
LEFT JOIN snapshots s ON s.id = b.agreed_snapshot
LEFT JOIN holdings h
  ON h.account = b.account AND h.instrument = b.instrument AND h.snapshot_id <= s.id AND (h.until_id IS NULL OR h.until_id > s.id)
WHERE b.account = %(account)s AND b.status IN ('open', 'dismissed')
ORDER BY b.first_seen_at, b.id

-- name: open_breaks
INSERT INTO breaks (id, account, instrument, subject, class, cause, book_quantity, broker_quantity, first_seen_at, last_seen_at,
                    changed_at, differs_since, seen_whole, agreed_snapshot, expected_clear_at, impact, impact_currency, signs, proposal, proposed,
                    evidence, adopted, status, resolved_at, history)
VALUES %s

-- name: see_again
-- Everything that a later look may have changed; what a person has said of it stays, unless `is_news`.
UPDATE breaks b
SET last_seen_at = %(at)s, class = %(class)s, cause = %(cause)s, book_quantity = %(book_quantity)s, broker_quantity = %(broker_quantity)s,
    changed_at = CASE WHEN %(is_news)s THEN %(at)s ELSE b.changed_at END,
    differs_since = CASE WHEN %(differs)s THEN %(at)s ELSE b.differs_since END,
    agreed_snapshot = CASE WHEN %(differs)s AND b.adopted IS NOT NULL THEN %(agreed_snapshot)s ELSE b.agreed_snapshot END,
    seen = CASE WHEN %(differs)s THEN 1 WHEN b.last_seen_at < %(at)s THEN b.seen + 1 ELSE b.seen END,
    seen_whole = CASE WHEN %(differs)s THEN %(whole)s WHEN b.last_seen_at < %(at)s THEN b.seen_whole + %(whole)s ELSE b.seen_whole END,
    expected_clear_at = %(expected_clear_at)s, impact = %(impact)s, impact_currency = %(impact_currency)s, signs = %(signs)s,
    proposal = %(proposal)s, proposed = %(proposed)s, evidence = %(evidence)s, adopted = %(adopted)s,
    status = CASE WHEN %(reopens)s THEN 'open' ELSE b.status END,
    dismissed_at = CASE WHEN %(reopens)s THEN NULL ELSE b.dismissed_at END,
    dismissed_by = CASE WHEN %(reopens)s THEN NULL ELSE b.dismissed_by END,
    dismissed_reason = CASE WHEN %(reopens)s THEN NULL ELSE b.dismissed_reason END,
    accepted_at = CASE WHEN %(is_news)s THEN NULL ELSE b.accepted_at END,
    accepted_by = CASE WHEN %(is_news)s THEN NULL ELSE b.accepted_by END,
    accepted_why = CASE WHEN %(is_news)s THEN NULL ELSE b.accepted_why END,
    history = b.history || %(history)s
WHERE id = %(id)s

-- name: resolve
UPDATE breaks
SET status = 'resolved', resolved_at = greatest(%(at)s, first_seen_at), history = history || %(history)s
WHERE id = ANY(%(ids)s) AND status <> 'resolved'

-- name: of_id
-- The breaks whose id begins so.
SELECT b.*, i.symbol, a.base_currency
FROM breaks b JOIN accounts a USING (account) LEFT JOIN instruments i USING (instrument)
WHERE starts_with(b.id, %(id)s)
ORDER BY b.first_seen_at, b.id
LIMIT 20

-- name: of_cause
-- A break that stands, and all that stand for the same cause in its account.
SELECT b.*, i.symbol, a.base_currency
FROM breaks b JOIN accounts a USING (account) LEFT JOIN instruments i USING (instrument)
WHERE b.account = %(account)s AND b.status IN ('open', 'dismissed') AND (b.id = %(id)s OR (b.cause <> '' AND b.cause = %(cause)s))
ORDER BY b.first_seen_at, b.id

-- name: accept_first
UPDATE breaks
SET accepted_at = %(at)s, accepted_by = %(by)s, accepted_why = %(why)s, seconded_by = NULL, history = history || %(history)s
WHERE id = ANY(%(ids)s)

-- name: accepted
UPDATE breaks
SET status = 'resolved', resolved_at = %(at)s,
    accepted_at = coalesce(accepted_at, %(at)s), accepted_by = coalesce(accepted_by, %(by)s), accepted_why = coalesce(accepted_why, %(why)s),
    seconded_by = CASE WHEN accepted_by <> %(by)s THEN %(by)s END, history = history || %(history)s
WHERE id = ANY(%(ids)s)

-- name: accept_adjustments
UPDATE adjustments SET accepted_by = %(by)s WHERE account = %(account)s AND id = ANY(%(ids)s)

-- name: dismiss
UPDATE breaks
SET status = 'dismissed', dismissed_at = %(at)s, dismissed_by = %(by)s, dismissed_reason = %(reason)s, history = history || %(history)s
WHERE id = %(id)s

-- name: quantities
SELECT instrument, quantity FROM positions WHERE account = %(account)s AND instrument = ANY(%(instruments)s)

-- name: is_open
-- Whether new entries of some instruments may end anything: most of the time there is nothing to end.
SELECT EXISTS (
    SELECT FROM breaks WHERE account = %(account)s AND status IN ('open', 'dismissed') AND instrument = ANY(%(instruments)s)
) AS is_open

-- name: doubt
-- New entries are late where they are of before the last proven answer: what was inferred from it may have been just these.
UPDATE adjustments a SET doubted_at = now()
FROM accounts c, unnest(%(instruments)s::text[], %(first)s::timestamptz[]) AS new (instrument, first)
WHERE a.account = %(account)s AND c.account = a.account AND new.instrument = a.instrument AND new.first <= c.answered_at
  AND (a.held IS NOT NULL OR a.kind = 'opening_balance') AND a.reversed_at IS NULL AND a.accepted_by IS NULL AND a.doubted_at IS NULL

-- name: doubted
SELECT id, instrument FROM adjustments WHERE account = %(account)s AND doubted_at IS NOT NULL AND NOT instrument = ANY(%(unread)s)

-- name: doubt_no_more
UPDATE adjustments SET doubted_at = NULL WHERE account = %(account)s AND id = ANY(%(ids)s)

-- name: inferred_of
-- What nobody but ourselves wanted, and stands, newest first; what the book began with comes last.
SELECT * FROM adjustments
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND (held IS NOT NULL OR kind = 'opening_balance')
  AND reversed_at IS NULL AND accepted_by IS NULL AND kind <> 'void'
ORDER BY kind = 'opening_balance', time DESC, id DESC

-- name: inferences
-- What was inferred from answers of the broker for some instruments, and stands, newest first.
SELECT * FROM adjustments
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND held IS NOT NULL AND reversed_at IS NULL
ORDER BY time DESC, id DESC

-- name: instruments_of_idle
-- Instruments with something inferred that nothing in the book rests on any more. A void is not told by an event of its own.
SELECT DISTINCT instrument FROM adjustments a
WHERE account = %(account)s AND held IS NOT NULL AND reversed_at IS NULL AND kind <> 'void' AND NOT EXISTS (
    SELECT FROM position_events e
    WHERE e.account = a.account AND e.instrument = a.instrument AND e.cause = a.id AND e.superseded_at IS NULL
)

-- name: linked_inferences
-- The same for all that give to, or take from, some adjustments.
SELECT * FROM adjustments
WHERE account = %(account)s AND held IS NOT NULL AND reversed_at IS NULL
  AND (id = ANY(%(ids)s) OR takes_from = ANY(%(ids)s) OR id IN (SELECT takes_from FROM adjustments WHERE account = %(account)s AND id = ANY(%(ids)s)))

-- name: settled
-- Standing differences in quantity that entries of some instruments have closed: entries of before the answer that showed them, to within
-- what the clocks may differ, and nothing of it by an adjustment that only follows the broker.
SELECT b.id FROM breaks b
JOIN positions p USING (account, instrument)
JOIN unnest(%(instruments)s::text[], %(last)s::timestamptz[]) AS new (instrument, last) USING (instrument)
WHERE b.account = %(account)s AND b.status IN ('open', 'dismissed') AND b.subject = 'quantity'
  AND p.quantity = b.broker_quantity AND new.last <= b.last_seen_at + %(clocks)s
  AND NOT EXISTS (
    SELECT FROM position_events e WHERE e.account = b.account AND e.cause = b.adopted AND e.superseded_at IS NULL
  )

-- name: related
-- Some instruments of an account, with the options on them and what they are options on.
SELECT i.instrument FROM instruments i WHERE i.instrument = ANY(%(instruments)s)
UNION
SELECT i.instrument FROM instruments c JOIN instruments i ON i.underlying = c.symbol
WHERE i.underlying <> '' AND c.instrument = ANY(%(instruments)s)
UNION
SELECT i.instrument FROM instruments c JOIN instruments i ON i.symbol = c.underlying
WHERE c.underlying <> '' AND c.instrument = ANY(%(instruments)s)

-- name: recent_fills
-- Of the instruments concerned, and of all others since their cash counts: what moved the account's cash is read from all of them.
SELECT * FROM executions e
WHERE account = %(account)s AND time >= %(since)s AND (instrument = ANY(%(instruments)s) OR time >= %(cash_since)s) AND quantity > 0
  AND NOT EXISTS (
    SELECT FROM executions l WHERE l.account = e.account AND l.execution_id = e.execution_id AND l.revision > e.revision
  )
ORDER BY time, id

-- name: recent_corrections
-- Both revisions of fills that were corrected or busted: each earlier one beside the one that is believed.
SELECT e.* FROM executions e
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND time >= %(since)s
  AND EXISTS (
    SELECT FROM executions o WHERE o.account = e.account AND o.execution_id = e.execution_id AND o.revision <> e.revision
  )
ORDER BY execution_id, revision

-- name: differences_elsewhere
-- Those that ended as a transfer too: accounts are looked at one after the other, and the first leg may be booked before the second is seen.
SELECT b.instrument, b.account, b.broker_quantity - b.book_quantity AS difference
FROM breaks b JOIN accounts a USING (account)
WHERE a.broker = %(broker)s AND b.account <> %(account)s AND b.instrument = ANY(%(instruments)s)
  AND (b.status IN ('open', 'dismissed') OR (b.status = 'resolved' AND b.class = 'transfer' AND b.resolved_at >= %(since)s))
  AND b.subject = 'quantity' AND b.broker_quantity <> b.book_quantity
ORDER BY b.account

-- name: actions_elsewhere
-- What is a fact in the books of other accounts of the broker: units of an instrument were exchanged for others, of it or of another. What
-- this account's book has of it explains nothing more.
SELECT a.instrument, a.kind, a.time, a.account, t.instrument AS "into",
       coalesce(t.numerator, a.numerator) AS numerator, coalesce(t.denominator, a.denominator) AS denominator
FROM adjustments a JOIN accounts c USING (account)
LEFT JOIN adjustments t ON t.account = a.account AND t.takes_from = a.id AND t.kind = 'conversion_in' AND t.reversed_at IS NULL
WHERE a.kind IN ('split', 'conversion_out', 'spin_off') AND a.held IS NULL AND a.reversed_at IS NULL AND a.time >= %(since)s
  AND c.broker = %(broker)s AND a.account <> %(account)s
  AND (a.instrument = ANY(%(instruments)s) OR t.instrument = ANY(%(instruments)s))
  AND NOT EXISTS (
    SELECT FROM adjustments o
    WHERE o.account = %(account)s AND o.instrument = a.instrument AND o.kind = a.kind AND o.reversed_at IS NULL
      AND o.time > a.time - interval '3 days'
  )
ORDER BY a.time, a.account, a.id

-- name: answer_before
SELECT id, taken_at, "values" FROM snapshots
WHERE account = %(account)s AND status <> 'rejected' AND taken_at < %(at)s
ORDER BY id DESC LIMIT 1

-- name: known_prices
SELECT DISTINCT ON (instrument) instrument, market_price FROM positions
WHERE instrument = ANY(%(instruments)s) AND market_price IS NOT NULL
ORDER BY instrument, priced_at DESC

-- name: events_of_causes
-- What some entries do to positions today.
SELECT * FROM position_events WHERE account = %(account)s AND cause = ANY(%(ids)s) AND superseded_at IS NULL

-- name: taken_back
-- Those of some adjustments that were taken back.
SELECT id, instrument, reversed_at, reversed_by, reversed_why FROM adjustments
WHERE account = %(account)s AND id = ANY(%(ids)s) AND reversed_at IS NOT NULL

-- name: taken_back_by_people
-- What people have taken back of some instruments, the latest last.
SELECT id, instrument, reversed_at, reversed_by, reversed_why FROM adjustments
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND reversed_at IS NOT NULL AND reversed_by <> %(ourselves)s
ORDER BY reversed_at
