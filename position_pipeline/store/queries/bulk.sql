-- name: has_history
SELECT 1 AS found FROM executions WHERE account = %(account)s LIMIT 1

-- name: known_ids
SELECT DISTINCT execution_id FROM executions WHERE account = %(account)s AND execution_id = ANY(%(ids)s)

-- name: sizes
-- How many fills have to be read to book each of some instruments from its first entry; there may be none, but adjustments.
SELECT i.instrument, count(e.id) AS fills
FROM unnest(%(instruments)s::text[]) AS i (instrument)
LEFT JOIN executions e ON e.account = %(account)s AND e.instrument = i.instrument
GROUP BY i.instrument ORDER BY i.instrument

-- name: take_back_closes
-- What this transaction has written, which is the only one that began to believe anything at that moment: nobody has seen it.
DELETE FROM closes WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND believed_at = %(at)s

-- name: take_back_events
DELETE FROM position_events WHERE account = %(account)s AND instrument = ANY(%(instruments)s) AND believed_at = %(at)s

-- name: foreign_keys
-- Of the tables that a delivery fills, where they are ours to change.
SELECT c.conrelid::regclass::text AS "table", quote_ident(c.conname) AS name, pg_get_constraintdef(c.oid) AS definition
FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
WHERE c.contype = 'f' AND pg_has_role(t.relowner, 'USAGE')
  AND c.conrelid = ANY(ARRAY['executions', 'lots', 'closes', 'position_events']::regclass[])
ORDER BY 1, 2

-- name: anything
SELECT 1 AS found WHERE EXISTS (SELECT FROM executions) OR EXISTS (SELECT FROM closes) OR EXISTS (SELECT FROM position_events)

-- name: lock_for_keys
-- All tables that a foreign key of ours leads from or to; not if anybody is at work on one of them.
LOCK TABLE accounts, instruments, executions, adjustments, positions, lots, closes, position_events IN ACCESS EXCLUSIVE MODE NOWAIT

-- name: take_time
-- The keys of all rows at once may take longer than a statement of ours may otherwise.
SET LOCAL statement_timeout = 0

-- name: analyze
ANALYZE executions, lots, closes, position_events
