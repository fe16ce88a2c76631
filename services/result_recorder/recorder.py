"""Batches of records into Postgres, and what follows when all recipients of a submission are final.

In this order: statuses committed, payload deleted from the store, row of ``messages`` deleted. Whoever dies in between gets the batch
again and does the rest. A payload that cannot be deleted is left to the archiver's sweep.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from services.result_recorder.handler import Record, parse_frame
from services.result_recorder.metrics import BATCH_SECONDS, BATCH_SIZE, COMPLETED, LAG, PAYLOADS, ROWS, UNRECORDABLE
from services.result_recorder.rows import gather
from shared.amqp.consumer import Frame
from shared.log import get_logger
from shared.process import Runtime
from shared.storage.payloads import Store
from shared.storage.records import Complete, RecordTables, Rows, UnstorableRows
from shared.trouble import Unavailable

log = get_logger()

MOST_RECORDS = 1000
"""In one transaction (and what more comes in the same message)."""
DELETES = 16
"""Payloads deleted at once."""
DELETE_PATIENCE = 10.0
"""Seconds for all deletes of a batch; what is left then is the sweep's. Records are worth more than disk space."""

Placed = tuple[int, Record]
"""A record, behind the index of the frame that it came in."""


class Recorder:
    """Handles one batch after the other."""

    def __init__(self, tables: RecordTables, store: Store, *, client_prefix: str = "") -> None:
        self._tables = tables
        self._store = store
        self._client_prefix = client_prefix

    async def handle_batch(self, frames: Sequence[Frame]) -> Mapping[int, str]:
        """Record all frames; index → reason for those that cannot be. Raises Unavailable; then the same frames may come again."""
        began = time.perf_counter()
        now = int(time.time())
        if not self._tables.is_open:
            await self._tables.open()
        reasons: dict[int, str] = {}
        for records in self._parse(frames, reasons, now):
            refused = await self._store_all(records, now)
            reasons |= {records[place][0]: reason for place, reason in refused.items()}
            await self._settle([record for place, (_, record) in enumerate(records) if place not in refused], now)
        if reasons:
            await self._tables.note_break(now)
            UNRECORDABLE.inc(len(reasons))
        BATCH_SECONDS.observe(time.perf_counter() - began)
        return reasons

    def _parse(self, frames: Sequence[Frame], reasons: dict[int, str], now: int) -> Iterator[list[Placed]]:
        """The records of all frames, some MOST_RECORDS at a time: frames may hold many. Fills ``reasons``."""
        records: list[Placed] = []
        for index, frame in enumerate(frames):
            found, wrong = parse_frame(frame, now=now, client_prefix=self._client_prefix)
            if wrong:
                reasons[index] = wrong
            records += [(index, record) for record in found]
            if len(records) >= MOST_RECORDS:
                yield records
                records = []
        if records:
            yield records

    async def _store_all(self, records: Sequence[Placed], now: int) -> dict[int, str]:
        """Store in one transaction; when Postgres refuses the data, halve until the culprits stand alone. Place in ``records`` → reason."""
        rows = gather(record for _, record in records)
        try:
            await self._tables.store(rows, now=now)
        except UnstorableRows as error:
            if len(records) == 1:
                return {0: f"Postgres: {error}"}
            middle = len(records) // 2
            later = await self._store_all(records[middle:], now)
            return await self._store_all(records[:middle], now) | {middle + place: reason for place, reason in later.items()}
        _count(rows)
        BATCH_SIZE.observe(len(records))
        LAG.set(max(0.0, time.time() - max(record.moment for _, record in records)))
        return {}

    async def _settle(self, records: Sequence[Record], now: int) -> None:
        if not records:
            return
        ids = {record.id for record in records}
        complete = await self._tables.settle(ids=ids, transactions={record.transaction for record in records}, now=now)
        if not complete:
            return
        await self._delete_payloads(complete)
        await self._tables.delete_messages([submission.transaction for submission in complete])
        COMPLETED.inc(len(complete))

    async def _delete_payloads(self, complete: Sequence[Complete]) -> None:
        keys = [key for submission in complete for key in submission.datafiles]
        if not keys:
            return
        slots = asyncio.Semaphore(DELETES)

        async def delete(key: str) -> None:
            async with slots:
                try:
                    await self._store.delete(key)
                except Unavailable as error:
                    PAYLOADS.labels("failed").inc()
                    log.warning("payload not deleted, left to the sweep", key=key, reason=str(error))
                else:
                    PAYLOADS.labels("deleted").inc()

        tasks = [asyncio.ensure_future(delete(key)) for key in keys]
        _, late = await asyncio.wait(tasks, timeout=DELETE_PATIENCE)
        for task in late:
            task.cancel()
        if late:
            PAYLOADS.labels("failed").inc(len(late))
            log.warning("payloads not deleted in time, left to the sweep", payloads=len(late))
        for task in set(tasks) - late:
            task.result()


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
