"""What people see: numbers, ages and tables, in a pipe and on a terminal of eighty columns."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from rich.cells import cell_len
from rich.console import Console

from position_pipeline import show, show_lists, show_register
from position_pipeline.simulator import Simulator, default_scenario
from position_pipeline_tests.command_line import CommandLine
from position_pipeline_tests.conftest import _database

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CURSOR = re.compile(r"\x1b\[\??[0-9;]*[A-Za-z]|\r")


def drawn(table, rows, width=None):
    """The lines of a table on a terminal of that width, or in a pipe."""
    where = Console(file=io.StringIO(), width=width, force_terminal=width is not None, color_system=None, legacy_windows=False)
    table(where, rows)
    return where.file.getvalue().splitlines()


def position(**changes):
    row = {
        "account": "U1000001",
        "symbol": "AAPL 280121C00250000",
        "quantity": Decimal("0.123456789012345678"),
        "broker_quantity": Decimal("0.123456789012345678"),
        "average_price": Decimal("39.210500000000000000"),
        "market_price": Decimal("0.000008513"),
        "market_value": Decimal("1234567.891"),
        "unrealized_pnl": Decimal("-955.254"),
        "realized_pnl": Decimal("-0.001"),
        "currency": "USD",
        "basis_quality": "fills",
        "sync_error": None,
        "age_seconds": 3.2,
        "stale": False,
    }
    return row | changes


# -- numbers and times


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1E+3"), "1000"),
        (Decimal("1.500"), "1.5"),
        (Decimal("-0.0"), "0"),
        (Decimal("0.000000000000000000000001"), "0.000000000000000000000001"),
        (Decimal("12345678901234567890.1234567890"), "12345678901234567890.123456789"),
    ],
)
def test_json_has_every_digit_and_no_exponent(value, text):
    assert show.jsonable({"rows": [value]}) == {"rows": [text]}
    assert show.quantity(value) == text


def test_json_has_times_in_utc_whatever_zone_they_came_in():
    in_new_york = datetime(2026, 11, 21, 7, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert show.jsonable([in_new_york, None, True, 3]) == ["2026-11-21T12:30:00+00:00", None, True, 3]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "--"),
        (Decimal("198.084559340000000000"), "198.08455934"),
        (Decimal("164.7730055164542514"), "164.77300552"),
        (Decimal("0.000008513"), "0.000008513"),
        (Decimal("0.00000000012345678949"), "0.00000000012345679"),
        (Decimal(-5), "-5"),
        (Decimal(0), "0"),
        (Decimal("1E+30"), "1" + "0" * 30),
    ],
)
def test_a_price_shows_eight_decimals_or_eight_digits(value, text):
    assert show.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "--"),
        (Decimal("1234567.891"), "1,234,567.89"),
        (Decimal("-0.001"), "0.00"),
        (Decimal("-2.5"), "-2.50"),
        (Decimal("1E+30"), f"1{',000' * 10}.00"),
    ],
)
def test_money_has_two_decimals_and_no_negative_zero(value, text):
    assert show.money(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "119 min"), (7200, "2 h"), (172799, "47 h"), (172800, "2 d")],
)
def test_an_age_is_told_in_one_unit(seconds, text):
    assert show.age(seconds) == text


def test_what_is_too_old_or_was_never_synced_is_stale():
    def aged(seconds):
        row = show.with_age({"last_synced_at": None if seconds is None else NOW - timedelta(seconds=seconds)}, 900, NOW)
        return row["age_seconds"], row["stale"]

    assert [aged(seconds) for seconds in (None, 900, 901, -5)] == [(None, True), (900, False), (901, True), (0, False)]


def test_a_long_list_of_names_ends_with_how_many_more():
    assert show.some(["A", "B"]) == "A, B"
    assert show.some([str(number) for number in range(500)]).endswith("10, 11 and 488 more")


def test_one_is_no_plural():
    assert [show.counted(number, "book entry", "book entries") for number in (0, 1, 2)] == [
        "0 book entries",
        "1 book entry",
        "2 book entries",
    ]


# -- tables


def test_in_a_pipe_a_table_is_complete_however_wide():
    rows = [position(symbol="X" * 300), position(quantity=Decimal("1E+30"))]
    text = "\n".join(drawn(show_lists.positions, rows))
    assert "X" * 300 in text
    assert "1" + "0" * 30 in text
    assert "39.2105" in text
    assert "0.000008513" in text
    assert "Basis" in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_numbers_are_never_cut_and_end_in_line(width):
    rows = [
        position(symbol=f"SYMBOL{number}", quantity=Decimal(10) ** number, broker_quantity=Decimal(10) ** number) for number in range(10)
    ]
    lines = drawn(show_lists.positions, rows, width)
    ends = {re.search(rf" {10**number} ", line).end() for number, line in enumerate(lines[3:13])}
    assert len(ends) == 1
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    assert "…" not in "".join(lines)


def test_where_the_room_is_short_the_less_important_columns_go():
    agreeing = [position(quantity=Decimal(5), broker_quantity=Decimal(5))]
    differing = [position(quantity=Decimal(5), broker_quantity=Decimal(7))]
    assert "Broker" not in drawn(show_lists.positions, agreeing, 72)[1]
    narrow = drawn(show_lists.positions, differing, 72)
    assert "Broker" in narrow[1]
    assert "≠ 7" in narrow[3]
    assert "Average" not in narrow[1]
    assert "Average" in drawn(show_lists.positions, agreeing, 200)[1]


def test_a_terminal_that_is_far_too_narrow_still_gets_every_digit():
    text = "".join(drawn(show_lists.positions, [position()], 20))
    assert "0.123456789012345678" in text
    assert "1,234,567.89" in text


def test_symbols_and_messages_are_shown_as_they_are():
    """Brackets are markup to rich, and colons are pictures."""
    text = "\n".join(drawn(show_lists.positions, [position(symbol="[red]A[/red] :smile:", sync_error="[bold]no[/bold] price")]))
    assert "[red]A[/red] :smile:" in text
    assert "[bold]no[/bold] price" in text


def test_what_is_not_known_is_two_dashes():
    nothing = dict.fromkeys(("average_price", "market_price", "market_value", "unrealized_pnl", "broker_quantity"))
    assert drawn(show_lists.positions, [position(**nothing)])[3].split().count("--") == 5


def test_a_symbol_that_could_not_be_read_says_so_below_the_table():
    lines = drawn(
        show_lists.positions, [position(symbol="KO", sync_error="row 3 has one field too few", age_seconds=7300, stale=True), position()]
    )
    assert "Synced: U1000001 3 s ago" in lines
    assert "U1000001 KO: last read 2 h ago (stale); row 3 has one field too few" in lines


def test_closes_of_unknown_basis_are_named_with_what_to_do():
    close = {
        "closed_at": NOW, "account": "U1", "symbol": "MSTR", "quantity": Decimal(1), "entry_price": None, "exit_price": Decimal(300),
        "gross_pnl": None, "opening_commission": None, "closing_commission": Decimal(1), "net_pnl": None, "currency": "USD", "method": "fifo",
    }  # fmt: skip
    last = drawn(show_lists.closes, [close])[-1]
    assert last == "The cost of 1 close is not known (--), so it is in no total. Give the opening lots: position-pipeline import --help"


@pytest.mark.parametrize(
    "table", [show_lists.accounts, show_lists.positions, show_lists.closes, show_lists.executions, show_register.breaks]
)
def test_nothing_is_said_in_a_sentence(table):
    (line,) = drawn(table, [])
    assert re.fullmatch(r"[A-Z].+[.a-z]", line)


# -- the real thing on a terminal


@pytest.fixture(scope="module")
def demo(server, tmp_path_factory):
    """The demo's accounts after some of its trades and a split, and the commands that read them."""
    with pytest.MonkeyPatch.context() as patch, contextmanager(_database)(server, "template_book") as database:
        command = CommandLine(patch, tmp_path_factory.mktemp("home"), database)
        with Simulator(default_scenario(), speed=0) as broker:
            command.with_broker(broker)
            command("sync")
            later = datetime.now(UTC) + timedelta(seconds=2)
            trades = (("TSLA", "BUY", 30), ("TSLA", "SELL", 50), ("TSLA", "BUY", 7), ("BTC", "SELL", "0.00345678"))
            for number, (symbol, side, quantity) in enumerate(trades):
                broker.execute("U1000001", symbol, side, quantity, time=later + timedelta(seconds=number))
            broker.split("NVDA", 10)
            command("sync")
            yield command


