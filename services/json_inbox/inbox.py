"""What the HTTP interface and the consumer of actions share: taking responsibility for mail, within bounds."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from services.json_inbox.access import ALL, Caller
from services.json_inbox.intake import Door
from services.json_inbox.problems import Problem, unavailable
from services.json_inbox.room import Room
from services.json_inbox.settings import ServiceSettings
from shared.acceptance import Acceptance, Accepted, Memory, PartlyPublished, PayloadStore, Submission, TooLarge
from shared.amqp.accepting import AcceptingPublisher
from shared.amqp.keys import outcome_keys
from shared.log import get_logger
from shared.process import Runtime
from shared.storage.idempotency import Claim
from shared.trouble import BrokerLost, Unavailable

log = get_logger()


class Inbox:
    """The state of the process."""

    def __init__(
        self, settings: ServiceSettings, runtime: Runtime, store: PayloadStore, publisher: AcceptingPublisher, memory: Memory
    ) -> None:
        self.settings = settings
        self.runtime = runtime
        self._publisher = publisher
        self._acceptance = Acceptance(
            store,
            publisher,
            settings.rabbitmq_inbox,
            settings.inbox_threshold,
            settings.data_processing_timeout,
            memory,
            settings.storage_max_message,
        )
        self.reserved = outcome_keys(settings, retries=settings.rabbitmq_retries).reserved
        self.room = Room(settings.http_max_memory, settings.http_body_timeout)
        self._in_hand = 0
        self._freed = asyncio.Event()

    def open_door(
        self,
        remote_ip: str,
        *,
        channel: str = "json",
        caller: Caller | None = None,
        claim: Claim | None = None,
        digest: str = "",
    ) -> Door:
        """What a mail that comes in now is told.

        ``caller``: None is ourselves. ``claim``: of a request with an Idempotency-Key. ``digest`` of the body, by which a request
        without one is known again when a part of it was accepted; "" = it is not.
        """
        return Door(
            remote_ip,
            self.settings.http_public_hostname,
            self.reserved,
            datetime.now(UTC) if claim is None else claim.began,
            str(uuid4() if claim is None else claim.seed),
            channel,
            token=caller.token if caller else None,
            scopes=caller.scopes if caller else ALL,
            key_prefix=self.settings.client_key_prefix,
            max_carried=self.settings.storage_max_message if self.settings.inbox_threshold is None else None,
            client=caller.identity if caller else "",
            digest=digest,
            seed=claim.seed if claim else None,
        )

    async def accept(self, submissions: Sequence[Submission], *, waits: bool = False) -> list[list[Accepted]]:
        """Store and publish; return when every message is confirmed. Raises Problem (503) when that is not possible now.

        ``waits``: when too much is in hand, wait for a turn (a stream that is half done).
        """
        if waits:
            await self._wait_for_turn()
        task = self.start(submissions)
        await asyncio.wait((task,), timeout=self.settings.data_processing_timeout.total_seconds())
        if not task.done():
            log.warning("the broker or the store is slow: answered 503, outcome unknown", messages=len(submissions))
            raise unavailable("storing and publishing takes too long: the outcome is unknown, send again")
        return await self.finish(task)

    def start(self, submissions: Sequence[Submission]) -> "asyncio.Task[list[list[Accepted]]]":
        """Begin to store and publish; ``finish`` waits for the end. Raises Problem (503) when that is not possible now."""
        if self._publisher.trouble is not None:
            # Before anything is stored: no payload without a message is left behind.
            raise unavailable("RabbitMQ is out of reach: nothing was accepted, send again")
        if self._is_full:
            raise unavailable(
                f"more than http-max-requests, {self.settings.http_max_requests}, are in hand: nothing was accepted"
            )
        self._in_hand += 1
        # Never cancelled: a publish that is cut off leaves its channel out of step. It ends when the broker answers or is lost.
        task = asyncio.ensure_future(self._acceptance.accept(submissions))
        task.add_done_callback(self._done)
        return task

    async def finish(self, task: "asyncio.Task[list[list[Accepted]]]") -> list[list[Accepted]]:
        """What ``start`` has begun, when it is done. Raises Problem (503) that says whether something was accepted."""
        try:
            accepted = await asyncio.shield(task)
        except (Unavailable, BrokerLost, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not task.cancelled():
                raise
            log.warning("not accepted", reason=str(error))
            raise _explain(error) from None
        except TooLarge:
            most = self.settings.storage_max_message
            raise Problem(
                413,
                f"a mail with its properties is larger than RabbitMQ takes in one message, {most} octets: nothing was accepted",
            ) from None
        for group in accepted:
            for one in group:
                log.info("accepted", id=one.id, recipient=one.recipient)
        return accepted

    @property
    def _is_full(self) -> bool:
        return self._in_hand >= self.settings.http_max_requests

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(self.settings.data_processing_timeout.total_seconds()):
                while self._is_full:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise unavailable("too much is in hand") from None

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._in_hand -= 1
        self._freed.set()
        if not task.cancelled():
            task.exception()


def _explain(error: BaseException) -> Problem:
    """What a client is told of a publish that failed."""
    if isinstance(error, PartlyPublished):
        count, total = sum(error.confirmed), len(error.confirmed)
        return unavailable(
            f"only {count} of {total} messages were accepted: send again within an hour, and those are not sent twice"
        )
    if isinstance(error, BrokerLost):
        return unavailable("RabbitMQ was lost before it confirmed: the outcome is unknown, send again")
    return unavailable("the message store or RabbitMQ is out of reach: nothing was accepted, send again")
