"""What the HTTP interface and the consumer of actions share: taking responsibility for mail, within bounds."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from services.json_inbox.intake import Door
from services.json_inbox.problems import unavailable
from services.json_inbox.settings import ServiceSettings
from shared.acceptance import Acceptance, Accepted, PayloadStore, Submission
from shared.amqp.accepting import AcceptingPublisher
from shared.amqp.keys import outcome_keys
from shared.log import get_logger
from shared.process import Runtime
from shared.trouble import BrokerLost, Unavailable

log = get_logger()


class Inbox:
    """The state of the process."""

    def __init__(self, settings: ServiceSettings, runtime: Runtime, store: PayloadStore, publisher: AcceptingPublisher) -> None:
        self.settings = settings
        self.runtime = runtime
        self._publisher = publisher
        self._acceptance = Acceptance(
            store, publisher, settings.rabbitmq_inbox, settings.storage_threshold, settings.data_processing_timeout
        )
        self.reserved = outcome_keys(settings, retries=settings.rabbitmq_retries).reserved
        self._in_hand = 0

    def open_door(self, remote_ip: str, *, channel: str = "json") -> Door:
        """What a mail that comes in now is told."""
        return Door(remote_ip, self.settings.http_public_hostname, self.reserved, datetime.now(UTC), str(uuid4()), channel)

    async def accept(self, submissions: Sequence[Submission]) -> list[list[Accepted]]:
        """Store and publish; return when every message is confirmed. Raises Problem (503) when that is not possible now."""
        if self._publisher.trouble is not None:
            # Before anything is stored: no payload without a message is left behind.
            raise unavailable("RabbitMQ is out of reach: nothing was accepted, send again")
        if self._in_hand >= self.settings.http_max_requests:
            raise unavailable(
                f"more than http-max-requests, {self.settings.http_max_requests}, are in hand: nothing was accepted"
            )
        self._in_hand += 1
        # Never cancelled: a publish that is cut off leaves its channel out of step. It ends when the broker answers or is lost.
        task = asyncio.ensure_future(self._acceptance.accept(submissions))
        task.add_done_callback(self._done)
        await asyncio.wait((task,), timeout=self.settings.data_processing_timeout.total_seconds())
        if not task.done():
            log.warning("the broker or the store is slow: answered 503, outcome unknown", messages=len(submissions))
            raise unavailable("storing and publishing takes too long: the outcome is unknown, send again")
        try:
            accepted = task.result()
        except (Unavailable, BrokerLost, asyncio.CancelledError) as error:
            log.warning("nothing accepted", reason=str(error))
            raise unavailable("the message store or RabbitMQ is out of reach: nothing was accepted, send again") from None
        for group in accepted:
            for one in group:
                log.info("accepted", id=one.id, recipient=one.recipient)
        return accepted

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._in_hand -= 1
        if not task.cancelled():
            task.exception()
