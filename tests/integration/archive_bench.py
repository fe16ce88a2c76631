"""What tests of the archiver have in common: a database, a message store, and old rows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from services.archiver.handler import archive_once
from services.archiver.report import Report
from services.archiver.settings import ServiceSettings
from shared.settings import load
from shared.storage.database import Database
from shared.storage.directory import DirectoryStore
from shared.storage.payloads import MissingPayload

DAY = 86_400
NOW = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())


@dataclass
class Bench:
    """A database, a store, and settings of the archiver."""

    uri: str
    database: Database
    store: DirectoryStore
    settings: ServiceSettings

    async def archive(self, *, now: int = NOW, dry_run: bool = False, doubt: str = "", **options: str) -> Report:
        """One run."""
        settings = load(ServiceSettings, options={"db-uri": self.uri} | {k.replace("_", "-"): v for k, v in options.items()})
        return await archive_once(self.database, self.store, settings.settings, dry_run=dry_run, now=now, doubt=doubt)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What a statement returns."""
        with psycopg.connect(self.uri, row_factory=dict_row) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def add_status(self, count: int, *, age: int, prefix: str = "m") -> None:
        """Verdicts last changed ``age`` seconds before NOW."""
        self.rows(
            """
            INSERT INTO message_status
            SELECT %s || n, 't', 1, '<a@b>', 'Hello', 'a@b', 'c@d', 'smtp', 'delivered', 'message', 250, NULL, 'd',
                   '[{"attempt": 1}]', %s, %s, %s FROM generate_series(1, %s) n
            """,
            prefix, NOW - age, NOW - age, NOW - age - DAY, count,
        )  # fmt: skip

    def count(self, table: str) -> int:
        """Rows of one of the two tables."""
        queries = {
            "message_status": "SELECT count(*) AS n FROM message_status",
            "message_status_archive": "SELECT count(*) AS n FROM message_status_archive",
        }
        return int(self.rows(queries[table])[0]["n"])

    def months(self) -> list[str]:
        """The months of the archive."""
        query = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'message_status_archive'::regclass ORDER BY 1"
        return [row["name"].removeprefix("message_status_archive_") for row in self.rows(query)]

    async def keep_up(self, *, since: int, noted: int = NOW) -> None:
        """The recorder says that it has kept up."""
        self.rows("DELETE FROM recorder_progress")
        self.rows("INSERT INTO recorder_progress VALUES ('records', %s, %s, %s)", since, since, noted)

    async def has_payload(self, key: str) -> bool:
        """Is it in the store?"""
        try:
            return bool(await self.store.fetch(key))
        except MissingPayload:
            return False


@asynccontextmanager
async def open_bench(uri: str, payloads: Path) -> AsyncIterator[Bench]:
    """A bench with this database and this folder for the message store."""
    settings = ServiceSettings(db_uri=uri)
    bench = Bench(uri, Database(settings), DirectoryStore(payloads), settings)
    yield bench
    await bench.database.close()
    await bench.store.close()
