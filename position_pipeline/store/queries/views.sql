-- name: position_history
-- One row is a time in which a position had one quantity: from valid_from until just before valid_to, which is NULL while it lasts. The position
-- at any moment is the row that is valid then; where none is, nothing was held. Quantities are sums of the steps, because steps
-- of one moment have no order of their own; `held_for` is how long it lasted, until now where it still does.
WITH moments AS (
    SELECT account, instrument, at, sum(quantity_after - quantity_before) AS change, max(cycle) AS cycle
    FROM position_events WHERE superseded_at IS NULL
    GROUP BY account, instrument, at
), states AS (
    SELECT account, instrument, at, sum(change) OVER past AS quantity, max(cycle) OVER past AS cycle
    FROM moments
    WINDOW past AS (PARTITION BY account, instrument ORDER BY at)
), steps AS (
    SELECT *, lag(quantity, 1, 0) OVER (PARTITION BY account, instrument ORDER BY at) AS quantity_before,
           lag(cycle, 1, 0) OVER (PARTITION BY account, instrument ORDER BY at) AS cycle_before
    FROM states
), changes AS (
    SELECT account, instrument, at AS valid_from, lead(at) OVER (PARTITION BY account, instrument ORDER BY at) AS valid_to, quantity, cycle
    FROM steps WHERE quantity <> quantity_before OR cycle <> cycle_before
)
SELECT c.account, i.symbol, c.instrument, c.quantity, c.cycle, c.valid_from, c.valid_to,
       coalesce(c.valid_to, greatest(now(), c.valid_from)) - c.valid_from AS held_for
FROM changes c JOIN instruments i USING (instrument)
WHERE c.quantity <> 0

-- name: position_cycles
-- One row is one life of a position, from flat to flat, or until now. Prices are per unit and averages over what was opened and what was closed
-- by a price; NULL where one of them is not known. `gross_pnl` and `net_pnl` are sums of its closes, NULL where one is not known. A
-- split in its middle counts the units of before it as they were then.
WITH lives AS (
    SELECT account, instrument, cycle, min(at) AS opened_at, max(at) AS last_at,
           bool_or(quantity_after = 0) AND sum(quantity_after - quantity_before) = 0 AS ended,
           max(abs(quantity_after)) AS peak,
           (array_agg(sign(CASE WHEN quantity_after <> 0 THEN quantity_after ELSE quantity_before END) ORDER BY at, id))[1] AS side,
           count(*) AS steps
    FROM position_events WHERE superseded_at IS NULL
    GROUP BY account, instrument, cycle
), closed AS (
    SELECT account, instrument, cycle, count(*) AS closes, sum(abs(quantity)) AS quantity,
           CASE WHEN bool_and(entry_price IS NOT NULL) THEN sum(entry_price * abs(quantity)) END AS entered,
           CASE WHEN bool_and(gross_pnl IS NOT NULL) THEN sum(exit_price * abs(quantity)) END AS left_for,
           CASE WHEN bool_and(gross_pnl IS NOT NULL) THEN sum(gross_pnl) END AS gross_pnl,
           CASE WHEN bool_and(net_pnl IS NOT NULL) THEN sum(net_pnl) END AS net_pnl,
           max(currency) AS currency
    FROM closes WHERE superseded_at IS NULL
    GROUP BY account, instrument, cycle
), still AS (
    SELECT l.account, l.instrument, p.cycle, sum(abs(l.quantity)) AS quantity,
           CASE WHEN bool_and(l.cost IS NOT NULL) THEN sum(abs(l.cost)) / max(p.multiplier) END AS entered
    FROM lots l JOIN positions p USING (account, instrument)
    GROUP BY l.account, l.instrument, p.cycle
)
SELECT v.account, p.symbol, v.instrument, v.cycle, CASE WHEN v.side < 0 THEN 'short' ELSE 'long' END AS side,
       v.opened_at, CASE WHEN v.ended THEN v.last_at END AS closed_at,
       CASE WHEN v.ended THEN v.last_at ELSE greatest(now(), v.last_at) END - v.opened_at AS held_for,
       v.peak AS peak_quantity, v.steps, coalesce(c.closes, 0) AS closes,
       trim_scale(round((coalesce(c.entered, CASE WHEN c.closes IS NULL THEN 0 END) + coalesce(o.entered, CASE WHEN o.quantity IS NULL THEN 0 END))
             / nullif(coalesce(c.quantity, 0) + coalesce(o.quantity, 0), 0), 12)) AS entry_price,
       trim_scale(round(c.left_for / nullif(c.quantity, 0), 12)) AS exit_price,
       c.gross_pnl, c.net_pnl, p.currency
FROM lives v
JOIN positions p ON (p.account, p.instrument) = (v.account, v.instrument)
LEFT JOIN closed c ON (c.account, c.instrument, c.cycle) = (v.account, v.instrument, v.cycle)
LEFT JOIN still o ON (o.account, o.instrument, o.cycle) = (v.account, v.instrument, v.cycle)
