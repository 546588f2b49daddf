"""`position-pipeline up` as a newcomer meets it: real processes, the real Dagster, numbers that came over the wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE = 120
RUNS = '{ runsOrError(filter: {pipelineName: "position_sync"}) { ... on Runs { results { status } } } }'


class Up:
    """A running `up` with a home of its own. Every process of it carries a marker in its environment."""

    def __init__(self, home: Path) -> None:
        self.marker = uuid.uuid4().hex
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSITION_SYNC_", "DAGSTER_", "DATABASE_"))}
        self.environ = {**clean, "POSITION_SYNC_HOME": str(home), "UP_MARKER": self.marker}
        self.home = home
        self.output = home.parent / f"output-{self.marker}.txt"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "position_pipeline.cli", "up", "--port", str(_free_port())]
        with self.output.open("wb") as file:
            return subprocess.Popen(command, env=self.environ, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)

    def says(self) -> str:
        return self.output.read_text()

    def wait_for(self, what, why: str):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = what()
            if found:
                return found
            assert self.process.poll() is None, f"up ended with {self.process.returncode}: {self.says()}{self.logs()}"
            time.sleep(0.3)
        pytest.fail(f"{why} within {PATIENCE} s: {self.says()}{self.logs()}")

    def logs(self) -> str:
        return "".join(f"\n--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted((self.home / "logs").glob("*.log")))

    def ready(self) -> str:
        """The UI's address, once it answers."""
        text = self.wait_for(lambda: self.says() if "Ready. Open " in self.says() else "", "the UI answers")
        return text.partition("Ready. Open ")[2].split()[0]

    def run_states(self, ui: str) -> list[str]:
        request = urllib.request.Request(f"{ui}/graphql", json.dumps({"query": RUNS}).encode(), {"Content-Type": "application/json"})
        with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
            return [run["status"] for run in json.load(answer)["data"]["runsOrError"]["results"]]
        return []

    def command(self, *words: str):
        done = subprocess.run([sys.executable, "-m", "position_pipeline.cli", *words, "--json"], env=self.environ, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def pids(self) -> set[int]:
        """Every process that it started, PostgreSQL included."""
        found = {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_ours(pid)} - {os.getpid()}
        with suppress(OSError, ValueError):
            postmaster = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])
            if Path(f"/proc/{postmaster}").exists():
                found.add(postmaster)
        return found

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            return f"UP_MARKER={self.marker}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill_everything(self) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def agreeing(up: Up) -> dict[str, dict]:
    """The simulated broker's positions, by instrument; none while a fill is heard that no answer of the broker knows of yet."""
    held = {row["instrument"]: row for row in up.command("positions") if row["account"] == "U1000001"}
    return held if all(row["quantity"] == row["broker_quantity"] for row in held.values()) else {}


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_up_syncs_within_a_minute_survives_kill_9_of_everything_and_stops_without_a_trace(tmp_path):
    up = Up(tmp_path / "home")
    try:
        ui = up.ready()
        up.wait_for(lambda: "SUCCESS" in up.run_states(ui), "a green position_sync")
        before = up.wait_for(lambda: agreeing(up), "every position is what the broker said")
        assert up.command("status")["scheduler_running"] is True

        up.kill_everything()
        again = Up(up.home)
    finally:
        up.kill_everything()
    try:
        again.ready()
        after = {row["instrument"] for row in again.command("positions") if row["account"] == "U1000001"}
        assert set(before) <= after, "what was committed is there after kill -9 of everything"
        assert again.stop() == 0
        deadline = time.monotonic() + 15
        while again.pids() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not again.pids(), "a clean stop leaves no process"
    finally:
        again.kill_everything()
