"""Counters of final mail, from the records that the recorder writes, against a real Postgres."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.result_recorder.recorder import Recorder
from shared.storage.counters import count_expired_counts, count_final, expire_counts, parse_question
from shared.storage.database import Database, DatabaseSettings
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables, Rows, StatusRow
from tests.support.record_frames import SEEN_UNIX, accepted, failure, make_mail, make_result, refused, success


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[Database]:
    opened = Database(DatabaseSettings(db_uri=database))
    yield opened
    await opened.close()


@pytest.fixture
async def recorder(database: str, tmp_path: Path) -> AsyncIterator[Recorder]:
    tables = RecordTables(DatabaseSettings(db_uri=database))
    yield Recorder(tables, DirectoryStore(tmp_path / "payloads"))
    await tables.close()


async def count(database: Database, **given: str) -> dict[str, Any]:
    async with database.connection() as connection:
        return await count_final(connection, parse_question(given, datetime.now(UTC)))


async def test_results_are_counted_once_under_their_last_verdict(postgres: Database, recorder: Recorder) -> None:
    full = refused(1, code=552, **{"class": "quota"})
    one, two, three = make_mail("a@example.net"), make_mail("b@Example.net"), make_mail("c@example.org")
    batch = [accepted(one), success(one), failure(two, full), failure(three, full)]
    for _ in range(2):
        await recorder.handle_batch(batch)
    told = await count(postgres, by="destination,status,class")
    assert told["total"] == 3
    assert told["counters"] == [
        {"destination": "example.net", "status": "delivered", "class": None, "count": 1},
        {"destination": "example.net", "status": "failed", "class": "quota", "count": 1},
        {"destination": "example.org", "status": "failed", "class": "quota", "count": 1},
    ]
    # Another lineage delivered it after all.
    await recorder.handle_batch([success(three, full, make_result(2))])
    for by, expected in {
        "status": [{"status": "delivered", "count": 2}, {"status": "failed", "count": 1}],
        "class": [{"class": None, "count": 2}, {"class": "quota", "count": 1}],
        "destination": [{"destination": "example.net", "count": 2}, {"destination": "example.org", "count": 1}],
    }.items():
        assert (await count(postgres, by=by))["counters"] == expected
    assert (await count(postgres, by="status", destination="EXAMPLE.org"))["counters"] == [{"status": "delivered", "count": 1}]
    assert (await count(postgres, by="status", status="failed"))["total"] == 1
    # By hours of one destination, hours of all, and days.
    for given in ({"destination": "example.net"}, {"class": "quota"}, {"by": "destination", "since": "720h"}):
        asked = {"by": "hour", **given}
        assert (await count(postgres, **asked))["total"] == {"destination": 2, "class": 1, "by": 3}[next(iter(given))]
    assert len((await count(postgres, limit="1"))["counters"]) == 1


def make_row(ident: str, destination: str, status: str) -> StatusRow:
    attempts = json.dumps([{"attempt": 1, "result": status}])
    recipient = f"bob@{destination}"
    return StatusRow(
        ident, ident, 1, ident, "", "", recipient, "smtp", status, "message", 250, None, destination, attempts
    )  # fmt: skip


async def test_recorders_at_once_lose_no_count(database: str, postgres: Database) -> None:
    """The same destinations from four sides, in opposite orders, with verdicts that change in between."""

    async def work(number: int) -> None:
        tables = RecordTables(DatabaseSettings(db_uri=database))
        await tables.open()
        for batch in range(10):
            names = range(40) if number % 2 else range(39, -1, -1)
            news = [make_row(f"{number}-{batch}-{i}", f"d{i}.example", "failed") for i in names]
            again = [make_row(f"{number}-{batch - 1}-{i}", f"d{i}.example", "delivered") for i in names] if batch else []
            await tables.store(Rows(statuses=[*news, *again]), now=SEEN_UNIX)
        await tables.close()

    await asyncio.gather(*(work(number) for number in range(4)))
    with psycopg.connect(database) as connection:
        deadlocks = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert deadlocks == (0,)
        for level in ("hour", "day", "total"):
            counted = connection.execute(
                "SELECT status, sum(count) FROM message_counts WHERE level = %s GROUP BY status ORDER BY status",
                [level],
            ).fetchall()
            assert counted == [("delivered", 4 * 9 * 40), ("failed", 4 * 40)]


async def test_old_counts_go(database: str, postgres: Database) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO message_counts
            SELECT level, start, 'example.org', '', 'delivered', false, 1, 0, 0
            FROM (VALUES ('hour', 0), ('total', 0), ('hour', 82800), ('hour', 86400), ('day', 0), ('day', 86400)) AS v (level, start)
            """
        )
    async with postgres.connection() as opened:
        assert await count_expired_counts(opened, 86_399) == 2
        assert await count_expired_counts(opened, 86_400) == 4
        assert await expire_counts(opened, before=86_400, most=3) == 3
        assert await expire_counts(opened, before=86_400, most=3) == 1
        assert await expire_counts(opened, before=86_400, most=3) == 0
    with psycopg.connect(database) as connection:
        left = connection.execute("SELECT level, start FROM message_counts ORDER BY level").fetchall()
    assert left == [("day", 86_400), ("hour", 86_400)]
