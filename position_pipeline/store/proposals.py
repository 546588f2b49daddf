"""Adjustments as JSON and back: what a break proposes is kept beside it until a person accepts it.

Belongs here: the spelling. Does not belong here: what is proposed (accounting.reconciliation), and carrying it out (accepting.py).
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Basis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NUMBERS = frozenset(
    {"quantity", "multiplier", "price", "cost", "commission", "numerator", "denominator", "amount", "share", "held"},
)
"""The fields that are exact numbers, and text in JSON."""


def as_json(adjustments: Sequence[Adjustment]) -> list[dict[str, Any]]:
    """One object an adjustment; fields without a value are left out."""
    return [
        {each.name: _spelled(getattr(adjustment, each.name)) for each in fields(adjustment) if getattr(adjustment, each.name) is not None}
        for adjustment in adjustments
    ]


def _spelled(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime) else value


def from_json(proposed: Sequence[Mapping[str, Any]]) -> tuple[Adjustment, ...]:
    """The adjustments that `as_json` spelled."""
    return tuple(Adjustment(**{**dict.fromkeys(("commission",)), **_read(each)}) for each in proposed)


def _read(spelled: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: Decimal(value) if name in NUMBERS else value for name, value in spelled.items()}
    return {
        **values,
        "kind": AdjustmentKind(spelled["kind"]),
        "basis": Basis(spelled["basis"]),
        "time": datetime.fromisoformat(spelled["time"]),
    }
