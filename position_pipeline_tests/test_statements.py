"""Taking in files: a real year of a real account against the broker's own figures, and files that are no statements.

The real statement is not part of the project; where it is absent those tests are skipped. How its figures come about is told in the
README beside it.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import psycopg2
import pytest

from position_pipeline import statements
from position_pipeline.accounting.model import Adjustment, AdjustmentKind, Snapshot, SnapshotStatus
from position_pipeline.brokers import Statement
from position_pipeline.store import Store
from position_pipeline_tests.brokers.flex_file import CALL, book_entry, flex_file, trade
from position_pipeline_tests.command_line import CommandLine, gateway
from position_pipeline_tests.conftest import _database

REAL = Path(__file__).parents[2] / "shared" / "statements" / "ibkr_flex_2025.xml"
TOLERANCE = Decimal("0.000001")
"""The broker prints six decimals."""

# The shares of MSTR that were bought before the period, as the README beside the statement gives them: what two closings of one share
# had cost, and what the other 282 had, so that all three closings agree with the broker.
LOTS = """account,instrument,quantity,price,cost,opened_at
U9999999,ibkr:272110,1,389.600072,,2024-12-01
U9999999,ibkr:272110,1,389.600072,,2024-12-02
U9999999,ibkr:272110,282,,113055.22928265,2024-12-03
"""

TABLES = ("accounts", "instruments", "executions", "adjustments", "positions", "lots", "closes", "position_events", "cash_rows", "rejects")


def rows(database, sql, *values):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        found = cursor.fetchall()
    connection.close()
    return found


def counts(database):
    """How many rows each table of the book has. (`statement_imports` is the log of imports, and grows with each.)"""
    return {table: rows(database, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


@pytest.fixture
def command(monkeypatch, tmp_path, database):
    return CommandLine(monkeypatch, tmp_path / "home", database)


# -- a real year


@pytest.fixture(scope="module")
def real(server, tmp_path_factory):
    """The real statement, imported."""
    if not REAL.exists():
        pytest.skip(f"the real statement is not there: {REAL}")
    with pytest.MonkeyPatch.context() as patch, contextmanager(_database)(server, "template_book") as database:
        command = CommandLine(patch, tmp_path_factory.mktemp("home"), database)
        command.database = database
        command.first = command("import", "--json", REAL)
        assert (command.first.code, command.first.err) == (0, "")
        yield command


@pytest.fixture(scope="module")
def with_lots(real, tmp_path_factory):
    """The same, with what was bought before the period."""
    if not hasattr(real, "lots"):
        file = tmp_path_factory.mktemp("lots") / "lots.csv"
        file.write_text(LOTS, encoding="utf-8")
        real.before = differences(real.database)
        real.lots = real("import", "--json", file)
        real.lots_file = file
        assert (real.lots.code, real.lots.err) == (0, "")
    return real


def closings():
    """The broker's own realised P&L of every fill, expiry and assignment that closes, by its transaction id."""
    trades = (trade.attrib for trade in ET.parse(REAL).getroot().iter("Trade"))
    return {int(trade["transactionID"]): Decimal(trade["fifoPnlRealized"]) for trade in trades if "C" in trade["openCloseIndicator"]}


def booked(database):
    """What the book says of the same: the sum of the believed closes, None where a basis is unknown."""
    found = rows(
        database,
        """
        SELECT coalesce(e.sequence, a.sequence), bool_or(c.gross_pnl IS NULL), sum(c.net_pnl)
        FROM closes c
        LEFT JOIN executions e ON e.account = c.account AND e.execution_id = c.execution_id
        LEFT JOIN adjustments a ON a.id = c.execution_id
        WHERE c.superseded_at IS NULL
        GROUP BY 1
        """,
    )
    return {transaction: None if unknown else profit for transaction, unknown, profit in found}


def differences(database):
    ours = booked(database)
    return {id_: None if ours[id_] is None else ours[id_] - theirs for id_, theirs in closings().items()}


def test_181_of_185_closings_carry_the_brokers_own_profit(with_lots):
    before = with_lots.before
    assert len(before) == 185
    assert sum(difference is not None and abs(difference) <= TOLERANCE for difference in before.values()) == 181


