"""Booking fills on one core: our exact core beside nautilus_trader and beancount, on the same fills, in one run.

CPU time of booking alone (the program's own fill objects are ready) and of booking with making these objects from text. The rounds of
the programs are interleaved, so that a slow moment of the machine hits all of them. A ratio is the median of the rounds' ratios, and
compares like with like: nautilus_trader knows averages only, beancount knows no averages.

Python's search for garbage in cycles works as always for all programs, and looks again and again at all the results that a program
keeps. Ours is measured once more without it, which is how an import and `verify` book very many fills (position_pipeline/collection.py).

The figures must agree before a speed is worth printing: quantities exactly; with beancount gross P&L and cost of the open lots to the
last digit; with nautilus_trader average prices to nine digits, and net P&L but for half a cent per fill (a fill that flips the position
counts as two), because it rounds its P&L to the cent with each.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.peers import Fills, Measured, Outcome, measure
from position_pipeline.accounting.booking import Booked, fold
from position_pipeline.accounting.model import Fill, Method, Position, Side
from position_pipeline.collection import without_collection

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5
GOAL = 100_000
HERE = Path(__file__).parent
PEERS_VENV = Path(os.environ.get("PEERS_VENV", HERE.parent / ".venv-peers"))
CONSTRAINTS = HERE / "constraints-peers.txt"
HALF_A_CENT = Decimal("0.005")


class Program(NamedTuple):
    """A program beside ours: its name, which of ours it is compared with, the sets of fills that it can take in reasonable time."""

    title: str
    beside: str
    sets: tuple[str, ...]


PEERS = {
    "nautilus": Program("nautilus_trader, average (Cython)", "average", ("many", "some", "one")),
    "nautilus-rust": Program("nautilus_trader, average (Rust)", "average", ("many", "some", "one")),
    "beancount": Program("beancount, FIFO", "FIFO", ("some", "one")),
}


class Ours:
    """`fold` per instrument, with every lot, close and event it makes; `bulk` is how very much is booked."""

    version = ""

    def __init__(self, method: Method, *, bulk: bool = False) -> None:
        self.method, self.around = method, without_collection if bulk else nullcontext

    def prepare(self, fills: Fills) -> Fills:
        return fills

    def make(self, rows: Fills) -> dict[str, list[Fill]]:
        return {name: [_fill(name, row) for row in history] for name, history in rows.items()}

    def book(self, made: dict[str, list[Fill]]) -> dict[str, Booked]:
        with self.around():
            return {name: fold(Position("U1", name, "USD", method=self.method), fills) for name, fills in made.items()}

    def outcome(self, booked: dict[str, Booked]) -> Outcome:
        return {name: _figures(each.position) for name, each in booked.items()}


def _fill(name: str, row: list[str]) -> Fill:
    execution, side, quantity, price, commission, seconds = row
    return Fill(
        account="U1",
        instrument=name,
        execution_id=execution,
        side=Side(side),
        quantity=Decimal(quantity),
        price=Decimal(price),
        currency="USD",
        time=datetime.fromtimestamp(int(seconds), UTC),
        commission=Decimal(commission),
    )


def _figures(position: Position) -> dict[str, str]:
    """The figures that a peer has too; `net` is after all commissions paid, those of open lots included."""
    return {
        "quantity": str(position.quantity),
        "gross": str(position.realized_gross),
        "cost": str(position.cost),
        "net": str(position.realized_net - position.open_commission),
        "average": str(position.average_price),
    }


def fills_of(seed: int, *, instruments: int, each: int, buys: float = 0.5, first: int = 0) -> Fills:
    """Random fills; `first` makes the first one a purchase of that many."""
    rng = random.Random(seed)
    return {f"X{number:03}": list(_history(rng, f"{number:03}", each, buys, first)) for number in range(instruments)}


def _history(rng: random.Random, name: str, count: int, buys: float, first: int) -> Iterator[list[str]]:
    cents, seconds = rng.randint(2_000, 50_000), 1_700_000_000
    for number in range(count):
        cents = max(100, cents + rng.randint(-50, 50))
        seconds += rng.randint(1, 3_600)
        opening = bool(first) and not number
        side = "BUY" if opening or rng.random() < buys else "SELL"
        quantity = first if opening else rng.randint(1, 500)
        yield [f"{name}-{number}", side, str(quantity), _money(cents), _money(rng.randint(35, 500)), str(seconds)]


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def sets_of_fills() -> dict[str, Fills]:
    """Many positions, as many as beancount takes in a few seconds, and one that is built up and never flat."""
    many = fills_of(1, instruments=100, each=1_000)
    some = {name: many[name] for name in list(many)[:10]}
    one = fills_of(2, instruments=1, each=2_000, buys=0.6, first=5_000)
    assert _lowest(one["X000"]) > 0, "the one position is never flat"
    return {"many": many, "some": some, "one": one}


def _lowest(rows: list[list[str]]) -> int:
    held, lowest = 0, int(rows[0][2])
    for _, side, quantity, *_ in rows:
        held += int(quantity) if side == "BUY" else -int(quantity)
        lowest = min(lowest, held)
    return lowest


class Peer:
    """A peer at work in a process of its own."""

    def __init__(self, name: str, file: Path, stack: ExitStack) -> None:
        command = [str(PEERS_VENV / "bin" / "python"), "-I", str(HERE / "peers.py"), name, str(file)]
        self.process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        self.version: str = self._answer()

    def measure(self, which: str) -> Measured:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{which}\n")
        self.process.stdin.flush()
        return Measured(*self._answer())

    def _answer(self) -> list | str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError("stopped; its own words are above")
        return json.loads(line)


def environment() -> bool:
    """Make the environment of the peers unless it is there; False, after saying why, when that cannot be done."""
    done = PEERS_VENV / "installed"
    if done.exists() and done.stat().st_mtime >= CONSTRAINTS.stat().st_mtime:
        return True
    print(f"Installing the peers into {PEERS_VENV} (once; about 700 MB)", flush=True)
    pip = [str(PEERS_VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    packages = ["--only-binary", ":all:", "--constraint", str(CONSTRAINTS), "nautilus_trader", "beancount"]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(PEERS_VENV)], check=True, stdout=sys.stderr)
        subprocess.run([*pip, "install", *packages], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"No peers beside us: their environment could not be made ({error}).")
        return False
    done.touch()
    return True


def start(file: Path, stack: ExitStack) -> dict[str, Peer]:
    """The peers that can run here; of the others it says why not."""
    running: dict[str, Peer] = {}
    for name in PEERS if environment() else ():
        try:
            running[name] = Peer(name, file, stack)
        except (OSError, EOFError) as error:
            print(f"{PEERS[name].title} cannot run here: {error}")
    return running


OURS = {
    "FIFO": Ours(Method.FIFO),
    "average": Ours(Method.AVERAGE),
    "FIFO, without collection": Ours(Method.FIFO, bulk=True),
    "average, without collection": Ours(Method.AVERAGE, bulk=True),
}

Rounds = dict[str, list[Measured]]
"""The measurements of each program, by its name."""


def rounds_of(which: str, fills: Fills, peers: dict[str, Peer]) -> Rounds:
    """All programs on one set of fills, one after the other, several times over."""
    found: Rounds = {}
    for _ in range(ROUNDS):
        for name, ours in OURS.items():
            found.setdefault(name, []).append(measure(ours, fills))
        for name, peer in peers.items():
            if which in PEERS[name].sets:
                found.setdefault(name, []).append(peer.measure(which))
    return found


def check(rounds: Rounds, fills: Fills) -> list[str]:
    """Refuse figures that disagree; in words, how well those of each peer agree with ours."""
    said = []
    for name in (name for name in rounds if name in PEERS):
        theirs, ours = rounds[name][0].outcome, rounds[PEERS[name].beside][0].outcome
        assert theirs.keys() == ours.keys(), f"{name} booked other instruments"
        worst = max(_difference(name, theirs[each], ours[each], len(fills[each])) for each in ours)
        words = f"rounds to the cent with each fill, P&L of a position off by up to {worst} USD" if worst else "every figure equal to ours"
        said.append(f"{PEERS[name].title}: {words}")
    return said


def _difference(name: str, theirs: dict[str, str], ours: dict[str, str], fills: int) -> Decimal:
    """How far the P&L of one position is off; AssertionError when a figure is off by more than its rounding explains."""
    for figure in ("quantity", "cost", "gross"):
        same = figure not in theirs or Decimal(theirs[figure]) == Decimal(ours[figure])
        assert same, f"{name}: {figure} is {theirs.get(figure)}, ours {ours[figure]}"
    if "average" in theirs:
        off = abs(Decimal(theirs["average"]) / Decimal(ours["average"]) - 1)
        assert off < Decimal("1e-9"), f"{name}: average {theirs['average']}, ours {ours['average']}"
    if "net" not in theirs:
        return Decimal(0)
    off = abs(Decimal(theirs["net"]) - Decimal(ours["net"]))
    assert off <= 2 * fills * HALF_A_CENT, f"{name}: net {theirs['net']}, ours {ours['net']}"
    return off.quantize(Decimal("0.01"))


def report(rounds: Rounds, fills: Fills) -> None:
    """The table of one set of fills."""
    count = sum(len(rows) for rows in fills.values())
    print(f"\n{f'{count:,} fills on {len(fills):,} position' + 's' * (len(fills) > 1):<46}{'booking':>16}{'with making fills':>22}")
    for name, measured in rounds.items():
        title = PEERS[name].title if name in PEERS else f"position_pipeline, {name}"
        book = count / statistics.median(each.book for each in measured)
        both = count / statistics.median(each.make + each.book for each in measured)
        told = _compared(measured, rounds[PEERS[name].beside]) if name in PEERS else _goal(book, len(fills))
        print(f"  {title:<44}{book:>10,.0f} /s {both:>15,.0f} /s    {told}".rstrip())


def _goal(speed: float, positions: int) -> str:
    return f"goal: {GOAL:,} /s, {'reached' if speed >= GOAL else 'MISSED'}" if positions > 1 else ""


def _compared(theirs: list[Measured], ours: list[Measured]) -> str:
    book = statistics.median(them.book / us.book for them, us in zip(theirs, ours, strict=True))
    both = statistics.median((them.make + them.book) / (us.make + us.book) for them, us in zip(theirs, ours, strict=True))
    return f"booking: {_faster(book)}; with making fills: {_faster(both)}"


def _faster(ratio: float) -> str:
    return f"we are {ratio:.2f} x faster" if ratio >= 1 else f"we are {1 / ratio:.2f} x SLOWER"


def main() -> None:
    """Measure, check and print, one set of fills after the other."""
    sets = sets_of_fills()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "fills.json"
        file.write_text(json.dumps(sets), encoding="utf-8")
        peers = start(file, stack)
        versions = "".join(sorted({f", {PEERS[name].title.partition(',')[0]} {peer.version}" for name, peer in peers.items()}))
        print(f"Booking fills: CPU time, medians of {ROUNDS} interleaved rounds, one core, Python {sys.version.split()[0]}{versions}")
        for which, fills in sets.items():
            rounds = rounds_of(which, fills, peers)
            agreement = check(rounds, fills)
            report(rounds, fills)
            for words in agreement:
                print(f"    {words}")


if __name__ == "__main__":
    main()
