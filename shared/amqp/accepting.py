"""Both inboxes' way to RabbitMQ: publishes accepted mail with its record, and keeps a publisher open.

An inbox answers its clients while RabbitMQ is away (451, 503), so here a lost connection does not end the process: a new publisher
is opened from nothing. No publish is repeated on it: its client was told that we took no responsibility.
"""

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from aiormq.exceptions import AMQPError
from prometheus_client import Counter

from shared.acceptance import Ready
from shared.amqp.connection import connect
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.verify import verify
from shared.log import get_logger
from shared.process import Runtime
from shared.trouble import BadSetting, BrokerLost, Unavailable
from shared.wire.publication import EVENT, Publication

log = get_logger()

STALLED = 10.0
"""Seconds that the oldest publish may wait for its confirm before no further mail is taken: a broker in alarm is silent."""
RECONNECT = 1.0
"""Seconds between the loss of a connection and the next one."""

LOST_RECORDS = Counter("accepted_records_lost", "Recipients accepted without a record of it")

_NONE: Mapping[str, Any] = MappingProxyType({})

Verify = Callable[[Publisher], Awaitable[None]]


class AcceptingPublisher:
    """What ``shared.acceptance.Acceptance`` publishes with. ``run`` keeps it connected."""

    def __init__(self, settings: BrokerSettings, *, name: str, verify: Verify | None = None) -> None:
        """``verify`` is awaited with each new publisher before it is used; it raises BadSetting when the topology is wrong."""
        self._settings = settings
        self._name = name
        self._verify = verify
        self._publisher: Publisher | None = None
        self._waiting: dict[int, float] = {}
        self._number = 0

    @property
    def trouble(self) -> str | None:
        """Why no mail can be accepted now; None: it can."""
        if self._publisher is None or self._publisher.lost.done():
            return "no connection to RabbitMQ"
        # Insertion order is the order of time: the first is the oldest.
        oldest = next(iter(self._waiting.values()), None)
        if oldest is not None and time.monotonic() - oldest > STALLED:
            return "RabbitMQ does not confirm"
        return None

    async def __call__(self, mails: Sequence[Ready]) -> None:
        """Publish mails, then their records. Returns when every mail is confirmed and routed. Raises Unavailable or BrokerLost.

        With the last mail's confirm responsibility is taken: a record that fails then is no reason to refuse, the client would
        send again what is on its way already. The recorder learns of such a mail by its first result.
        """
        if (trouble := self.trouble) is not None or self._publisher is None:
            raise Unavailable(trouble or "no connection to RabbitMQ")
        self._number += 1
        number = self._number
        self._waiting[number] = time.monotonic()
        try:
            await self._publisher.publish_all([self._render(mail.key, mail.mail) for mail in mails])
            await self._publish_records(self._publisher, [mail.record for mail in mails])
        finally:
            del self._waiting[number]

    async def run(self, runtime: Runtime) -> None:
        """Keep connected until cancelled; ``runtime.ready`` follows. Raises BadSetting when the first connection shows a wrong setting."""
        is_first = True
        while True:
            try:
                publisher = await self._open()
            except BadSetting as error:
                if is_first:
                    raise
                # It worked before: somebody is changing the broker, and will perhaps change it back.
                log.error("RabbitMQ is not as it should be", reason=str(error))
            except (BrokerLost, AMQPError, OSError, RuntimeError) as error:
                log.warning("lost RabbitMQ while connecting", reason=str(error) or type(error).__name__)
            else:
                is_first = False
                try:
                    await self._use(publisher, runtime)
                finally:
                    self._publisher, runtime.ready = None, False
                    with suppress(AMQPError, OSError, RuntimeError, TimeoutError):
                        await asyncio.wait_for(publisher.close(), 5)
            await asyncio.sleep(RECONNECT)

    async def _open(self) -> Publisher:
        publisher = await Publisher.open(self._settings, name=self._name)
        try:
            if self._verify is not None:
                await self._verify(publisher)
        except BaseException:
            await publisher.close()
            raise
        return publisher

    async def _use(self, publisher: Publisher, runtime: Runtime) -> None:
        self._publisher, runtime.ready = publisher, True
        log.info("connected to RabbitMQ")
        reason = await asyncio.shield(publisher.lost)
        log.error("lost RabbitMQ, connecting again; meanwhile no mail is accepted", reason=reason)

    async def _publish_records(self, publisher: Publisher, records: Sequence[bytes]) -> None:
        key = self._settings.rabbitmq_record
        try:
            await publisher.publish_all([self._render(key, record, {EVENT: "accepted"}) for record in records])
        except (Unavailable, BrokerLost) as error:
            LOST_RECORDS.inc(len(records))
            log.error("mail accepted, but its record was lost", reason=str(error))

    def _render(self, key: str, body: bytes, headers: Mapping[str, Any] = _NONE) -> Publication:
        encoding = self._settings.rabbitmq_encoding
        if encoding:
            body = gzip.compress(body, compresslevel=1, mtime=0)
        return Publication(key, body, headers=headers, encoding=encoding)


async def verify_keys(settings: BrokerSettings, name: str, keys: Sequence[str], _: object = None) -> None:
    """For an inbox that consumes nothing: do the keys lead anywhere? Raises BadSetting that names what is missing, or BrokerLost."""
    connection = await connect(settings.rabbitmq_address, name=f"{name} verifies", verify=settings.rabbitmq_verify)
    try:
        await verify(settings, connection, "", keys)
    finally:
        await connection.close()
