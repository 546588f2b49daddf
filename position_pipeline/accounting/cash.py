"""The cash identity: where the cash of one instrument came from and went to, from the entries and what booking gave back.

Belongs here: `cash_flow_of`, which looks at each entry by itself - what it paid, what it brought without cash, what it handed over - and
follows no lot, so that it can vouch for the walk. Does not belong here: the other claims about the book (invariants.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from position_pipeline.accounting.exact import ZERO, exact
from position_pipeline.accounting.flows import flow_of_adjustment, flow_of_delivery, flow_of_fill
from position_pipeline.accounting.methods import METHODS
from position_pipeline.accounting.model import AdjustmentKind, Fill

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from position_pipeline.accounting.flows import Flow
    from position_pipeline.accounting.model import Close, Entry, Lot
    from position_pipeline.accounting.results import Booked, Carries, Move

_K = AdjustmentKind
_ENDS = (_K.EXPIRY, _K.ASSIGNMENT, _K.EXERCISE, _K.CASH_SETTLEMENT)
_HANDS_PREMIUM = (_K.ASSIGNMENT, _K.EXERCISE)
_LOWERS = (_K.RETURN_OF_CAPITAL, _K.CONVERSION_OUT)
_PAYS = (*_LOWERS, _K.CONVERSION_IN, _K.SPLIT, _K.TRANSFER)
_TAKES_LOTS = (_K.CONVERSION_IN, _K.TRANSFER)
_BRINGS = (_K.OPENING_BALANCE, _K.OPENING_LOT, _K.TRANSFER, _K.ADOPTED)


@dataclass(frozen=True, slots=True)
class CashFlow:
    """Sums over one (account, instrument), all in the instrument's currency and exact.

    - `realized`: net P&L of the closes whose basis is known; `cost`, `open_commission`: of the open lots.
    - `traded`: sales - purchases - commissions of all believed fills and deliveries, and the cash of all other entries.
    - `contributed`: cost and commission of what came in without cash (opening balances and lots, transfers, conversions, what was
      adopted at a price).
    - `handed_over`: premium that assigned or exercised options gave away, and cost and commission of lots that left (signed like a
      cost); `taken_up`: what share legs took of premiums. A premium or lots that nobody takes up (yet) are handed over all the same: the
      giver's identity does not wait for the taker, and over an account the two differ by what is on its way.
    - `unknown`: cash of the closes whose basis is unknown, which are in no P&L: their proceeds less commissions, less what the closed
      lots had cost where that is known.
    """

    realized: Decimal = ZERO
    cost: Decimal = ZERO
    open_commission: Decimal = ZERO
    traded: Decimal = ZERO
    contributed: Decimal = ZERO
    handed_over: Decimal = ZERO
    taken_up: Decimal = ZERO
    unknown: Decimal = ZERO


def cash_identity(flow: CashFlow) -> Decimal:
    """Net realised - remaining cost - open commissions - cash received: exactly 0, or a figure of the book is wrong."""
    with exact():
        received = flow.traded - flow.contributed + flow.handed_over - flow.taken_up - flow.unknown
        return flow.realized - flow.cost - flow.open_commission - received


def identity_of(entries: Iterable[Entry], booked: Booked) -> Decimal:
    """The cash identity of one instrument whose whole history, from flat, is `entries`, of which `fold` made `booked`: exactly 0."""
    return cash_identity(cash_flow_of(entries, booked))


def cash_flow_of(entries: Iterable[Entry], booked: Booked) -> CashFlow:
    """The sums of one instrument whose whole history, from flat, is `entries`, of which `fold` made `booked`.

    They rest on the entries; what was booked is asked only how much of an entry it took, and what went where no cost is known.
    """
    with exact():
        steps = _steps(entries, booked)
        known = [close for close in booked.closes if close.gross_pnl is not None]
        gave_unknown = sum((_went_unknown(step) + _untold(step) for step in steps), ZERO)
        return CashFlow(
            realized=sum(((close.gross_pnl or ZERO) - _opening(close) - _closing(close) for close in known), ZERO),
            cost=sum((lot.cost or ZERO for lot in booked.position.lots), ZERO),
            open_commission=sum((lot.commission or ZERO for lot in booked.position.lots), ZERO),
            traded=sum(map(_cash, steps), ZERO),
            contributed=sum((_contributed(step) + _lots_taken_up(step) for step in steps), ZERO),
            handed_over=sum(map(_handed_over, steps), ZERO),
            taken_up=sum((step.flow.premium or ZERO for step in steps if step.flow and step.trades), ZERO),
            unknown=gave_unknown - _lost_in_the_pool(steps, booked),
        )


@dataclass(slots=True)
class _Step:
    """One entry, and what booking says of it. `flow` is what a fill, delivery or contribution brought; None for all else."""

    entry: Entry
    carries: Carries
    flow: Flow | None = None
    closes: list[Close] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    change: Decimal = ZERO
    left_out: Decimal | None = ZERO
    unpaid: Decimal = ZERO

    @property
    def kind(self) -> AdjustmentKind | None:
        return None if isinstance(self.entry, Fill) else self.entry.kind

    @property
    def trades(self) -> bool:
        """Whether it moves units at a price, as a fill does."""
        return isinstance(self.entry, Fill) or self.entry.kind is _K.DELIVERY

    @property
    def was_booked(self) -> bool:
        """At least in part; of an inferred entry facts may have left nothing to do."""
        if isinstance(self.entry, Fill) or self.entry.held is None:
            return self.left_out is not None
        return bool(self.change or self.closes or self.moves)


def _steps(entries: Iterable[Entry], booked: Booked) -> list[_Step]:
    """The entries that were booked, at least in part."""
    steps = {_id(entry): _Step(entry, booked.carries) for entry in entries}
    for close in booked.closes:
        steps[close.execution_id].closes.append(close)
    for move in booked.moves:
        steps[move.cause].moves.append(move)
    for event in booked.events:
        steps[event.cause].change += event.quantity_after - event.quantity_before
    for refusal in booked.refused:
        step = steps[refusal.entry_id]
        step.unpaid += refusal.amount
        step.left_out = None if refusal.quantity is None or step.left_out is None else step.left_out + refusal.quantity
    done = [step for step in steps.values() if step.was_booked]
    for step in done:
        step.flow = _flow(step)
    return done


def _id(entry: Entry) -> str:
    return entry.execution_id if isinstance(entry, Fill) else entry.id


def _flow(step: _Step) -> Flow | None:
    """What a fill, or an adjustment that brings units without cash, brought as a whole."""
    entry = step.entry
    if isinstance(entry, Fill):
        return flow_of_fill(entry, step.carries) if entry.quantity else None
    if entry.kind is _K.DELIVERY:
        return flow_of_delivery(entry, step.change, step.carries)
    if entry.kind not in _BRINGS or entry.takes_from or entry.id in step.carries or not step.change:
        return None
    if entry.kind is _K.ADOPTED:
        return flow_of_adjustment(entry, _opened(step))  # what it closed brought nothing that is known
    flow = flow_of_adjustment(entry, step.change)
    if entry.kind is _K.OPENING_BALANCE and step.closes:
        flow.price, flow.premium = None, ZERO  # it says what was held, and not what became of the rest
    return flow


def _opened(step: _Step) -> Decimal:
    """The units of an entry that closed nothing."""
    return step.change + sum((close.quantity for close in step.closes), ZERO)


def _cash(step: _Step) -> Decimal:
    """What the entry paid (-) or brought (+) in cash, commissions included."""
    entry, flow = step.entry, step.flow
    if step.trades:
        return ZERO if flow is None else -flow.quantity * (entry.price or ZERO) * entry.multiplier - (flow.commission or ZERO)
    assert not isinstance(entry, Fill)
    if entry.kind in _ENDS:
        price = entry.price if entry.kind is _K.CASH_SETTLEMENT else None
        change = entry.quantity - (step.left_out or ZERO) if entry.held is None else step.change
        return -change * (price or ZERO) * entry.multiplier - (entry.commission or ZERO)
    return (entry.amount or ZERO) - step.unpaid if entry.kind in _PAYS else ZERO


def _contributed(step: _Step) -> Decimal:
    """Cost and commission of what came without cash."""
    entry, flow = step.entry, step.flow
    if isinstance(entry, Fill) or step.trades:
        return ZERO
    if entry.kind is _K.REINVESTMENT:
        return _sum_of_known(step) if _is_in_part_unknown(step) else entry.amount or ZERO
    return ZERO if flow is None else (flow.amount or ZERO) + (flow.commission or ZERO)


def _lots_taken_up(step: _Step) -> Decimal:
    """Cost and commission of lots that came from elsewhere; where not all is known or was needed, of what was booked."""
    entry = step.entry
    if isinstance(entry, Fill) or entry.kind not in _TAKES_LOTS or not entry.takes_from:
        return ZERO
    lots = step.carries[entry.takes_from].lots or ()
    if entry.held is None and all(lot.cost is not None and lot.commission is not None for lot in lots):
        return sum(map(_value, lots), ZERO)
    covering = [close for close in step.closes if (close.quantity > 0) != (lots[0].quantity > 0)]
    covered = sum((_amount_of(close, entry) + _closing(close) for close in covering), ZERO)
    return covered + sum((_known(move.cost) + _known(move.commission) for move in step.moves), ZERO)


def _handed_over(step: _Step) -> Decimal:
    """What left without cash: a premium, or the cost and commission of lots."""
    if step.kind in _HANDS_PREMIUM:
        return sum((close.premium for close in step.closes), ZERO)
    carried = step.carries.get(_id(step.entry))
    return ZERO if carried is None else sum(map(_value, carried.lots or ()), ZERO)


def _went_unknown(step: _Step) -> Decimal:
    """Cash of the closes that are in no P&L, less what is known of what the closed lots had cost."""
    unknown = [close for close in step.closes if close.gross_pnl is None]
    return sum((-_amount_of(close, step.entry) - _closing(close) - _known(close.cost) - _opening(close) for close in unknown), ZERO)


def _untold(step: _Step) -> Decimal:
    """Cash that no known cost shows: of units opened with an unknown premium, or shared out to lots of unknown cost."""
    entry, flow = step.entry, step.flow
    if step.trades:
        if flow is None or flow.premium is not None:
            return ZERO
        return -_opened(step) * (entry.price or ZERO) * entry.multiplier
    assert not isinstance(entry, Fill)
    if entry.kind not in _LOWERS or not entry.amount or not _is_in_part_unknown(step):
        return ZERO
    carried = step.carries.get(entry.id)
    stays = sum((_known(lot.cost) for lot in carried.lots or ()), ZERO) if carried else ZERO
    return entry.amount + _sum_of_known(step) + stays


def _lost_in_the_pool(steps: Sequence[_Step], booked: Booked) -> Decimal:
    """What is known of a pool that is not known as a whole: all that went in, less all that came out while it was known."""
    if not METHODS[booked.position.method].pools or not _has_gaps(steps, booked):
        return ZERO
    return sum((_put_in(step) - _got_out(step) for step in steps), ZERO) - sum(map(_value, booked.position.lots), ZERO)


def _has_gaps(steps: Iterable[_Step], booked: Booked) -> bool:
    paid = (step.flow.commission for step in steps if step.flow)
    lots = (value for lot in booked.position.lots for value in (lot.cost, lot.commission))
    closes = (value for close in booked.closes for value in (close.cost, close.opening_commission))
    moves = (value for move in booked.moves for value in (move.cost, move.commission))
    return None in (*paid, *lots, *closes, *moves)


def _put_in(step: _Step) -> Decimal:
    """Known cost and commission of what an entry opened, and of what it changed in lots."""
    moved = sum((_known(move.cost) + _known(move.commission) for move in step.moves), ZERO)
    if step.flow is None:
        return moved
    opened = _known(step.flow.commission) - sum(map(_closing, step.closes), ZERO)
    if step.flow.amount is not None:
        opened += step.flow.amount - sum((_amount_of(close, step.entry) for close in step.closes), ZERO)
    return moved + opened


def _got_out(step: _Step) -> Decimal:
    if step.kind in _HANDS_PREMIUM:
        return _handed_over(step) - _known(step.entry.commission)
    return sum((_known(close.cost) + _opening(close) for close in step.closes), ZERO)


def _amount_of(close: Close, entry: Entry) -> Decimal:
    """What the closing entry paid (+) for what it closed, signed like a cost; without price and premium where they are not known."""
    return -close.quantity * _known(close.exit_price) * entry.multiplier + close.premium


def _is_in_part_unknown(step: _Step) -> bool:
    return any(move.cost is None for move in step.moves)


def _sum_of_known(step: _Step) -> Decimal:
    return sum((_known(move.cost) for move in step.moves), ZERO)


def _value(lot: Lot) -> Decimal:
    return _known(lot.cost) + _known(lot.commission)


def _opening(close: Close) -> Decimal:
    return _known(close.opening_commission)


def _closing(close: Close) -> Decimal:
    return _known(close.closing_commission)


def _known(value: Decimal | None) -> Decimal:
    return ZERO if value is None else value
