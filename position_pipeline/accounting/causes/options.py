"""Options that ended: expired worthless, assigned, exercised, settled in cash.

Belongs here: which of several ends explains options that are gone and shares that came or went. Does not belong here: what an end does to
the book (actions.py of the accounting).

Options of one underlying are looked at together, because the shares that came are those of all that were delivered. Exercised, n
options stand for n x multiplier shares: long calls and short puts bring them, short calls and long puts take them, at the strike.

Expired options are gone on Friday evening, and the shares of those that were assigned may come on Monday. So "no shares came" speaks for a
worthless end only when the next trading day has begun; before that the price of the underlying has to say so, by more than 1 %. Of an
underlying that we know no shares of (it may be an index) cash has to say it too.

An option that has not expired, or was gone before it did, may have been sold, and the shares traded: without cash to tell, a person
decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.accounting.causes.deliveries import delivered_by, delivery_of, legs_at_the_strike
from position_pipeline.accounting.causes.endings import (
    CLEAR,
    End,
    end_of,
    expiry_of,
    held_at,
    key_of,
    moneyness,
    related,
    settles_in_cash,
    shares_of,
    word_of,
)
from position_pipeline.accounting.causes.expiries import next_opening_after
from position_pipeline.accounting.causes.figures import CASH_LEAST, about, money, signed
from position_pipeline.accounting.causes.scene import Verdict
from position_pipeline.accounting.exact import ZERO, plain, ratio
from position_pipeline.accounting.model import AdjustmentKind, BreakClass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from position_pipeline.accounting.causes.scene import Difference, Scene
    from position_pipeline.accounting.model import Adjustment, Fill, Instrument


def option_event(scene: Scene, it: Difference) -> Iterator[Verdict]:
    """The group of `it`, told once, at its first member."""
    mine = end_of(scene, it)
    if mine is None:
        return
    group = [end for each in scene.differences.values() if (end := end_of(scene, each)) is not None and related(end, mine)]
    if group[0].it.id != it.id:
        return
    shares = shares_of(scene, it.instrument)
    moved = ZERO if shares is None or shares.id not in scene.differences else scene.differences[shares.id].change
    delivered = delivered_by(scene, group, shares, moved)
    if delivered is not None and shares is not None and any(delivered):
        yield delivery_of(scene, group, delivered, shares, moved)
        return
    for end in group:
        yield from _by_itself(scene, end, shares, moved)


# What ended by itself: worthless, settled in cash, or with a share leg that the book has already


def _by_itself(scene: Scene, end: End, shares: Instrument | None, moved: Decimal) -> Iterator[Verdict]:
    known = _share_leg(scene, end, shares)
    if known is not None and shares is not None:
        yield _known_leg(scene, end, shares, known)
    elif end.due is not None and settles_in_cash(scene, end.it.instrument):
        yield _settled(scene, end)
    elif end.due is not None:
        yield _expired(scene, end, shares, moved)


def _share_leg(scene: Scene, end: End, shares: Instrument | None) -> Fill | None:
    """A fill of just the shares that the option delivers, at its strike, since the sides agreed."""
    if shares is None:
        return None
    wanted = end.shares * end.count
    since = min(end.it.since, end.due or end.it.since)
    found = (fill for fill in scene.recent.fills if fill.instrument == shares.id and fill.time >= since)
    return next((fill for fill in found if fill.signed_quantity == wanted and fill.price == end.strike), None)


def _known_leg(scene: Scene, end: End, shares: Instrument, leg: Fill) -> Verdict:
    kind = AdjustmentKind.ASSIGNMENT if end.it.book < 0 else AdjustmentKind.EXERCISE
    at, evidence = end.at, f"fill {leg.execution_id} is its share leg at the strike"
    void = scene.adjustment(AdjustmentKind.VOID, shares, leg.execution_id, leg.time, takes_from=leg.execution_id, evidence=evidence)
    out = scene.adjustment(
        kind, end.it.instrument, key_of(end), at, quantity=end.it.change, held=end.it.broker - end.it.after(at), evidence=evidence
    )
    into = scene.adjustment(
        AdjustmentKind.DELIVERY, shares, out.id, max(at, leg.time), quantity=leg.signed_quantity,
        held=held_at(scene, shares, max(at, leg.time)), price=end.strike, takes_from=out.id, evidence=evidence,
    )  # fmt: skip
    words = f"{plain(end.count)} {end.it.instrument.symbol} {word_of(end)}; fill {leg.execution_id} is the share leg"
    signs = (
        f"{signed(leg.signed_quantity)} {shares.symbol} at the strike of {money(end.strike)} are in the book as fill {leg.execution_id}",
    )
    proposal = f"Book it as {word_of(end)}: the fill gives way to a delivery at the strike, which carries the premium"
    return Verdict(BreakClass.OPTION_EVENT, (end.it.id,), words, signs, (), (void, out, into), proposal, asks=True)


def _settled(scene: Scene, end: End) -> Verdict:
    """An index option: cash tells what it ended at, if nothing else moved cash; a person has to confirm that."""
    cash, it = scene.cash(end.it), end.it
    signs = [_gone_by_date(end)]
    unit = end.count * it.instrument.multiplier
    price = None if cash is None else ratio(abs(cash), unit)
    entries: tuple[Adjustment, ...] = ()
    if cash is not None and (about(cash, ZERO) or (cash > 0) == (it.book > 0)):
        signs.append(f"cash moved by {money(cash)} beyond the known fills, {money(price or ZERO)} a unit")
        at = end.at
        kind = AdjustmentKind.EXPIRY if about(cash, ZERO) else AdjustmentKind.CASH_SETTLEMENT
        entries = (
            scene.adjustment(
                kind, it.instrument, key_of(end), at, quantity=it.change, held=it.broker - it.after(at),
                price=ZERO if kind is AdjustmentKind.EXPIRY else price, evidence="; ".join(signs),
            ),
        )  # fmt: skip
    words = f"{plain(end.count)} {it.instrument.symbol} ended and settles in cash"
    return Verdict(BreakClass.OPTION_EVENT, (it.id,), words, tuple(signs), (), entries, "Close it for the cash that came for it", asks=True)


def _gone_by_date(end: End) -> str:
    expiry = end.it.instrument.expiry
    return f"its last day was {expiry[:4]}-{expiry[4:6]}-{expiry[6:8]}, and the broker's complete list has it no more"


def _expired(scene: Scene, end: End, shares: Instrument | None, moved: Decimal) -> Verdict:
    assert end.due is not None
    signs, doubts = [_gone_by_date(end)], []
    inside = moneyness(scene, end, shares)
    price = money(scene.price(shares.id) or ZERO) if shares is not None else ""
    opened = scene.snapshot.taken_at >= next_opening_after(end.due, end.it.instrument.currency)
    if inside is not None and inside < -CLEAR:
        signs.append(f"it ended out of the money: {end.it.instrument.underlying} is at {price}, the strike is {money(end.strike)}")
    elif inside is not None and inside > CLEAR:
        doubts.append(f"it ended in the money: {end.it.instrument.underlying} is at {price}, the strike is {money(end.strike)}")
    cash = scene.cash(end.it)
    unpaid = shares is not None or (cash is not None and about(cash, ZERO))
    last = end.it.before.market_price if end.it.before is not None else None
    if last is not None and last > CLEAR * end.strike:
        doubts.append(f"its last price was {money(last)}, and what ends worthless has none")
    if opened and not moved and unpaid and scene.snapshot.holdings:
        signs.append(f"no {end.it.instrument.underlying} came or went, though the next trading day has begun")
    if moved:
        doubts.append(f"{end.it.instrument.underlying} moved by {signed(moved)}, which these options may have delivered")
    if inside is None and cash is not None and abs(cash) > 50 * CASH_LEAST:
        doubts.append(f"cash moved by {money(cash)} beyond the known fills")
    doubts += [] if shares is None else legs_at_the_strike(scene, end, shares)
    words = f"{plain(end.count)} {end.it.instrument.symbol} expired"
    entry = expiry_of(scene, end, end.count, "; ".join(signs))
    if doubts:
        return Verdict(
            BreakClass.OPTION_EVENT, (end.it.id,), f"{words}, and not surely worthless ({'; '.join(doubts)})", tuple(signs),
            proposal="Shares or cash may still come for it on the next trading day; a statement settles it: position-pipeline import FILE",
            asks=True, clears_at=next_opening_after(end.due, end.it.instrument.currency),
        )  # fmt: skip
    return Verdict(
        BreakClass.OPTION_EVENT, (end.it.id,), f"{words} worthless", tuple(signs), (), (entry,), "Close it at price 0 at its expiry"
    )
