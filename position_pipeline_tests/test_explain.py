"""What `explain` prints can be redone on paper: every sum on every line is computed again here, from the printed text alone."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest

from position_pipeline.accounting.model import AdjustmentKind, Basis
from position_pipeline.explain import as_row, lines
from position_pipeline_tests.scenarios import AAPL, ACCOUNT, CALL, ES, EVERYTHING, KO, OTHER_ACCOUNT, adjustment, buy, of_account, sell

PAPER = Context(prec=60, rounding=ROUND_HALF_EVEN)


@pytest.fixture
def record(store):
    """Records entries in an account with FIFO, or in one with the average, and explains an id."""
    store.add_account(ACCOUNT, "ibkr")
    store.add_account(OTHER_ACCOUNT, "ibkr", cost_method="average")

    def record(*entries, account=ACCOUNT):
        entries = [of_account(entry, account) for entry in entries]
        adjustments = [entry for entry in entries if hasattr(entry, "kind")]
        store.record(account, [entry for entry in entries if not hasattr(entry, "kind")], adjustments, EVERYTHING)
        return lambda id_: [redone(lines(found)) for found in store.read.explained(id_, [account])]

    record.store = store
    return record


def redone(text: list[str]) -> list[str]:
    """The lines, of which each `name = sum = result` was worked out again."""
    sums = 0
    for line in text:
        found = re.match(r"\s*[a-zA-Z&, ]+ = (.+?) = (-?[\d.]+)( .*)?$", line)
        if found and "the sum of" not in line:
            sums += 1
            result = computed(found[1])
            rounded = "rounded" in (found[3] or "") or "average price" in line
            places = Decimal("1e-18") if "average price" in line else Decimal("1e-10")
            assert (PAPER.quantize(result, places) if rounded else result) == Decimal(found[2]), line
    assert sums, text
    return text


def computed(text: str) -> Decimal:
    """Numbers, + - x / and parentheses, as a person would work it out."""
    python = re.sub(r"\d+(\.\d+)?", lambda number: f"D('{number[0]}')", text.replace(" x ", " * "))
    assert re.fullmatch(r"(D\('[\d.]+'\)|[-+*/() ])+", python), text
    import decimal

    with decimal.localcontext(PAPER):
        return eval(python, {"D": Decimal})


def line(text: list[str], start: str) -> str:
    """The value of the one line that starts so."""
    (found,) = [each for each in text if each.strip().startswith(start)]
    return found.partition(" = ")[2]


def test_a_plain_close(record):
    explain = record(buy(AAPL, 10, 100, name="b", fee=1), sell(AAPL, 10, 110, at=60, name="s", fee="1.5"))
    (text,) = explain("s")
    assert text[2:] == [
        "",
        "Opened by execution b (ibkr-api), 2026-03-02 14:30:00 UTC",
        "  BUY 10 @ 100 USD, commission 1 USD",
        "  the lot before: 10, cost 1000, commission 1",
        "  cost of the part  = 1000 (all of it)",
        "",
        "Closed by execution s (ibkr-api), 2026-03-02 14:31:00 UTC",
        "  SELL 10 @ 110 USD, commission 1.5 USD",
        "  proceeds          = 10 x 110 = 1100",
        "",
        "opening commission  = 1 (all of it)",
        "closing commission  = 1.5 (all of it)",
        "gross P&L           = 1100 - (1000) = 100 USD",
        "net P&L             = 100 - 1 - 1.5 = 97.5 USD",
    ]


def test_a_part_of_a_lot_says_how_its_share_was_rounded(record):
    explain = record(buy(AAPL, 3, "33.34", name="b", fee=1), sell(AAPL, 1, 40, at=60, name="s", fee=0))
    (text,) = explain("s")
    assert line(text, "cost of the part") == "100.02 x 1 / 3 = 33.34"
    assert line(text, "opening commission") == "1 x 1 / 3 = 0.3333333333 (rounded once at 10 decimals, half to even)"
    assert line(text, "net P&L") == "6.66 - 0.3333333333 - 0 = 6.3266666667 USD"


def test_a_sale_over_two_lots_shares_its_commission(record):
    explain = record(buy(AAPL, 1, 10, name="b1"), buy(AAPL, 2, 20, at=10, name="b2"), sell(AAPL, 3, 30, at=60, name="s", fee=1))
    first, second = explain("s")
    assert line(first, "closing commission") == "1 x 1 / 3 = 0.3333333333 (rounded once at 10 decimals, half to even)"
    assert line(second, "closing commission") == "1 x 2 / 3 = 0.6666666667 (rounded once at 10 decimals, half to even)"
    assert line(second, "gross P&L") == "60 - (40) = 20 USD"


def test_a_flip_bears_the_part_of_the_fee_that_closed(record):
    explain = record(buy(AAPL, 6, 100, name="b"), sell(AAPL, 10, 120, at=60, name="s", fee=1))
    (text,) = explain("s")
    assert line(text, "closing commission") == "1 x 6 / 10 = 0.6"
    assert line(text, "net P&L") == "120 - 0 - 0.6 = 119.4 USD"


def test_a_short_has_a_negative_cost(record):
    explain = record(sell(AAPL, 5, 50, name="s", fee=1), buy(AAPL, 2, 40, at=60, name="b", fee=1))
    (text,) = explain("b")
    assert text[1] == "  Short 2 were closed by the method fifo; the position stayed open."
    assert line(text, "cost of the part") == "-250 x 2 / 5 = -100"
    assert line(text, "gross P&L") == "-80 - (-100) = 20 USD"


def test_a_multiplier_is_on_the_line(record):
    explain = record(buy(ES, 2, "5000.25", name="b"), sell(ES, 1, 5010, at=60, name="s"))
    (text,) = explain("s")
    assert line(text, "proceeds") == "1 x 5010 x 50 = 250500"
    assert line(text, "cost of the part") == "500025 x 1 / 2 = 250012.5"


def test_the_average_is_a_share_of_the_pool(record):
    explain = record(
        buy(AAPL, 10, 100, name="b1", fee=1),
        buy(AAPL, 20, 130, at=10, name="b2", fee=2),
        sell(AAPL, 7, 150, at=60, name="s"),
        account=OTHER_ACCOUNT,
    )
    (text,) = explain("s")
    assert "  the pool (all lots at their average) before: 30, cost 3600, commission 3" in text
    assert line(text, "cost of the part") == "3600 x 7 / 30 = 840"
    assert line(text, "gross P&L") == "1050 - (840) = 210 USD"


def test_an_unknown_basis_is_in_no_sum(record):
    unknown = {"basis": Basis.UNKNOWN, "evidence": "first contact"}
    explain = record(adjustment(AdjustmentKind.OPENING_BALANCE, AAPL, 5, at=-60, name="o", **unknown), sell(AAPL, 2, 10, name="s"))
    (text,) = explain("s")
    assert "  What it had cost is not known: this close is in no P&L." in text
    assert line(text, "gross P&L") == "not known"


def test_an_assigned_option_hands_its_premium_to_the_shares(record):
    explain = record(
        sell(CALL, 1, 3, name="w", fee="0.65"),
        adjustment(AdjustmentKind.ASSIGNMENT, CALL, 1, at=60, name="x", price=0),
        buy(AAPL, 100, 200, name="b", fee=1),
        sell(AAPL, 100, 250, at=60, name="leg", premium_from="x", source="flex"),
    )
    (option,), (shares,) = explain("x"), explain("leg")
    assert line(option, "gross P&L") == "0: the option realises nothing, its -299.35 moves to the shares"
    assert line(shares, "option premium") == "-299.35, moved here by the assignment or exercise (a cost if positive)"
    assert line(shares, "gross P&L") == "25000 - (-299.35) - (20000) = 5299.35 USD"


def test_a_correction_shows_what_the_book_said_before(record):
    sale = sell(AAPL, 10, 110, at=60, name="s", fee=1)
    record(buy(AAPL, 10, 100, name="b"), sale)
    (before,) = [row["id"] for row in record.store.read.closes()]
    explain = record(sale._replace(price=Decimal(111), revision=2))
    (text,) = explain("s")
    assert "Closed by execution s, revision 2 (ibkr-api), 2026-03-02 14:31:00 UTC" in text
    assert re.fullmatch(r"Until .{19} UTC the book said: 10 closed, gross 100, net 99\.", text[-1])
    (old,) = explain(str(before))
    assert line(old, "net P&L") == "100 - 0 - 1 = 99 USD"
    assert re.fullmatch(r"The book said so until .{19} UTC\. It does not any more\.", old[-1])


def test_a_commission_that_comes_late_is_not_known_before(record):
    sale = sell(AAPL, 10, 110, at=60, name="s", fee=None)
    explain = record(buy(AAPL, 10, 100, name="b"), sale)
    (text,) = explain("s")
    assert (line(text, "closing commission"), line(text, "net P&L")) == ("not yet known", "not known until the commission has come")
    record(sale._replace(commission=Decimal(1), commission_currency="USD"))
    (text,) = explain("s")
    assert line(text, "net P&L") == "100 - 0 - 1 = 99 USD"
    assert text[-1].endswith("the book said: 10 closed, gross 100, net not known.")


def test_a_commission_in_another_currency_stands_apart(record):
    explain = record(buy(AAPL, 10, 100, name="b"), sell(AAPL, 10, 110, at=60, name="s", fee=1, fee_currency="CHF"))
    (text,) = explain("s")
    assert line(text, "closing commission") == "0"
    assert line(text, "other commissions") == "1 CHF"


@pytest.mark.parametrize("name", ["AAPL", AAPL.id])
def test_a_position_adds_up(record, name):
    explain = record(
        buy(AAPL, 10, 100, name="b1", fee=1), buy(AAPL, 5, 120, at=10, name="b2", fee=1), sell(AAPL, 4, 110, at=60, name="s", fee="0.5")
    )
    (text,) = explain(name)
    assert text == [
        f"Position AAPL (ibkr:265598) in {ACCOUNT}, method fifo",
        "  quantity          = 6 + 5 = 11",
        "  cost              = 600 + 600 = 1200 USD",
        "  average price     = 1200 / 11 = 109.090909090909090909",
        "    lot 6, cost 600, commission 0.6, basis fills, opened 2026-03-02 14:30:00 UTC by b1",
        "    lot 5, cost 600, commission 1, basis fills, opened 2026-03-02 14:30:10 UTC by b2",
        "  realised, gross   = 40 = 40",
        "  realised, net     = 40 - 0.4 - 0.5 = 39.1 (less opening and closing commissions)",
    ]


def test_a_flat_position_and_one_of_many_lots_add_up(record):
    explain = record(
        *(buy(AAPL, 1, 100 + n, at=n, name=f"b{n}") for n in range(9)), buy(KO, 1, 5, name="k"), sell(KO, 1, 6, at=1, name="l")
    )
    assert "  quantity          = 0 = 0" in explain("KO")[0]
    assert "  quantity          = the sum of 9 numbers = 9" in explain("AAPL")[0]


def test_what_is_not_known_explains_nothing(record):
    assert record(buy(AAPL, 1, 1))("MSFT") == []


def test_as_json_the_rows_come_with_the_lines(record):
    record(buy(AAPL, 10, 100, name="b"), sell(AAPL, 4, 110, at=60, name="s"))
    close, position = (as_row(found) for id_ in ("s", "AAPL") for found in record.store.read.explained(id_))
    assert (close["lot_before"]["quantity"], close["closing"]["execution_id"], close["opening"]["execution_id"]) == (10, "s", "b")
    assert (len(position["lots"]), len(position["closes"]), position["lines"][1].strip()) == (1, 1, "quantity          = 6 = 6")
