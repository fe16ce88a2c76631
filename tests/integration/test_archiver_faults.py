"""Real archivers that are killed, and whose Postgres goes away in the middle of a run. Nothing is lost, nothing is there twice."""

import asyncio
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from deploy.stack.stack import mailwarren
from shared.storage.archive import parse_month
from shared.storage.directory import DirectoryStore
from tests.stack import Stack
from tests.support.waiting import wait_until

DAY = 86_400
_FILL = """
    INSERT INTO message_status
    SELECT %s || n, 't', 1, '<a@b>', 'Hello', 'a@b', 'c@d', 'smtp', 'delivered', 'message', 250, NULL, 'd', '[{"attempt": 1}]', %s, %s
    FROM generate_series(1, %s) n
"""
_TWICE = """
    SELECT count(*) FROM (
        SELECT id FROM (SELECT id FROM message_status UNION ALL SELECT id FROM message_status_archive) r GROUP BY id HAVING count(*) > 1
    ) twice
"""
_WAITS_FOR_LOCK = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
_CUT = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'archiver' AND state = 'active'
"""


class Rows:
    """What is in a database."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def ask(self, query: str, *values: object) -> int:
        with psycopg.connect(self._uri) as connection:
            cursor = connection.execute(query.encode(), values)
            row = cursor.fetchone() if cursor.description else None
            return int(row[0]) if row else 0

    def fill(self, count: int, prefix: str = "m") -> None:
        old = int(time.time()) - 100 * DAY
        self.ask(_FILL, prefix, old, old, count)

    @property
    def left(self) -> int:
        return self.ask("SELECT count(*) FROM message_status")

    @property
    def archived(self) -> int:
        return self.ask("SELECT count(*) FROM message_status_archive")

    @property
    def twice(self) -> int:
        return self.ask(_TWICE)


