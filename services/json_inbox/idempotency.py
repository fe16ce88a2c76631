"""``Idempotency-Key``: a request that is sent twice is answered twice, and its mail is sent once.

It works through Postgres, so that every json-inbox knows of every key; without Postgres such a request is answered 503, because nobody
could know whether it was done already. A request is claimed, done, and its answer kept before the client gets it. What is refused before
anything was published gives its key back. If the process dies in between, the key stays in work until ``lease`` is over; then the next
request with it publishes again, with the same ids and the same bytes, so that a sender's journal knows them.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from services.json_inbox.access import Caller
from services.json_inbox.inbox import Inbox
from services.json_inbox.problems import Problem, unavailable
from shared.acceptance import Accepted, Submission
from shared.log import get_logger
from shared.storage.database import Database
from shared.storage.idempotency import (
    Answered,
    Claim,
    InWork,
    Taken,
    answer_request,
    claim_request,
    hand_back,
    sweep_requests,
    withdraw,
)
from shared.trouble import Unavailable

log = get_logger()

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
PATIENCE = timedelta(seconds=10)
"""For Postgres, at each step."""
AGAIN = (1, 5, 15, 60, 300)
"""Seconds between tries to keep an answer while Postgres is down."""
SWEEP_EVERY = timedelta(minutes=10)

Accepts = Sequence[Sequence[Accepted]]


class Idempotency:
    """Does requests with a key, once."""

    def __init__(self, inbox: Inbox, database: Database) -> None:
        self._inbox = inbox
        self._database = database
        self._patience = inbox.settings.data_processing_timeout
        self._works: set[asyncio.Task[Any]] = set()

    async def claim(self, key: str, digest: str, caller: Caller) -> Claim | Response:
        """The claim, or the answer that was given before. Raises Problem (409), or Unavailable without Postgres."""
        async with self._database.connection(within=PATIENCE) as connection:
            found = await claim_request(
                connection, caller.token or "", key, digest, now=datetime.now(UTC), lease=self._patience * 2
            )
        if isinstance(found, Taken):
            raise Problem(409, "the key was used for another request within the last 24 hours", field=HEADER)
        if isinstance(found, InWork):
            detail = "the request with this key is in work: its answer is not there yet"
            raise Problem(409, detail, field=HEADER, headers={"Retry-After": str(found.wait)})
        if isinstance(found, Answered):
            return Response(found.body, found.status, REPLAYED, media_type="application/json")
        return found

    @asynccontextmanager
    async def checking(self, claim: Claim | None) -> AsyncIterator[None]:
        """The request is looked at. When that ends with an error nothing was published, and the key is free again."""
        try:
            yield
        except BaseException:
            if claim is not None:
                await self._withdraw(claim)
            raise

    async def _withdraw(self, claim: Claim) -> None:
        """If Postgres is there; else the key is free when the lease is over."""
        with suppress(Unavailable):
            async with self._database.connection(within=PATIENCE) as connection:
                await withdraw(connection, claim)

    async def accept(
        self, claim: Claim, submissions: Sequence[Submission], render: Callable[[Accepts], dict[str, Any]]
    ) -> Response:
        """Store, publish, keep the answer, answer. Raises Problem (503); then the key may be used again for the same request."""
        try:
            accepting = self._inbox.start(submissions)
        except Problem:
            await self._hand_back(claim)
            raise
        # A task of its own: it keeps the answer even when this request is given up before.
        work: asyncio.Task[Response] = self._keep(self._complete(claim, accepting, render))
        await asyncio.wait((work,), timeout=self._patience.total_seconds())
        if not work.done():
            raise unavailable("storing and publishing takes too long: the outcome is unknown, send again with the same key")
        return await work

    async def sweep(self) -> None:
        """Remove what is older than 24 hours, now and then, for ever."""
        while True:
            with suppress(Unavailable):
                async with self._database.connection() as connection:
                    count = await sweep_requests(connection, now=datetime.now(UTC))
                if count:
                    log.info("old answers to requests with a key removed", count=count)
                    continue
            await asyncio.sleep(SWEEP_EVERY.total_seconds())

    async def _complete(
        self, claim: Claim, accepting: "asyncio.Task[list[list[Accepted]]]", render: Callable[[Accepts], dict[str, Any]]
    ) -> Response:
        try:
            accepted = await self._inbox.finish(accepting)
        except Problem:
            await self._hand_back(claim)
            raise
        body = orjson.dumps(render(accepted))
        if not await self._store(claim, 202, body.decode()):
            self._keep(self._store_later(claim, 202, body.decode()))
        return Response(body, 202, media_type="application/json")

    async def _store(self, claim: Claim, status: int, body: str) -> bool:
        try:
            async with self._database.connection(within=PATIENCE) as connection:
                await answer_request(connection, claim, status, body, now=datetime.now(UTC))
        except Unavailable as error:
            # The mail is on its way: that is the answer, whatever becomes of the row.
            log.warning("the answer to a request with a key could not be kept yet", reason=str(error))
            return False
        return True

    async def _store_later(self, claim: Claim, status: int, body: str) -> None:
        for pause in AGAIN:
            await asyncio.sleep(pause)
            if await self._store(claim, status, body):
                return
        log.error("the answer to a request with a key was not kept: asked again, it publishes again, with the same ids")

    async def _hand_back(self, claim: Claim) -> None:
        with suppress(Unavailable):
            async with self._database.connection(within=PATIENCE) as connection:
                await hand_back(connection, claim)

    def _keep(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._works.add(task)
        task.add_done_callback(self._drop)
        return task

    def _drop(self, task: "asyncio.Task[Any]") -> None:
        self._works.discard(task)
        if not task.cancelled():
            task.exception()


def find_key(request: Request) -> str | None:
    """The key of a request, None when it has none. Raises Problem."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    key = given[0]
    if len(given) > 1 or not 0 < len(key) <= 255 or not (key.isascii() and key.isprintable()):
        raise Problem(400, f"{key[:80]!r}: expected one key of 1 to 255 printable ASCII characters", field=HEADER)
    return key


def digest_request(request: Request, body: bytes) -> str:
    """What makes two requests the same: method, path, query, the kind of body and the body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    digest = hashlib.sha256()
    for part in (request.method, request.url.path, request.url.query, kind):
        digest.update(part.encode() + b"\0")
    digest.update(body)
    return digest.hexdigest()
