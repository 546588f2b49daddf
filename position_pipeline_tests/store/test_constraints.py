"""Wrong rows are impossible, whoever writes them: each test changes one thing in a book that is right, and PostgreSQL says no."""

from __future__ import annotations

import psycopg2
import pytest

from position_pipeline.accounting.model import AdjustmentKind
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, CALL, EVERYTHING, adjustment, buy, holding, sell, snapshot
from position_pipeline_tests.store.tables import query, rows

BOOK = f"account = '{ACCOUNT}' AND instrument = '{AAPL.id}'"


@pytest.fixture
def book(store, database):
    """10 bought in two lots, 4 sold: one close, one and a half lots; an expired option; a break."""
    store.add_account(ACCOUNT, "ibkr")
    fills = [buy(AAPL, 6, 100, fee="0.6", name="b1"), buy(AAPL, 4, 110, at=60, fee="0.4", name="b2"), sell(AAPL, 4, 120, at=120, name="s1")]
    options = [buy(CALL, 1, 5, name="o1")]
    expiry = [adjustment(AdjustmentKind.EXPIRY, CALL, -1, at=600, name="x1", price=0)]
    store.record(ACCOUNT, [*fills, *options], expiry, EVERYTHING)
    store.reconcile(snapshot(holding(AAPL, 6)), EVERYTHING)
    store.reconcile(snapshot(holding(AAPL, 7), at=3700), EVERYTHING)
    assert {table: len(rows(store, f"SELECT 1 FROM {table}")) for table in ("closes", "lots", "breaks")} == {
        "closes": 2,
        "lots": 2,
        "breaks": 1,
    }
    return database


def refused(url: str, sql: str, *, by: str) -> None:
    """The statement fails, and the named constraint is why."""
    with pytest.raises(psycopg2.IntegrityError) as told:
        query(url, sql)
    assert told.value.diag.constraint_name == by, told.value


def copied(table: str, where: str, **changed: str) -> str:
    """SQL that writes a row of a table once more, with some columns changed."""
    left_out = ("id", "net_pnl", "market_value", "unrealized_pnl", "realized_pnl", "status")
    record = ", ".join(f"'{name}', {value}" for name, value in changed.items())
    columns = f"SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns WHERE table_name = '{table}'"
    without = " AND ".join(f"column_name <> '{name}'" for name in left_out)
    return f"""DO $$ BEGIN
        EXECUTE 'INSERT INTO {table} (' || ({columns} AND {without}) || ') SELECT ' || ({columns} AND {without}) ||
        ' FROM (SELECT (jsonb_populate_record(t, $1)).* FROM {table} t WHERE {where.replace("'", "''")} LIMIT 1) c'
        USING jsonb_build_object({record});
    END $$"""


def changed(table: str, where: str, **values: str) -> str:
    return f"UPDATE {table} SET {', '.join(f'{name} = {value}' for name, value in values.items())} WHERE {where}"


# Fills


def test_one_revision_of_a_fill_is_there_once(book):
    refused(book, copied("executions", "execution_id = 'b1'"), by="executions_account_execution_id_revision_key")


@pytest.mark.parametrize("quantity", ["'-1'", "'NaN'", "'Infinity'"])
def test_the_quantity_of_a_fill_is_a_number_and_not_below_zero(book, quantity):
    by = "executions_quantity_check" if quantity == "'-1'" else "executions_finite_check"
    refused(book, changed("executions", "execution_id = 'b1'", quantity=quantity), by=by)


@pytest.mark.parametrize("column", ["price", "multiplier", "commission", "broker_pnl"])
def test_no_figure_of_a_fill_is_not_a_number(book, column):
    refused(book, changed("executions", "execution_id = 'b1'", **{column: "'NaN'"}), by="executions_finite_check")


def test_a_fill_has_a_side_an_id_and_a_known_instrument_and_account(book):
    refused(book, changed("executions", "execution_id = 'b1'", side="'HOLD'"), by="executions_side_check")
    refused(book, copied("executions", "execution_id = 'b1'", execution_id="''"), by="executions_execution_id_check")
    refused(book, copied("executions", "execution_id = 'b1'", execution_id="'n'", instrument="'ibkr:9'"), by="executions_instrument_fkey")
    refused(book, copied("executions", "execution_id = 'b1'", execution_id="'n'", account="'U9'"), by="executions_account_fkey")


