"""A recorder in this process, its database and its store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from services.result_recorder.recorder import Recorder
from shared.amqp.frame import Frame
from shared.storage.directory import DirectoryStore
from shared.storage.payloads import MissingPayload
from shared.storage.records import RecordTables


@dataclass
class Bench:
    """A recorder, its database and its store."""

    recorder: Recorder
    tables: RecordTables
    store: DirectoryStore
    database: str

    async def record(self, *frames: Frame) -> dict[int, str]:
        return await self.record_with(self.recorder, *frames)

    async def record_with(self, recorder: Recorder, *frames: Frame) -> dict[int, str]:
        reasons = dict(await recorder.handle_batch(frames))
        await recorder.cleaner.finish(timedelta(seconds=20))
        return reasons

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def count(self, table: str) -> int:
        statement = sql.SQL("SELECT count(*) AS n FROM {}").format(sql.Identifier(table))
        return int(self.rows(statement.as_string())[0]["n"])

    async def store_payload(self, mail: dict[str, Any]) -> None:
        mail["key"] = f"v1/2026/11/23/{mail['transaction']}"
        await self.store.store(mail["key"], b"content")

    async def has_payload(self, mail: dict[str, Any]) -> bool:
        try:
            return bool(await self.store.fetch(mail["key"]))
        except MissingPayload:
            return False


@asynccontextmanager
async def cleaning(recorder: Recorder) -> AsyncIterator[Recorder]:
    """The recorder, with what cleans up after it, as in the process."""
    task = asyncio.ensure_future(recorder.cleaner.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task})
        await recorder.cleaner.close()
