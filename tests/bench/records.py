"""What the pipeline has written down: rows in Postgres, results read from ``success``, payloads in the message store."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg

from deploy.stack.temporary import TemporaryStack
from tests.bench.drain import read_count

# The time keeps the count away from the rows of earlier rounds: it is asked for again and again.
_COUNT = "SELECT count(*) FROM message_status WHERE updated_at >= %s AND destination = %s AND status = 'delivered'"
_RECIPIENTS = "SELECT count(DISTINCT recipient) FROM message_status WHERE destination = %s AND status = 'delivered'"
_COUNT_BELOW = "SELECT count(*) FROM message_status WHERE updated_at >= %s AND destination LIKE %s AND status = 'delivered'"
_UNDER_WAY = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM delivery_attempts)"


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a stack."""

    database: psycopg.Connection
    payloads: Path
    """The message store's folder."""
    results: Path
    """The file with the count of ``tests.bench.drain``."""

    @classmethod
    def of(cls, stack: TemporaryStack, results: Path) -> Self:
        """The records of this stack."""
        database = psycopg.connect(stack.postgres.address(), autocommit=True)
        return cls(database, Path(stack.env["STORAGE_URL"].removeprefix("dir://")), results)

    def count_rows(self, domain: str, since: float) -> int:
        """Rows of delivered mail to ``domain``, written from ``since`` (unix seconds) on."""
        return self._ask(_COUNT, int(since) - 2, domain)

    def count_rows_below(self, parent: str, since: float) -> int:
        """The same for all domains below ``parent``."""
        return self._ask(_COUNT_BELOW, int(since) - 2, f"%.{parent}")

    def count_recipients(self, domain: str) -> int:
        """Different recipients in such rows."""
        return self._ask(_RECIPIENTS, domain)

    def count_under_way(self) -> int:
        """Rows of mail that is not final, of anybody."""
        return self._ask(_UNDER_WAY)

    def count_payloads(self) -> int:
        """Files in the message store."""
        return sum(len(files) for _, _, files in os.walk(self.payloads))

    def count_results(self) -> int:
        """Results read, of anybody."""
        return read_count(self.results)

    def _ask(self, query: str, *values: object) -> int:
        row = self.database.execute(query.encode(), values).fetchone()
        assert row is not None
        return int(row[0])