def test_a_commission_has_a_currency(book):
    refused(book, changed("executions", "execution_id = 'b1'", commission_currency="NULL"), by="executions_commission_check")


def test_a_fill_that_the_book_rests_on_cannot_be_deleted(book):
    refused(book, "DELETE FROM executions WHERE execution_id = 's1'", by="closes_execution_fill_fkey")
    refused(book, "DELETE FROM executions WHERE execution_id = 'b2'", by="lots_opening_fill_fkey")
    refused(book, "DELETE FROM adjustments WHERE id = 'x1'", by="closes_execution_adjustment_fkey")


def test_an_adjustment_is_of_a_known_kind_and_only_a_lot_states_a_total_cost(book):
    refused(book, changed("adjustments", "id = 'x1'", kind="'repair'"), by="adjustments_kind_check")
    refused(book, changed("adjustments", "id = 'x1'", cost="5"), by="adjustments_cost_check")
    refused(book, changed("adjustments", "id = 'x1'", quantity="'NaN'"), by="adjustments_finite_check")
    refused(book, changed("adjustments", "id = 'x1'", held="'NaN'"), by="adjustments_finite_check")
    refused(book, changed("adjustments", "id = 'x1'", kind="'adopted'"), by="adjustments_adopted_check")
    refused(book, changed("adjustments", "id = 'x1'", kind="'void'"), by="adjustments_takes_from_check")
    refused(book, changed("adjustments", "id = 'x1'", reversed_at="now()"), by="adjustments_reversed_why_check")
    refused(book, changed("adjustments", "id = 'x1'", reversed_at="'2020-01-01'", reversed_why="'no'"), by="adjustments_reversed_at_check")


# Closes and events


@pytest.mark.parametrize(("column", "by"), [("opening_id", "closes_opening_fill_fkey"), ("execution_id", "closes_execution_fill_fkey")])
def test_a_close_is_never_without_its_opening_nor_its_closing_fill(book, column, by):
    refused(book, copied("closes", "execution_id = 's1'", **{column: "'nobody'"}), by=by)


@pytest.mark.parametrize("name", ["opening", "execution"])
def test_a_close_names_exactly_one_fill_or_adjustment_on_either_side(book, name):
    refused(book, changed("closes", "execution_id = 's1'", **{f"{name}_revision": "NULL"}), by=f"closes_{name}_exists_check")
    both = {f"{name}_id": "'x1'", f"{name}_adjustment": "'x1'"}
    refused(book, changed("closes", "execution_id = 's1'", **both), by=f"closes_{name}_exists_check")
    other = {f"{name}_revision": "NULL", f"{name}_adjustment": "'x1'"}
    refused(book, changed("closes", "execution_id = 's1'", **other), by=f"closes_{name}_adjustment_check")


def test_one_lot_is_closed_by_one_fill_once_as_far_as_we_believe(book):
    refused(book, copied("closes", "execution_id = 's1'"), by="closes_believed_key")
    query(book, copied("closes", "execution_id = 's1'", superseded_at="now()"))  # what we believed before may be there too


def test_a_close_without_a_cost_is_of_unknown_basis(book):
    refused(book, changed("closes", "execution_id = 's1'", cost="NULL"), by="closes_cost_check")
    refused(book, changed("closes", "execution_id = 's1'", gross_pnl="NULL"), by="closes_gross_pnl_check")


def test_a_close_is_of_something_and_not_before_its_opening(book):
    refused(book, changed("closes", "execution_id = 's1'", quantity="0"), by="closes_quantity_check")
    refused(book, changed("closes", "execution_id = 's1'", closed_at="opened_at - interval '1 s'"), by="closes_closed_at_check")
    refused(book, changed("closes", "execution_id = 's1'", gross_pnl="'NaN'"), by="closes_finite_check")


def test_one_entry_does_one_thing_to_a_position_once(book):
    refused(book, copied("position_events", "cause = 's1'"), by="position_events_believed_key")
    refused(book, changed("position_events", "cause = 's1'", type="'vanished'"), by="position_events_type_check")


# Positions and lots


def test_an_unknown_basis_has_no_cost_and_a_known_one_has(book):
    refused(book, changed("positions", BOOK, basis_quality="'unknown'"), by="positions_cost_check")
    refused(book, changed("positions", BOOK, cost="NULL"), by="positions_cost_check")
    refused(book, changed("lots", BOOK, basis="'unknown'"), by="lots_cost_check")
    refused(book, changed("lots", BOOK, cost="NULL"), by="lots_cost_check")