def test_three_closings_use_shares_bought_before_the_period_and_say_that_their_basis_is_unknown(with_lots):
    unknown = [number for number, difference in with_lots.before.items() if difference is None]
    times = rows(
        with_lots.database, "SELECT time AT TIME ZONE 'America/New_York' FROM executions WHERE sequence = ANY(%s) ORDER BY 1", unknown
    )
    assert [str(time) for (time,) in times] == ["2025-03-06 10:36:19", "2025-03-13 10:10:07", "2025-10-17 16:20:00"]


def test_the_last_one_differs_by_a_commission_that_was_rated_anew_afterwards(with_lots):
    """Sold for 768 less 0.8926904, closed by the broker at 767.11731: the corrected commission is in no row of the statement."""
    (difference,) = [each for each in with_lots.before.values() if each is not None and abs(each) > TOLERANCE]
    assert difference == Decimal(768) - Decimal("0.8926904") - Decimal("767.11731")


def test_with_the_lots_that_were_bought_before_all_but_that_one_agree(with_lots):
    after = differences(with_lots.database)
    assert None not in after.values()
    assert sum(abs(difference) <= TOLERANCE for difference in after.values()) == 184


def test_the_brokers_figure_is_kept_beside_ours(real):
    theirs = closings()
    kept = dict(rows(real.database, "SELECT sequence, broker_pnl FROM executions WHERE sequence = ANY(%s)", list(theirs)))
    assert len(kept) == 177  # the other eight are seven expiries and an assignment, which are no executions
    assert all(theirs[number] == figure for number, figure in kept.items())


def test_every_open_lot_and_both_totals_agree_exactly(real):
    held = [row.attrib for row in ET.parse(REAL).getroot().iter("OpenPosition")]
    theirs = {
        int(row["originatingTransactionID"]): (Decimal(row["position"]), Decimal(row["costBasisMoney"]))
        for row in held
        if row["levelOfDetail"] == "LOT"
    }
    found = rows(
        real.database,
        """
        SELECT e.sequence, l.quantity, l.cost + l.commission
        FROM lots l JOIN executions e ON e.account = l.account AND e.execution_id = l.opening_id
        """,
    )
    assert len(theirs) == 72
    assert {number: (quantity, basis) for number, quantity, basis in found} == theirs
    totals = {f"ibkr:{row['conid']}": Decimal(row["position"]) for row in held if row["levelOfDetail"] == "SUMMARY"}
    assert len(totals) == 2
    assert {row["instrument"]: Decimal(row["quantity"]) for row in real("positions", "--json").json} == totals


def test_what_an_import_did_is_told_row_by_row(real):
    (row,) = real.first.json
    assert (row["file"], row["account"], row["new_account"]) == ("ibkr_flex_2025.xml", "U9999999", True)
    assert (row["from"], row["to"]) == ("2025-01-01T05:00:00+00:00", "2026-01-01T05:00:00+00:00")  # midnight in New York
    # 671 fills in the file: 663 executions, 7 expiries, 1 assignment; and one opening balance for what was held before.
    assert (row["fills"], row["adjustments"], row["refused"], row["refused_rows"]) == (663, 9, 0, [])
    assert (row["fills_known"], row["adjustments_known"], row["cash_rows_known"], row["fills_completed"]) == (0, 0, 0, 0)
    assert datetime.fromisoformat(row["from"]).utcoffset().total_seconds() == 0


def test_importing_again_adds_nothing(with_lots):
    before = counts(with_lots.database)
    for file in (REAL, with_lots.lots_file, REAL):
        (row,) = with_lots("import", "--json", file).json
        assert [row[name] for name in ("fills", "adjustments", "cash_rows", "fills_completed", "positions_changed")] == [0] * 5
        assert row["new_account"] is False
    assert counts(with_lots.database) == before


def test_lots_that_are_known_are_known_in_another_file_too(with_lots, tmp_path):
    before = counts(with_lots.database)
    heading, *lines = LOTS.splitlines()
    (tmp_path / "sorted.csv").write_text("\n".join([heading, *reversed(lines)]), encoding="utf-8")
    assert with_lots("import", tmp_path / "sorted.csv").code == 0
    assert counts(with_lots.database) == before


def test_a_person_reads_in_a_few_lines_what_an_import_did(real):
    done = real("import", REAL)
    first, second, *notes = done.out.splitlines()
    assert first == "ibkr_flex_2025.xml: account U9999999, 2025-01-01 to 2025-12-31"
    assert second.startswith("  New: 0 fills, 0 book entries, 0 cash rows. ")
    assert second.endswith(" were there already. 0 positions changed.")
    assert len(notes) <= statements.MOST_LINES + 1


