-- name: known
-- Once the account's book lock is ours, all of its fills that have a number are there to be seen, and any later one gets a higher number.
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('executions', 'id')::regclass), 0) AS known
FROM (SELECT pg_advisory_xact_lock(hashtextextended('position_pipeline:book:' || %(account)s, 0)) OFFSET 0) AS lock

-- name: since
SELECT count(*) AS fills, coalesce(max(id), 0) AS last FROM executions WHERE account = %(account)s AND id > %(known)s

-- name: advance
UPDATE accounts SET verified_to = %(up_to)s WHERE account = %(account)s AND verified_to < %(up_to)s

-- name: outstanding
-- From the newest back to the mark: what was recorded since the last syncs, however long the history is.
SELECT a.account, a.verified_to, newest.id AS up_to
FROM accounts a CROSS JOIN LATERAL (
    SELECT e.id FROM executions e WHERE e.account = a.account AND e.id > a.verified_to ORDER BY e.id DESC LIMIT 1
) newest
WHERE a.connection <> ''
ORDER BY a.account

-- name: listen
LISTEN position_pipeline; LISTEN position_pipeline_requests; LISTEN position_pipeline_stopping

-- name: stop_waiting
NOTIFY position_pipeline_stopping
