"""Batches of records into Postgres.

In this order: statuses committed, payload deleted from the store, row of ``messages`` deleted, the last two by ``cleaner``: the batch is
acked without waiting for them. Whoever dies before the ack gets the batch again and does the rest.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.result_recorder.cleaner import Cleaner
from services.result_recorder.handler import Record
from services.result_recorder.lag import Lag
from services.result_recorder.metrics import BATCH_SECONDS, BATCH_SIZE, COMPLETED, ROWS, UNRECORDABLE
from services.result_recorder.parsing import Parsing, Placed
from services.result_recorder.rows import gather
from shared.amqp.frame import Frame
from shared.log import get_logger
from shared.process import Runtime
from shared.storage.database import Database
from shared.storage.payloads import Store
from shared.storage.records import RecordTables, Rows, UnstorableRows
from shared.trouble import Unavailable

log = get_logger()

ABREAST = 2
"""Batches at once: while one waits for the disk, or is settled, the next is stored. They may as well be two recorders'."""
_READ_AHEAD = ABREAST + 1
"""Batches: those that are stored, and one that waits."""


class Recorder:
    """Handles one batch after the other."""

    def __init__(
        self,
        tables: RecordTables,
        store: Store,
        *,
        client_prefix: str = "",
    ) -> None:
        self.cleaner = Cleaner(store, Database(tables.settings, name="result-recorder cleans"))
        """Takes over what complete submissions leave behind; somebody must run it."""
        self.lag = Lag()
        self._settings = tables.settings
        self._free = [tables]
        """Connections that no batch uses."""
        self._client_prefix = client_prefix
        self._ahead: deque[Parsing] = deque(maxlen=_READ_AHEAD)

    async def read_ahead(self, frames: Sequence[Frame]) -> None:
        """Parse what ``handle_batch`` gets next, while it has another batch in hand."""
        parsing = self._parse(frames)
        self._ahead.append(parsing)
        await parsing.read_ahead()

    async def handle_batch(self, frames: Sequence[Frame]) -> Mapping[int, str]:
        """Record all frames; index → reason for those that cannot be. Raises Unavailable; then the same frames may come again."""
        began = time.perf_counter()
        self.lag.begin(time.time())
        is_done = False
        try:
            reasons = await self._record(self._take_parsing(frames), int(time.time()))
            is_done = True
        finally:
            self.lag.end(time.time(), failed=not is_done)
        BATCH_SECONDS.observe(time.perf_counter() - began)
        return reasons

    def _parse(self, frames: Sequence[Frame]) -> Parsing:
        return Parsing(frames, now=int(time.time()), client_prefix=self._client_prefix)

    def _take_parsing(self, frames: Sequence[Frame]) -> Parsing:
        parsing = next((one for one in self._ahead if one.frames is frames), None)
        if parsing is None:
            return self._parse(frames)
        # Used up, whatever becomes of it: when the frames come again they are read again.
        self._ahead.remove(parsing)
        return parsing

    async def _record(self, parsing: Parsing, now: int) -> dict[int, str]:
        tables = self._free.pop() if self._free else RecordTables(self._settings)
        try:
            if not tables.is_open:
                await tables.open()
            reasons: dict[int, str] = {}
            while records := parsing.take():
                refused = await self._store_all(tables, records, now)
                reasons |= {records[place][0]: reason for place, reason in refused.items()}
                await self._settle(tables, [record for place, (_, record) in enumerate(records) if place not in refused], now)
            reasons |= parsing.reasons
            if reasons:
                await tables.note_break(now)
                UNRECORDABLE.inc(len(reasons))
        finally:
            self._free.append(tables)
        return reasons

    async def _store_all(self, tables: RecordTables, records: Sequence[Placed], now: int) -> dict[int, str]:
        """Store in one transaction; when Postgres refuses the data, halve until the culprits stand alone. Place in ``records`` → reason."""
        rows = gather(record for _, record in records)
        try:
            await tables.store(rows, now=now)
        except UnstorableRows as error:
            if len(records) == 1:
                return {0: f"Postgres: {error}"}
            middle = len(records) // 2
            later = await self._store_all(tables, records[middle:], now)
            sooner = await self._store_all(tables, records[:middle], now)
            return sooner | {middle + place: reason for place, reason in later.items()}
        _count(rows)
        BATCH_SIZE.observe(len(records))
        self.lag.commit(max(record.moment for _, record in records), time.time())
        return {}

    async def _settle(self, tables: RecordTables, records: Sequence[Record], now: int) -> None:
        if not records:
            return
        ids = {record.id for record in records}
        count, complete = await tables.settle(ids=ids, transactions={record.transaction for record in records}, now=now)
        COMPLETED.inc(count)
        self.cleaner.put(complete)

    async def close(self) -> None:
        """Close the connections; batches under way are given up."""
        await asyncio.gather(self.cleaner.close(), *(tables.close() for tables in self._free), return_exceptions=True)


async def wait_for_database(tables: RecordTables, runtime: Runtime) -> None:
    """Return when Postgres is there, migrated and writable; log once why not, and once when it is."""
    told = ""
    pause = 0.25
    while True:
        try:
            await tables.open()
        except Unavailable as error:
            await tables.close()
            if str(error) != told:
                told = str(error)
                log.warning("waiting for Postgres", reason=told)
            await runtime.pause(timedelta(seconds=pause))
            if runtime.stopping.is_set():
                return
            pause = min(pause * 2, 5.0)
        else:
            if told:
                log.info("Postgres is back")
            return


def _count(rows: Rows) -> None:
    ROWS.labels("messages").inc(len(rows.submissions))
    ROWS.labels("delivery_attempts").inc(len(rows.attempts))
    ROWS.labels("message_status").inc(len(rows.statuses))