# -- a statement and the API


def trade_row(exec_id, minute, trade, pnl="0", **more):
    """A row of a statement for a trade such as `BUY 10 KO 8894 60 1.00` (side, quantity, symbol, conid, price, commission)."""
    side, quantity, symbol, conid, price, commission = trade.split()
    values = {
        "accountId": "U1", "assetCategory": "STK", "symbol": symbol, "conid": conid, "currency": "USD", "multiplier": "1",
        "tradeDate": "2026-11-20", "dateTime": f"2026-11-20;09:{minute}:00", "transactionType": "ExchTrade", "buySell": side,
        "quantity": f"-{quantity}" if side == "SELL" else quantity, "tradePrice": price, "ibCommission": f"-{commission}",
        "ibCommissionCurrency": "USD", "ibOrderID": "1", "ibExecID": exec_id, "transactionID": f"90{minute}", "fifoPnlRealized": pnl,
        "levelOfDetail": "EXECUTION", "openCloseIndicator": "O" if pnl == "0" else "C", "notes": "", "cost": "0", "closePrice": "0",
    } | more  # fmt: skip
    return "<Trade " + " ".join(f'{name}="{value}"' for name, value in values.items()) + "/>"


def statement(*trades, account="U1"):
    return (
        '<FlexQueryResponse queryName="all" type="AF"><FlexStatements count="1">'
        f'<FlexStatement accountId="{account}" fromDate="2026-11-01" toDate="2026-11-30" period="" whenGenerated="2026-12-01;10:00:00">\n'
        f'<AccountInformation accountId="{account}" currency="USD"/>\n<Trades>\n{chr(10).join(trades)}\n</Trades>\n'
        "</FlexStatement></FlexStatements></FlexQueryResponse>"
    )


def test_a_statement_that_overlaps_what_the_api_delivered_adds_nothing_twice_and_completes_it(command, tmp_path, database):
    with gateway() as broker:
        command.with_broker(broker)
        bought = broker.execute("U1", "KO", "BUY", 10, "60", commission=None)  # its commission has not come yet
        sold = broker.execute("U1", "KO", "SELL", 4, "61", commission="1")
        command("sync")
    (before,) = command("closes", "--json").json
    assert (before["opening_commission"], before["net_pnl"]) == (None, None)
    file = tmp_path / "november.xml"
    file.write_text(
        statement(
            trade_row(bought, 56, "BUY 10 KO 8894 60 1.00"),
            trade_row(sold, 57, "SELL 4 KO 8894 61 1.00", "2.60"),
            trade_row("0001.0002.01", 58, "BUY 1 MSFT 272093 400 1.00"),
        ),
        encoding="utf-8",
    )
    (row,) = command("import", "--json", file).json
    assert (row["fills"], row["fills_known"], row["fills_completed"]) == (1, 2, 2)
    assert rows(database, "SELECT count(*) FROM executions") == [(3,)]
    (after,) = command("closes", "--json").json
    # 4 x (61 - 60) = 4, less 4/10 of 1.00 and 1.00: as the broker says.
    assert (after["gross_pnl"], after["opening_commission"], after["closing_commission"], after["net_pnl"]) == ("4", "0.4", "1", "2.6")
    found = {fill["execution_id"]: fill["broker_pnl"] for fill in command("executions", "--json").json if fill["side"] == "SELL"}
    assert list(found.values()) == ["2.6"]
    (again,) = command("import", "--json", file).json
    assert (again["fills"], again["fills_completed"], again["positions_changed"]) == (0, 0, 0)


def test_the_api_after_the_statement_adds_nothing_either(command, tmp_path, database):
    file = tmp_path / "november.xml"
    with gateway() as broker:
        command.with_broker(broker)
        bought = broker.execute("U1", "KO", "BUY", 10, "60", commission="1")
        file.write_text(statement(trade_row(bought, 56, "BUY 10 KO 8894 60 1.00")), encoding="utf-8")
        command("import", file)
        (synced,) = command("sync", "--json", "--account", "U1").json
        command("sync", "--account", "U1")
    assert synced["fills"] == 0
    assert rows(database, "SELECT count(*) FROM executions") == [(1,)]
    (held,) = [row for row in command("positions", "--json").json if row["symbol"] == "KO"]
    assert (held["quantity"], held["broker_quantity"], held["cost"]) == ("10", "10", "600")


