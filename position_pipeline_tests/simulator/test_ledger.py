"""The oracle's arithmetic: every expected number has its own sum beside it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from position_pipeline.simulator.ledger import Execution, Holding, Ledger, Split, apply

D = Decimal
NOW = datetime(2026, 3, 4, 17, 0, tzinfo=UTC)


def fill(side: str, quantity: str, price: str, commission: str, exec_id: str = "a.b.01.01", *, day: int = 0) -> Execution:
    return Execution(exec_id, "U1", 1, side, D(quantity), D(price), NOW + timedelta(days=day), D(commission), "USD")


def test_adding_averages_cost_with_multiplier_and_commission() -> None:
    # 2 x 3501.05 = 7002.10; 3 x 42 x 100 + 3.15 = 12603.15; together 19605.25 / 5 = 3921.05
    effect = apply(Holding(D(2), D("7002.10")), fill("BOT", "3", "42", "3.15"), D(100))
    assert (effect.holding.quantity, effect.holding.average_cost) == (D(5), D("3921.05"))
    assert effect.realized is None
    assert effect.cash == D("-12603.15")


def test_reducing_realizes_net_of_both_commissions_and_keeps_the_average() -> None:
    # held 5 at 3921.05; sold 2 x 40 x 100 = 8000; realised 8000 - 1.30 - 2 x 3921.05 = 156.60
    effect = apply(Holding(D(5), D("19605.25")), fill("SLD", "2", "40", "1.30"), D(100))
    assert effect.realized == D("156.60")
    assert (effect.holding.quantity, effect.holding.average_cost) == (D(3), D("3921.05"))
    assert effect.cash == D("7998.70")


def test_opening_a_short_lowers_what_was_received_by_the_commission() -> None:
    # 40 x 61.5 = 2460 received, 1.20 paid: 2458.80 / 40 = 61.47 each
    effect = apply(Holding(), fill("SLD", "40", "61.5", "1.20"), D(1))
    assert (effect.holding.quantity, effect.holding.average_cost) == (D(-40), D("61.47"))
    assert effect.cash == D("2458.80")


def test_covering_a_short_realizes_the_fall_of_the_price() -> None:
    # short 40 at 61.47; bought 10 x 60 = 600, commission 1; realised 10 x 61.47 - 600 - 1 = 13.70
    effect = apply(Holding(D(-40), D("-2458.80")), fill("BOT", "10", "60", "1"), D(1))
    assert effect.realized == D("13.70")
    assert effect.holding == Holding(D(-30), D("-1844.10"))


def test_a_flip_closes_and_opens_with_the_commission_by_quantity() -> None:
    # short 30 at 251 (cost -7530); bought 50 at 240 with commission 5.
    # closing 30: commission 5 x 30/50 = 3; realised 7530 - 30 x 240 - 3 = 327
    # opening 20: cost 20 x 240 + 2 = 4802, average 240.10
    effect = apply(Holding(D(-30), D(-7530)), fill("BOT", "50", "240", "5"), D(1))
    assert effect.realized == D(327)
    assert effect.holding == Holding(D(20), D(4802))
    assert effect.holding.average_cost == D("240.10")


def test_a_flip_from_long_to_short_mirrors_it() -> None:
    # long 20 at 240.10 (4802); sold 50 at 250 with commission 5.
    # closing 20: realised 20 x 250 - 2 - 4802 = 196; opening -30: received 7500 - 3 = 7497, average 249.90
    effect = apply(Holding(D(20), D(4802)), fill("SLD", "50", "250", "5"), D(1))
    assert effect.realized == D(196)
    assert (effect.holding.quantity, effect.holding.average_cost) == (D(-30), D("249.90"))


def test_a_future_pays_no_price_only_what_it_realizes() -> None:
    # bought 1 at 6000 x 50 + 2.25 = 300002.25; sold at 6010 x 50 = 300500; realised 300500 - 2.25 - 300002.25 = 495.50
    bought = apply(Holding(), fill("BOT", "1", "6000", "2.25"), D(50), daily_settled=True)
    sold = apply(bought.holding, fill("SLD", "1", "6010", "2.25"), D(50), daily_settled=True)
    assert (bought.cash, sold.cash, sold.realized) == (D(0), D("495.50"), D("495.50"))
    assert sold.holding == Holding()


def test_closing_to_zero_leaves_no_cost_behind_even_when_the_average_has_no_end() -> None:
    ledger = Ledger(Holding(), D(1))
    ledger.add(fill("BOT", "3", "10", "1", "a.1.01"))  # 31 / 3 = 10.33333333...
    ledger.add(fill("SLD", "1", "11", "0", "a.2.01"))
    ledger.add(fill("SLD", "2", "11", "0", "a.3.01"))
    assert ledger.holding == Holding()
    assert ledger.cash == D(2)  # -31 + 11 + 22
    assert sum(filter(None, ledger.realized.values())) == D(2)


def test_a_split_changes_the_quantity_and_not_the_cost() -> None:
    ledger = Ledger(Holding(D(20), D("17462.21")), D(1))
    ledger.add(Split(D(10), NOW))
    assert ledger.holding == Holding(D(200), D("17462.21"))
    assert ledger.holding.average_cost == D("87.31105")


def test_a_correction_takes_the_old_ones_place_in_history() -> None:
    ledger = Ledger(Holding(), D(1))
    ledger.add(fill("BOT", "10", "100", "0", "a.1.01"))
    ledger.add(fill("SLD", "10", "110", "0", "a.2.01"))
    assert ledger.realized["a.2.01"] == D(100)
    ledger.substitute("a.1.01", fill("BOT", "12", "101", "0", "a.1.02"))
    # 12 x 101 = 1212; sold 10 of them: 1100 - 1010 = 90; left 2 at 101
    assert ledger.realized == {"a.1.02": None, "a.2.01": D(90)}
    assert ledger.holding == Holding(D(2), D(202))


def test_a_bust_undoes_the_fill_and_what_followed_is_counted_anew() -> None:
    ledger = Ledger(Holding(D(10), D(1000)), D(1))
    ledger.add(fill("SLD", "10", "110", "0", "a.1.01"))
    ledger.add(fill("BOT", "5", "90", "0", "a.2.01"))
    ledger.substitute("a.1.01", None)
    assert ledger.holding == Holding(D(15), D(1450))  # 1000 + 450, and nothing realised
    assert ledger.realized == {"a.2.01": None}


def test_forgetting_old_entries_changes_nothing_that_is_held() -> None:
    ledger = Ledger(Holding(), D(1))
    for day in range(4):
        ledger.add(fill("BOT", "10", str(100 + day), "1", f"a.{day}.01", day=day))
    before = (ledger.holding, ledger.cash)
    ledger.forget_before(NOW + timedelta(days=2))
    assert (ledger.holding, ledger.cash) == before
    assert [entry.exec_id for entry in ledger.entries if isinstance(entry, Execution)] == ["a.2.01", "a.3.01"]


def test_cash_is_always_realized_less_cost() -> None:
    """For any sequence of fills: cash received = realised P&L - what the holding has cost (28 digits of it)."""
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    amounts = st.decimals("0.01", "900", places=2)
    fills = st.lists(st.tuples(st.sampled_from(("BOT", "SLD")), st.integers(1, 50), amounts, amounts), max_size=20)

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(fills)
    def holds(rows: list[tuple[str, int, D, D]]) -> None:
        ledger = Ledger(Holding(), D(100))
        for n, (side, quantity, price, commission) in enumerate(rows):
            ledger.add(fill(side, str(quantity), str(price), str(commission), f"a.{n}.01"))
        realized = sum(filter(None, ledger.realized.values()), D(0))
        assert abs(ledger.cash - (realized - ledger.holding.cost)) < D("1e-15")
        assert ledger.holding.quantity == sum((D(q if s == "BOT" else -q) for s, q, _, _ in rows), D(0))

    holds()