@pytest.mark.parametrize("wrong", [{"cost": "1"}, {"open_commission": "1"}, {"average_price": "1"}])
def test_a_flat_position_has_no_cost(book, wrong):
    flat = f"account = '{ACCOUNT}' AND instrument = '{CALL.id}'"
    refused(book, changed("positions", flat, **wrong), by="positions_flat_check")


@pytest.mark.parametrize("column", ["quantity", "cost", "broker_quantity", "market_price", "realized_gross"])
def test_no_figure_of_a_position_is_not_a_number(book, column):
    refused(book, changed("positions", BOOK, **{column: "'NaN'"}), by="positions_finite_check")


def test_a_position_is_there_once_and_a_lot_belongs_to_one(book):
    refused(book, copied("positions", BOOK), by="positions_pkey")
    refused(book, copied("lots", BOOK, instrument=f"'{CALL.id}x'"), by="lots_account_fkey")
    refused(book, changed("lots", BOOK, quantity="0"), by="lots_quantity_check")


def test_a_lot_is_never_without_the_fill_that_opened_it(book):
    refused(book, copied("lots", BOOK, opening_id="'nobody'"), by="lots_opening_fill_fkey")


# Answers of brokers


def test_a_difference_is_open_once(book):
    names = "account, instrument, subject, class, first_seen_at, last_seen_at, changed_at, differs_since"
    again = f"INSERT INTO breaks (id, {names}) SELECT 'another', {names} FROM breaks"
    refused(book, again, by="breaks_standing_key")
    query(book, "UPDATE breaks SET status = 'dismissed', dismissed_at = now(), dismissed_by = 'ada', dismissed_reason = 'so'")
    refused(book, again, by="breaks_standing_key")


def test_decisions_about_a_break_have_names_and_reasons(book):
    refused(book, "UPDATE breaks SET status = 'dismissed'", by="breaks_dismissed_reason_check")
    refused(book, "UPDATE breaks SET status = 'dismissed', dismissed_reason = 'so'", by="breaks_dismissed_check")
    refused(book, "UPDATE breaks SET accepted_at = now()", by="breaks_accepted_check")
    refused(book, "UPDATE breaks SET accepted_at = now(), accepted_by = 'ada', seconded_by = 'ada'", by="breaks_seconded_by_check")
    refused(book, "UPDATE breaks SET impact = 1, impact_currency = NULL", by="breaks_impact_check")
    refused(book, "UPDATE breaks SET instrument = NULL", by="breaks_instrument_check")
    refused(book, "UPDATE breaks SET class = 'strange'", by="breaks_class_check")


def test_a_resolved_break_says_when(book):
    refused(book, "UPDATE breaks SET status = 'resolved'", by="breaks_resolved_at_check")
    refused(book, "UPDATE breaks SET resolved_at = now()", by="breaks_resolved_at_check")


def test_a_rejected_answer_has_its_reason_and_a_partial_one_its_errors(book):
    made = "INSERT INTO snapshots (account, connection, broker, taken_at, status, holdings) VALUES ('U1', 'c', 'ibkr', now(), '{}', 0)"
    refused(book, made.format("rejected"), by="snapshots_reason_check")
    refused(book, made.format("partial"), by="snapshots_errors_check")
    refused(book, made.format("perhaps"), by="snapshots_status_check")


def test_instruments_say_whose_they_are_and_accounts_how_they_book(book):
    made = "INSERT INTO instruments (instrument, symbol, sec_type, currency, multiplier) VALUES ('{}', 'X', 'STK', 'USD', {})"
    refused(book, made.format("265598", 1), by="instruments_instrument_check")
    refused(book, made.format("ibkr:9", 0), by="instruments_multiplier_check")
    refused(book, "UPDATE accounts SET cost_method = 'guess'", by="accounts_cost_method_check")


def test_an_outcome_is_one_of_those_that_programs_know(book):
    made = "INSERT INTO syncs (account, connection, trigger, started_at, finished_at, outcome, duration_ms) VALUES ('U1', 'c', 't', now(), now(), '{}', 0)"
    query(book, made.format("unchanged"))
    refused(book, made.format("fine"), by="syncs_outcome_check")
