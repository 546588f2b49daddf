"""`replay FILE`: text in, JSON out, with the arithmetic of each number beside it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from position_pipeline.accounting.exact import exact, total
from position_pipeline.replay import run

if TYPE_CHECKING:
    from collections.abc import Iterable

# ruff: noqa: SIM905 (lists of words are read most easily as words)

CASES = Path(__file__).resolve().parents[1].parent / "shared" / "cases" / "position_cases.json"
POSITION_FIELDS = """account broker symbol instrument sec_type currency multiplier quantity broker_quantity average_price cost
    open_commission broker_average_price market_price market_value unrealized_pnl realized_pnl realized_pnl_gross status basis_quality
    opened_at closed_at last_synced_at stale""".split()
CLOSE_FIELDS = """account symbol instrument closed_at opened_at quantity entry_price exit_price gross_pnl opening_commission
    closing_commission net_pnl currency method execution_id partial""".split()
LOT_FIELDS = ["account", "instrument", "quantity", "price", "cost", "commission", "opened_at"]
CSV = "type,account,instrument,side,quantity,price,multiplier,commission,commission_currency,currency,time,execution_id,numerator,denominator,cash_in_lieu,amount,return_of_capital,underlying,strike,right,underlying_multiplier"


@dataclass
class Replayed:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def position(self) -> dict[str, Any]:
        (only,) = self.json["positions"]
        return only

    def closes(self, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(close[name] for name in names) for close in self.json["closes"]]

    def lots(self, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(lot[name] for name in names) for lot in self.json["lots"]]

    @property
    def refused(self) -> list[tuple[int, str]]:
        return [(each["line"], each["reason"]) for each in self.json.get("refused", [])]


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


def replay_text(folder: Path, text: str | bytes, method: str = "fifo", *, as_json: bool = True) -> Replayed:
    file = folder / "events"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = run(file, method, as_json)
    return Replayed(code, out.getvalue(), err.getvalue())


def replay(folder: Path, *lines: dict[str, Any], method: str = "fifo") -> Replayed:
    return replay_text(folder, "\n".join(map(json.dumps, lines)), method)


def good(folder: Path, *lines: dict[str, Any], method: str = "fifo") -> Replayed:
    """A replay that takes every line, and whose identity is 0 in every currency."""
    result = replay(folder, *lines, method=method)
    assert (result.code, result.err) == (0, "")
    assert set(result.json) == {"positions", "closes", "lots", "identity"}
    assert set(result.json["identity"].values()) <= {"0"}
    return result


def buy(quantity: object, price: object, **other: object) -> dict[str, Any]:
    return {"account": "U1", "instrument": "ACME", "side": "BUY", "quantity": str(quantity), "price": str(price)} | other


def sell(quantity: object, price: object, **other: object) -> dict[str, Any]:
    return buy(quantity, price, **{"side": "SELL"} | other)


def event(type_: str, **other: object) -> dict[str, Any]:
    return {"type": type_, "account": "U1", "instrument": "ACME"} | other


# -- what is printed


def test_it_prints_positions_closes_lots_and_the_identity_with_the_names_of_the_contract(folder):
    result = good(folder, buy(10, 100, commission="1", time="2025-01-02T15:00:00Z"), sell(4, 110, commission=1, execution_id="e2"))
    assert list(result.json) == ["positions", "closes", "lots", "identity"]
    assert set(POSITION_FIELDS) <= set(result.position)
    assert set(CLOSE_FIELDS) <= set(result.json["closes"][0])
    assert set(LOT_FIELDS) <= set(result.json["lots"][0])
    # 4 x 110 - 4 x 100 = 40; of the opening fee 1 x 4/10 = 0.4; 40 - 0.4 - 1 = 38.6
    assert result.closes("quantity", "gross_pnl", "opening_commission", "closing_commission", "net_pnl") == [
        ("4", "40", "0.4", "1", "38.6")
    ]
    assert result.closes("execution_id", "opening_id", "method", "partial", "closed_at") == [("e2", "line-1", "fifo", True, None)]
    assert result.lots("quantity", "price", "cost", "commission") == [("6", "100", "600", "0.6")]
    assert result.lots("opened_at") == [("2025-01-02T15:00:00+00:00",)]
    seen = {name: result.position[name] for name in ("quantity", "average_price", "cost", "open_commission", "realized_pnl", "status")}
    assert seen == {
        "quantity": "6",
        "average_price": "100",
        "cost": "600",
        "open_commission": "0.6",
        "realized_pnl": "38.6",
        "status": "open",
    }
    assert result.json["identity"] == {"USD": "0"}


def test_a_closed_position_is_listed_with_what_it_realised(folder):
    result = good(folder, buy(10, 100), sell(10, 90))
    assert (result.position["status"], result.position["quantity"], result.position["realized_pnl"]) == ("closed", "0", "-100")
    assert (result.position["average_price"], result.position["cost"]) == (None, "0")


@pytest.mark.parametrize(
    ("method", "gross", "left"),
    [
        ("fifo", "350", [("5", "100", "500"), ("10", "130", "1300")]),  # 15 x 150 - 10 x 120 - 5 x 140
        ("lifo", "250", [("10", "120", "1200"), ("5", "140", "700")]),  # against 10 x 130, 5 x 140 the other way round
        ("hifo", "200", [("10", "120", "1200"), ("5", "130", "650")]),
        ("average", "300", [("15", "130", "1950")]),
    ],
)
def test_each_method_consumes_its_lots(folder, method, gross, left):
    # Bought 10 @ 120, 10 @ 140, 10 @ 130 (3900 in all, 130 on average), sold 15 @ 150 = 2250:
    # FIFO 2250 - 1200 - 700 = 350; LIFO 2250 - 1300 - 700 = 250; HIFO 2250 - 1400 - 650 = 200; average 2250 - 15 x 130 = 300
    left = {"fifo": [("5", "140", "700"), ("10", "130", "1300")]}.get(method, left)
    result = good(folder, buy(10, 120), buy(10, 140), buy(10, 130), sell(15, 150), method=method)
    assert result.position["realized_pnl_gross"] == gross
    assert result.lots("quantity", "price", "cost") == left


def test_a_short_has_negative_quantity_and_cost_and_gains_when_prices_fall(folder):
    result = good(folder, sell(10, 100, commission="2"), buy(4, 90, commission="1"))
    assert result.closes("quantity", "gross_pnl", "net_pnl") == [("-4", "40", "38.2")]  # 4 x (100 - 90) = 40; 40 - 0.8 - 1
    assert result.lots("quantity", "price", "cost", "commission") == [("-6", "100", "-600", "1.2")]


def test_a_fill_through_zero_is_a_close_and_an_open_with_its_fee_by_quantity(folder):
    result = good(folder, buy(6, 100, commission="0.6"), sell(10, 120, commission="1"))
    assert result.closes("quantity", "gross_pnl", "closing_commission", "partial") == [("6", "120", "0.6", False)]
    assert result.lots("quantity", "price", "commission") == [("-4", "120", "0.4")]


def test_a_multiplier_counts_in_cost_and_profit_and_not_in_prices(folder):
    result = good(folder, buy(2, "1.50", multiplier=100), sell(1, "2.25", multiplier=100))
    assert result.closes("entry_price", "exit_price", "gross_pnl") == [("1.5", "2.25", "75")]  # (2.25 - 1.50) x 100
    assert (result.position["cost"], result.position["average_price"], result.position["multiplier"]) == ("150", "1.5", "100")


def test_quantities_and_prices_of_24_decimals_come_out_digit_for_digit(folder):
    quantity, price = "0.123456789012345678901234", "1234567.890123456789012345678901"
    result = good(folder, buy(quantity, price))
    assert result.lots("quantity", "price") == [(quantity, price)]
    assert (result.position["quantity"], result.position["average_price"]) == (quantity, price)
    assert Decimal(result.position["cost"]).as_tuple().exponent == -48
    assert good(folder, buy(quantity, price), sell("0.1", price)).lots("quantity") == [("0.023456789012345678901234",)]


def test_a_json_number_is_read_from_its_digits(folder):
    result = replay_text(folder, '{"instrument": "A", "side": "BUY", "quantity": 3, "price": 0.1234567890123456789}')
    assert result.lots("price", "cost") == [("0.1234567890123456789", "0.3703703670370370367")]


def test_a_rebate_is_a_negative_commission(folder):
    result = good(folder, buy(10, 100, commission="-0.5"), sell(10, 101, commission="-0.25"))
    assert result.position["realized_pnl"] == "10.75"  # 10 + 0.5 + 0.25


def test_a_commission_in_another_currency_stays_in_its_own_identity(folder):
    fee = {"commission_currency": "EUR"}
    result = good(folder, buy(10, 100, commission="2", **fee), sell(4, 110, commission="1", **fee))
    assert result.json["identity"] == {"EUR": "0", "USD": "0"}
    assert result.closes("net_pnl", "opening_commission", "closing_commission") == [("40", "0", "0")]
    assert result.closes("fees") == [([{"currency": "EUR", "amount": "1.8"}],)]  # 2 x 4/10 + 1
    assert result.lots("commission", "fees") == [("0", [{"currency": "EUR", "amount": "1.2"}])]


def test_accounts_instruments_and_currencies_are_kept_apart(folder):
    result = good(folder, buy(1, 10), buy(2, 10, account="U2"), buy(3, 10, instrument="SAP", currency="EUR"))
    assert [(each["account"], each["symbol"], each["quantity"]) for each in result.json["positions"]] == [
        ("U1", "ACME", "1"),
        ("U1", "SAP", "3"),
        ("U2", "ACME", "2"),
    ]
    assert result.json["identity"] == {"EUR": "0", "USD": "0"}


def test_a_file_without_events_has_none_of_anything(folder):
    result = replay_text(folder, CSV)
    assert (result.code, result.json) == (0, {"positions": [], "closes": [], "lots": [], "identity": {}})


# -- the order of lines


def test_lines_are_booked_in_their_order_whatever_their_times_say(folder):
    result = replay(folder, buy(1, 100, time="2025-01-03"), buy(1, 200, time="2025-01-02"), sell(1, 300))
    assert result.closes("entry_price") == [("100",)]
    assert (result.code, result.json["identity"]) == (0, {"USD": "0"})
    assert "1 line is earlier than a line before" in result.err


def test_ids_do_not_order_lines_of_one_time(folder):
    result = good(folder, buy(1, 100, time="2025-01-03", execution_id="b"), buy(1, 200, time="2025-01-03", execution_id="a"), sell(1, 300))
    assert result.closes("entry_price", "opening_id") == [("100", "b")]


def test_closes_of_several_instruments_stand_in_the_order_of_their_lines(folder):
    lines = [buy(2, 1, instrument=name) for name in "AB"] + [sell(1, 2, instrument=name) for name in "BABA"]
    assert good(folder, *lines).closes("instrument") == [("B",), ("A",), ("B",), ("A",)]


def test_a_file_that_is_folded_in_several_steps_comes_to_what_its_lines_say(folder):
    lines = [f"{'SELL' if number % 3 else 'BUY'},{'AB'[number % 2]},{1 + number % 5},{10 + number % 7}" for number in range(21_000)]
    result = replay_text(folder, "\n".join(["side,instrument,quantity,price", *lines]))
    assert (result.code, result.json["identity"]) == (0, {"USD": "0"})
    closed_by = [int(name.removeprefix("line-")) for (name,) in result.closes("execution_id")]
    assert closed_by == sorted(closed_by)
    held = sum((1 + number % 5) * (-1 if number % 3 else 1) for number in range(0, 21_000, 2))
    assert result.json["positions"][0]["quantity"] == str(held)


# -- splits, capital, expiry


def test_one_for_three_makes_whole_shares_of_lots_that_cannot_be_divided(folder):
    split = event("split", numerator="1", denominator="3")
    result = good(folder, buy(100, 3), buy(101, 3), buy(201, 3), split)
    assert result.position["quantity"] == "134"  # 402 / 3
    assert result.position["cost"] == "1206"


def test_three_for_one_keeps_the_cost_and_later_fills_are_at_new_prices(folder):
    result = good(folder, buy(10, 90, commission="3"), event("split", numerator=3, denominator=1), sell(30, 31))
    assert result.closes("quantity", "entry_price", "gross_pnl", "opening_commission") == [("30", "30", "30", "3")]


def test_cash_in_lieu_closes_the_fraction(folder):
    result = good(folder, buy(100, 20), event("split", numerator="1", denominator="3", cash_in_lieu="21"))
    assert result.position["quantity"] == "33"
    # A third of a share at its new cost of 60 is 20, for which 21 was paid.
    assert result.closes("quantity", "gross_pnl") == [("0.333333333333333333", "1")]


def test_a_split_of_what_is_not_held_changes_nothing_and_says_so(folder):
    result = replay(folder, buy(1, 5), sell(1, 5), event("split", numerator=2, denominator=1), buy(1, 5))
    assert (result.code, result.position["quantity"]) == (0, "1")
    assert "1 line splits what is not held" in result.err


def test_a_dividend_has_no_effect_on_the_cost_and_returned_capital_lowers_it(folder):
    assert good(folder, buy(10, 100), event("dividend", amount="50")).position["cost"] == "1000"
    for line in (event("return_of_capital", amount="50"), event("dividend", amount="80", return_of_capital="50")):
        result = good(folder, buy(10, 100), line, sell(10, 100))
        assert result.closes("entry_price", "gross_pnl") == [("95", "50")]  # (1000 - 50) / 10; 1000 - 950


def test_a_dividend_may_come_after_the_shares_were_sold_and_in_another_currency(folder):
    assert good(folder, buy(1, 5), sell(1, 5), event("dividend", amount="2", currency="EUR")).json["identity"] == {"USD": "0"}


@pytest.mark.parametrize("quantity", [{}, {"quantity": "2"}, {"quantity": "-2"}])
def test_an_option_that_expires_loses_what_it_cost(folder, quantity):
    line = event("expire", **quantity)  # its multiplier is that of what is held
    result = good(folder, buy(2, "1.50", multiplier=100, commission="1.30"), line)
    assert result.closes("quantity", "exit_price", "net_pnl") == [("2", "0", "-301.3")]  # -2 x 1.50 x 100 - 1.30


def test_a_short_option_that_expires_keeps_its_premium(folder):
    result = good(folder, sell(2, "1.50", multiplier=100, commission="1.30"), event("expire", quantity="1", commission="0.1"))
    assert result.closes("quantity", "net_pnl") == [("-1", "149.25")]  # 150 - 0.65 - 0.1
    assert result.position["quantity"] == "-1"


# -- assignment and exercise


def delivery(type_: str, quantity: int, right: str, **other: object) -> dict[str, Any]:
    return event(type_, quantity=str(quantity), right=right, instrument="OPT", underlying="ACME", strike="50", commission="1") | other


@pytest.mark.parametrize(
    ("opening", "line", "quantity", "price"),
    [
        # the premium of 2 x 100 less (or plus) the option's fee of 0.65 is in the price per share
        (sell(1, 2), delivery("assign", 1, "C"), "-100", "51.9935"),  # sold at 50 + 2 - 0.0065
        (sell(1, 2), delivery("assign", 1, "P"), "100", "48.0065"),  # bought at 50 - 2 + 0.0065
        (buy(1, 2), delivery("exercise", -1, "C"), "100", "52.0065"),  # bought at 50 + 2 + 0.0065
        (buy(1, 2), delivery("exercise", -1, "P"), "-100", "47.9935"),  # sold at 50 - 2 - 0.0065
    ],
)
def test_the_premium_of_an_option_moves_to_the_shares_it_delivers(folder, opening, line, quantity, price):
    result = good(folder, opening | {"instrument": "OPT", "multiplier": 100, "commission": "0.65"}, line)
    shares, option = result.json["positions"]
    assert (option["quantity"], option["realized_pnl"], option["status"]) == ("0", "0", "closed")
    assert (shares["quantity"], shares["average_price"], shares["multiplier"]) == (quantity, price, "1")
    assert result.lots("instrument", "commission") == [("ACME", "1")]


def test_shares_that_were_held_realise_the_premium_when_they_are_called_away(folder):
    opening = sell(1, 2, instrument="OPT", multiplier=100)
    result = good(folder, buy(100, 40), opening, delivery("assign", 1, "C", commission=0, execution_id="x1"))
    # 100 x (50 - 40) + 200 = 1200
    assert result.closes("instrument", "gross_pnl", "execution_id") == [("OPT", "0", "x1"), ("ACME", "1200", "x1")]


def test_a_part_of_the_contracts_can_be_assigned_and_a_future_be_delivered(folder):
    lines = [sell(2, 2, instrument="OPT", multiplier=100), delivery("assign", 1, "P", underlying_multiplier="5", commission=0)]
    result = good(folder, *lines)
    assert [(each["quantity"], each["multiplier"]) for each in result.json["positions"]] == [("20", "5"), ("-1", "100")]  # 1 x 100 / 5
    assert result.json["positions"][0]["cost"] == "4800"  # 20 x 50 x 5 - 200


# -- what is refused


HELD = buy(10, 100)
OPTION = buy(2, 3, instrument="OPT", multiplier=100)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([buy(-1, 5)], "quantity '-1' is not above 0"),
        ([HELD, buy(1, 5, currency="EUR")], "currency EUR is not that of ACME, which is USD (line 1)"),
        ([HELD, buy(1, 5, multiplier="100")], "multiplier 100 is not that of ACME, which is 1 (line 1)"),
        ([OPTION, buy(1, 5, instrument="OPT")], "multiplier 1 is not that of OPT, which is 100 (line 1); a line without one has 1"),
        ([HELD, event("expire", quantity="11")], "quantity 11 is more than the 10 of ACME that is held"),
        (
            [buy("1e15", 1), event("expire", quantity="1000000000000000.000000000000000000000001")],
            "is more than the 1000000000000000 of ACME",
        ),
        ([sell(10, 1), event("expire", quantity="-1")], "does not close the -10 of ACME that is held"),
        ([event("expire")], "no ACME is held"),
        ([HELD, event("expire", account="U2")], "no ACME is held"),
        ([delivery("assign", 1, "C")], "no OPT is held"),
        ([OPTION, delivery("assign", -1, "C")], "a long option is exercised, a short one assigned"),
        ([OPTION, delivery("exercise", 1, "C")], "has to be signed as the position changes"),
        ([OPTION, delivery("exercise", -3, "C")], "is more than the 2 of OPT that is held"),
        ([OPTION, delivery("exercise", -1, "C", underlying="OPT")], "underlying OPT is the option itself"),
        ([buy(1, 1, currency="EUR"), OPTION, delivery("exercise", -1, "C")], "currency USD is not that of ACME, which is EUR"),
        ([event("return_of_capital", amount="5")], "no ACME is held whose cost could be lowered"),
        ([HELD, event("return_of_capital", amount="-5")], "does not go with a position of 10"),
        ([event("split", numerator="2", denominator="1", cash_in_lieu="3")], "no ACME is held that could be paid out in cash"),
        ([HELD, event("split", numerator="2", denominator="1", cash_in_lieu="3")], "there is no fraction that cash of 3 could pay for"),
        ([HELD, event("split", numerator="1e-9", denominator="1e15")], "at 18 decimals"),
        ([HELD, *[event("split", numerator="1e15", denominator="1e-15")] * 12], "more digits than 40"),
        ([buy(1, 5, execution_id="e1"), buy(2, 5, execution_id="e1")], "execution_id e1 is that of line 1, which says something else"),
        ([buy(1, 5, execution_id="e1"), event("expire", execution_id="e1")], "two under one id"),
    ],
)
def test_a_bad_line_is_refused_by_its_number_and_everything_else_is_booked(folder, lines, said):
    result = replay(folder, *lines, buy(7, 1, instrument="OTHER"))
    number, reason = result.refused[-1]
    assert (number, result.code) == (len(lines), 1)
    assert said in reason
    assert f"line {number}: {reason}" in result.err.splitlines()
    assert result.json["positions"][-1]["quantity"] == "7"
    assert set(result.json["identity"].values()) == {"0"}


def test_refused_lines_are_told_in_their_order_and_fix_nothing(folder):
    result = replay(
        folder, buy(0, 5, currency="EUR", execution_id="x"), buy(1, 5, execution_id="x"), event("expire", quantity=9), {"side": "?"}
    )
    assert [line for line, _ in result.refused] == [1, 3, 4]
    assert result.json["identity"] == {"USD": "0"}


def test_the_same_fill_again_is_booked_once_however_it_is_written(folder):
    result = replay(
        folder,
        buy(1, "5.0", execution_id="e1"),
        buy("1.00", 5, execution_id="e1", currency="USD"),
        buy(1, 5, execution_id="e1", account="U2"),
    )
    assert [each["quantity"] for each in result.json["positions"]] == ["1", "1"]
    assert (result.code, result.refused) == (0, [])
    assert "1 line says the same as an earlier one with the same execution_id, booked once" in result.err


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"\x7fELF\0", b"nothing here\n"])
def test_a_file_that_cannot_be_read_ends_with_2_and_prints_nothing(folder, data):
    result = replay_text(folder, data)
    assert (result.code, result.out) == (2, "")
    assert str(folder / "events") in result.err


def test_a_missing_file_a_folder_and_an_unknown_method_end_with_2(tmp_path, capsys):
    assert [run(tmp_path / "missing", "fifo", True), run(tmp_path, "fifo", True), run(tmp_path, "best", False)] == [2, 2, 2]
    said = capsys.readouterr().err
    assert "No such file or directory" in said
    assert "Is a directory" in said
    assert "Method 'best' is not known; known are average, fifo, lifo, hifo." in said


# -- for people


def test_people_get_tables_and_the_identity_in_a_sentence(folder):
    text = "\n".join(map(json.dumps, [buy(10, 100), sell(4, 110), sell(0, 1)]))
    result = replay_text(folder, text, as_json=False)
    assert result.code == 1
    for words in ("Positions", "Closes", "Open lots", "ACME", "40.00", "received: 0 USD"):
        assert words in result.out
    assert "line 3: quantity '0' is not above 0" in result.err


def test_a_long_file_shows_people_the_last_closes_and_programs_all(folder):
    lines = [buy(1000, 1)] + [sell(1, 2)] * 300
    text = "\n".join(map(json.dumps, lines))
    assert "These are the last 200 of 300 closes; --json has them all." in replay_text(folder, text, as_json=False).out
    assert len(replay_text(folder, text).json["closes"]) == 300


# -- as a process


def test_it_runs_as_a_process_without_database_settings_or_heavy_imports(tmp_path):
    file = tmp_path / "events.csv"
    file.write_text("side,instrument,quantity,price\nBUY,Ä,10,100\nSELL,Ä,11,NaN\n", encoding="utf-8")
    command = [sys.executable, "-m", "position_pipeline.replay", str(file), "--method", "lifo", "--json"]
    environment = {"DATABASE_URL": "postgresql://nowhere:1/none", "POSITION_SYNC_COST_METHOD": "worst", "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, encoding="utf-8")
    assert (done.returncode, done.stderr.strip()) == (1, "line 3: price 'NaN' is not a number")
    assert json.loads(done.stdout)["positions"][0]["symbol"] == "Ä"
    probe = "import sys, position_pipeline.replay; print([m for m in ('dagster', 'sqlalchemy', 'psycopg2', 'pydantic', 'typer') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.strip() == "[]"


# -- whatever the file


def numbers(low: int, high: int, places: int) -> st.SearchStrategy[str]:
    return st.builds(lambda digits, scale: format(Decimal(digits).scaleb(-scale), "f"), st.integers(low, high), st.integers(0, places))


COLUMNS = CSV.split(",")
fills = st.fixed_dictionaries(
    {
        "side": st.sampled_from(["BUY", "SELL"]),
        "quantity": st.one_of(numbers(1, 9, 0), numbers(1, 10**12, 24)),
        "price": numbers(-(10**6), 10**12, 24),
    },
    optional={"commission": numbers(-(10**4), 10**6, 8), "commission_currency": st.sampled_from(["USD", "EUR"])},
)
ratios = st.fixed_dictionaries(
    {"numerator": numbers(1, 20, 1), "denominator": numbers(1, 20, 1)}, optional={"cash_in_lieu": numbers(-100, 100, 2)}
)
others = st.one_of(
    ratios.map(lambda cells: cells | {"type": "split"}),
    st.fixed_dictionaries({"type": st.just("dividend"), "amount": numbers(1, 99, 2)}, optional={"return_of_capital": numbers(-99, 99, 2)}),
    st.fixed_dictionaries({"type": st.just("expire")}, optional={"quantity": numbers(1, 9, 3), "commission": numbers(-9, 9, 2)}),
    st.fixed_dictionaries({"type": st.just("return_of_capital"), "amount": numbers(-99, 99, 3)}),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["assign", "exercise"]),
            "instrument": st.just("OPT"),
            "quantity": st.sampled_from(["1", "-1", "2", "-0.5"]),
            "underlying": st.sampled_from(["A", "B"]),
            "strike": numbers(1, 10**6, 3),
            "right": st.sampled_from("CP"),
        },
        optional={"commission": numbers(-9, 9, 2), "commission_currency": st.sampled_from(["USD", "EUR"])},
    ),
)
places = st.fixed_dictionaries({"account": st.sampled_from(["U1", "U1", "U2"]), "instrument": st.sampled_from(["A", "B", "OPT"])})
options = st.builds(lambda where, what: where | what | {"instrument": "OPT"}, places, fills)
cells_of_a_line = st.one_of(
    options, st.builds(lambda where, what: where | what, places, fills), st.builds(lambda where, what: where | what, places, others)
)


def as_csv(lines: list[dict[str, str]]) -> str:
    multipliers = {"OPT": "100", "B": "0.5"}
    rows = [line if "type" in line else line | {"multiplier": multipliers.get(line["instrument"], "")} for line in lines]
    return "\n".join([CSV, *(",".join(row.get(column, "") for column in COLUMNS) for row in rows)])


@given(st.lists(cells_of_a_line, min_size=8, max_size=25), st.sampled_from(["average", "fifo", "lifo", "hifo"]))
@settings(deadline=None, max_examples=300)
def test_the_identity_is_0_in_every_currency_whatever_the_file_says(tmp_path_factory, lines, method):
    result = replay_text(tmp_path_factory.getbasetemp(), as_csv(lines), method)
    assert set(result.json["identity"].values()) <= {"0"}
    assert result.code == (1 if result.refused else 0)
    booked = result.json
    for position in booked["positions"]:
        mine = [lot for lot in booked["lots"] if (lot["account"], lot["instrument"]) == (position["account"], position["instrument"])]
        assert total(Decimal(lot["quantity"]) for lot in mine) == Decimal(position["quantity"])
        assert (position["status"] == "open") == bool(mine)


@given(
    st.lists(st.builds(lambda where, what: where | what, places, fills), max_size=25), st.sampled_from(["average", "fifo", "lifo", "hifo"])
)
@settings(deadline=None, max_examples=100)
def test_what_is_printed_adds_up_to_the_cash_of_the_lines(tmp_path_factory, lines, method):
    lines = [line | {"instrument": "A", "commission_currency": "USD"} for line in lines]
    booked = replay_text(tmp_path_factory.getbasetemp(), as_csv(lines), method).json
    with exact():
        paid = [Decimal(line["quantity"]) * Decimal(line["price"]) * (1 if line["side"] == "BUY" else -1) for line in lines]
        fees = [Decimal(line.get("commission", 0)) for line in lines]
        realised = total(Decimal(close["net_pnl"]) for close in booked["closes"])
        assert realised == total(Decimal(position["realized_pnl"]) for position in booked["positions"])
        assert realised - total(Decimal(lot["cost"]) + Decimal(lot["commission"]) for lot in booked["lots"]) == -total(paid) - total(fees)


@given(st.lists(cells_of_a_line, max_size=12))
@settings(deadline=None, max_examples=100)
def test_csv_and_json_lines_come_to_the_same(tmp_path_factory, lines):
    folder, text = tmp_path_factory.getbasetemp(), as_csv(lines)
    names, *rows = (row.split(",") for row in text.splitlines())
    as_json = "\n" + "\n".join(json.dumps({name: cell for name, cell in zip(names, row, strict=True) if cell}) for row in rows)
    if rows:
        assert replay_text(folder, text) == replay_text(folder, as_json)


@given(
    st.lists(st.one_of(st.text(max_size=40), st.dictionaries(st.sampled_from(COLUMNS), st.text(max_size=9)).map(json.dumps)), max_size=8)
)
@settings(deadline=None, max_examples=200)
def test_whatever_else_a_file_holds_is_refused_and_never_an_error(tmp_path_factory, lines):
    first = json.dumps(buy(1, 5))
    result = replay_text(tmp_path_factory.getbasetemp(), "\n".join([first, *lines]).encode(errors="replace"))
    assert result.code in (0, 1)
    assert set(result.json["identity"].values()) == {"0"}


# -- numbers that other projects assert


def cases() -> list[Any]:
    if not CASES.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="../shared/cases/position_cases.json is not beside the checkout"))]
    return [pytest.param(case, id=case["id"]) for case in json.loads(CASES.read_text()) if case["fee_mode"] == "none"]


@pytest.mark.parametrize("case", cases())
def test_a_file_comes_to_the_numbers_that_others_assert(folder, case):
    lines = [line_of(each, case) for each in case["events"]]
    for number, expected in {**dict(enumerate(case["expect"].get("after_each", []), 1)), len(lines): case["expect"]}.items():
        compare(good(folder, *lines[:number], method=case["method"].lower()), expected, Decimal(case["tolerance"]))


def compare(result: Replayed, expected: dict[str, Any], tolerance: Decimal) -> None:
    names = {"quantity": "quantity", "average_price": "average_price", "cost_basis": "cost", "realized_pnl": "realized_pnl"}
    for theirs in names.keys() & expected.keys():
        assert abs(Decimal(result.position[names[theirs]]) - Decimal(expected[theirs])) <= tolerance, theirs
    if "lots" in expected:
        assert joined(result.lots("quantity", "price")) == joined((each["quantity"], each["price"]) for each in expected["lots"])
    if "consumed" in expected:
        seen = joined((quantity.lstrip("-"), price) for quantity, price in result.closes("quantity", "entry_price"))
        assert seen == joined((each["quantity"], each["price"]) for each in expected["consumed"])


def joined(parts: Iterable[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    """Neighbours of one price as one: some books keep them apart, others do not."""
    groups = groupby(((Decimal(quantity), Decimal(price)) for quantity, price in parts), key=itemgetter(1))
    return [(sum((quantity for quantity, _ in group), Decimal(0)), price) for price, group in groups]


def line_of(each: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    line = {
        name: each[name] for name in ("type", "side", "quantity", "price", "time", "numerator", "denominator", "amount") if name in each
    }
    if each.get("fractions"):
        line["cash_in_lieu"] = case["expect"]["cash_in_lieu"]
    return line | {"instrument": "X", "currency": case["currency"], "multiplier": case["multiplier"]}
