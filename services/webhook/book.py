"""The endpoints as this process last saw them, and what it writes about them: failing, disabled, well again."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from services.webhook.metrics import DISABLED, ENDPOINTS, FRESH
from services.webhook.settings import ServiceSettings
from shared.delivery.webhooks import Endpoint, parse_endpoint
from shared.log import get_logger
from shared.storage import snapshot
from shared.storage.database import Connection, Database
from shared.storage.documents import fetch_documents
from shared.storage.webhooks import TABLE, clear_failing, disable_endpoint, disable_failing, mark_failing
from shared.trouble import Unavailable
from shared.wire.times import render_time

log = get_logger()

SKEW = timedelta(seconds=5)
"""By which the clocks of our machines may differ."""


class Snapshot(snapshot.Snapshot[Endpoint]):
    """The endpoints, disabled ones too."""

    what, table, count, fresh = "webhooks", TABLE, ENDPOINTS, FRESH

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings.webhook_snapshot)
        self._named: tuple[list[Endpoint], dict[str, Endpoint]] | None = None
        self._asked = self._read_at = datetime.min.replace(tzinfo=UTC)

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """By name. Raises Unavailable when none were ever seen."""
        items = self.items
        if self._named is None or self._named[0] is not items:
            self._named = items, {endpoint.name: endpoint for endpoint in items}
        return self._named[1]

    def knows(self, moment: datetime) -> bool:
        """Do they follow Postgres, and were they read after ``moment``? Then what somebody else has seen there before is among them."""
        return self.is_fresh and self._read_at - SKEW > moment

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """These are in force from now on, unless one of them cannot be read."""
        super().take(rows)
        self._read_at = self._asked

    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        self._asked = datetime.now(UTC)
        return await fetch_documents(connection, TABLE)

    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[Endpoint]:
        """The endpoints. Raises ValueError."""
        return [parse_endpoint(document) for document in documents]

    def render(self, item: Endpoint) -> Mapping[str, Any]:
        """An endpoint as it is kept on disk."""
        times = {"disabled_at": item.disabled_at, "failing_since": item.failing_since}
        state = {name: render_time(moment) for name, moment in times.items() if moment is not None}
        return {"name": item.name, **item.document, **state} | ({} if item.reason is None else {"reason": item.reason})


class Book:
    """Writes the state of endpoints. With Postgres down nothing is written: what is still so is written at the next request."""

    def __init__(self, database: Database, *, patience: timedelta) -> None:
        """``patience``: how long an endpoint may fail."""
        self._database = database
        self._patience = patience
        self._marked: set[str] = set()
        """Endpoints that this process has called failing; the snapshot may not say so yet."""

    async def tell_taken(self, endpoint: Endpoint, now: datetime) -> None:
        """It has taken something."""
        if endpoint.failing_since is None and endpoint.name not in self._marked:
            return
        try:
            async with self._database.connection() as connection:
                await clear_failing(connection, endpoint.name, now)
        except Unavailable as error:
            log.warning("an endpoint that is well again stands as failing", endpoint=endpoint.name, reason=str(error))
            return
        self._marked.discard(endpoint.name)
        log.info("an endpoint is well again", endpoint=endpoint.name)

    async def tell_failure(self, endpoint: Endpoint, reason: str, now: datetime) -> bool:
        """It has failed. True: it is disabled now."""
        try:
            async with self._database.connection() as connection:
                if await mark_failing(connection, endpoint.name, reason, now):
                    log.warning("an endpoint fails", endpoint=endpoint.name, reason=reason)
                self._marked.add(endpoint.name)
                text = f"nothing was taken for {self._patience}; the last: {reason}"
                is_over = await disable_failing(connection, endpoint.name, text, self._patience, now)
        except Unavailable as error:
            log.warning("that an endpoint fails could not be written", endpoint=endpoint.name, reason=str(error))
            return False
        return self._tell_disabled(endpoint, text) if is_over else False

    async def disable(self, endpoint: Endpoint, reason: str, now: datetime) -> bool:
        """It wants no more. False: that could not be written."""
        try:
            async with self._database.connection() as connection:
                is_new = await disable_endpoint(connection, endpoint.name, reason, now)
        except Unavailable as error:
            log.warning("an endpoint could not be disabled", endpoint=endpoint.name, reason=str(error))
            return False
        return self._tell_disabled(endpoint, reason) if is_new else True

    def _tell_disabled(self, endpoint: Endpoint, reason: str) -> bool:
        self._marked.discard(endpoint.name)
        DISABLED.labels(endpoint.name).inc()
        log.error("endpoint disabled; `mailwarren webhooks enable` starts it again", endpoint=endpoint.name, reason=reason)
        return True
