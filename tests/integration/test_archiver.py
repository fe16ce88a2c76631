"""The archiver against a real Postgres and a real message store."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from services.archiver.handler import archive_once
from services.archiver.metrics import OVERDUE, OVERDUE_SECONDS
from services.archiver.overdue import tell_overdue
from services.archiver.settings import ServiceSettings
from services.result_recorder.recorder import Recorder
from shared.delivery.stops import NO_STOPS
from shared.storage.archive import NEVER_TRIED, OVERDUE_ENOUGH
from shared.storage.database import Database
from shared.storage.progress import fetch_progress, note_progress
from shared.storage.records import RecordTables
from shared.trouble import Unavailable
from shared.wire.times import render_time
from tests.integration.archive_bench import DAY, NOW, Bench, open_bench
from tests.stack import Stack
from tests.support.record_frames import accepted, make_frame, make_mail, refused, retry, success
from tests.support.waiting import wait_until
from tests.unit.shared.amqp.test_delivering import deliver


@pytest.fixture
async def bench(database: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(database, tmp_path / "payloads") as bench:
        yield bench


async def test_old_verdicts_move_in_batches_until_none_is_left(bench: Bench) -> None:
    bench.add_status(25, age=91 * DAY)
    bench.add_status(5, age=89 * DAY, prefix="young")
    report = await bench.archive(archive_batch_size="10")
    assert (report.moved, report.created) == (
        25,
        ["message_status_archive_2026_11", "message_status_archive_2026_12", "message_status_archive_2027_01"],
    )
    assert (bench.count("message_status"), bench.count("message_status_archive")) == (5, 25)
    (row,) = bench.rows("SELECT * FROM message_status_archive WHERE id = 'm7'")
    assert row == {
        "id": "m7", "transaction": "t", "recipients_total": 1, "message_id": "<a@b>", "subject": "Hello", "sender": "a@b",
        "recipient": "c@d", "delivery_strategy": "smtp", "status": "delivered", "state": "message", "code": 250, "class": None,
        "destination": "d", "results": [{"attempt": 1}], "created_at": NOW - 91 * DAY, "updated_at": NOW - 91 * DAY,
        "accepted_at": NOW - 92 * DAY, "archived_at": NOW,
    }  # fmt: skip
    assert (await bench.archive()).moved == 0


async def test_the_wait_is_exact_and_counts_from_the_last_change(bench: Bench) -> None:
    bench.add_status(1, age=3600, prefix="due-in-no-time")
    bench.add_status(1, age=3601, prefix="due")
    assert (await bench.archive(wait_before_archive="1h")).moved == 1
    assert bench.rows("SELECT id FROM message_status_archive") == [{"id": "due1"}]


async def test_several_archivers_move_every_row_once(bench: Bench) -> None:
    bench.add_status(2000, age=91 * DAY)
    reports = await asyncio.gather(*(bench.archive(archive_batch_size="50") for _ in range(4)))
    assert sum(report.moved for report in reports) == 2000
    assert bench.count("message_status") == 0
    assert bench.count("message_status_archive") == 2000
    assert sum(len(report.created) for report in reports) == 3


async def test_a_row_that_another_archiver_holds_does_not_keep_the_others_waiting(bench: Bench) -> None:
    bench.add_status(10, age=91 * DAY)
    with psycopg.connect(bench.uri) as other:
        other.execute("SELECT FROM message_status WHERE id IN ('m1', 'm2') FOR UPDATE")
        async with asyncio.timeout(10):
            assert (await bench.archive()).moved == 8
    assert (await bench.archive()).moved == 2


async def test_retention_drops_whole_months_and_deletes_the_rest(bench: Bench) -> None:
    for month in ("2026-08-15", "2026-09-15", "2026-10-20", "2026-10-25"):
        moment = int(datetime.fromisoformat(month).replace(tzinfo=UTC).timestamp())
        bench.add_status(3, age=200 * DAY, prefix=month)
        assert (await bench.archive(now=moment, wait_before_archive="1h")).moved == 3
    assert bench.months() == [f"2026_{month:02}" for month in (8, 9, 10, 11, 12)]
    # 32 days before 23 November is 22 October: August and September go as a whole, October by its rows.
    report = await bench.archive(archive_retention_period="768h")
    assert report.dropped == ["message_status_archive_2026_08", "message_status_archive_2026_09"]
    assert report.expired == 9
    assert bench.months() == ["2026_10", "2026_11", "2026_12", "2027_01"]
    assert {row["id"][:10] for row in bench.rows("SELECT id FROM message_status_archive")} == {"2026-10-25"}


async def test_retention_counts_from_archiving(bench: Bench) -> None:
    bench.add_status(4, age=900 * DAY)
    assert (await bench.archive(archive_retention_period="24h")).expired == 0
    assert bench.count("message_status_archive") == 4
    assert (await bench.archive(now=NOW + DAY + 1, archive_retention_period="24h")).expired == 4


async def test_a_dry_run_tells_and_changes_nothing(bench: Bench) -> None:
    bench.add_status(3, age=300 * DAY, prefix="old")
    await bench.archive(now=NOW - 60 * DAY, wait_before_archive="1h")
    bench.add_status(7, age=91 * DAY)
    key = await _store_orphan(bench)
    await bench.keep_up(since=NOW - 30 * DAY)
    foreseen = await bench.archive(dry_run=True, archive_retention_period="480h")
    assert (bench.count("message_status"), bench.count("message_status_archive")) == (7, 3)
    assert "2027_01" not in bench.months()
    assert await bench.has_payload(key)
    done = await bench.archive(archive_retention_period="480h")
    assert (foreseen.moved, foreseen.created, foreseen.dropped, foreseen.expired, foreseen.swept) == (
        done.moved, done.created, done.dropped, done.expired, done.swept,
    )  # fmt: skip
    assert (done.moved, done.dropped, done.expired, done.swept) == (
        7, ["message_status_archive_2026_09", "message_status_archive_2026_10"], 3, 1,
    )  # fmt: skip
    assert not await bench.has_payload(key)


async def test_a_payload_that_a_mail_names_is_never_swept(bench: Bench) -> None:
    mails = {name: make_mail() for name in ("under_way", "kept", "moved_by_a_sender", "orphan")}
    for mail in mails.values():
        mail["key"] = f"v1/2026/11/10/{mail['transaction']}"
        await _store_old(bench, mail["key"])
    tables = RecordTables(bench.settings)
    recorder = Recorder(tables, bench.store)
    kept = mails["kept"] | {"keepmime": True}
    sender = mails["moved_by_a_sender"]
    without_key = {name: value for name, value in sender.items() if name != "key"}
    other = make_mail("x@example.net", transaction=sender["transaction"], recipients_total=2)
    other["key"] = f"v1/2026/11/10/{other['id']}"
    await _store_old(bench, other["key"])
    frames = [
        accepted(mails["under_way"]), accepted(kept), success(kept),
        accepted(without_key | {"recipients-total": 2}), retry(sender | {"recipients-total": 2}, refused(1)), retry(other, refused(1)),
    ]  # fmt: skip
    assert await recorder.handle_batch(frames) == {}
    await tables.close()
    await bench.keep_up(since=NOW - 30 * DAY)
    report = await bench.archive()
    assert (report.swept, report.not_swept) == (1, "")
    assert [name for name, mail in mails.items() if not await bench.has_payload(mail["key"])] == ["orphan"]
    assert await bench.has_payload(other["key"])


async def test_payloads_of_mail_that_waits_for_its_first_attempt_are_never_swept(bench: Bench, tmp_path: Path) -> None:
    """All that tells of them is what their sender publishes: the record of their inbox is lost.

    Two contents under one transaction, each stored by a sender: the row of their submission names only the first.
    """
    seen, far = render_time(datetime.now(UTC)), {"time": "2099-01-01 00:00:00"}
    mails = [make_mail(transaction="t-1", recipients_total=2, seen=seen, nextattempt=far) for _ in range(2)]
    frames = []
    for mail in mails:
        mail["key"] = f"v1/2026/11/10/{mail['id']}"
        await _store_old(bench, mail["key"])
        _, told = (await deliver(tmp_path / "journal", make_frame(mail, None), NO_STOPS)).publications
        frames.append(make_frame(told.body, str((told.headers or {})["event"])))
    orphan = await _store_orphan(bench)
    tables = RecordTables(bench.settings)
    recorder = Recorder(tables, bench.store)
    assert await recorder.handle_batch(frames) == {}
    # As often as they wait, the record is repeated, and changes nothing.
    before = bench.rows("SELECT *, xmin::text FROM messages")
    assert (len(before), len(before[0]["recipients"])) == (1, 2)
    assert await recorder.handle_batch(frames) == {}
    assert bench.rows("SELECT *, xmin::text FROM messages") == before
    await bench.keep_up(since=NOW - 30 * DAY)
    assert (await bench.archive()).swept == 1
    assert [await bench.has_payload(key) for key in (mails[0]["key"], mails[1]["key"], orphan)] == [True, True, False]
    await tables.close()


@pytest.mark.parametrize(
    ("since", "noted", "refusal"),
    [
        (None, NOW, "the recorder is behind"),
        (NOW - 30 * DAY, NOW - 3600, "no sign of life"),
        (int(datetime(2026, 11, 10, 0, 0, 1, tzinfo=UTC).timestamp()), NOW, ""),
    ],
)
async def test_no_payload_is_swept_after_a_break_of_the_recorder(
    bench: Bench, since: int | None, noted: int, refusal: str
) -> None:
    key = await _store_orphan(bench)
    bench.rows("INSERT INTO recorder_progress VALUES ('records', %s, %s, %s)", since, noted, noted)
    report = await bench.archive()
    assert report.swept == 0
    assert refusal in report.not_swept
    assert bool(refusal) == bool(report.not_swept)
    assert await bench.has_payload(key)


async def test_without_a_recorder_nothing_is_swept(bench: Bench) -> None:
    key = await _store_orphan(bench)
    assert "no recorder" in (await bench.archive()).not_swept
    assert await bench.has_payload(key)


async def test_young_payloads_and_those_of_clients_are_left_alone(bench: Bench) -> None:
    await bench.keep_up(since=NOW - 300 * DAY)
    for key in ("v1/2026/11/22/young", "clients/2026/11/10/old", "v1/2026/11/10/just-written"):
        await bench.store.store(key, b"content")
    assert (await bench.archive()).swept == 0
    await _store_old(bench, "v1/2026/11/10/old")
    assert (await bench.archive(max_delivertime="480h")).swept == 0
    assert (await bench.archive()).swept == 1


async def test_progress_starts_anew_after_a_break(bench: Bench) -> None:
    async def note(now: int, *, caught_up: bool = True) -> int | None:
        async with bench.database.connection() as connection:
            await note_progress(connection, "records", caught_up=caught_up, now=now)
            return (await fetch_progress(connection)).caught_up_since

    assert await note(1000) == 1000
    assert await note(1015) == 1000
    assert await note(1615) == 1000
    assert await note(2216) == 2216  # silent for more than ten minutes
    assert await note(2230, caught_up=False) is None
    assert await note(2245) == 2245
    assert await note(2000) == 2000  # the clock was set back


async def test_overdue_mail_is_counted(bench: Bench) -> None:
    tables = RecordTables(bench.settings)
    recorder = Recorder(tables, bench.store)
    fine, late, final, untried, waits = (make_mail() for _ in range(5))
    partly, untouched = make_mail(recipients_total=2), make_mail("z@example.net", recipients_total=2)
    untouched["transaction"] = partly["transaction"]
    frames = [
        retry(fine, refused(1), due="2026-11-23 11:56:00"),
        retry(late, refused(1), refused(2), due="2026-11-23 11:54:59"),
        retry(final, refused(1), due="2026-11-23 05:00:00"), success(final),
        accepted(untried | {"seen": "2026-11-23 11:50:00"}),
        accepted(waits | {"nextattempt": {"time": "2026-11-24 00:00:00"}}),
        accepted(partly), accepted(untouched), retry(partly, refused(1), due="2026-11-23 20:00:00"),
    ]  # fmt: skip
    assert await recorder.handle_batch(frames) == {}
    await tables.close()
    overdue = await tell_overdue(bench.database, timedelta(minutes=5), now=NOW)
    assert overdue.count == 3
    assert overdue.ids == (untouched["id"], untried["id"], late["id"])
    assert OVERDUE._value.get() == 3
    assert OVERDUE_SECONDS._value.get() == 8 * 3600
    assert (await tell_overdue(bench.database, timedelta(hours=9), now=NOW)).count == 0
    assert OVERDUE._value.get() == 0


async def test_a_long_backlog_of_overdue_mail_is_counted_by_an_index_and_up_to_a_bound(bench: Bench) -> None:
    bench.rows(_MANY, "waiting", "deferred", 200_000, NOW - 7200)
    bench.rows(_MANY, "untried", "accepted", OVERDUE_ENOUGH + 5, NOW - 3600)
    bench.rows(_ATTEMPTS, NOW + 3600)
    for table in ("messages", "delivery_attempts"):
        bench.rows(f"ANALYZE {table}")
    overdue = await tell_overdue(bench.database, timedelta(minutes=5), now=NOW)
    assert overdue.count == OVERDUE_ENOUGH
    assert overdue.oldest == NOW - 3600
    for most in (OVERDUE_ENOUGH, 10):
        plan = str(bench.rows(f"EXPLAIN {NEVER_TRIED}" % {"before": NOW - 300, "enough": most}))
        assert "messages_untried_idx" in plan
        assert "Seq Scan on messages" not in plan


_MANY = """
    INSERT INTO messages
    SELECT p.name || n, '', 'mail', 'a@b', jsonb_build_object(p.name || n, '{}'::jsonb), 1, '', 'smtp', p.status, 'a@b', NULL, NULL,
           ARRAY[p.name || n], false, p.due, p.due, p.due
    FROM (SELECT %s::text AS name, %s::text AS status, %s::integer AS most, %s::bigint AS due) p, generate_series(1, p.most) n
