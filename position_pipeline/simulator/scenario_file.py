"""Reading a scenario from TOML, with errors that name the line and the field.

Here: the scenario language, and the check that a file speaks it. Not here: the values themselves (`scenario.py`).

    name = "demo"
    seed = 7
    [rates]                  # value of one unit in USD
    EUR = 1.08
    [[instruments]]          # symbol, con_id, price; the rest has defaults
    [[accounts]]             # id, currency, cash
    [[accounts.positions]]   # symbol, quantity, average_cost
    [[events]]               # at, account, symbol, side, quantity, price (a number or "market")
    [rounds]                 # starts, every; with [[rounds.events]], at counted from the round's start
"""

import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any

from position_pipeline.simulator.scenario import SEC_TYPES, Account, Event, Instrument, Opening, Rounds, Scenario

EVENT_TYPES = ("fill", "split", "price", "correction", "bust", "commission", "notice", "disconnect")
_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.]+)\s*\]\]?")


class ScenarioError(ValueError):
    """A scenario that cannot be played; the text names the line and the field."""


def default_scenario() -> Scenario:
    """The demo scenario that ships with the package."""
    shipped = resources.files("position_pipeline.simulator").joinpath("default.toml")
    return load_scenario(shipped.read_text(encoding="utf-8"))


def load_scenario(source: str | Path) -> Scenario:
    """A scenario from a path or from TOML text (text is what has a line break or an equals sign in it)."""
    if isinstance(source, str) and ("\n" in source or "=" in source):
        return _Reader(source).scenario()
    try:
        return _Reader(Path(source).read_text(encoding="utf-8")).scenario()
    except OSError as error:
        raise ScenarioError(f"cannot read the scenario {str(source)!r}: {error.strerror}") from error


