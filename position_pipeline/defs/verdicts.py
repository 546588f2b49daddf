"""What the checks claim, decided from rows: no Dagster, no database.

Belongs here: one function a claim, from rows to a `Verdict`. Does not belong here: reading the rows, and showing the verdict (checks).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from position_pipeline import show
from position_pipeline.accounting.exact import plain
from position_pipeline.accounting.invariants import CashFlow, cash_identity
from position_pipeline.accounting.model import SnapshotStatus
from position_pipeline.verify import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from position_pipeline.sync_results import AccountPass
    from position_pipeline.verify import Verified

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim holds, in words, with what was looked at and the rows that break it.

    `offending` has short cells; what takes a sentence is in `evidence`, one entry a row. `mild`: worth a warning, no error.
    """

    passed: bool
    says: str
    expected: str
    actual: str
    looked_at: int
    offending: tuple[dict[str, str], ...] = ()
    evidence: tuple[str, ...] = ()
    mild: bool = False


def none_are(
    what: str,
    found: Sequence[dict[str, str]],
    *,
    looked_at: int,
    good: str,
    bad: str,
    each: str,
    evidence: Iterable[str],
    mild: bool = False,
    number: int | None = None,
) -> Verdict:
    """The verdict on a claim that every row of `found` breaks: `what` they are, `good` and `bad` the words for none and for some.

    `each` is how the first of them are named; `number` counts them where some take several rows.
    """
    number = len(found) if number is None else number
    return Verdict(
        passed=not number,
        says=f"{bad}{first_of(found, each)}." if number else good,
        expected=f"{what}: 0",
        actual=f"{what}: {number}",
        looked_at=looked_at,
        offending=tuple(found),
        evidence=tuple(evidence),
        mild=mild,
    )


def first_of(rows: Sequence[Mapping[str, str]], words: str) -> str:
    """The first three rows, each in the given words, and how many more there are."""
    first = "; ".join(words.format_map(row) for row in rows[:3])
    return f"{first} and {len(rows) - 3} more" if len(rows) > 3 else first


def snapshot_is_complete(parts: Sequence[AccountPass]) -> Verdict:
    """Every account's answer is proven complete; one that lacks some symbols only is a warning."""
    bad = [part for part in parts if status_of(part) != "complete"]
    rows = tuple({"account": part.account, "status": status_of(part)} for part in bad)
    mild = bool(bad) and all(status_of(part) == "partial" for part in bad)
    counts = f"{len(parts) - len(bad)} of {len(parts)}"
    return Verdict(
        passed=bool(parts) and not bad,
        says=_snapshots_in_words(parts, bad, mild=mild),
        expected=f"{len(parts)} of {len(parts)} accounts gave a complete answer" if parts else "at least one account",
        actual=f"{counts} accounts gave a complete answer" if parts else "no account",
        looked_at=len(parts),
        offending=rows,
        evidence=tuple(named(part.account, reason_of(part)) for part in bad),
        mild=mild,
    )


def _snapshots_in_words(parts: Sequence[AccountPass], bad: Sequence[AccountPass], *, mild: bool) -> str:
    if not parts:
        return "The brokers listed no account at all."
    if not bad:
        return f"Every answer is proven complete ({len(parts)} accounts)."
    what = "lack some symbols, which keep their positions" if mild else "cannot be used; the positions stay as they were"
    return f"The answers for {', '.join(part.account for part in bad)} {what}."


def named(account: str, reason: str) -> str:
    """Whom it concerns, once: what is told of an answer as a whole begins with its account."""
    return reason if reason.startswith(f"{account}: ") else f"{account}: {reason}"


def status_of(part: AccountPass) -> str:
    """complete, partial or rejected as the snapshot is; failed where there is none, or its account could not be taken further."""
    if part.busy:
        return "already_running"
    return "failed" if part.error or part.snapshot is None else part.snapshot.status.value


def reason_of(part: AccountPass) -> str:
    """Why the account's answer is not complete; empty if it is."""
    if part.busy:
        return "Another process has been syncing this account for minutes. Look for a sync or a run that hangs, and end it."
    if part.error or part.snapshot is None:
        return part.error or "The broker was not asked."
    if part.snapshot.status is SnapshotStatus.PARTIAL and part.snapshot.errors:
        return "; ".join(f"{symbol}: {error}" for symbol, error in part.snapshot.errors.items())
    return part.snapshot.reason


def quantities_match_broker(disagreements: Sequence[Mapping[str, Any]], compared: int) -> Verdict:
    """The book's quantity of every position is exactly the broker's."""
    rows = tuple(_disagreement(row) for row in disagreements)
    return none_are(
        "positions that differ from the broker's last proven answer",
        rows,
        looked_at=compared,
        good=f"Book and broker hold the same ({compared} open positions).",
        bad="Book and broker differ: ",
        each="{symbol} in {account}: book {book}, broker {broker}",
        evidence=(_evidence(row) for row in disagreements),
        mild=all(row.get("class") == "timing" for row in disagreements),
    )