"""
_ATTEMPTS = """
    INSERT INTO delivery_attempts (id, recipient, attempt, time, destination, next_attempt_at, report, created_at, updated_at)
    SELECT 'waiting' || n, 'a@b', 1, 0, 'b', %s, '{}', 0, 0 FROM generate_series(1, 200000) n
"""


async def test_postgres_down_is_unavailable(bench: Bench) -> None:
    database = Database(ServiceSettings(db_uri="postgresql://nobody@127.0.0.1:1/nothing"))
    with pytest.raises(Unavailable):
        await archive_once(database, bench.store, bench.settings)


async def _store_old(bench: Bench, key: str) -> None:
    """A payload, written (by its file's time) long before NOW."""
    await bench.store.store(key, b"content")
    os.utime(bench.store._path(key), (NOW - 13 * DAY, NOW - 13 * DAY))


async def _store_orphan(bench: Bench) -> str:
    key = "v1/2026/11/10/orphan"
    await _store_old(bench, key)
    return key


def test_as_a_process(pipeline: Stack) -> None:
    pipeline.start("archiver", WAIT_BEFORE_ARCHIVE="1h")
    (pid,) = pipeline.pids("archiver")
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert resident is not None
    assert int(resident[1]) < 90 * 1024
    with psycopg.connect(pipeline.env["DB_URI"], autocommit=True) as connection:
        partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'message_status_archive'::regclass"
        wait_until(lambda: connection.execute(partitions).fetchone() == (3,), within=20, what="the partitions of three months")
    # Told to stop before its first round is over, it would have nothing to say.
    wait_until(lambda: '"archived"' in pipeline.log("archiver").read_text(), within=20, what="the end of its first round")
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pipeline.pids("archiver") not in ([], [pid], (pid,)), 20)
    assert time.monotonic() - began < 20
    assert '"stopped"' in pipeline.log("archiver").read_text()
