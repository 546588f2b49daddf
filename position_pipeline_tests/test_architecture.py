"""What the house looks like: rules that the import contracts (lint-imports) cannot express."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "position_pipeline"
FILES = sorted(PACKAGE.rglob("*.py"))
OURS = [path for path in FILES if "versions" not in path.parts]

TRADING = re.compile(r"placeOrder|cancelOrder|reqGlobalCancel|exerciseOptions|submit_order|replace_order|close_position\b")
"""How the brokers' libraries change something."""

FLOATS = {
    # Orders entries that have no number of the broker after those that have one: infinity is no quantity, price or amount.
    ("accounting/booking.py", 'float("inf")'),
}
"""Uses of float where numbers are exact, each with its reason."""

HEAVY = ("dagster", "ib_insync", "ib_async", "sqlalchemy", "alembic", "pandas", "numpy", "psycopg2", "rich.table")


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{inside(path)} has a relative import"
            found.add((node.module or "").partition(".")[0])
    return found


def test_no_module_is_a_drawer_for_everything():
    drawers = {"utils", "util", "helpers", "common", "base", "misc", "constants"}
    assert [inside(path) for path in FILES if path.stem in drawers or drawers & set(path.relative_to(PACKAGE).parts)] == []


@pytest.mark.parametrize("path", OURS, ids=inside)
def test_every_module_says_what_it_is(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text
    assert len(text.split()) > 4


def test_the_accounting_imports_the_standard_library_and_itself():
    allowed = sys.stdlib_module_names | {"position_pipeline"}
    foreign = {(inside(path), name) for path in (PACKAGE / "accounting").rglob("*.py") for name in imported(path) - allowed}
    assert foreign == set()


def test_the_accounting_has_no_clock_no_chance_and_no_environment():
    needless = {"time", "random", "os", "socket", "asyncio", "logging", "threading", "subprocess", "pathlib"}
    found = {(inside(path), name) for path in (PACKAGE / "accounting").rglob("*.py") for name in imported(path) & needless}
    assert found == set()
    clocks = re.compile(r"\.now\(|\.utcnow\(|\.today\(")
    assert [inside(path) for path in (PACKAGE / "accounting").rglob("*.py") if clocks.search(path.read_text(encoding="utf-8"))] == []


def test_the_simulator_imports_the_standard_library_and_itself():
    allowed = sys.stdlib_module_names | {"position_pipeline"}
    foreign = {(inside(path), name) for path in (PACKAGE / "simulator").rglob("*.py") for name in imported(path) - allowed}
    assert foreign == set()


def test_nothing_can_trade():
    """The product reads. Only the simulator may know the words, because it answers whoever says them."""
    found = [inside(path) for path in FILES if "simulator" not in path.parts and TRADING.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_no_amount_goes_through_a_float():
    rooms = ("accounting", "store", "brokers", "sync.py", "sync_pass.py", "sync_results.py")
    exact = [path for path in FILES if inside(path).split("/")[0] in rooms]
    assert len(exact) > 20
    found = {(inside(path), call) for path in exact for call in re.findall(r"\bfloat\([^)]*\)", path.read_text(encoding="utf-8"))}
    assert found == FLOATS


def test_only_the_settings_read_the_environment():
    reading = {inside(path) for path in FILES if re.search(r"os\.environ|os\.getenv|getenv\(", path.read_text(encoding="utf-8"))}
    assert reading - {"supervision_programs.py"} == {"settings.py"}  # which hands the environment on to the processes that it starts


def test_only_one_module_names_the_library_of_the_broker():
    naming = {inside(path) for path in FILES if {"ib_insync", "ib_async"} & imported(path)}
    assert naming == {"brokers/ibkr.py"}


@pytest.mark.parametrize("module", ["position_pipeline.cli", "position_pipeline.sync", "position_pipeline.settings"])
def test_importing_it_pulls_in_nothing_heavy_that_it_may_not_need(module):
    allowed = {"psycopg2"} if module == "position_pipeline.sync" else set()
    script = f"import sys, {module}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert set(ast.literal_eval(done.stdout)) <= allowed


def test_help_and_a_wrong_command_answer_without_anything_heavy():
    for words, code in ((["--help"], 0), (["sync", "--help"], 0), (["nonsense"], 2)):
        script = (
            "import sys\nfrom position_pipeline import cli\n"
            f"sys.argv = ['position-pipeline', *{words!r}]\n"
            "try:\n    cli.main()\nexcept SystemExit as end:\n    code = end.code\n"
            f"heavy = [name for name in {HEAVY[:-1]!r} if name in sys.modules]\n"
            f"sys.exit(0 if code == {code} and not heavy else repr((code, heavy)))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