def positions_are_explained(adopted: Sequence[Mapping[str, Any]], compared: int) -> Verdict:
    """Nothing that the book adopted from the broker's list is still without a fill, a statement or a person that explains it."""
    found = tuple({**_disagreement({**row, "quantity": row["book_quantity"]}), "class": row["class"]} for row in adopted)
    return none_are(
        "positions that rest on the broker's list alone",
        found,
        looked_at=compared,
        good=f"No position rests on the broker's list alone ({compared} open positions).",
        bad="The book follows the broker, and nothing explains why: ",
        each="{symbol} in {account}, {book} since {since}",
        evidence=(f"{_evidence(row)} position-pipeline breaks show {row['id']}" for row in adopted),
        mild=True,
    )


def lots_sum_to_positions(rows: Sequence[Mapping[str, Any]], positions: int) -> Verdict:
    """Quantity, cost and open commission of every position are the sums of its lots."""
    found = tuple(
        {
            "account": row["account"],
            "symbol": row["symbol"],
            "figure": figure,
            "position": _figure(row[figure]),
            "lots": _figure(row[of_lots]),
        }
        for row in rows
        for figure, of_lots in (("quantity", "lots_quantity"), ("cost", "lots_cost"), ("open_commission", "lots_commission"))
        if row[figure] != row[of_lots]
    )
    return none_are(
        "positions that are not the sum of their lots",
        found,
        looked_at=positions,
        good=f"Every position is the sum of its lots ({positions} positions).",
        bad="Lots and positions differ: ",
        each="{symbol} in {account}: {figure} {position}, its lots {lots}",
        evidence=(f"{row['symbol']} in {row['account']}: position-pipeline verify compares it with its entries." for row in rows),
        number=len(rows),
    )


def closes_have_openings(orphans: Sequence[Mapping[str, Any]], closes: int) -> Verdict:
    """Every close rests on an opening and a closing entry that are believed."""
    found = tuple(
        {"account": row["account"], "symbol": row["symbol"], "close": str(row["id"]), "at": show.moment(row["closed_at"])}
        for row in orphans
    )
    return none_are(
        "closes without a believed opening or closing entry",
        found,
        looked_at=closes,
        good=f"Every close has its opening and its closing entry ({closes} closes).",
        bad="Closes rest on entries that are not believed: ",
        each="{symbol} in {account}, close {close}",
        evidence=(f"close {row['id']}: closed by {row['execution_id']}, opened by {row['opening_id']}." for row in orphans),
    )


def _figure(amount: Any) -> str:
    return "unknown" if amount is None else plain(amount)


def _disagreement(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "account": row["account"],
        "symbol": row["symbol"],
        "book": show.number(row["quantity"]),
        "broker": show.number(row["broker_quantity"]),
        "since": show.moment(row["first_seen_at"]),
    }


def _evidence(row: Mapping[str, Any]) -> str:
    said = " ".join(filter(None, (row["evidence"], row["proposal"]))) or "There is no open break yet: the next sync looks into it."
    return f"{row['symbol']} in {row['account']}: {said}"


def cash_identity_holds(flows: Sequence[Mapping[str, Any]]) -> Verdict:
    """Net realised - remaining cost - open commission - cash received is exactly 0, for each account and instrument."""
    residues = [(row, cash_identity(CashFlow(**{each.name: row[each.name] for each in fields(CashFlow)}))) for row in flows]
    wrong = [(row, residue) for row, residue in residues if residue]
    rows = tuple(
        {"account": row["account"], "symbol": row["symbol"], "off_by": f"{plain(residue)} {row['currency']}"} for row, residue in wrong
    )
    first = "; ".join(f"{row['symbol']} in {row['account']} by {row['off_by']}" for row in rows[:3])
    return Verdict(
        passed=not rows,
        says=f"The book does not add up: {first}." if rows else f"The book adds up to the last digit ({len(flows)} positions).",
        expected="exactly 0 for each account and instrument",
        actual=f"{len(rows)} of {len(flows)} are not 0" if rows else "exactly 0 for each",
        looked_at=len(flows),
        offending=rows,
        evidence=tuple(_sums_in_words(row) for row, _ in wrong),
    )


def book_rebuilds_to_itself(verified: Verified) -> Verdict:
    """Nothing stored differs from what the entries make of it."""
    rows = tuple({name: getattr(each, name) for name in _SHOWN} for each in verified.differences)
    scope = f"{verified.positions} positions from {verified.entries} entries"
    return Verdict(
        passed=not verified.found,
        says=f"{verified.found} values are not what the entries make."
        if verified.found
        else f"The book is what its entries make ({scope}).",
        expected="values that differ from what the entries make: 0",
        actual=f"values that differ from what the entries make: {verified.found}",
        looked_at=verified.positions,
        offending=rows,
        evidence=tuple(map(sentence, verified.differences)),
    )


_SHOWN = ("account", "symbol", "table", "row", "column", "expected", "found")


def _sums_in_words(row: Mapping[str, Any]) -> str:
    sums = ", ".join(f"{each.name} {plain(row[each.name])}" for each in fields(CashFlow) if row[each.name])
    return f"{row['symbol']} in {row['account']}: {sums} ({row['currency']})"