def on_terminal(command, *words, width=80, **environment):
    """What a command writes to a terminal, with its colours."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {**command.environment(), "TERM": "xterm-256color", **environment}
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        environment.pop(name, None)
    words = [sys.executable, "-m", "position_pipeline.cli", *words]
    with subprocess.Popen(words, stdin=writing, stdout=writing, stderr=writing, env=environment) as process:
        os.close(writing)
        written = b""
        while True:
            try:
                more = os.read(reading, 65536)
            except OSError:  # Linux ends a terminal whose other side is closed in this way
                break
            if not more:
                break
            written += more
        process.wait(60)
    os.close(reading)
    assert process.returncode == 0
    return written.decode()


@pytest.mark.parametrize(
    "words", [("positions", "--all"), ("closes",), ("executions",), ("accounts",), ("sync",)], ids=lambda words: words[0]
)
def test_every_table_fits_a_terminal_of_eighty_columns(demo, words):
    lines = CURSOR.sub("", COLOUR.sub("", on_terminal(demo, *words))).split("\n")
    start = next(number for number, line in enumerate(lines) if "───" in line)
    end = next((number for number, line in enumerate(lines) if number > start and not line.strip()), len(lines))
    widest = max(lines[start - 1 : end], key=lambda line: cell_len(line.rstrip()))
    tables = [line for line in lines[start - 1 : end] if not re.match(r"\S+: |Synced: |Book and", line)]
    assert max(cell_len(line.rstrip()) for line in tables) <= 80, widest
    assert "…" not in "".join(tables)


def test_there_is_colour_on_a_terminal_and_none_with_no_color(demo):
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", on_terminal(demo, "sync"))
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38)", on_terminal(demo, "sync", NO_COLOR="1"))


def test_in_a_pipe_there_is_no_escape_and_no_progress(demo):
    done = demo.process("sync")
    assert "\x1b" not in done.out + done.err
    assert done.err == ""
