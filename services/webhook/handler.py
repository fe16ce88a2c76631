"""Post one batch, and say what becomes of it: taken, to be posted again later, or given up."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.webhook.batch import Batch, parse_batch
from services.webhook.book import Book
from services.webhook.client import Answer, Client, Result
from services.webhook.line import Busy, Line
from services.webhook.metrics import DROPPED, POST_SECONDS, POSTS, TAKEN, WAITING
from services.webhook.settings import ServiceSettings
from shared.amqp.frame import Frame
from shared.delivery.webhooks import Endpoint
from shared.log import get_logger
from shared.wire.publication import Publication, Step

log = get_logger()

MOST_SINGLE_REFUSALS = 3
"""Failures in a row from which on also a refusal of one event alone makes an endpoint rest: it is not the event, then."""


class Poster:
    """The handler of the queue ``webhook.batches``."""

    def __init__(
        self,
        settings: ServiceSettings,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        client: Client,
        book: Book,
        *,
        knows: Callable[[datetime], bool],
    ) -> None:
        """``endpoints``: those in force; raises Unavailable when none were ever seen. ``knows``: is all among them that was in Postgres
        at a moment?"""
        self._settings = settings
        self._endpoints = endpoints
        self._knows = knows
        self._client = client
        self._book = book
        self._lines: dict[str, tuple[Endpoint, Line]] = {}
        """By name, with the endpoint as it was when its line was last used."""

    async def handle(self, frame: Frame) -> Step:
        """Raises BadMessage or Unavailable."""
        batch, now = parse_batch(frame), datetime.now(UTC)
        endpoints = self._endpoints()
        endpoint = endpoints.get(batch.endpoint)
        is_wanted = endpoint is not None and endpoint.is_enabled is not False
        if not is_wanted and self._knows(batch.created):
            return self._drop(batch, "removed" if endpoint is None else "disabled")
        if batch.is_over(now, self._settings.webhook_max_age):
            return self._drop(batch, "expired")
        if batch.due is not None and now < batch.due:
            return Step((self._wait(batch, batch.due, now, "early"),))
        if endpoint is None or not is_wanted:
            # Another process may know better: it has made the batch.
            return self._bounce(batch, timedelta(0), now, "stale")
        # Places in hand are shared: an endpoint that is slow leaves those of the others alone.
        share = max(1, self._settings.webhook_batches_qos // max(1, len(endpoints)))
        line = self._find_line(endpoint)
        try:
            async with line.turn(share):
                answer = await self._post(endpoint, batch)
                # Told inside the turn: the next one in the line must see it.
                rest = self._tell_line(line, batch, answer)
        except Busy as busy:
            return self._bounce(batch, busy.after, now, busy.reason)
        return await self._conclude(endpoint, batch, answer, rest)

    async def _post(self, endpoint: Endpoint, batch: Batch) -> Answer:
        began = time.perf_counter()
        answer = await self._client.post(endpoint, batch.id, batch.body)
        POST_SECONDS.observe(time.perf_counter() - began)
        POSTS.labels(endpoint.name, str(answer.result)).inc()
        told = {"reason": answer.reason} if answer.reason else {}
        attempt = batch.attempts + 1
        log.info(
            "posted",
            endpoint=endpoint.name,
            batch=batch.id,
            events=len(batch.events),
            attempt=attempt,
            result=answer.result,
            **told,
        )
        return answer

    def _tell_line(self, line: Line, batch: Batch, answer: Answer) -> timedelta:
        """How long the endpoint rests."""
        if answer.result is Result.TAKEN:
            line.succeed()
            return timedelta(0)
        if answer.result is Result.REFUSED and line.failures < MOST_SINGLE_REFUSALS:
            # Perhaps one event alone is bad: that must not hold up the others.
            line.failures += 1
            return timedelta(0)
        asked = self._bound(answer.retry_after)
        return line.fail(lambda failures: max(asked, batch.wait_after(failures, self._settings.webhook_retry_interval)))

    def _bound(self, retry_after: timedelta | None) -> timedelta:
        return min(retry_after or timedelta(0), self._settings.webhook_retry_after_max)

    async def _conclude(self, endpoint: Endpoint, batch: Batch, answer: Answer, rest: timedelta) -> Step:
        now = datetime.now(UTC)
        if answer.result is Result.TAKEN:
            TAKEN.labels(endpoint.name).inc(len(batch.events))
            await self._book.tell_taken(endpoint, now)
            return Step()
        if answer.result is Result.GONE:
            if await self._book.disable(endpoint, answer.reason, now):
                return self._drop(batch, "disabled")
        elif await self._book.tell_failure(endpoint, answer.reason, now):
            return self._drop(batch, "disabled")
        tried = replace(batch, attempts=batch.attempts + 1, bounces=0)
        wait = tried.wait_after(tried.attempts, self._settings.webhook_retry_interval)
        due = now + max(wait, rest, self._bound(answer.retry_after))
        if answer.result is Result.REFUSED and len(batch.events) > 1:
            return Step(tuple(self._wait(one, due, now, "failed") for one in tried.divide()))
        return Step((self._wait(tried, due, now, "failed"),))

    def _bounce(self, batch: Batch, least: timedelta, now: datetime, reason: str) -> Step:
        """No turn now, and nothing counted; longer each time, so that a batch that waits costs less and less."""
        wait = max(least, batch.wait_after_bounce())
        return Step((self._wait(replace(batch, bounces=batch.bounces + 1), now + wait, now, reason),))

    def _wait(self, batch: Batch, due: datetime, now: datetime, reason: str) -> Publication:
        WAITING.labels(reason).inc()
        return batch.render_wait(self._settings.webhook_batches, due, now)

    def _drop(self, batch: Batch, reason: str) -> Step:
        DROPPED.labels(batch.endpoint[:100], reason).inc(len(batch.events))
        log.warning("events dropped", endpoint=batch.endpoint[:100], batch=batch.id, events=len(batch.events), reason=reason)
        return Step()

    def _find_line(self, endpoint: Endpoint) -> Line:
        known = self._lines.get(endpoint.name)
        if known is not None and not _is_fresh(known[0], endpoint):
            line = known[1]
        else:
            settings = self._settings
            line = Line(settings.webhook_connections, timeout=settings.webhook_timeout)
        self._lines[endpoint.name] = endpoint, line
        return line


def _is_fresh(before: Endpoint, now: Endpoint) -> bool:
    """Do failures seen before say nothing any more? It was enabled again, another process had something taken, or it is elsewhere."""
    is_well_again = before.failing_since is not None and now.failing_since != before.failing_since
    return is_well_again or (before.url, before.secret) != (now.url, now.secret)
