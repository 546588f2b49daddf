-- name: accounts_with_snapshots
SELECT DISTINCT account FROM snapshots

-- name: drop_snapshots
-- Answers that are past their time, with their rows in the sync log. What stays of an account, however old: its first and its last proven
-- answer, the last proven one of each day at the exchange, and what an open break rests on.
WITH kept AS (
    SELECT min(id) AS id FROM snapshots WHERE account = %(account)s AND status <> 'rejected'
    UNION ALL SELECT max(id) FROM snapshots WHERE account = %(account)s AND status <> 'rejected'
    UNION ALL
    SELECT max(id) FROM snapshots WHERE account = %(account)s AND status <> 'rejected'
    GROUP BY date_trunc('day', taken_at AT TIME ZONE 'America/New_York')
    UNION ALL SELECT agreed_snapshot FROM breaks WHERE account = %(account)s AND status <> 'resolved'
), doomed AS (
    SELECT id FROM snapshots s
    WHERE account = %(account)s AND taken_at < %(before)s AND NOT EXISTS (SELECT FROM kept WHERE kept.id = s.id)
    ORDER BY id LIMIT %(batch)s
), syncs_gone AS (
    DELETE FROM syncs s USING doomed WHERE s.snapshot_id = doomed.id RETURNING s.id
), snapshots_gone AS (
    DELETE FROM snapshots s USING doomed WHERE s.id = doomed.id RETURNING s.id
)
SELECT (SELECT count(*) FROM snapshots_gone) AS snapshots, (SELECT count(*) FROM syncs_gone) AS syncs

-- name: drop_holdings
-- What no answer says that is left.
WITH gone AS (
    DELETE FROM holdings h
    WHERE account = %(account)s AND until_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM snapshots s
        WHERE s.account = h.account AND s.id >= h.snapshot_id AND s.id < h.until_id AND s.status <> 'rejected'
    )
    RETURNING instrument
)
SELECT count(*) AS holdings FROM gone

-- name: drop_syncs
-- Attempts that came to no answer, or to one that was repeated since: of those that a thin history keeps, the last attempt stays. So does the
-- last one of each account.
WITH gone AS (
    DELETE FROM syncs s
    WHERE id IN (
        SELECT id FROM syncs o
        WHERE finished_at < %(before)s
          AND (snapshot_id IS NULL OR EXISTS (SELECT FROM syncs again WHERE again.snapshot_id = o.snapshot_id AND again.id > o.id))
          AND EXISTS (SELECT FROM syncs later WHERE later.account = o.account AND later.id > o.id)
        ORDER BY id LIMIT %(batch)s
    )
    RETURNING id
)
SELECT count(*) AS syncs FROM gone

-- name: drop_requests
WITH gone AS (DELETE FROM sync_requests WHERE finished_at < %(before)s RETURNING id) SELECT count(*) AS sync_requests FROM gone

-- name: drop_gaps
WITH gone AS (DELETE FROM stream_gaps WHERE closed_at < %(before)s RETURNING id) SELECT count(*) AS stream_gaps FROM gone

-- name: drop_deliveries
-- What was told of something that stands is kept: its end goes to the channels that heard of it. What could not be delivered until now
-- was given up long ago, or its channel is not there any more.
WITH gone AS (
    DELETE FROM alert_deliveries d USING alert_messages m
    WHERE m.id = d.message_id AND m.made_at < %(before)s
      AND NOT EXISTS (SELECT FROM alerts a WHERE a.id = ANY(m.alerts) AND a.recovered_at IS NULL)
    RETURNING d.id
)
SELECT count(*) AS alert_deliveries FROM gone

-- name: drop_messages
WITH gone AS (
    DELETE FROM alert_messages m
    WHERE made_at < %(before)s AND NOT EXISTS (SELECT FROM alert_deliveries d WHERE d.message_id = m.id)
      AND NOT EXISTS (SELECT FROM alerts a WHERE a.id = ANY(m.alerts) AND a.recovered_at IS NULL)
    RETURNING id
)
SELECT count(*) AS alert_messages FROM gone

-- name: drop_alerts
-- Those that are over, and that no message tells of any more.
WITH gone AS (
    DELETE FROM alerts a
    WHERE recovered_at < %(before)s AND NOT EXISTS (SELECT FROM alert_messages m WHERE m.alerts @> ARRAY[a.id]) RETURNING id
)
SELECT count(*) AS alerts FROM gone

-- name: dagster_is_here
SELECT to_regclass('dagster.event_logs') IS NOT NULL AND to_regclass('dagster.asset_check_executions') IS NOT NULL AS here

-- name: drop_check_history
-- Deleting a run leaves these behind, each with a copy of its event. The newest of each check stays: it is the check's state.
WITH gone AS (
    DELETE FROM dagster.asset_check_executions e
    WHERE (e.create_timestamp < %(before)s AT TIME ZONE 'UTC'
           OR e.run_id <> '' AND NOT EXISTS (SELECT FROM dagster.runs r WHERE r.run_id = e.run_id))
      AND EXISTS (
        SELECT FROM dagster.asset_check_executions later
        WHERE later.asset_key = e.asset_key AND later.check_name = e.check_name AND later.id > e.id
          AND later.evaluation_event_storage_id IS NOT NULL
      )
    RETURNING e.id
)
SELECT count(*) AS check_evaluations FROM gone

-- name: drop_runless_events
-- What was reported without a run belongs to none that could be deleted. The newest of each kind and asset stays.
WITH gone AS (
    DELETE FROM dagster.event_logs e
    WHERE e.run_id = '' AND e.timestamp < %(before)s AT TIME ZONE 'UTC'
      AND EXISTS (
        SELECT FROM dagster.event_logs later
        WHERE later.run_id = '' AND later.dagster_event_type = e.dagster_event_type
          AND later.asset_key IS NOT DISTINCT FROM e.asset_key AND later.id > e.id
      )
    RETURNING e.id
)
SELECT count(*) AS runless_events FROM gone

-- name: sizes
-- Bytes on disk with indexes, of our tables and of Dagster's.
SELECT n.nspname AS schema, sum(pg_total_relation_size(c.oid))::bigint AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname IN (current_schema(), 'dagster')
GROUP BY n.nspname

-- name: statement_limit
-- Deleting and vacuuming may take long, and nobody waits for it.
SELECT set_config('statement_timeout', %(limit)s, false)
