-- name: teller_lock
-- Session lock: one process at a time decides and sends, so that nothing is told twice. Freed when the connection ends, also by kill -9.
SELECT pg_try_advisory_lock(hashtextextended('position_pipeline:alerts', 0)) AS held

-- name: teller_unlock
SELECT pg_advisory_unlock(hashtextextended('position_pipeline:alerts', 0))

-- name: breaks
-- What stands, and what a person has dismissed. An adopted break whose quantities agree again is known, explained and not urgent, and still here.
SELECT b.id, b.account, b.instrument, coalesce(i.symbol, '') AS symbol, b.subject, b.class, b.status, b.cause, b.book_quantity,
       b.broker_quantity, b.first_seen_at, b.expected_clear_at, b.impact, b.impact_currency, b.proposal, b.evidence, b.adopted
FROM breaks b LEFT JOIN instruments i USING (instrument)
WHERE b.status IN ('open', 'dismissed')
ORDER BY b.impact DESC NULLS LAST, b.account, symbol, b.id

-- name: accounts
-- How fresh each account is that a connection reads, what kinds of things it holds, and what its last attempt came to.
SELECT a.account, a.connection, a.first_seen_at, a.last_synced_at, s.outcome AS last_outcome, s.errors AS last_errors,
       coalesce((
           SELECT jsonb_agg(DISTINCT jsonb_build_array(i.sec_type, i.currency))
           FROM positions p JOIN instruments i USING (instrument)
           WHERE p.account = a.account AND (p.quantity <> 0 OR coalesce(p.broker_quantity, 0) <> 0)
       ), '[]') AS kinds
FROM accounts a
LEFT JOIN LATERAL (SELECT outcome, errors FROM syncs WHERE account = a.account ORDER BY id DESC LIMIT 1) s ON true
WHERE a.connection <> ''
ORDER BY a.account

-- name: gaps
-- Times in which a stream may have missed something, that no sync has made good yet.
SELECT connection, opened_at, cause FROM stream_gaps WHERE closed_at IS NULL AND healed_at IS NULL ORDER BY connection

-- name: standing
SELECT id, cause, kind, accounts, severity, headline, digest, impact_class, age_class, since_at FROM alerts
WHERE recovered_at IS NULL ORDER BY id

-- name: open_alert
INSERT INTO alerts (cause, kind, accounts, severity, headline, digest, impact_class, age_class, since_at, first_told_at, last_told_at, told)
VALUES (%(cause)s, %(kind)s, %(accounts)s, %(severity)s, %(headline)s, %(digest)s, %(impact_class)s, %(age_class)s, %(since_at)s,
        %(at)s, %(at)s, 1)
RETURNING id

-- name: tell_again
UPDATE alerts
SET accounts = %(accounts)s, severity = %(severity)s, headline = %(headline)s, digest = %(digest)s, impact_class = %(impact_class)s,
    age_class = %(age_class)s, last_told_at = %(at)s, told = told + 1
WHERE id = %(id)s

-- name: end_alert
UPDATE alerts
SET recovered_at = %(at)s, ending = %(ending)s, told = told + %(told)s,
    last_told_at = CASE WHEN %(told)s > 0 THEN %(at)s ELSE last_told_at END
WHERE id = %(id)s

-- name: add_message
INSERT INTO alert_messages (alerts, severity, title, body, made_at)
VALUES (%(alerts)s, %(severity)s, %(title)s, %(body)s, %(at)s)
RETURNING id

-- name: add_deliveries
-- One a channel. The end of something goes to the channels that had heard of it: to others it would be a riddle.
INSERT INTO alert_deliveries (message_id, channel, next_attempt_at)
SELECT %(message)s, channel, %(at)s FROM unnest(%(channels)s::text[]) AS channel
WHERE NOT %(ends)s OR EXISTS (
    SELECT FROM alert_deliveries d JOIN alert_messages m ON m.id = d.message_id
    WHERE d.channel = channel.channel AND m.alerts && %(alerts)s::bigint[]
)

-- name: give_up
-- What could not be delivered for so long is no news any more; it stays on record.
UPDATE alert_deliveries d SET given_up_at = %(at)s
FROM alert_messages m
WHERE m.id = d.message_id AND d.delivered_at IS NULL AND d.given_up_at IS NULL AND m.made_at < %(made_before)s

-- name: begin_attempts
-- Counted before they are made: a process that dies in between has at most sent what it did not record, and tries again later.
WITH due AS (
    SELECT id, row_number() OVER (PARTITION BY channel ORDER BY id) AS place FROM alert_deliveries
    WHERE delivered_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= %(at)s AND channel = ANY(%(channels)s)
)
UPDATE alert_deliveries d
SET attempts = attempts + 1, attempted_at = %(at)s,
    next_attempt_at = %(at)s::timestamptz + least(interval '1 hour', interval '30 seconds' * power(2, least(attempts, 7)))
FROM due, alert_messages m
WHERE due.id = d.id AND due.place <= %(most)s AND m.id = d.message_id
RETURNING d.id, d.channel, m.severity, m.title, m.body

-- name: delivered
UPDATE alert_deliveries SET delivered_at = %(at)s, error = NULL WHERE id = %(id)s

-- name: not_delivered
UPDATE alert_deliveries SET error = %(error)s WHERE id = %(id)s

-- name: listed
-- What was told, newest first, each with what became of its last message in each channel.
SELECT a.id, a.kind, a.accounts, a.severity, a.headline, a.since_at, a.first_told_at, a.last_told_at, a.told, a.recovered_at, a.ending,
       coalesce(d.deliveries, '[]') AS deliveries
FROM alerts a
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object(
               'channel', channel, 'attempts', attempts, 'error', error,
               'state', CASE WHEN delivered_at IS NOT NULL THEN 'delivered' WHEN given_up_at IS NOT NULL THEN 'given_up' ELSE 'waiting' END
           ) ORDER BY channel) AS deliveries
    FROM (
        SELECT DISTINCT ON (channel) * FROM alert_deliveries JOIN alert_messages m ON m.id = message_id
        WHERE m.alerts @> ARRAY[a.id] ORDER BY channel, message_id DESC
    ) last
) d ON true
WHERE %(all)s OR a.recovered_at IS NULL
ORDER BY a.recovered_at IS NOT NULL, a.last_told_at DESC, a.id DESC
LIMIT %(limit)s
