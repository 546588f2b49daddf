"""What a Flex file says, row by row, in files that are written here."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest

from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.model import AdjustmentKind, Basis, Side
from position_pipeline.brokers.flex import read_statements
from position_pipeline_tests.brokers.flex_file import (
    CALL,
    STOCK,
    book_entry,
    cash,
    document,
    flex_file,
    lot,
    one_statement,
    position,
    read,
    row,
    trade,
)

D, ZERO = Decimal, Decimal(0)
FUTURE = {"accountId": "U1", "conid": "700", "symbol": "6SZ5", "assetCategory": "FUT", "currency": "USD", "multiplier": "125000"}
FROM = datetime(2025, 1, 1, 5, tzinfo=UTC)


def signed(statement):
    return [(fill.execution_id, fill.signed_quantity) for fill in statement.fills]


def notes(statement):
    return dict(statement.notes)


# Fills


def test_an_execution_is_a_fill():
    (fill,) = read(trade(1, "-10", "100.25", ibCommission="-1.5", taxes="-0.3", fifoPnlRealized="12.5")).fills
    assert (fill.account, fill.instrument, fill.side, fill.quantity, fill.price) == ("U1", "ibkr:265598", Side.SELL, D(10), D("100.25"))
    assert (fill.commission, fill.commission_currency) == (D("1.8"), "USD")  # -(-1.5 - 0.3)
    assert fill.time == datetime(2025, 6, 2, 14, 1, tzinfo=UTC)  # 10:01 in New York, summer time
    assert (fill.sequence, fill.order_id, fill.source, fill.broker_pnl) == (1, "51", "flex", D("12.5"))


@pytest.mark.parametrize(
    ("written", "execution_id", "revision"),
    [("0000e1.65.01.01", "0000e1.65.01", 1), ("0000e1.65.01.02", "0000e1.65.01", 2), ("plain", "plain", 1)],
)
def test_the_last_part_of_an_execution_id_is_its_revision(written, execution_id, revision):
    (fill,) = read(trade(1, ibExecID=written)).fills
    assert (fill.execution_id, fill.revision) == (execution_id, revision)


def test_a_row_without_an_execution_id_is_named_by_its_transaction():
    assert read(trade(17, ibExecID="")).fills[0].execution_id == "flex-17"
    assert read(trade(17, ibExecID="--", transactionID="0")).fills[0].execution_id == "flex-717"


def test_rows_alike_without_any_id_stay_apart_and_keep_their_names():
    nameless = {"ibExecID": None, "transactionID": None, "tradeID": None, "ibOrderID": None}
    file = flex_file(trade(1, **nameless), trade(1, **nameless), trade(1, "11", **nameless))
    first, second = read_statements(file)[0], read_statements(file)[0]
    names = [fill.execution_id for fill in first.fills]
    assert len(set(names)) == 3
    assert names == [fill.execution_id for fill in second.fills]
    assert first.refused == ()


def test_a_rebate_is_a_negative_commission_and_a_missing_one_is_unknown():
    assert read(trade(1, ibCommission="0.35")).fills[0].commission == D("-0.35")
    assert read(trade(1, ibCommission="")).fills[0].commission is None
    statement = read(trade(1, ibCommission=None))
    assert statement.fills[0].commission is None
    assert notes(statement)["trades without ibCommission: their commission is not known"] == 1


def test_a_commission_in_another_currency_keeps_it():
    fill = read(trade(1, assetCategory="CASH", symbol="EUR.USD", ibCommissionCurrency="CHF", fifoPnlRealized="0")).fills[0]
    assert (fill.commission_currency, fill.currency, fill.broker_pnl) == ("CHF", "USD", None)


def test_currency_conversions_are_fills_and_no_positions():
    statement = read(trade(1, assetCategory="CASH", symbol="EUR.USD"), sections="OpenPositions")
    assert (statement.instruments[0].sec_type, len(statement.fills), statement.adjustments) == ("CASH", 1, ())


def test_fills_come_in_order_of_time_then_of_the_brokers_number():
    rows = [trade(9, dateTime="20250602;100000"), trade(10, dateTime="20250602;100000"), trade(3, dateTime="20250603;100000")]
    for order in permutations(rows):
        assert [fill.sequence for fill in read(*order).fills] == [9, 10, 3]


def test_sums_and_closed_lots_beside_the_executions_are_not_counted():
    beside = [
        row("Lot", dict(trade(1)[1]), levelOfDetail="CLOSED_LOT"),
        row("SymbolSummary", dict(trade(1)[1]), levelOfDetail="SYMBOL_SUMMARY"),
    ]
    order = row("Order", dict(trade(1)[1]), levelOfDetail="ORDER", transactionID="", ibExecID="", tradeID="")
    older = trade(1, levelOfDetail="CLOSED_LOT")
    assert len(read(order, trade(1), *beside, older).fills) == 1


def test_whole_orders_are_taken_where_there_are_no_executions():
    blank = {"transactionID": "", "ibExecID": "", "tradeID": "", "levelOfDetail": "ORDER"}
    order = row("Order", dict(trade(1, "3", "33.3333")[1]), blank, tradeMoney="100")
    statement = read(order, row("Order", dict(trade(2)[1]), blank))
    assert len(statement.fills) == 2
    assert statement.fills[0].price * 3 == D("99.999999999999999999")  # 100 / 3: the price given is a rounded average
    assert "whole orders taken" in " ".join(notes(statement))


def test_bonds_are_priced_in_percent():
    (fill,) = read(trade(1, "1000", "98.5", assetCategory="BOND")).fills
    assert fill.price * fill.quantity * fill.multiplier == D(985)


def test_instruments_say_what_the_columns_say():
    (option,) = read(trade(1, **CALL)).instruments
    assert (option.id, option.sec_type, option.multiplier, option.strike, option.right) == ("ibkr:900", "OPT", D(100), D(200), "C")
    assert (option.expiry, option.symbol) == ("20250620", "AAPL 250620C00200000")


# Times


@pytest.mark.parametrize(
    "text",
    [
        "20250602;100100", "2025-06-02;10:01:00", "2025-06-02, 10:01:00", "20250602 100100", "2025-06-02T10:01:00", "20250602100100",
        "06/30/2025;10:01:00", "02-JUN-25;100100", "2025-06-02 10:01:00 EDT", "2025-06-02 09:01:00 EST",
    ],
)  # fmt: skip
def test_every_date_format_of_a_flex_query_is_read(text):
    day = 30 if text.startswith("06/30") else 2
    assert read(trade(1, dateTime=text)).fills[0].time == datetime(2025, 6, day, 14, 1, tzinfo=UTC)


def test_slashes_are_read_by_what_the_rest_of_the_file_tells():
    day_first = read(trade(1, dateTime="02/06/2025;10:01:00"), trade(2, dateTime="30/06/2025;10:01:00"))
    assert day_first.fills[0].time == datetime(2025, 6, 2, 14, 1, tzinfo=UTC)
    ambiguous = read(trade(1, dateTime="02/06/2025;10:01:00"))
    assert ambiguous.fills == ()
    assert "yyyyMMdd" in ambiguous.refused[0].reason


def test_the_hour_that_occurs_twice_in_autumn_is_the_first_one():
    assert read(trade(1, dateTime="20251102;013000")).fills[0].time == datetime(2025, 11, 2, 5, 30, tzinfo=UTC)
    assert read(trade(1, dateTime="20251102;013000 EST")).fills[0].time == datetime(2025, 11, 2, 6, 30, tzinfo=UTC)


def test_a_date_without_a_time_is_midnight_and_1620_for_book_entries():
    fills = read(trade(1, dateTime=None), book_entry(2, "10", "100", "", dateTime=None)).fills
    assert [fill.time for fill in fills] == [datetime(2025, 6, 2, 4, tzinfo=UTC), datetime(2025, 6, 20, 20, 20, tzinfo=UTC)]


def test_older_files_split_date_and_time():
    (fill,) = read(trade(1, dateTime=None, tradeTime="100100")).fills
    assert fill.time == datetime(2025, 6, 2, 14, 1, tzinfo=UTC)


# Cancelled and corrected trades


def test_a_cancelled_trade_is_followed_by_its_bust():
    cancel = trade(2, "-10", ibExecID="", notes="Ca", transactionType="TradeCancel", origTransactionID="1", buySell="BUY (Ca.)")
    statement = read(trade(1), cancel, trade(3, "5"))
    assert [(fill.revision, fill.quantity) for fill in statement.fills] == [(1, D(10)), (2, ZERO), (1, D(5))]
    assert len({fill.execution_id for fill in statement.fills}) == 2
    assert statement.refused == ()


def test_a_cancelled_trade_counts_for_nothing_in_what_was_held_before():
    cancel = trade(2, "-10", ibExecID="", notes="Ca", origTradeID="71")
    assert read(trade(1), cancel, trade(3, "5"), position("5")).adjustments == ()


def test_a_correction_is_a_higher_revision_and_needs_no_bust():
    cancel = trade(2, "-10", ibExecID="", notes="Ca", origTransactionID="1")
    corrected = trade(3, "9", ibExecID="0000e1.00000001.01.02", notes="Co", transactionType="TradeCorrect")
    statement = read(trade(1), cancel, corrected, position("9"))
    assert [(fill.revision, fill.quantity) for fill in statement.fills] == [(1, D(10)), (2, D(9))]
    assert len({fill.execution_id for fill in statement.fills}) == 1
    assert statement.adjustments == ()


def test_a_cancellation_of_a_trade_that_is_not_there_is_refused():
    statement = read(trade(2, "-10", ibExecID="", notes="Ca", origTransactionID="1"), position("0"))
    assert statement.fills == ()
    assert "cancels a trade that is not in this file" in statement.refused[0].reason
    assert statement.adjustments == ()  # and nothing is concluded about what was held before


# The end of options


def test_an_expired_option_is_an_adjustment_at_price_zero():
    statement = read(trade(1, "-2", "3", **CALL), book_entry(2, "2", "0", "Ep", **CALL), sections="OpenPositions")
    (expiry,) = statement.adjustments
    assert (expiry.kind, expiry.id, expiry.quantity, expiry.sequence) == (AdjustmentKind.EXPIRY, "flex-2", D(2), 2)
    assert expiry.time == datetime(2025, 6, 20, 20, 20, tzinfo=UTC)


PUT = {**CALL, "conid": "901", "putCall": "P", "symbol": "AAPL  250620P00200000", "description": "AAPL 20JUN25 200 P"}


@pytest.mark.parametrize(
    ("option", "contracts", "notes", "shares", "kind"),
    [
        (CALL, "2", "A", "-200", AdjustmentKind.ASSIGNMENT),
        (CALL, "-2", "Ex", "200", AdjustmentKind.EXERCISE),
        (PUT, "2", "A;P", "200", AdjustmentKind.ASSIGNMENT),
        (PUT, "-2", "Ex", "-200", AdjustmentKind.EXERCISE),
    ],
)
def test_shares_that_an_option_delivers_name_it(option, contracts, notes, shares, kind):
    statement = read(book_entry(2, contracts, "0", notes, **option), book_entry(3, shares, "200", notes))
    (adjustment,) = statement.adjustments
    assert (adjustment.kind, adjustment.id) == (kind, "flex-2")
    assert [(fill.execution_id, fill.premium_from) for fill in statement.fills] == [("flex-3", "flex-2")]


def test_two_assignments_of_one_moment_each_find_their_own_shares():
    rows = [
        book_entry(2, "1", "0", "A", positionActionID="11", **CALL),
        book_entry(3, "1", "0", "A", positionActionID="12", **CALL),
        book_entry(4, "-100", "200", "A", positionActionID="12"),
        book_entry(5, "-100", "200", "A", positionActionID="11"),
    ]
    assert {fill.execution_id: fill.premium_from for fill in read(*rows).fills} == {"flex-4": "flex-3", "flex-5": "flex-2"}
    without = [(tag, {name: value for name, value in values.items() if name != "positionActionID"}) for tag, values in rows]
    assert {fill.premium_from for fill in read(*without).fills} == {"flex-2", "flex-3"}


def test_shares_that_do_not_fit_the_option_take_no_premium():
    shares = [("-300", "200", {}), ("-200", "201", {}), ("-200", "200", {"conid": "1"}), ("-200", "200", {"dateTime": "20250620;162001"})]
    for quantity, price, wrong in [*shares, ("200", "200", {})]:
        statement = read(book_entry(2, "2", "0", "A", **CALL), book_entry(3, quantity, price, "A", **wrong))
        assert statement.fills[0].premium_from is None
        assert any("delivery" in note for note in notes(statement))


def test_an_option_on_a_future_delivers_the_future():
    option = CALL | {
        "conid": "800",
        "assetCategory": "FOP",
        "multiplier": "125000",
        "strike": "1.265",
        "underlyingConid": "",
        "description": "CHF 24OCT25 1.265 C",
    }
    future = FUTURE | {"description": "CHF 15DEC25"}
    statement = read(book_entry(2, "-1", "0", "Ex", **option), book_entry(3, "1", "1.265", "Ex", **future))
    assert statement.fills[0].premium_from == "flex-2"


def eae(kind, quantity, option=CALL, **values):
    return row("OptionEAE", option, {"transactionType": kind, "quantity": quantity, "date": "20250620"}, values)


def test_where_trades_have_no_notes_the_other_section_tells_how_an_option_ended():
    kinds = {"Expiration": AdjustmentKind.EXPIRY, "Assignment": AdjustmentKind.ASSIGNMENT}
    for kind, expected in kinds.items():
        statement = read(book_entry(2, "2", "0", None, **CALL), book_entry(3, "-200", "200", None), eae(kind, "2"))
        assert [each.kind for each in statement.adjustments] == [expected]
        assert (statement.fills[0].premium_from is not None) == (kind == "Assignment")


def test_a_cash_settlement_is_a_fill_at_what_was_paid():
    rows = [book_entry(2, "-2", "0", "Ex", **CALL), eae("Exercise", "-2"), eae("Cash Settlement", "0", proceeds="1500")]
    (fill,) = read(*rows).fills
    assert (fill.side, fill.quantity, fill.price) == (Side.SELL, D(2), D("7.5"))  # 1500 / (2 x 100)
    owed = [book_entry(2, "2", "0", "A", **CALL), eae("Assignment", "2"), eae("Cash Settlement", "0", proceeds="-1500")]
    assert [(each.side, each.price) for each in read(*owed).fills] == [(Side.BUY, D("7.5"))]


def test_a_cash_settlement_is_found_in_the_realised_profit_of_the_row():
    exercised = book_entry(2, "-2", "0", "Ex", fifoPnlRealized="898", cost="-602", **CALL)
    assert read(exercised).fills[0].price == D("7.5")  # 898 = 1500 - 602


def test_an_option_whose_end_nothing_tells_is_refused_and_says_what_to_tick():
    statement = read(trade(1, "-2", "3", **CALL), book_entry(2, "2", "0", None, closePrice="4", **CALL), sections="OpenPositions")
    assert "Notes/Codes" in statement.refused[0].reason
    assert statement.adjustments == ()  # not a short of two that was there before
    worthless = read(book_entry(2, "2", "0", None, closePrice="0", **CALL))
    assert worthless.adjustments[0].kind is AdjustmentKind.EXPIRY


# What was held before


def test_what_the_trades_do_not_explain_was_held_before_the_period():
    (opening,) = read(trade(1, "-4"), position("6")).adjustments
    assert (opening.kind, opening.quantity, opening.time) == (AdjustmentKind.OPENING_BALANCE, D(10), FROM)
    assert (opening.id, opening.price, opening.cost, opening.basis) == ("flex-opening-U1-265598-2025-01-01", None, None, Basis.UNKNOWN)


def test_nothing_is_told_where_the_trades_explain_all():
    assert read(trade(1, "10"), trade(2, "-4"), position("6")).adjustments == ()


def test_an_instrument_that_is_absent_from_the_positions_is_flat_at_the_end():
    (opening,) = read(trade(1, "-4"), sections="OpenPositions").adjustments
    assert opening.quantity == 4


def test_without_the_positions_nothing_is_said_of_what_was_held_before():
    statement = read(trade(1, "-4"))
    assert statement.adjustments == ()
    assert "no OpenPositions" in " ".join(notes(statement))


def test_lots_are_not_added_to_their_sum():
    lots = [lot("4", 1, "20250602;100100", "401"), lot("6", 2, "20250602;100200", "601")]
    assert read(trade(1, "4"), trade(2, "6"), position("10"), *lots).adjustments == ()
    assert read(trade(1, "4"), trade(2, "6"), *lots).adjustments == ()


def test_lots_older_than_the_period_bring_their_cost():
    statement = read(trade(9, "-4"), position("6"), lot("6", 5, "20240301;093000", "601.5"))
    old, balance = statement.adjustments
    assert (old.kind, old.id, old.quantity, old.cost, old.commission) == (
        AdjustmentKind.OPENING_LOT,
        "flex-lot-U1-5",
        D(6),
        D("601.5"),
        ZERO,
    )
    assert (old.basis, old.sequence, old.time) == (Basis.STATEMENT, 5, datetime(2024, 3, 1, 14, 30, tzinfo=UTC))
    assert (balance.kind, balance.quantity) == (AdjustmentKind.OPENING_BALANCE, D(10))


def test_lots_that_came_after_the_start_are_not_taken_for_held():
    statement = read(position("6"), lot("8", 5, "20240301;093000", "601.5"), lot("-2", 6, "20240301;093000", "9"))
    assert [each.kind for each in statement.adjustments] == [AdjustmentKind.OPENING_BALANCE]


def test_a_refused_row_leaves_open_what_was_held_before():
    statement = read(trade(1, "x"), trade(2, "5"), position("5"))
    assert statement.adjustments == ()
    assert "quantity 'x' is not a number" in statement.refused[0].reason
    other = read(trade(1, conid=""), trade(2, "5"), position("9"))
    assert other.adjustments == ()  # the unreadable row may have been any instrument's


# Corporate actions and transfers


def action(quantity, when="20250603;202500", **values):
    about = {"type": "FS", "quantity": quantity, "dateTime": when, "levelOfDetail": "DETAIL", "description": "AAPL SPLIT 4 FOR 1"}
    return row("CorporateAction", STOCK, about, {"actionID": "1"}, values)


def kinds(statement):
    return [(each.kind.value, plain(each.quantity), each.instrument.removeprefix("ibkr:")) for each in statement.adjustments]


def ratios(statement):
    return [(plain(each.numerator), plain(each.denominator)) for each in statement.adjustments if each.numerator]


def test_a_split_has_the_ratio_of_its_text_and_trades_after_it_are_taken():
    statement = read(trade(1, "10"), action("30"), trade(2, "-40", dateTime="20250605;100000"), position("5", conid="77"))
    assert [fill.sequence for fill in statement.fills] == [1, 2]
    assert kinds(statement) == [("opening_balance", "5", "77"), ("split", "0", "265598")]  # 0 - 10 - 30 + 40 AAPL held before
    assert ratios(statement) == [("4", "1")]
    assert statement.refused == ()


def test_what_was_held_before_a_split_is_told_in_the_units_of_then():
    # 20 at the end, 15 of them by the split of 4 for 1: 5 before.
    assert kinds(read(action("15"), position("20"))) == [("opening_balance", "5", "265598"), ("split", "0", "265598")]


def test_a_stock_dividend_is_a_split_of_one_more_in_so_many():
    statement = read(action("1", type="SD", description="AAPL(US0378331005) STOCK DIVIDEND US0378331005 1 FOR 10"), position("11"))
    assert ratios(statement) == [("11", "10")]


def test_an_action_whose_text_has_no_ratio_is_refused_with_every_later_trade_of_its_instrument():
    rows = [
        trade(1, "10"),
        action("30", description="AAPL SPLIT"),
        trade(2, "-40", dateTime="20250605;100000"),
        trade(3, "5", conid="77", dateTime="20250605;100000"),
    ]
    statement = read(*rows, position("5", conid="77"))
    assert [fill.sequence for fill in statement.fills] == [1, 3]
    assert [refused.symbol for refused in statement.refused] == ["AAPL", "AAPL"]
    assert "AAPL SPLIT" in statement.refused[0].reason
    assert "follows a corporate action" in statement.refused[1].reason
    assert statement.adjustments == ()  # 0 - 10 - 30 + 40


OLD, NEW = {"conid": "1", "isin": "US9279591062", "symbol": "ZT0"}, {"conid": "2", "isin": "US64361Q1013", "symbol": "ZT0.NEW"}
CHANGE = "ZT0(US9279591062) CUSIP/ISIN CHANGE TO (US64361Q1013)"


def test_an_identifier_change_moves_the_lots_to_the_new_instrument():
    rows = [
        action("-24", type="IC", description=CHANGE, transactionID="8", **OLD),
        action("24", type="IC", description=CHANGE, transactionID="9", **NEW),
    ]
    statement = read(*rows, position("24", conid="2"))
    assert kinds(statement) == [("opening_balance", "24", "1"), ("conversion_out", "-24", "1"), ("conversion_in", "24", "2")]
    out, taken = statement.adjustments[1:]
    assert (taken.takes_from, ratios(statement)) == (out.id, [("24", "24")] * 2)
    assert (out.id, taken.id) == ("flex-8", "flex-9")


def test_of_a_short_the_text_tells_which_leg_is_the_old_one():
    rows = [
        action("24", type="IC", description=CHANGE, transactionID="8", **OLD),
        action("-24", type="IC", description=CHANGE, transactionID="9", **NEW),
    ]
    assert kinds(read(*rows)) == [("conversion_out", "24", "1"), ("conversion_in", "-24", "2")]


def test_a_reverse_split_with_a_new_identifier_has_the_ratio_of_its_units():
    text = "GCM(CA38501D2041) SPLIT 1 FOR 25"
    rows = [action("-100", type="RS", description=text, **OLD), action("4", type="RS", description=text, **NEW)]
    assert ratios(read(*rows)) == [("4", "100")] * 2


def test_cash_beside_a_merger_for_shares_goes_with_the_shares_that_are_given_up():
    rows = [action("-100", type="TC", proceeds="250", description="MERGED", **OLD), action("50", type="TC", description="MERGED", **NEW)]
    amounts = {each.kind.value: each.amount for each in read(*rows).adjustments}
    assert amounts == {"conversion_out": D(250), "conversion_in": None}


def test_a_merger_for_cash_closes_at_what_was_paid():
    (closed,) = read(action("-100", type="TC", proceeds="5025", description="MERGED FOR USD 50.25 PER SHARE")).adjustments
    assert (closed.kind.value, closed.quantity, closed.price) == ("cash_settlement", Decimal(-100), Decimal("50.25"))


def test_what_is_delisted_as_worthless_closes_at_nothing():
    assert kinds(read(action("-100", type="DW", proceeds="0", description="DELISTED"))) == [("expiry", "-100", "265598")]


def test_spun_off_shares_come_in_at_a_cost_that_is_not_known():
    (spun,) = read(action("5", type="SO", description="SPINOFF 1 FOR 20", **NEW)).adjustments
    assert (spun.kind.value, spun.quantity, spun.price, spun.basis.value) == ("transfer", Decimal(5), None, "unknown")


def test_an_action_that_was_reversed_is_nothing():
    statement = read(action("30"), action("-30", code="Ca"), trade(1, dateTime="20250605;100000"))
    assert (statement.adjustments, statement.refused, len(statement.fills)) == ((), (), 1)
    assert ("corporate actions that were reversed in the same file: neither taken", 1) in statement.notes


def test_the_sum_row_of_an_action_is_not_a_second_one_and_one_without_units_blocks_nothing():
    statement = read(action("30", levelOfDetail="SUMMARY", accountId="-"), action("0", type="CD"), trade(2, dateTime="20250605;100000"))
    assert (statement.refused, statement.adjustments) == ((), ())
    assert len(statement.fills) == 1


def test_what_was_transferred_in_was_not_held_before_and_has_no_known_cost():
    moved = row("Transfer", STOCK, direction="IN", quantity="7", dateTime="20250301;100000", type="ACATS", transactionID="3")
    statement = read(moved, position("10"))
    assert kinds(statement) == [("opening_balance", "3", "265598"), ("transfer", "7", "265598")]
    assert statement.adjustments[1].basis.value == "unknown"
    out = row("Transfer", STOCK, direction="OUT", quantity="7", date="20250301", type="FOP")
    assert kinds(read(out, position("3"))) == [("opening_balance", "10", "265598"), ("transfer", "-7", "265598")]


def test_the_same_action_has_the_same_id_in_every_statement():
    without = [action("30", transactionID=""), action("30", transactionID="")]
    assert len({read(each).adjustments[0].id for each in without}) == 1


# Cash


def test_cash_rows_keep_their_text_and_sums_are_left_out():
    statement = read(
        cash(2, "-1.910"), cash(1, "12.72", dateTime="20250609;202000"), cash(3, "10.81", levelOfDetail="SUMMARY", transactionID="")
    )
    assert [(each.id, each.amount, each.type) for each in statement.cash] == [
        ("flex-1", "12.72", "Dividends"),
        ("flex-2", "-1.910", "Dividends"),
    ]


def test_equal_cash_rows_without_ids_stay_apart():
    blank = {"transactionID": None}
    assert len({each.id for each in read(cash(1, "5", **blank), cash(1, "5", **blank)).cash}) == 2


def test_a_cash_row_names_its_instrument_and_an_unreadable_one_is_refused():
    statement = read(cash(1, "5", conid="265598", symbol="AAPL"), cash(2, "much"), cash(3, "", currency="CHF"))
    assert statement.cash[0].instrument == "ibkr:265598"
    assert ["amount" in each.reason for each in statement.refused] == [True, True]


# Several accounts, several parts


def test_each_account_is_a_statement():
    two = document(one_statement(trade(1)), one_statement(trade(2, accountId="U2"), account="U2"))
    assert [(each.account, len(each.fills)) for each in read_statements(two)] == [("U1", 1), ("U2", 1)]


def test_a_row_belongs_to_the_account_that_it_names():
    first, second = read_statements(document(one_statement(trade(1), trade(2, accountId="U2")), one_statement(account="U2")))
    assert ([each.sequence for each in first.fills], [each.sequence for each in second.fills]) == ([1], [2])


def test_days_of_one_account_are_joined_and_the_last_days_positions_count():
    days = document(
        one_statement(trade(1, "10"), position("13"), start="20250602", end="20250602"),
        one_statement(trade(2, "-4", dateTime="20250603;100000"), trade(1, "10"), position("9"), start="20250603", end="20250603"),
    )
    (statement,) = read_statements(days)
    assert [fill.sequence for fill in statement.fills] == [1, 2]
    assert (statement.from_at, statement.to_at) == (datetime(2025, 6, 2, 4, tzinfo=UTC), datetime(2025, 6, 4, 4, tzinfo=UTC))
    assert statement.adjustments[0].quantity == 3  # 9 + 4 - 10
    assert statement.refused == ()


def test_one_id_on_two_different_trades_is_refused():
    statement = read(trade(1), trade(2, "11", ibExecID="0000e1.00000001.01.01"))
    assert len(statement.fills) == 1
    assert "its id 0000e1.00000001.01 revision 1 is also that of line" in statement.refused[0].reason


def test_rows_outside_their_statement_find_the_only_account():
    file = flex_file(trade(1)).replace(b"</FlexStatements>", b'<AccountInformation accountId="U1" currency="CHF" /></FlexStatements>')
    assert read_statements(file)[0].base_currency == "CHF"


def test_the_base_currency_is_the_one_whose_rate_is_always_one():
    assert read(trade(1, fxRateToBase="0.9"), cash(2, "1", currency="CHF", fxRateToBase="1")).base_currency == "CHF"
    assert read(trade(1, fxRateToBase="0.9")).base_currency == ""


# Words that nobody knows


def test_unknown_words_are_counted_and_stop_nothing():
    statement = read(
        trade(1, notes="GEA;P", assetCategory="MOON", currency="XTS", transactionType="Magic", shinyNewColumn="1"),
        trade(2, notes="GEA"),
        cash(3, "1", type="Gifts"),
        row("Brandnew", {"a": "1"}),
    )
    assert len(statement.fills) == 2
    assert dict(statement.notes) == {
        "unknown code GEA": 2,
        "unknown assetCategory MOON": 1,
        "unknown currency XTS": 1,
        "unknown transactionType Magic": 1,
        "unknown attribute Trade.shinyNewColumn": 1,
        "unknown cash type Gifts": 1,
        "unknown section Brandnew": 1,
        "row of section Brandnew, which is not used": 1,
        "no OpenPositions at the end of the period: what was held before it is not told": 1,
    }


def test_a_flood_of_unknown_words_is_bounded():
    flood = {f"column{number}": "1" for number in range(1000)}
    assert len(read(trade(1, **flood)).notes) == 201
    longest = read(trade(1, **{"x" * 5000: "1"}, notes="y" * 5000, symbol="z" * 5000))
    assert max(len(note) for note, _ in longest.notes) < 100
    assert len(longest.instruments[0].symbol) <= 40