class _Reader:
    """One reading of one text. `path` names a table as `accounts[0].positions[1]`."""

    def __init__(self, source: str) -> None:
        self.lines = source.splitlines()
        try:
            self.data: dict[str, Any] = tomllib.loads(source, parse_float=Decimal)
        except tomllib.TOMLDecodeError as error:
            raise ScenarioError(f"not TOML: {error}") from error
        self.symbols: dict[str, int] = {}

    def scenario(self) -> Scenario:
        data = self.data
        known = {"name", "seed", "time_zone", "price_every", "rates", "instruments", "accounts", "events", "rounds"}
        self._only(data, known, "")
        instruments = tuple(self._instrument(row, path) for row, path in self._tables(data, "instruments", ""))
        self._require(instruments, "instruments", "", "at least one [[instruments]] table")
        self._unique([one.con_id for one in instruments], "instruments", "con_id")
        accounts = tuple(self._account(row, path) for row, path in self._tables(data, "accounts", ""))
        self._require(accounts, "accounts", "", "at least one [[accounts]] table")
        self._unique([one.id for one in accounts], "accounts", "id")
        rates = {key: self._decimal(data["rates"], key, "rates") for key in data.get("rates", {})}
        names = {one.id for one in accounts}
        scenario = Scenario(
            instruments=instruments,
            accounts=accounts,
            events=self._events(data, "", names),
            rounds=self._rounds(names),
            name=str(data.get("name", "scenario")),
            seed=self._integer(data, "seed", "", 1),
            time_zone=str(data.get("time_zone", "US/Eastern")),
            price_every=self._decimal(data, "price_every", "", Decimal(5)),
            rates={"USD": Decimal(1), **rates},
        )
        self._rates_known(scenario)
        return scenario

    def _instrument(self, row: dict[str, Any], path: str) -> Instrument:
        self._only(row, set(Instrument.__dataclass_fields__), path)
        texts = ("currency", "exchange", "primary_exchange", "expiry", "right", "trading_class", "long_name")
        symbol = self._text(row, "symbol", path)
        values: dict[str, Any] = {key: self._text(row, key, path) for key in texts if key in row}
        for key in ("strike", "tick", "volatility", "multiplier"):
            if key in row:
                values[key] = self._decimal(row, key, path)
        sec_type = self._choice(row, "sec_type", path, SEC_TYPES, "STK")
        local_symbol = str(row.get("local_symbol", symbol))
        values.setdefault("trading_class", symbol)
        instrument = Instrument(
            con_id=self._integer(row, "con_id", path),
            symbol=symbol,
            sec_type=sec_type,
            local_symbol=local_symbol,
            under_con_id=self._integer(row, "under_con_id", path, 0),
            price=self._positive(row, "price", path),
            **values,
        )
        self._require(instrument.tick > 0, "tick", path, "a number above zero")
        self._require(sec_type not in ("OPT", "FOP") or instrument.right in ("C", "P"), "right", path, "'C' or 'P'")
        self.symbols.setdefault(symbol, instrument.con_id)
        self.symbols[local_symbol] = instrument.con_id
        return instrument

    def _account(self, row: dict[str, Any], path: str) -> Account:
        self._only(row, {"id", "currency", "cash", "positions"}, path)
        cash = row.get("cash", {})
        self._require(isinstance(cash, dict), "cash", path, "a table such as { USD = 1000 }")
        openings = tuple(self._opening(each, where) for each, where in self._tables(row, "positions", path))
        self._unique([one.con_id for one in openings], f"{path}.positions", "symbol")
        return Account(
            id=self._text(row, "id", path),
            currency=str(row.get("currency", "USD")),
            cash={key: self._decimal(cash, key, path) for key in cash},
            positions=openings,
        )

    def _opening(self, row: dict[str, Any], path: str) -> Opening:
        self._only(row, {"symbol", "quantity", "average_cost"}, path)
        quantity = self._decimal(row, "quantity", path)
        self._require(quantity != 0, "quantity", path, "a number that is not zero")
        return Opening(self._con_id(row, path), quantity, self._decimal(row, "average_cost", path))

    def _rounds(self, accounts: set[str]) -> Rounds:
        table = self.data.get("rounds", {})
        self._only(table, {"starts", "every", "events"}, "rounds")
        if not table.get("events"):
            return Rounds()
        every = self._positive(table, "every", "rounds")
        events = self._events(table, "rounds", accounts)
        self._require(events[-1].at < every, "every", "rounds", f"above the last event's at ({events[-1].at})")
        return Rounds(self._decimal(table, "starts", "rounds", Decimal(0)), every, events)

    def _events(self, table: dict[str, Any], path: str, accounts: set[str]) -> tuple[Event, ...]:
        rows = self._tables(table, "events", path)
        events = [self._event(row, where, accounts) for row, where in rows]
        names = {event.name for event in events if event.name}
        for event, (_, where) in zip(events, rows, strict=True):
            if event.type in ("correction", "bust", "commission"):
                self._require(event.of in names, "of", where, "the name of a fill in the same list")
        return tuple(sorted(events, key=lambda event: event.at))

    def _event(self, row: dict[str, Any], path: str, accounts: set[str]) -> Event:
        self._only(row, (set(Event.__dataclass_fields__) - {"con_id"}) | {"symbol"}, path)
        kind = self._choice(row, "type", path, EVENT_TYPES, "fill")
        values: dict[str, Any] = {"type": kind, "at": self._decimal(row, "at", path)}
        self._require(values["at"] >= 0, "at", path, "seconds from the start, zero or more")
        if kind in ("fill", "split", "price"):
            values["con_id"] = self._con_id(row, path)
        if kind == "fill":
            values["account"] = self._choice(row, "account", path, tuple(sorted(accounts)))
            values["side"] = self._choice(row, "side", path, ("BUY", "SELL"))
            values["quantity"] = self._positive(row, "quantity", path)
        elif "quantity" in row:
            values["quantity"] = self._decimal(row, "quantity", path)
        if kind == "price" or row.get("price", "market") != "market":
            values["price"] = self._positive(row, "price", path)
        if "commission" in row:
            values["commission"] = self._decimal(row, "commission", path)
        for key in ("client_id", "numerator", "denominator", "code"):
            if key in row or (kind == "split" and key == "numerator") or (kind == "notice" and key == "code"):
                values[key] = self._integer(row, key, path)
        for key in ("late_commission", "order_known"):
            values[key] = self._choice(row, key, path, (False, True), False)
        return Event(name=str(row.get("name", "")), of=str(row.get("of", "")), **values)

    def _con_id(self, row: dict[str, Any], path: str) -> int:
        symbol = self._text(row, "symbol", path)
        self._require(symbol in self.symbols, "symbol", path, f"one of {', '.join(sorted(self.symbols))}")
        return self.symbols[symbol]

    def _rates_known(self, scenario: Scenario) -> None:
        used = {one.currency for one in scenario.instruments} | {one.currency for one in scenario.accounts}
        used |= {currency for account in scenario.accounts for currency in account.cash}
        missing = sorted(used - set(scenario.rates))
        if missing:
            raise self._error("rates", missing[0], "missing: the scenario uses this currency")

    def _tables(self, table: dict[str, Any], key: str, parent: str) -> list[tuple[dict[str, Any], str]]:
        path = f"{parent}.{key}" if parent else key
        rows = table.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._error(parent, key, f"must be [[{key}]] tables")
        return [(row, f"{path}[{n}]") for n, row in enumerate(rows)]

    def _only(self, row: Mapping[str, Any], known: set[str], path: str) -> None:
        for key in row:
            if key not in known:
                raise self._error(path, key, f"unknown; known are {', '.join(sorted(known))}")

    def _text(self, row: dict[str, Any], key: str, path: str) -> str:
        self._require(isinstance(row.get(key), str) and row[key], key, path, "a text", row.get(key))
        return str(row[key])

    def _integer(self, row: dict[str, Any], key: str, path: str, default: int | None = None) -> int:
        value = row.get(key, default)
        self._require(isinstance(value, int) and not isinstance(value, bool), key, path, "a whole number", value)
        return int(value)  # type: ignore[arg-type]

    def _decimal(self, row: Mapping[str, Any], key: str, path: str, default: Decimal | None = None) -> Decimal:
        value = row.get(key, default)
        self._require(isinstance(value, int | str | Decimal), key, path, "a number", value)
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        self._require(number.is_finite() and not isinstance(value, bool), key, path, "a number", value)
        return number

    def _positive(self, row: dict[str, Any], key: str, path: str) -> Decimal:
        value = self._decimal(row, key, path)
        self._require(value > 0, key, path, "a number above zero", value)
        return value

    def _choice(self, row: dict[str, Any], key: str, path: str, known: tuple[Any, ...], default: Any = None) -> Any:
        value = row.get(key, default)
        self._require(value in known, key, path, f"one of {', '.join(map(str, known))}", value)
        return value

    def _unique(self, values: list[Any], path: str, key: str) -> None:
        for n, value in enumerate(values):
            self._require(value not in values[:n], key, f"{path}[{n}]", "given once", value)

    def _require(self, fine: object, key: str, path: str, wanted: str, value: object = None) -> None:
        if not fine:
            seen = "" if value is None else f" (not {value if isinstance(value, Decimal) else repr(value)})"
            raise self._error(path, key, f"must be {wanted}{seen}")

    def _error(self, path: str, key: str, problem: str) -> ScenarioError:
        name = f"{path}.{key}" if path else key
        return ScenarioError(f"line {self._line(path, key)}: {name}: {problem}")

    def _line(self, path: str, key: str) -> int:
        """The line of a field, or of its table where the field is missing; 1 where neither is found."""
        table_line = 0 if not path else self._table_line(path)
        for number in range(table_line, len(self.lines)):
            if _HEADER.match(self.lines[number]):
                break
            if re.match(rf"\s*{re.escape(key)}\s*=", self.lines[number]):
                return number + 1
        return max(table_line, 1)

    def _table_line(self, path: str) -> int:
        counts: dict[str, int] = {}
        for number, line in enumerate(self.lines, start=1):
            header = _HEADER.match(line)
            if not header:
                continue
            name, here = header[2], []
            for depth in range(1, name.count(".") + 2):
                part = ".".join(name.split(".")[:depth])
                if part == name and header[1] == "[[":
                    counts[part] = counts.get(part, -1) + 1
                    for child in [each for each in counts if each.startswith(part + ".")]:
                        del counts[child]
                own = part.rsplit(".", 1)[-1]
                here.append(f"{own}[{counts[part]}]" if part in counts else own)
            if ".".join(here) == path:
                return number
        return 0
