"""Payloads of finished mail go behind the recording's back: never before the statuses, never in their way, and never forgotten."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from services.result_recorder.cleaner import Cleaner
from services.result_recorder.recorder import Recorder
from shared.storage.completion import forget_submissions
from shared.storage.database import Database, DatabaseSettings, connect
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables
from tests.support.record_frames import accepted, make_mail, success
from tests.support.waiting import until


class Slow(DirectoryStore):
    """Deletes nothing until it may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go_on = asyncio.Event()
        self.asked: list[set[str]] = []

    async def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        self.asked.append(set(keys))
        await self.go_on.wait()
        return await super().delete_many(keys)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Slow]:
    store = Slow(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def recorder(database: str, store: Slow) -> AsyncIterator[Recorder]:
    tables = RecordTables(DatabaseSettings(db_uri=database))
    yield Recorder(tables, store)
    await tables.close()


@asynccontextmanager
async def running(cleaner: Cleaner) -> AsyncIterator[Cleaner]:
    task = asyncio.ensure_future(cleaner.run())
    try:
        yield cleaner
    finally:
        task.cancel()
        await asyncio.wait({task})
        await cleaner.close()


async def store_mails(store: DirectoryStore, count: int) -> list[dict[str, Any]]:
    mails = [make_mail() for _ in range(count)]
    for mail in mails:
        mail["key"] = f"v1/2026/11/23/{mail['transaction']}"
        await store.store(mail["key"], b"content")
    return mails


def count(database: str, table: str = "messages") -> int:
    with psycopg.connect(database) as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    return int(row[0]) if row else -1


def payloads(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "v1").rglob("*"))


async def test_recording_does_not_wait_for_a_slow_store(recorder: Recorder, store: Slow, database: str, tmp_path: Path) -> None:
    mails = await store_mails(store, 30)
    async with running(recorder.cleaner):
        for mail in mails:
            assert await recorder.handle_batch([accepted(mail), success(mail)]) == {}
        await until(lambda: store.asked)
        # All is recorded while the first delete hangs; the rows stay until their payloads are gone.
        assert (count(database, "message_status"), count(database), payloads(tmp_path)) == (30, 30, 30)
        store.go_on.set()
        await recorder.cleaner.finish(timedelta(seconds=20))
        assert (count(database), payloads(tmp_path)) == (0, 0)
    assert len(store.asked) <= 3


async def test_the_end_does_not_wait_for_ever_and_the_next_start_does_the_rest(
    recorder: Recorder, store: Slow, database: str, tmp_path: Path
) -> None:
    """As after a kill between ack and delete: nothing will be told again."""
    mails = await store_mails(store, 5)
    async with running(recorder.cleaner) as cleaner:
        await recorder.handle_batch([*map(accepted, mails), *map(success, mails[:4])])
        await until(lambda: store.asked)
        await cleaner.finish(timedelta(seconds=0.1))
    assert (count(database), payloads(tmp_path)) == (5, 5)
    store.go_on.set()
    async with running(Cleaner(store, Database(DatabaseSettings(db_uri=database)))) as cleaner:
        await cleaner.look(timedelta(0))
        await cleaner.finish(timedelta(seconds=20))
    assert (count(database), payloads(tmp_path)) == (1, 1)


async def test_what_there_is_no_room_for_is_found_again(recorder: Recorder, store: Slow, database: str, tmp_path: Path) -> None:
    mails = await store_mails(store, 12)
    cleaner = recorder.cleaner = Cleaner(store, Database(DatabaseSettings(db_uri=database)), most=3)
    async with running(cleaner):
        await recorder.handle_batch([*map(accepted, mails), *map(success, mails)])
        await until(lambda: store.asked)
        assert len(store.asked[0]) == 3
        store.go_on.set()
        await until(lambda: (count(database), payloads(tmp_path)) == (0, 0), within=30)


async def test_a_row_that_changed_meanwhile_stays(recorder: Recorder, store: Slow, database: str) -> None:
    (mail,) = await store_mails(store, 1)
    await recorder.handle_batch([accepted(mail)])
    tables = RecordTables(DatabaseSettings(db_uri=database))
    await tables.open()
    await recorder.handle_batch([success(mail)])
    found, complete = await tables.settle(ids=[], transactions=[mail["transaction"]], now=0)
    assert (found, [one.datafiles for one in complete]) == (1, [(mail["key"],)])
    connection = await connect(DatabaseSettings(db_uri=database))
    await connection.execute("UPDATE messages SET datafile = 'v1/2026/11/23/another'")
    await forget_submissions(connection, complete)
    assert count(database) == 1
    _, complete = await tables.settle(ids=[], transactions=[mail["transaction"]], now=0)
    await forget_submissions(connection, complete)
    assert count(database) == 0
    await connection.close()
    await tables.close()
