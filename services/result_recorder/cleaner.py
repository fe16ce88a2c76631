"""Deletes what complete submissions leave behind, beside the recording and never in its way.

The statuses are committed by then. A batch of payloads is deleted from the store, then the rows of ``messages``. Whatever ends this in
between leaves a row that is complete: the look through all rows, at the start and every 10 minutes, finds it and does the rest. The same
becomes of what there is no room for here while the store is slow, as soon as there is. A payload that cannot be deleted is left to the
archiver's sweep; its row goes, because the sweep looks for payloads without a row.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from services.result_recorder.metrics import COMPLETED, PAYLOADS, UNCLEANED
from shared.log import get_logger
from shared.storage.completion import Complete, forget_submissions, list_submissions, settle_submissions
from shared.storage.database import Database
from shared.storage.payloads import Store
from shared.trouble import Unavailable

log = get_logger()

MOST_WAITING = 20_000
"""Submissions that wait here."""
BATCH = 1000
"""Submissions whose payloads are deleted at once."""
PATIENCE = 30.0
"""Seconds for the payloads of a batch."""
LOOK_INTERVAL = timedelta(minutes=10)
UNTOUCHED = timedelta(minutes=5)
"""Rows that changed since then are likely on their way here."""
_BREATH = 0.05
"""Seconds between two pages of a look: recording comes first."""


class Cleaner:
    """One task; ``run`` it."""

    def __init__(self, store: Store, database: Database, *, most: int = MOST_WAITING) -> None:
        """``most``: submissions that wait here."""
        self._store = store
        self._database = database
        self._most = most
        self._waiting: deque[Complete] = deque()
        self._some = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._missed = asyncio.Event()
        """There was no room for some."""

    def put(self, complete: Sequence[Complete]) -> None:
        """Take over as many as there is room for; a later look finds the others. Returns at once."""
        room = max(0, self._most - len(self._waiting))
        self._waiting += complete[:room]
        if len(complete) > room:
            UNCLEANED.inc(len(complete) - room)
            self._missed.set()
        if self._waiting:
            self._some.set()
            self._idle.clear()

    async def run(self) -> None:
        """Clean what is put here, and look for what was left, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._clean_on())
            tasks.create_task(self._look_on())

    async def finish(self, within: timedelta) -> None:
        """Return when nothing waits any more, or it takes too long."""
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._idle.wait()
        except TimeoutError:
            log.info("payloads of finished mail are left for the next start", submissions=len(self._waiting))

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def look(self, untouched: timedelta = UNTOUCHED) -> None:
        """Go through all rows that have not changed for so long, and take over those that are complete. Raises Unavailable."""
        after, before = "", int(time.time() - untouched.total_seconds())
        while True:
            async with self._database.connection() as connection:
                page = await list_submissions(connection, after, before=before)
                count, complete = await settle_submissions(connection, page) if page else (0, [])
            if not page:
                return
            COMPLETED.inc(count - len(complete))
            if complete:
                # One page at a time: what a look finds has waited already, and must not take the room of what comes.
                await self._idle.wait()
                self.put(complete)
            after = page[-1]
            await asyncio.sleep(_BREATH)

    async def _look_on(self) -> None:
        untouched = UNTOUCHED
        while True:
            try:
                await self.look(untouched)
            except Unavailable as error:
                log.debug("not looked for what was left", reason=str(error))
            untouched = await self._wait_for_next_look()

    async def _wait_for_next_look(self) -> timedelta:
        """How long the rows to be looked at have not changed."""
        try:
            async with asyncio.timeout(LOOK_INTERVAL.total_seconds()):
                await self._missed.wait()
                await self._idle.wait()
        except TimeoutError:
            return UNTOUCHED
        self._missed.clear()
        return timedelta(0)

    async def _clean_on(self) -> None:
        while True:
            await self._some.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            await self._clean(batch)
            if not self._waiting:
                self._some.clear()
                self._idle.set()

    async def _clean(self, batch: Sequence[Complete]) -> None:
        keys = {key for one in batch for key in one.datafiles}
        try:
            async with asyncio.timeout(PATIENCE):
                failures = dict(await self._store.delete_many(keys))
        except (Unavailable, TimeoutError) as error:
            failures = dict.fromkeys(keys, str(error) or f"no answer within {PATIENCE:g} s")
        PAYLOADS.labels("deleted").inc(len(keys) - len(failures))
        if failures:
            PAYLOADS.labels("failed").inc(len(failures))
            key, reason = next(iter(failures.items()))
            log.warning("payloads not deleted, left to the sweep", payloads=len(failures), key=key, reason=reason)
        try:
            async with self._database.connection() as connection:
                await forget_submissions(connection, batch)
        except Unavailable as error:
            log.debug("rows of finished mail are left for a later look", reason=str(error))