# -- files that are refused

GOOD = statement(trade_row("0001.0001.01", 30, "BUY 10 KO 8894 60 1.00"))
SECOND = GOOD.replace("U1", "U2").replace("0001.0001.01", "0002.0001.01")
LOT = "account,instrument,quantity,price,opened_at,symbol,currency\nU1,ibkr:8894,5,55,2026-10-01,KO,USD\n"

REFUSED = {
    "empty": ("", "is empty"),
    "blank": (" \n\n", "is empty"),
    "text": ("This is no statement.\n", "is not XML"),
    "page": ("<!DOCTYPE html><html><body>Please log in</body></html>", "document type"),
    "other": ("<portfolio><position/></portfolio>", "portfolio"),
    "cut": (GOOD[: GOOD.index("</Trades>")], "is cut off inside <Trades>"),
    "error": (
        "<FlexStatementResponse><Status>Fail</Status><ErrorCode>1019</ErrorCode><ErrorMessage>Not yet.</ErrorMessage></FlexStatementResponse>",
        "1019",
    ),
    "nobody": ('<FlexQueryResponse><FlexStatements count="0"></FlexStatements></FlexQueryResponse>', "nobody.txt"),
    "semicolons": (LOT.replace(",", ";"), "the columns are not separated by commas"),
    "columns": ("date,what,how much\n2026-01-01,KO,5\n", "column 'date' is not known"),
    "line": (LOT + "U1,ibkr:8894,five,55,2026-10-01,KO,USD\n", "line 3: quantity 'five' is not a number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_statement_is_refused_and_leaves_no_row(shared, tmp_path, name):
    text, said = REFUSED[name]
    file = tmp_path / f"{name}.txt"
    file.write_text(text, encoding="utf-8")
    done = shared("import", file)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"Refused: {name}.txt")
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert "Traceback" not in done.err
    assert set(counts(shared.database).values()) == {0}


@pytest.fixture(scope="module")
def shared(server, tmp_path_factory):
    """An empty book, for what leaves it empty."""
    with pytest.MonkeyPatch.context() as patch, contextmanager(_database)(server, "template_book") as database:
        command = CommandLine(patch, tmp_path_factory.mktemp("home"), database)
        command.database = database
        yield command


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\x00", b"a,b\n\xe4\n", bytes(range(256)), b"\x00" * 100], ids=["bom", "latin", "all", "zeros"]
)
def test_bytes_that_are_no_text_are_refused(shared, tmp_path, content):
    (tmp_path / "bytes").write_bytes(content)
    done = shared("import", tmp_path / "bytes")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Refused: bytes")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(("path", "said"), [("/nowhere/x.xml", "No such file or directory"), ("/", "Is a directory")])
def test_what_cannot_be_read_is_named(shared, path, said):
    done = shared("import", path)
    assert (done.code, done.out, done.err) == (1, "", f"Refused: {path}: cannot be read: {said}\n")


def test_json_of_refused_files_is_what_was_imported(shared):
    done = shared("import", "/nowhere/x.xml", "--json")
    assert (done.code, done.json) == (1, [])
    assert "/nowhere/x.xml" in done.err


