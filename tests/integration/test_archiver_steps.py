"""The archiver's steps in trouble: readers, other archivers, recorders, late results, a store that is down, a clock that is wrong."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from services.archiver.clock import Clock, read_steady
from services.archiver.overdue import tell_late
from services.result_recorder.recorder import Recorder
from shared.storage.archive import fetch_clock
from shared.storage.documents import store_documents
from shared.storage.records import RecordTables
from shared.storage.status import find_message
from tests.integration.archive_bench import DAY, NOW, Bench, open_bench
from tests.support.record_frames import accepted, failure, make_mail, refused, success

ENDED, GOES_ON = "2026-11-23 12:00:00", "2026-11-23 12:00:01"


@pytest.fixture
async def bench(database: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(database, tmp_path / "payloads") as bench:
        yield bench


async def test_what_has_ended_goes_and_is_told_by_name(bench: Bench) -> None:
    async with bench.database.connection() as connection:
        for table in ("suppressions", "pauses", "errors"):
            documents = [
                ("ended", {"expires": ENDED}),
                ("goes-on", {"expires": GOES_ON}),
                ("never", {}),
                ("by-hand", {"expires": "soon"}),
            ]
            await store_documents(connection, table, documents)
    for age in (DAY, DAY + 1):
        bench.rows("INSERT INTO idempotent_requests VALUES ('', %s, 'digest', 202, '{}', %s, %s)", str(age), NOW - age, NOW - age)
    foreseen = await bench.archive(dry_run=True)
    assert len(bench.rows("SELECT 1 AS one FROM pauses")) == 4
    with psycopg.connect(bench.uri, autocommit=True) as listener:
        listener.execute("LISTEN suppressions")
        done = await bench.archive()
        (notice,) = list(listener.notifies(timeout=10, stop_after=1))
    assert json.loads(notice.payload) == ["ended"]
    assert (
        (foreseen.ended, foreseen.forgotten)
        == (done.ended, done.forgotten)
        == (dict.fromkeys(("suppressions", "pauses", "errors"), 1), 1)
    )
    assert {row["name"] for row in bench.rows("SELECT name FROM suppressions")} == {"goes-on", "never", "by-hand"}
    assert bench.rows("SELECT key FROM idempotent_requests") == [{"key": str(DAY)}]


async def test_counts_go_after_their_time(bench: Bench) -> None:
    bench.add_status(1, age=3 * 366 * DAY, prefix="old")
    bench.add_status(1, age=DAY, prefix="young")
    assert (await bench.archive(dry_run=True)).counts == 3
    assert (await bench.archive()).counts == 3
    assert len(bench.rows("SELECT 1 AS one FROM message_counts")) == 3


async def test_months_are_made_while_the_archive_is_read(bench: Bench) -> None:
    await bench.archive(now=NOW - 100 * DAY)
    bench.add_status(2, age=91 * DAY)
    with psycopg.connect(bench.uri) as reader:
        reader.execute("SELECT FROM message_status_archive")
        report = await bench.archive()
    assert (report.moved, len(report.created)) == (2, 3)
    indexes = "SELECT count(*) AS n FROM pg_index WHERE indrelid = %s::regclass"
    assert len({bench.rows(indexes, f"message_status_archive_{month}")[0]["n"] for month in bench.months()}) == 1


async def test_a_month_that_is_read_stays_until_the_next_run(bench: Bench) -> None:
    bench.add_status(3, age=300 * DAY)
    await bench.archive(now=NOW - 100 * DAY, wait_before_archive="1h")
    bench.add_status(2, age=91 * DAY)
    with psycopg.connect(bench.uri) as reader:
        reader.execute("SELECT FROM message_status_archive")
        report = await bench.archive(archive_retention_period="768h")
    assert (report.moved, report.dropped, report.busy) == (
        2,
        [],
        ["message_status_archive_2026_08", "message_status_archive_2026_09"],
    )
    assert report.is_partial
    assert "somebody reads the archive" in report.lines()[-2]
    report = await bench.archive(archive_retention_period="768h")
    assert (report.dropped[0], report.expired, report.busy) == ("message_status_archive_2026_08", 3, [])


async def test_a_month_taken_out_by_hand_is_told(bench: Bench) -> None:
    await bench.archive()
    bench.rows("ALTER TABLE message_status_archive DETACH PARTITION message_status_archive_2026_11")
    with pytest.raises(Exception, match="message_status_archive_2026_11 is there and is no partition"):
        await bench.archive()


async def test_with_the_store_down_all_the_rest_is_done(bench: Bench, tmp_path: Path) -> None:
    bench.add_status(3, age=91 * DAY)
    await bench.keep_up(since=NOW - 30 * DAY)
    shutil.rmtree(tmp_path / "payloads")
    report = await bench.archive()
    assert (report.moved, report.swept, report.is_partial) == (3, 0, True)
    assert "message store" in report.lines()[-1]


async def test_nothing_is_deleted_by_a_clock_in_doubt(bench: Bench) -> None:
    bench.add_status(3, age=300 * DAY)
    await bench.archive(now=NOW - 60 * DAY, wait_before_archive="1h")
    bench.add_status(2, age=91 * DAY)
    key = "v1/2026/11/10/orphan"
    await bench.store.store(key, b"content")
    await bench.keep_up(since=NOW - 30 * DAY)
    async with bench.database.connection() as connection:
        await store_documents(connection, "suppressions", [("ended", {"expires": ENDED})])
    for dry_run in (True, False):
        report = await bench.archive(doubt="it is ahead", archive_retention_period="24h", dry_run=dry_run)
        assert (report.moved, report.expired, report.dropped, report.ended, report.swept) == (2, 0, [], {}, 0)
        assert any("it is ahead" in line for line in report.lines())
    assert bench.count("message_status_archive") == 5
    assert len(bench.rows("SELECT 1 AS one FROM suppressions")) == 1
    assert await bench.has_payload(key)


async def test_the_clock_of_postgres_is_asked(bench: Bench) -> None:
    async with bench.database.connection() as connection:
        postgres = await fetch_clock(connection)
    assert Clock().find_doubt(time.time(), read_steady(), postgres) == ""
    assert Clock().find_doubt(time.time() + 2 * DAY, read_steady(), postgres).endswith("s ahead of that of Postgres")


@pytest.mark.parametrize(("step", "moved"), [(-2 * DAY, 0), (2 * DAY, 20)])
async def test_a_clock_two_days_off_loses_no_row(bench: Bench, step: int, moved: int) -> None:
    bench.add_status(10, age=89 * DAY)
    bench.add_status(10, age=92 * DAY, prefix="old")
    assert (await bench.archive(now=NOW + step)).moved == moved
    await bench.archive()
    assert bench.count("message_status") + bench.count("message_status_archive") == 20
    assert bench.rows("SELECT id FROM message_status_archive GROUP BY id HAVING count(*) > 1") == []


async def test_a_recorder_and_two_archivers_at_the_same_rows(bench: Bench) -> None:
    # The verdicts of mails that the recorder gets again, with another attempt, while they are moved.
    mails = [make_mail() for _ in range(300)]
    tables = RecordTables(bench.settings)
    recorder = Recorder(tables, bench.store)
    assert await recorder.handle_batch([failure(mail, refused(1)) for mail in mails]) == {}
    bench.rows("UPDATE message_status SET updated_at = %s", NOW - 91 * DAY)
    bench.add_status(5000, age=91 * DAY)
    again = [success(mail, refused(1)) for mail in mails]

    async def record() -> None:
        for start in range(0, 300, 60):
            assert await recorder.handle_batch(again[start : start + 60]) == {}

    async with asyncio.TaskGroup() as group:
        archivers = [group.create_task(bench.archive(archive_batch_size="100")) for _ in range(2)]
        group.create_task(record())
    await tables.close()
    assert sum(archiver.result().moved for archiver in archivers) == bench.count("message_status_archive")
    assert bench.rows("SELECT id FROM message_status_archive GROUP BY id HAVING count(*) > 1") == []
    # Each has the better verdict in message_status; one that was moved first has the earlier one in the archive as well.
    assert bench.rows("SELECT status, count(*) FROM message_status GROUP BY status") == [{"status": "delivered", "count": 300}]


async def test_a_result_that_comes_after_archiving(bench: Bench) -> None:
    mail = make_mail()
    tables = RecordTables(bench.settings)
    recorder = Recorder(tables, bench.store)
    await recorder.handle_batch([failure(mail, refused(1))])
    bench.rows("UPDATE message_status SET updated_at = %s", NOW - 91 * DAY)
    assert (await bench.archive()).moved == 1
    await recorder.handle_batch([success(mail)])
    await tables.close()

    async def show() -> list[tuple[str, bool]]:
        async with bench.database.connection() as connection:
            return [(told["status"], told["archived"] is not None) for told in await find_message(connection, mail["id"])]

    assert await show() == [("delivered", False)]
    bench.rows("UPDATE message_status SET updated_at = %s", NOW - 50 * DAY)
    assert (await bench.archive(now=NOW + 100 * DAY)).moved == 1
    assert await show() == [("delivered", True)]
    statuses = bench.rows("SELECT status FROM message_status_archive ORDER BY archived_at")
    assert [row["status"] for row in statuses] == ["failed", "delivered"]


async def test_a_verdict_stays_while_another_recipient_is_under_way(bench: Bench) -> None:
    tables = RecordTables(bench.settings)
    recorder = Recorder(tables, bench.store)
    first, second = (make_mail(transaction="t-2", recipients_total=2) for _ in range(2))
    alone = make_mail()
    await recorder.handle_batch([accepted(first), accepted(second), success(first), success(alone)])
    bench.rows("UPDATE message_status SET updated_at = %s", NOW - 2 * 3600)
    for dry_run in (True, False):
        assert (await bench.archive(wait_before_archive="1h", dry_run=dry_run)).moved == 1
    assert [row["id"] for row in bench.rows("SELECT id FROM message_status")] == [first["id"]]
    # Nobody is late.
    assert await tell_late(bench.database, timedelta(hours=1), now=NOW) == 0
    await recorder.handle_batch([failure(second, refused(1))])
    assert bench.rows("SELECT transaction FROM messages") == []
    bench.rows("UPDATE message_status SET updated_at = %s", NOW - 2 * 3600)
    assert await tell_late(bench.database, timedelta(hours=1), now=NOW) == 3600
    assert (await bench.archive(wait_before_archive="1h")).moved == 2
    await tables.close()


async def test_late_archiving_is_told(bench: Bench) -> None:
    wait = timedelta(days=90)
    assert await tell_late(bench.database, wait, now=NOW) == 0
    bench.add_status(1, age=90 * DAY)
    assert await tell_late(bench.database, wait, now=NOW) == 0
    assert await tell_late(bench.database, wait, now=NOW + 7200) == 7200
    await bench.archive(now=NOW + 7200)
    assert await tell_late(bench.database, wait, now=NOW + 7200) == 0
