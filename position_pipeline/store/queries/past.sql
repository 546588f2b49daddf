-- name: instruments_of
-- All that an account has entries of, or rows that rest on entries.
SELECT instrument FROM executions WHERE account = %(account)s
UNION SELECT instrument FROM adjustments WHERE account = %(account)s
UNION SELECT instrument FROM positions WHERE account = %(account)s
UNION SELECT instrument FROM lots WHERE account = %(account)s
UNION SELECT instrument FROM closes WHERE account = %(account)s AND superseded_at IS NULL
UNION SELECT instrument FROM position_events WHERE account = %(account)s AND superseded_at IS NULL

-- name: links
-- Pairs of instruments between which premiums or lots pass.
SELECT DISTINCT taker.instrument AS taker, giver.instrument AS giver
FROM (
    SELECT account, instrument, premium_from AS giver_id FROM executions WHERE account = %(account)s AND premium_from IS NOT NULL
    UNION ALL
    SELECT account, instrument, takes_from FROM adjustments WHERE account = %(account)s AND takes_from IS NOT NULL AND kind <> 'void'
) taker
JOIN adjustments giver ON giver.account = taker.account AND giver.id = taker.giver_id

-- name: executions_known
-- The latest revision of each fill that was known at a time, where it is of one of the instruments; a bust drops out.
SELECT * FROM executions e
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND quantity > 0 AND recorded_at <= %(at)s
  AND NOT EXISTS (
    SELECT FROM executions l
    WHERE l.account = e.account AND l.execution_id = e.execution_id AND l.revision > e.revision AND l.recorded_at <= %(at)s
  )

-- name: adjustments_known
-- Those too that were taken back later.
SELECT * FROM adjustments
WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND recorded_at <= %(at)s
  AND (reversed_at IS NULL OR reversed_at > %(at)s)

-- name: accounts_named
SELECT a.account, a.broker FROM accounts a
WHERE %(accounts)s::text[] IS NULL OR a.account = ANY(%(accounts)s)
ORDER BY a.account
