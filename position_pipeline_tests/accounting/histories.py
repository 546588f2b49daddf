"""Histories of three linked instruments that mix every kind of entry, read from a tape of bytes.

A tape shrinks well and is drawn at once, so that thousands of histories take seconds. Most entries fit the position that they meet; one
in eight is as wild as the tape says, because what cannot be booked must not hurt what can.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from position_pipeline.accounting.booking import fold_together
from position_pipeline.accounting.exact import EXACT
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis, Fill, Method, Position, Side
from position_pipeline_tests.accounting.ledger import ACCOUNT, minute

if TYPE_CHECKING:
    from collections.abc import Callable

    from position_pipeline.accounting.booking import Booked
    from position_pipeline.accounting.model import Entry

STOCK, OTHER, OPTION = INSTRUMENTS = ("ibkr:1", "ibkr:2", "ibkr:3")
K = AdjustmentKind
GIVES = (K.CONVERSION_OUT, K.SPIN_OFF, K.TRANSFER)
ENDS = (K.EXPIRY, K.ASSIGNMENT, K.EXERCISE, K.CASH_SETTLEMENT)
INFERRED = (*ENDS, K.SPLIT, K.TRANSFER, K.CONVERSION_OUT, K.CONVERSION_IN, K.FEE_IN_KIND, K.DELIVERY, K.ADOPTED)
"""Kinds that may follow from a snapshot. A spin-off looks ahead to its taker, and has tests of its own."""


@dataclass
class Tape:
    """Bytes that decide; zeros after the end."""

    content: bytes
    at: int = 0

    def below(self, number: int) -> int:
        value = int.from_bytes(self.content[self.at : self.at + 2].ljust(2, b"\0"), "big")
        self.at += 2
        return value % number

    def digits(self, low: int, high: int, places: int) -> Decimal:
        """A number of `low` to `high`, scaled down by up to `places` decimals."""
        value = int.from_bytes(self.content[self.at : self.at + 6].ljust(6, b"\0"), "big")
        self.at += 6
        return Decimal(low + value % (high - low + 1)).scaleb(-self.below(places + 1))

    def one_of(self, *choices):
        return choices[self.below(len(choices))]


@dataclass
class Story:
    """The history so far, and the positions that it makes; where it `infers`, some of its entries are inferred from snapshots."""

    tape: Tape
    method: Method
    knows_all: bool
    multipliers: dict[str, Decimal]
    infers: bool = True
    entries: list[Entry] = field(default_factory=list)
    clock: int = 0

    def __post_init__(self) -> None:
        self.flat = {name: Position(ACCOUNT, name, "USD", self.multipliers[name], self.method) for name in INSTRUMENTS}
        self.positions = dict(self.flat)
        self.carries: dict = {}

    def tell(self, entry: Entry) -> None:
        """Later than all before, so that the order of the story is that of the book."""
        self.entries.append(entry)
        for name, booked in fold_together(self.positions, [entry], self.carries).items():
            self.positions[name], self.carries = booked.position, booked.carries

    def booked(self) -> dict[str, Booked]:
        return fold_together(self.flat, self.entries)

    def of(self, instrument: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.instrument == instrument]

    # Numbers

    def units(self) -> Decimal:
        number = Decimal(1 + self.tape.below(12))
        return number.scaleb(-self.tape.one_of(0, 0, 0, 1, 7, 18))

    def money(self) -> Decimal:
        return Decimal(self.tape.below(60000) + 1).scaleb(-self.tape.one_of(2, 4, 12))

    def fee(self) -> Decimal | None:
        fee = Decimal(self.tape.below(40) - 5).scaleb(-2)
        return fee if self.knows_all or self.tape.below(8) else None

    def ratio(self) -> dict[str, Decimal]:
        return {"numerator": Decimal(1 + self.tape.below(5)), "denominator": Decimal(1 + self.tape.below(4))}

    def leaving(self, held: Decimal) -> Decimal:
        """A change towards zero: all, a part, or too much."""
        if not self.tape.below(8):
            return self.units() * self.tape.one_of(1, -1)
        return EXACT.multiply(-held, self.tape.one_of(Decimal(1), Decimal("0.5"), Decimal("0.25"), Decimal(2))) or self.units()

    def signed(self, held: Decimal) -> Decimal:
        return self.money().copy_sign(held) if self.tape.below(8) else self.money() * self.tape.one_of(1, -1)


def fill(story: Story, instrument: str, **other: object) -> Fill:
    values = {"price": story.money(), "commission": story.fee(), "commission_currency": story.tape.one_of("USD", "USD", "USD", "CHF")}
    lots = story.positions[instrument].lots
    if lots and not story.tape.below(4):
        lot = lots[story.tape.below(len(lots))]
        part = story.tape.one_of(abs(lot.quantity), EXACT.divide(abs(lot.quantity), 2), story.units())
        values["closes_lots"] = ((lot.opening_id, part),)
    number = len(story.entries)
    values |= {"account": ACCOUNT, "instrument": instrument, "execution_id": f"e{number:03d}", "currency": "USD"}
    values |= {"side": story.tape.one_of(*Side), "quantity": story.units(), "time": minute(story.clock)}
    return Fill(**(values | {"multiplier": story.multipliers[instrument]} | other))


def adjustment(story: Story, instrument: str, kind: AdjustmentKind, quantity: Decimal = Decimal(0), **values: object) -> Adjustment:
    number = len(story.entries)
    values = {"multiplier": story.multipliers[instrument], "basis": Basis.BROKER} | values
    if story.infers and kind in INFERRED and not story.tape.below(4):
        values["held"] = held_after(story, instrument, quantity)
    return Adjustment(f"a{number:03d}", ACCOUNT, instrument, kind, minute(story.clock), quantity, "USD", **values)


def held_after(story: Story, instrument: str, change: Decimal) -> Decimal:
    """What a snapshot after a change may have said: all of the change, a part of it, none of it, or anything."""
    held = story.positions[instrument].quantity
    part = story.tape.one_of(Decimal(1), Decimal("0.5"), Decimal(0), Decimal(2))
    return (
        EXACT.add(held, EXACT.multiply(change or story.units(), part)) if story.tape.below(8) else story.units() * story.tape.one_of(1, -1)
    )


def brought(story: Story, instrument: str, kind: AdjustmentKind) -> Adjustment:
    quantity = story.units() * story.tape.one_of(1, 1, -1)
    basis = story.tape.one_of(*([{}] if not story.knows_all else []), {"price": story.money()}, {"cost": story.money().copy_sign(quantity)})
    return adjustment(story, instrument, kind, quantity, commission=story.fee(), **basis)


def one_adjustment(story: Story, instrument: str) -> Adjustment:
    held, tape = story.positions[instrument].quantity, story.tape
    made: dict[AdjustmentKind, Callable[[], Adjustment]] = {
        K.SPLIT: lambda: adjustment(
            story, instrument, K.SPLIT, **story.ratio(), amount=tape.one_of(None, None, story.signed(held).quantize(Decimal("0.01")))
        ),
        K.TRANSFER: lambda: tape.one_of(
            adjustment(story, instrument, K.TRANSFER, story.leaving(held)),
            brought(story, instrument, K.TRANSFER),
        ),
        K.RETURN_OF_CAPITAL: lambda: adjustment(story, instrument, K.RETURN_OF_CAPITAL, amount=story.signed(held)),
        K.REINVESTMENT: lambda: adjustment(story, instrument, K.REINVESTMENT, amount=story.signed(held)),
        K.FEE_IN_KIND: lambda: adjustment(story, instrument, K.FEE_IN_KIND, story.leaving(held)),
        K.OPENING_LOT: lambda: brought(story, instrument, K.OPENING_LOT),
        K.OPENING_BALANCE: lambda: brought(story, instrument, K.OPENING_BALANCE),
        K.CASH_SETTLEMENT: lambda: adjustment(
            story, instrument, K.CASH_SETTLEMENT, story.leaving(held), price=story.money(), commission=story.fee()
        ),
        K.EXPIRY: lambda: adjustment(story, instrument, K.EXPIRY, story.leaving(held), commission=story.fee()),
        K.ADOPTED: lambda: adopted(story, instrument),
    }
    return made[tape.one_of(*(kind for kind in made if story.infers or kind is not K.ADOPTED))]()


def adopted(story: Story, instrument: str) -> Adjustment:
    change = story.units() * story.tape.one_of(1, -1)
    basis = story.tape.one_of({"price": story.money()}, {"price": story.money()} if story.knows_all else {})
    return adjustment(story, instrument, K.ADOPTED, change, **({"held": held_after(story, instrument, change)} | basis))


def deliver(story: Story) -> None:
    """An option is assigned or exercised, and its shares follow in the same minute."""
    kind = story.tape.one_of(K.ASSIGNMENT, K.EXERCISE)
    change = story.leaving(story.positions[OPTION].quantity)
    story.tell(adjustment(story, OPTION, kind, change, commission=story.fee()))
    giver, shares = story.tape.one_of(*[story.entries[-1].id] * 3, "nobody"), story.tape.one_of(STOCK, OTHER)
    if story.tape.below(2):
        story.tell(fill(story, shares, premium_from=giver))
    else:
        change = story.units() * story.tape.one_of(1, -1)
        more = {"takes_from": giver, "price": story.money(), "commission": story.fee()}
        story.tell(adjustment(story, shares, K.DELIVERY, change, **more))


def hand_over(story: Story) -> None:
    """Lots go from one stock to the other, or leave and come back."""
    source, target = story.tape.one_of((STOCK, OTHER), (OTHER, STOCK))
    held = story.positions[source].quantity
    kind = story.tape.one_of(*GIVES)
    if kind is K.SPIN_OFF:
        story.tell(adjustment(story, source, kind, share=Decimal(story.tape.below(101)).scaleb(-2)))
    elif kind is K.TRANSFER:
        story.tell(adjustment(story, source, kind, story.leaving(held)))
    else:
        cash = story.tape.one_of(None, None, story.signed(held))
        story.tell(adjustment(story, source, kind, story.leaving(held), amount=cash, **story.tape.one_of({}, story.ratio())))
    story.clock += story.tape.below(2)
    giver = story.entries[-1].id
    stated = story.tape.one_of(Decimal(0), Decimal(0), story.units())
    cash = story.tape.one_of(None, None, story.signed(held))
    story.tell(adjustment(story, target, K.CONVERSION_IN, stated, takes_from=giver, amount=cash, **story.ratio()))


def read(content: bytes, *, infers: bool = True) -> Story:
    """The story on a tape; without `infers` it has facts only."""
    tape = Tape(content)
    method, knows_all = tape.one_of(*Method), bool(tape.below(2))
    multiplier = tape.one_of(Decimal(1), Decimal(1), Decimal("0.01"))
    story = Story(tape, method, knows_all, {STOCK: multiplier, OTHER: Decimal(1), OPTION: Decimal(100)}, infers)
    for _ in range(1 + tape.below(24)):
        story.clock += 1
        choice = tape.below(16)
        if choice < 8:
            story.tell(fill(story, tape.one_of(STOCK, STOCK, OTHER, OPTION)))
        elif choice < 12:
            story.tell(one_adjustment(story, tape.one_of(STOCK, STOCK, OTHER, OPTION)))
        elif choice < 15:
            hand_over(story)
        else:
            deliver(story)
    return story


stories = st.builds(read, st.binary(min_size=480, max_size=480))