def test_a_bad_file_among_good_ones_keeps_nobody_out_and_is_told(command, tmp_path, database):
    for name, text in (("one.xml", GOOD), ("two.xml", SECOND[:-40]), ("three.csv", LOT)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = command("import", *(tmp_path / name for name in ("one.xml", "two.xml", "three.csv")))
    assert done.code == 1
    assert "one.xml: account U1 (an account seen for the first time), 2026-11-01 to 2026-11-30" in done.out
    assert "three.csv: account U1, opening lots" in done.out
    assert "two.xml" not in done.out
    assert done.err.startswith("Refused: two.xml, line ")
    assert rows(database, "SELECT account FROM accounts") == [("U1",)]
    assert rows(database, "SELECT quantity FROM positions") == [(Decimal(15),)]  # 10 bought, 5 held before


def test_a_new_account_is_said_once(command, tmp_path):
    (tmp_path / "one.xml").write_text(GOOD, encoding="utf-8")
    assert "seen for the first time" in command("import", tmp_path / "one.xml").out
    assert "seen for the first time" not in command("import", tmp_path / "one.xml").out


def test_several_accounts_of_one_file_are_told_apart(command, tmp_path):
    both = GOOD.replace("</FlexStatements></FlexQueryResponse>", "") + SECOND[SECOND.index("<FlexStatement ") :]
    (tmp_path / "both.xml").write_text(both, encoding="utf-8")
    found = command("import", "--json", tmp_path / "both.xml").json
    assert [(row["account"], row["new_account"], row["fills"]) for row in found] == [("U1", True, 1), ("U2", True, 1)]


def test_what_a_lot_does_not_say_comes_from_the_book(command, tmp_path):
    """An id is enough: the currency of a European share is not the dollar because nobody gave one, and no label is lost."""
    euro = trade_row("0001.0001.01", 30, "BUY 10 SAP 14204 200 1.00", currency="EUR")
    (tmp_path / "one.xml").write_text(statement(euro), encoding="utf-8")
    (tmp_path / "lots.csv").write_text("account,instrument,quantity,price,opened_at\nU1,ibkr:14204,5,170,2026-10-01\n", encoding="utf-8")
    assert command("import", tmp_path / "one.xml", tmp_path / "lots.csv").code == 0
    (held,) = command("positions", "--json").json
    assert (held["symbol"], held["currency"], held["quantity"], held["cost"]) == ("SAP", "EUR", "15", "2850")  # 10 x 200 + 5 x 170


# -- all or nothing


class Interrupted(Store):
    """A store that fails when the second account is booked, with the first one's rows written."""

    def save_import(self, values):
        super().save_import(values)
        if values["account"] == "U2":
            raise KeyboardInterrupt


def test_an_import_that_is_interrupted_leaves_no_row(tmp_path, database):
    both = GOOD.replace("</FlexStatements></FlexQueryResponse>", "") + SECOND[SECOND.index("<FlexStatement ") :]
    (tmp_path / "both.xml").write_text(both, encoding="utf-8")
    with Interrupted(database) as store, pytest.raises(KeyboardInterrupt):
        statements.import_file(store, tmp_path / "both.xml", "fifo", lambda *_: None)
    assert set(counts(database).values()) == {0}
    assert rows(database, "SELECT count(*) FROM statement_imports") == [(0,)]
    with Store(database) as store:
        assert len(statements.import_file(store, tmp_path / "both.xml", "fifo", lambda *_: None)) == 2
    assert rows(database, "SELECT count(*) FROM executions") == [(2,)]


def test_a_database_that_refuses_in_the_middle_leaves_no_row(command, tmp_path, database):
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE statement_imports ADD CONSTRAINT no_second CHECK (account <> 'U2')")
    connection.close()
    both = GOOD.replace("</FlexStatements></FlexQueryResponse>", "") + SECOND[SECOND.index("<FlexStatement ") :]
    (tmp_path / "both.xml").write_text(both, encoding="utf-8")
    done = command("import", tmp_path / "both.xml")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("PostgreSQL refused: ")
    assert len(done.err.splitlines()) == 1
    assert set(counts(database).values()) == {0}


# -- what is told of a long file


# -- facts behind what was inferred


def _written_calls(command, tmp_path, database) -> None:
    """Two calls were written, and are inferred to have expired at 20:15 UTC; the broker's answer of 21:00 has none of them."""
    file = tmp_path / "june.xml"
    file.write_bytes(flex_file(trade(1, "-2", "3", **CALL), end="20250610"))
    assert command("import", file).code == 0
    over = datetime(2025, 6, 20, 20, 15, tzinfo=UTC)
    expiry = Adjustment(
        "inferred", "U1", "ibkr:900", AdjustmentKind.EXPIRY, over, Decimal(2), "USD", Decimal(100), Decimal(0), held=Decimal(0),
        source="ibkr snapshot",
    )  # fmt: skip
    with Store(database) as store:
        store.record("U1", (), [expiry])
    _answered(database, datetime(2025, 6, 20, 21, 0, tzinfo=UTC))


def _answered(database, at: datetime) -> None:
    answer = Snapshot("U1", "ibkr", at, SnapshotStatus.COMPLETE)
    with Store(database) as store:
        store.save_snapshot(answer, (), "ibkr")
        store.reconcile(answer, ())


def test_a_fact_that_stands_behind_what_was_inferred_waits_and_the_next_answer_books_it(command, tmp_path, database):
    """The statement books the end at 20:20, when by the book nothing is held any more: it is not refused, and needs no second import."""
    _written_calls(command, tmp_path, database)
    file = tmp_path / "july.xml"
    file.write_bytes(flex_file(book_entry(2, "2", "0", "Ep", **CALL), start="20250611"))
    done = command("import", file)
    waits = [line for line in done.out.splitlines() if line.startswith("  Waits: ")]
    assert len(waits) == 1
    assert waits[0] == (
        "  Waits: AAPL 250620C00200000 flex-2: the expiry of 2 meets a position of 0: there is nothing that it could take. It is kept. "
        "inferred was inferred in its place, and gives way if the broker's next complete answer agrees: position-pipeline sync"
    )
    assert "Refused" not in done.out
    status = command("status", "--json").json
    assert (status["waiting"], status["rejects"]) == (1, 0)
    assert "1 fact of before the last answer: kept, and not booked yet" in " ".join(command("status").out.split())
    _answered(database, datetime(2025, 6, 20, 21, 5, tzinfo=UTC))
    assert command("status", "--json").json["waiting"] == 0
    assert rows(database, "SELECT execution_adjustment FROM closes WHERE superseded_at IS NULL") == [("flex-2",)]
    assert rows(database, "SELECT id FROM adjustments WHERE reversed_at IS NOT NULL") == [("inferred",)]


def test_a_line_of_a_file_of_events_that_stands_behind_what_was_inferred_waits_too(command, tmp_path, database):
    _written_calls(command, tmp_path, database)
    lines = "type,account,instrument,execution_id,time\nexpire,U1,ibkr:900,end,2025-06-20T20:20:00Z\nexpire,U1,ibkr:900,again,2025-06-20T20:25:00Z\n"
    file = tmp_path / "events.csv"
    file.write_text(lines, encoding="utf-8")
    done = command("import", file)
    assert [line[:57] for line in done.out.splitlines() if "Waits" in line] == ["  Waits: AAPL 250620C00200000 end: the expiry of 2 meets "]
    assert "Refused: line 3: no ibkr:900 is held" in done.out
    _answered(database, datetime(2025, 6, 20, 21, 5, tzinfo=UTC))
    assert rows(database, "SELECT execution_adjustment FROM closes WHERE superseded_at IS NULL") == [("end",)]
    assert rows(database, "SELECT id FROM adjustments WHERE reversed_at IS NOT NULL") == [("inferred",)]


def test_a_fact_that_fits_nothing_is_refused_where_nothing_was_inferred(command, tmp_path):
    file = tmp_path / "july.xml"
    file.write_bytes(flex_file(book_entry(2, "2", "0", "Ep", **CALL)))
    done = command("import", "--json", file)
    assert [(row["waiting"], row["refused"]) for row in done.json] == [(0, 1)]
    assert command("status", "--json").json["rejects"] == 1


def test_a_person_reads_the_most_frequent_notes_and_a_program_reads_all():
    notes = tuple((f"unknown attribute Trade.x{number}", number) for number in range(1, 31))
    bare = {"base_currency": "", "broker": "ibkr", "fills": (), "adjustments": (), "instruments": (), "cash": ()}
    times = {"from_at": datetime.fromisoformat("2026-01-01T05:00+00:00"), "to_at": datetime.fromisoformat("2026-01-02T05:00+00:00")}
    one = statements.Imported("x.xml", Statement("U1", **bare, **times, notes=notes), False, 0, 1, 0, 0, 1, (("KO", "line 3: no price"),))
    lines = statements.lines(one)
    assert lines[:4] == [
        "x.xml: account U1, 2026-01-01",
        "  New: 0 fills, 0 book entries, 0 cash rows. 0 were there already. 1 position changed.",
        "  1 known fill completed (commission, order in time, the broker's own P&L).",
        "  Refused: KO line 3: no price",
    ]
    assert lines[4] == "  Note: unknown attribute Trade.x30 (30)"
    assert len(lines) == 4 + statements.MOST_LINES + 1
    assert lines[-1] == f"  and {30 - statements.MOST_LINES} more notes; --json lists all"
    assert statements.as_row(one)["notes"] == dict(notes)
