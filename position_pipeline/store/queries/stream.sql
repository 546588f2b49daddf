-- name: try_stream_lock
-- Session lock: one listener a connection; freed when its database connection ends, also by kill -9.
SELECT pg_try_advisory_lock(hashtextextended('position_pipeline:stream:' || %(connection)s, 0)) AS held

-- name: stream_unlock
SELECT pg_advisory_unlock(hashtextextended('position_pipeline:stream:' || %(connection)s, 0))

-- name: end_when_idle
-- A listener that hangs loses its connection, and with it its locks: another may take over.
SELECT set_config('idle_session_timeout', %(after)s, false)

-- name: is_listened_to
SELECT EXISTS (
    SELECT FROM streams WHERE connection = %(connection)s AND last_heartbeat_at > now() - interval '20 s' AND state <> 'stopped'
) AS it_is

-- name: stream
SELECT * FROM streams WHERE connection = %(connection)s

-- name: streams
-- Every stream with its open gap. `alive`: its listener gave a sign of life a moment ago, by the database's own clock.
SELECT s.*, s.last_heartbeat_at > now() - interval '20 s' AND s.state <> 'stopped' AS alive,
       g.opened_at AS gap_opened_at, g.cause AS gap_cause, g.healed_at AS gap_healed_at
FROM streams s LEFT JOIN stream_gaps g ON g.connection = s.connection AND g.closed_at IS NULL
ORDER BY s.connection

-- name: begin_stream
INSERT INTO streams (connection, state, detail, pid, started_at, last_heartbeat_at)
VALUES (%(connection)s, 'waiting', '', %(pid)s, now(), now())
ON CONFLICT (connection) DO UPDATE
SET state = 'waiting', detail = '', pid = excluded.pid, started_at = now(), last_heartbeat_at = now(), client_id = NULL,
    connected_at = NULL, events = 0, fills = 0, triggers = 0

-- name: beat
UPDATE streams
SET state = %(state)s, detail = %(detail)s, client_id = %(client_id)s, connected_at = %(connected_at)s,
    disconnected_at = coalesce(%(disconnected_at)s, disconnected_at), last_event_at = coalesce(%(last_event_at)s, last_event_at),
    last_heard_at = coalesce(%(last_heard_at)s, last_heard_at), events = %(events)s, fills = %(fills)s, triggers = %(triggers)s,
    last_heartbeat_at = clock_timestamp()
WHERE connection = %(connection)s

-- name: open_gap
-- The first cause stays; the earlier of two beginnings counts.
INSERT INTO stream_gaps (connection, opened_at, cause) VALUES (%(connection)s, %(opened_at)s, %(cause)s)
ON CONFLICT (connection) WHERE closed_at IS NULL
DO UPDATE SET opened_at = least(stream_gaps.opened_at, excluded.opened_at), healed_at = NULL

-- name: heal_gap
-- A clock may be set back; nothing heals before it began.
UPDATE stream_gaps SET healed_at = greatest(clock_timestamp(), opened_at), found = %(found)s
WHERE connection = %(connection)s AND closed_at IS NULL

-- name: close_gap
-- Closed only where no difference between book and broker that was first seen in it is still open.
UPDATE stream_gaps g SET closed_at = greatest(clock_timestamp(), g.healed_at)
WHERE g.connection = %(connection)s AND g.closed_at IS NULL AND g.healed_at IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM breaks b JOIN accounts a USING (account)
    WHERE a.connection = g.connection AND b.status = 'open' AND b.noted_at BETWEEN g.opened_at AND g.healed_at
  )
RETURNING g.id

-- name: gap_may_close
-- Whether another answer of the broker may close a healed gap by itself: a difference that holds it is young, or may still clear. What was
-- adopted, or waits for a person, goes with a fact or a word that comes from elsewhere.
SELECT EXISTS (
    SELECT FROM stream_gaps g JOIN accounts a USING (connection) JOIN breaks b USING (account)
    WHERE g.connection = %(connection)s AND g.closed_at IS NULL AND b.status = 'open' AND b.adopted IS NULL
      AND b.noted_at BETWEEN g.opened_at AND g.healed_at
      AND now() < coalesce(b.expected_clear_at, b.noted_at) + interval '15 min'
) AS may

-- name: open_gap_of
SELECT * FROM stream_gaps WHERE connection = %(connection)s AND closed_at IS NULL

-- name: differing_holdings
-- Which of some holdings, as (account, instrument, quantity), are not what the book says. Currencies and combinations are not booked; an
-- account that was never synced has no book yet.
SELECT h.account, h.instrument
FROM unnest(%(accounts)s::text[], %(instruments)s::text[], %(quantities)s::numeric[]) AS h (account, instrument, quantity)
JOIN accounts a USING (account)
LEFT JOIN positions p USING (account, instrument)
LEFT JOIN instruments i USING (instrument)
WHERE a.first_proven_at IS NOT NULL AND h.quantity <> coalesce(p.quantity, 0) AND NOT coalesce(i.sec_type = ANY(%(not_booked)s), false)

-- name: ask_sync
-- At most one open request an account; (id, picked) of the one that stands, `new` where it was not there before.
WITH asked AS (
    INSERT INTO sync_requests (account, requested_by) VALUES (%(account)s, %(by)s)
    ON CONFLICT (coalesce(account, '')) WHERE finished_at IS NULL DO NOTHING
    RETURNING id
)
SELECT id, false AS picked, true AS new FROM asked
UNION ALL
SELECT id, picked_at IS NOT NULL, false FROM sync_requests
WHERE finished_at IS NULL AND coalesce(account, '') = coalesce(%(account)s, '') AND NOT EXISTS (SELECT FROM asked)

-- name: notify_request
SELECT pg_notify('position_pipeline_requests', '')

-- name: listen_for_requests
LISTEN position_pipeline_requests

-- name: open_requests
-- Those that these connections can carry out, oldest first, and nobody looks at in this moment. An account that no connection has
-- delivered yet may be anybody's.
SELECT id, account FROM sync_requests r
WHERE finished_at IS NULL AND NOT id = ANY(%(besides)s::bigint[])
  AND (account IS NULL OR EXISTS (SELECT FROM accounts a WHERE a.account = r.account AND a.connection = ANY(%(connections)s))
       OR NOT EXISTS (SELECT FROM accounts a WHERE a.account = r.account AND a.connection <> ''))
ORDER BY id
FOR UPDATE SKIP LOCKED

-- name: left_alone
-- Open requests that no listener will carry out: none lives for the account's connection, or none at all.
SELECT r.id, r.account FROM sync_requests r LEFT JOIN accounts a USING (account)
WHERE r.finished_at IS NULL
  AND NOT EXISTS (
    SELECT FROM streams s
    WHERE s.last_heartbeat_at > now() - interval '20 s' AND s.state <> 'stopped'
      AND (coalesce(a.connection, '') = '' OR s.connection = a.connection)
  )
ORDER BY r.id

-- name: try_request_lock
-- Session lock, held while a request is carried out: one whose worker died is free again.
SELECT pg_try_advisory_lock(hashtextextended('position_pipeline:request:' || %(id)s::text, 0)) AS held

-- name: request_unlock
SELECT pg_advisory_unlock(hashtextextended('position_pipeline:request:' || %(id)s::text, 0))

-- name: pick_request
UPDATE sync_requests SET picked_at = clock_timestamp(), picked_by = %(by)s WHERE id = %(id)s

-- name: finish_request
UPDATE sync_requests SET finished_at = clock_timestamp(), outcome = %(outcome)s, result = %(result)s WHERE id = %(id)s
