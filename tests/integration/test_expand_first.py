"""The schema grows before it shrinks: the release before works with this schema, and this release with the schema before."""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from services.cli.__main__ import call
from services.result_recorder.recorder import Recorder
from shared.storage.archive import create_partitions, move_batch
from shared.storage.counters import CountersMissing, count_final, parse_question
from shared.storage.database import Database, DatabaseSettings, migrate
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables
from shared.storage.search import find_page, parse_search
from shared.storage.status import find_message
from tests.bench.searching_rows import upgrade_to
from tests.integration import previous_statements as previous
from tests.support.record_frames import SEEN, SEEN_UNIX, accepted, make_mail, make_result, refused, retry, success
from tests.support.waiting import until

PREVIOUS = "0003"


async def test_this_release_works_with_the_schema_before(
    empty_database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upgrade_to(empty_database, PREVIOUS)
    tables = RecordTables(DatabaseSettings(db_uri=empty_database))
    recorder = Recorder(tables, DirectoryStore(tmp_path))
    final, waiting = make_mail("a@example.net"), make_mail("b@example.net")
    await recorder.handle_batch([accepted(final), accepted(waiting), success(final, refused(1), make_result(2))])
    await recorder.handle_batch([retry(waiting, refused(1))])

    database = Database(DatabaseSettings(db_uri=empty_database))
    async with database.connection() as connection:
        found = await find_page(connection, parse_search({"recipient": "*@example.net"}, datetime.now(UTC)))
    assert {document["recipient"]: document["status"] for document in found.messages} == {
        "a@example.net": "delivered",
        "b@example.net": "deferred",
    }
    # What needs the new table says which command makes it; nothing else is harmed.
    with pytest.raises(CountersMissing, match="run `mailwarren migrate`"):
        async with database.connection() as connection:
            await count_final(connection, parse_question({}, datetime.now(UTC)))
    assert call(["migrate", "--check", "--db-uri", empty_database]) == 1
    assert "pending: 0004\n" in capsys.readouterr().out

    late = int(time.time()) + 91 * 86_400
    async with database.connection() as connection:
        await create_partitions(connection, late)
        assert (await move_batch(connection, before=late, now=late, most=10)).count == 1

    # Mail from before the migration is counted, once, unless it is archived; and the recorder that was there before tells more now.
    await recorder.handle_batch([success(make_mail("d@example.net"))])
    migrate(empty_database)
    newer = make_mail("c@example.net")
    await recorder.handle_batch([success(newer)])
    await tables.close()
    async with database.connection() as connection:
        for mail, known in ((final, None), (newer, SEEN)):
            (told,) = await find_message(connection, mail["id"])
            assert (told["status"], told["accepted"]) == ("delivered", known)
        assert (told["archived"], (await find_message(connection, final["id"]))[0]["archived"] is None) == (None, False)
    async with database.connection() as connection:
        assert (await count_final(connection, parse_question({"since": "8760h", "by": "status"}, datetime.now(UTC))))[
            "total"
        ] == 2
    await database.close()


def test_the_release_before_works_with_this_schema(database: str) -> None:
    rows = [
        (ident, ident, 1, ident, "Hello", "alice@example.org", "bob@example.net", "smtp", status, "message", 250, None, "example.net",
         json.dumps([{"attempt": 1, "state": "message", "result": result}]))
        for ident, status, result in (("one", "failed", "error"), ("two", "delivered", "accepted"))
    ]  # fmt: skip
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(previous.STAGE)
        for batch in (rows, rows, [(*rows[0][:8], "delivered", *rows[0][9:])]):
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy("COPY stage_status FROM STDIN") as copy:
                    for row in batch:
                        copy.write_row(row)
                cursor.execute(previous.PUT_STATUS, {"now": SEEN_UNIX})
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy("COPY stage_messages FROM STDIN") as copy:
                copy.write_row(
                    ("t", "m", "mail", "", '{"x": {"recipient": "c@example.net", "message_id": "m"}}', 1, "", "smtp", "accepted", "",
                     None, None, '["x", "m"]', "f", SEEN_UNIX)
                )  # fmt: skip
            cursor.execute(previous.PUT_MESSAGES, {"now": SEEN_UNIX})
            with cursor.copy("COPY stage_attempts FROM STDIN") as copy:
                copy.write_row(
                    ("two", "b@example.net", 2, "message", "error", 451, "4.7.1", "later", None, None, None, None, SEEN_UNIX,
                     "example.net", SEEN_UNIX, '{"attempt": 2}')
                )  # fmt: skip
            cursor.execute(previous.PUT_ATTEMPTS, {"now": SEEN_UNIX})
            cursor.execute(previous.CLEAR_DUE, {"now": SEEN_UNIX, "ids": ["two"]})
            cursor.execute(previous.MOVE_ATTEMPTS, {"now": SEEN_UNIX, "ids": ["two"]})
        # It is counted as well, nothing twice, and what is archived stays counted.
        counts = connection.execute(
            """
            SELECT level, status, sum(count)::int FROM message_counts GROUP BY level, status HAVING sum(count) <> 0
            ORDER BY level
            """
        ).fetchall()
        assert counts == [("day", "delivered", 2), ("hour", "delivered", 2), ("total", "delivered", 2)]
        connection.execute("CREATE TABLE month PARTITION OF message_status_archive FOR VALUES FROM (0) TO (9999999999)")
        moved = connection.execute(previous.MOVE_TO_ARCHIVE, {"before": SEEN_UNIX + 1, "most": 10, "now": SEEN_UNIX + 1})
        assert moved.rowcount == 2
        assert connection.execute("SELECT sum(count) FROM message_counts WHERE level = 'total'").fetchone() == (2,)


async def test_a_recorder_at_work_and_the_migration_wait_for_each_other_in_one_order(empty_database: str) -> None:
    upgrade_to(empty_database, PREVIOUS)
    with psycopg.connect(empty_database) as recorder, psycopg.connect(empty_database, autocommit=True) as observer:
        recorder.execute("LOCK TABLE messages IN ROW EXCLUSIVE MODE")
        migrating = asyncio.ensure_future(asyncio.to_thread(migrate, empty_database))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await until(lambda: observer.execute(waits).fetchone() != (0,), within=20)
        # What a recorder writes next.
        recorder.execute("LOCK TABLE delivery_attempts, message_status IN ROW EXCLUSIVE MODE")
        recorder.commit()
        await migrating
        assert observer.execute("SELECT count(*) FROM message_counts").fetchone() == (0,)


async def test_who_has_locked_a_verdict_and_then_writes_attempts_is_not_stopped_by_the_migration(empty_database: str) -> None:
    upgrade_to(empty_database, PREVIOUS)
    with psycopg.connect(empty_database) as recorder, psycopg.connect(empty_database, autocommit=True) as observer:
        recorder.execute("SELECT FROM message_status FOR UPDATE")
        migrating = asyncio.ensure_future(asyncio.to_thread(migrate, empty_database))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        await until(lambda: observer.execute(waits).fetchone() != (0,), within=20)
        await asyncio.to_thread(recorder.execute, "DELETE FROM delivery_attempts")
        recorder.commit()
        await migrating
        deadlocks = observer.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert deadlocks == (0,)