@contextmanager
def running(env: dict[str, str], *arguments: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """``mailwarren archive --once``, killed afterwards."""
    given = {**os.environ, **env, **settings}
    with subprocess.Popen(mailwarren("archive", "--once", *arguments), env=given, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.long
def test_killed_at_each_step(database: str, tmp_path: Path) -> None:
    rows = Rows(database)
    rows.fill(5000)
    now = int(time.time())
    payloads = tmp_path / "payloads"
    env = {
        "DB_URI": database,
        "STORAGE_URL": f"dir://{payloads}",
        "ARCHIVE_BATCH_SIZE": "10",
        "ARCHIVE_RETENTION_PERIOD": "1000h",
    }
    with running(env) as mover:
        wait_until(lambda: rows.archived > 0, within=30)
        mover.kill()
    assert 0 < rows.left < 5000
    assert (rows.left + rows.archived, rows.twice) == (5000, 0)

    past = parse_month(now, -4)
    rows.ask(f"CREATE TABLE {past.name} PARTITION OF message_status_archive FOR VALUES FROM ({past.start}) TO ({past.end})")
    rows.ask("UPDATE message_status_archive SET archived_at = %s WHERE id IN ('m1', 'm2')", past.start)
    with psycopg.connect(database) as reader:
        reader.execute("SELECT FROM message_status_archive")
        with running(env) as dropper:
            wait_until(lambda: rows.ask(_WAITS_FOR_LOCK), within=60)
            dropper.kill()
        # Its connection is gone when Postgres has noticed; the month is still there, the lock is not asked for any more.
        wait_until(lambda: not rows.ask(_WAITS_FOR_LOCK), within=10)
        assert rows.archived == 5000
    with running(env) as last:
        told, _ = last.communicate(timeout=60)
    assert last.returncode == 0, told
    assert f"months dropped: {past.name}\n" in told
    assert (rows.left, rows.archived, rows.twice) == (0, 4998, 0)

    names = _store_orphans(payloads, env, rows, now)
    with running(env) as sweeper:
        wait_until(lambda: _count_files(payloads) < names, within=60, every=0.005)
        sweeper.kill()
    with running(env) as last:
        told, _ = last.communicate(timeout=60)
    assert last.returncode == 0, told
    assert _count_files(payloads) == 0


def _store_orphans(payloads: Path, env: dict[str, str], rows: Rows, now: int) -> int:
    async def store() -> None:
        directory = DirectoryStore(payloads)
        await asyncio.gather(*(directory.store(f"v1/2026/01/10/payload{n}", b"content") for n in range(1500)))
        await directory.close()

    asyncio.run(store())
    for path in payloads.rglob("payload*"):
        os.utime(path, (now - 100 * DAY, now - 100 * DAY))
    since = now - 3000 * DAY
    rows.ask("INSERT INTO recorder_progress VALUES ('records', %s, %s, %s)", since, since, now + 300)
    return 1500


def _count_files(payloads: Path) -> int:
    return sum(1 for _ in payloads.rglob("payload*"))


@pytest.mark.long
def test_two_processes_move_every_row_once(database: str, tmp_path: Path) -> None:
    rows = Rows(database)
    rows.fill(50_000)
    env = {"DB_URI": database, "STORAGE_URL": f"dir://{tmp_path}/payloads"}
    with running(env) as one, running(env) as other:
        told = [process.communicate(timeout=120)[0] for process in (one, other)]
    moved = [int(text.splitlines()[0].rpartition(" ")[2]) for text in told]
    assert (sum(moved), rows.left, rows.archived, rows.twice) == (50_000, 0, 50_000, 0)


@pytest.mark.long
def test_postgres_goes_away_in_the_middle_of_a_run() -> None:
    settings = {
        "ARCHIVE_INTERVAL": "1s", "ARCHIVE_BATCH_SIZE": "10", "DB_STATEMENT_TIMEOUT": "2s", "DB_CONNECT_TIMEOUT": "2s",
    }  # fmt: skip
    with Stack(settings, services=("archiver",)) as stack:
        rows = Rows(stack.postgres.address())
        for number, fault in enumerate((_cut, _frozen, _read_only, _stopped)):
            _suffer(stack, rows, fault, number * 6000)


def _suffer(stack: Stack, rows: Rows, fault: Callable[[Stack, Rows], AbstractContextManager[None]], archived: int) -> None:
    failures = _read_failures(stack)
    rows.fill(6000, f"{archived}-")
    wait_until(lambda: rows.archived > archived, within=30, what="a run that moves")
    with fault(stack, rows):
        wait_until(lambda: _read_failures(stack) > failures, within=60, what="a failure that is counted")
        if fault is not _cut:
            wait_until(lambda: not _is_ready(stack), within=30, what="a process that is not ready")
    wait_until(lambda: rows.archived == archived + 6000, within=60, what="all archived")
    wait_until(lambda: _is_ready(stack), within=30, what="a process that is ready")
    assert (rows.left, rows.twice) == (0, 0)


@contextmanager
def _cut(stack: Stack, rows: Rows) -> Iterator[None]:
    wait_until(lambda: rows.ask(_CUT), within=30, every=0.005, what="a statement of the archiver to be cut short")
    yield


@contextmanager
def _frozen(stack: Stack, rows: Rows) -> Iterator[None]:
    (server,) = stack.pids("postgres")
    pids = [server, *map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())]
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        # A backend may end in between.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def _read_only(stack: Stack, rows: Rows) -> Iterator[None]:
    with psycopg.connect(stack.postgres.address(), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


@contextmanager
def _stopped(stack: Stack, rows: Rows) -> Iterator[None]:
    stack.stop("postgres")
    yield
    stack.start("postgres")


def _read_failures(stack: Stack) -> float:
    lines = _get(stack, "/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('archive_runs_total{outcome="unavailable"}'))


def _is_ready(stack: Stack) -> bool:
    try:
        return _get(stack, "/readiness") == "ok\n"
    except urllib.error.HTTPError:
        return False


def _get(stack: Stack, path: str) -> str:
    with urllib.request.urlopen(f"http://{stack.env['METRICS_ARCHIVER']}{path}", timeout=10) as answer:
        return str(answer.read().decode())
