"""Both inboxes' way to RabbitMQ: publishes accepted mail with its record, and keeps a publisher open.

An inbox answers its clients while RabbitMQ is away (451, 503), so here a lost connection does not end the process: a new publisher
is opened from nothing. No publish is repeated on it: its client was told that we took no responsibility.
"""

import asyncio
import gzip
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from aiormq.exceptions import AMQPError
from prometheus_client import Counter

from shared.acceptance import PartlyPublished, Ready
from shared.amqp.connection import connect
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.verify import verify
from shared.log import get_logger
from shared.process import Runtime
from shared.tracing import current_hop
from shared.trouble import BadSetting, BrokerLost, Unavailable
from shared.wire.bundle import bundle
from shared.wire.publication import EVENT, Publication
from shared.wire.trace import Trace

log = get_logger()

STALLED = 10.0
"""Seconds that the oldest publish may wait for its confirm before no further mail is taken: a broker in alarm is silent."""
TURNS = 4
"""How often a mail that RabbitMQ refuses (a full queue) is published, half a second apart, before its client is told to come again."""
SETTLE = 5.0
"""Seconds for the last records to be confirmed when the process stops."""
RECONNECT = 1.0
"""Seconds between the loss of a connection and the next one."""

MOST_UNCONFIRMED = 100
"""Messages that may be lost, on their way at once."""

ACCEPTED = Counter("accepted_recipients", "Recipients that responsibility was taken for: confirmed by RabbitMQ")
DROPPED = Counter("unconfirmed_messages_dropped", "Copies of refused mail that were dropped: RabbitMQ was away or slow")
LOST_RECORDS = Counter("accepted_records_lost", "Recipients accepted without a record of it")

_NONE: Mapping[str, Any] = MappingProxyType({})

Verify = Callable[[Publisher], Awaitable[None]]
Traced = tuple[Ready, Trace | None]


class AcceptingPublisher:
    """What ``shared.acceptance.Acceptance`` publishes with. ``run`` keeps it connected."""

    def __init__(self, settings: BrokerSettings, *, name: str, verify: Verify | None = None) -> None:
        """``verify`` is awaited with each new publisher before it is used; it raises BadSetting when the topology is wrong."""
        self._settings = settings
        self._name = name
        self._verify = verify
        self._publisher: Publisher | None = None
        self._records: list[Traced] = []
        """Of mails that were accepted, to be published next."""
        self._recording: asyncio.Task[None] | None = None
        self._waiting: dict[int, float] = {}
        self._unconfirmed: set[asyncio.Task[None]] = set()
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
        """Publish mails, then their records. Returns when every mail is confirmed and routed. Raises PartlyPublished, Unavailable
        or BrokerLost.

        With the last mail's confirm responsibility is taken: a record that fails then is no reason to refuse, the client would
        send again what is on its way already. The recorder learns of such a mail by its first result. So the client does not wait
        for the record either, unless nothing else will ever be told of the mail (``Ready.event``).
        """
        if (trouble := self.trouble) is not None or self._publisher is None:
            raise Unavailable(trouble or "no connection to RabbitMQ")
        self._number += 1
        number = self._number
        self._waiting[number] = time.monotonic()
        try:
            hop = current_hop()
            trace = None if hop is None else hop.trace
            publications = [self._render(mail.key, mail.mail, trace=trace) for mail in mails]
            outcomes = await self._publisher.publish_each(publications, turns=TURNS)
            # What is confirmed is on its way, whatever became of the others.
            records = [mail for mail, outcome in zip(mails, outcomes, strict=True) if outcome is None]
            ACCEPTED.inc(len(records))
            self._records += [(mail, trace) for mail in records if mail.event == "accepted"]
            if self._records and (self._recording is None or self._recording.done()):
                self._recording = asyncio.ensure_future(self._record_on(self._publisher))
            if last := [mail for mail in records if mail.event != "accepted"]:
                await self._publish_records(self._publisher, [(mail, trace) for mail in last])
            _raise_trouble(outcomes)
        finally:
            del self._waiting[number]

    def publish_unconfirmed(self, key: str, body: bytes) -> None:
        """Publish something that may be lost, without waiting. Dropped, and counted, when RabbitMQ is away or slow."""
        if self.trouble is not None or self._publisher is None or len(self._unconfirmed) >= MOST_UNCONFIRMED:
            DROPPED.inc()
            return
        task = asyncio.ensure_future(self._publish_unconfirmed(self._publisher, self._render(key, body)))
        self._unconfirmed.add(task)
        task.add_done_callback(self._unconfirmed.discard)

    async def _publish_unconfirmed(self, publisher: Publisher, publication: Publication) -> None:
        (outcome,) = await publisher.publish_each([publication], turns=1)
        if outcome is not None:
            DROPPED.inc()
            log.warning("a message that may be lost was lost", key=publication.key, reason=str(outcome))

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
                    await self._settle()
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

    async def _record_on(self, publisher: Publisher) -> None:
        """Publish the records that wait; those that come meanwhile go together in the next round."""
        while self._records:
            records, self._records = self._records, []
            await self._publish_records(publisher, records)

    async def _settle(self) -> None:
        """Nobody is told yes any more: let the records of those who were go out first."""
        if self._recording is not None:
            await asyncio.wait({self._recording}, timeout=SETTLE)

    async def _publish_records(self, publisher: Publisher, mails: Sequence[Traced]) -> None:
        """``mails``: all of the same event."""
        key, headers = self._settings.rabbitmq_record, {EVENT: mails[0][0].event}
        try:
            bundles = list(bundle([mail.record for mail, _ in mails]))
            traces = (trace for _, trace in mails)
            together = [_find_common(itertools.islice(traces, count)) for _, count in bundles]
            publications = [self._render(key, body, headers, trace) for (body, _), trace in zip(bundles, together, strict=True)]
            outcomes = await publisher.publish_each(publications, turns=1)
        except Exception:
            # Whatever it is: the mails are on their way, and a refusal now would double them.
            LOST_RECORDS.inc(len(mails))
            log.exception("mail accepted, but its record was lost", recipients=len(mails))
            return
        lost = [(count, outcome) for (_, count), outcome in zip(bundles, outcomes, strict=True) if outcome is not None]
        if lost:
            recipients = sum(count for count, _ in lost)
            LOST_RECORDS.inc(recipients)
            log.error("mail accepted, but its record was lost", recipients=recipients, reason=str(lost[0][1]))

    def _render(self, key: str, body: bytes, headers: Mapping[str, Any] = _NONE, trace: Trace | None = None) -> Publication:
        encoding = self._settings.rabbitmq_encoding
        if encoding:
            body = gzip.compress(body, compresslevel=1, mtime=0)
        return Publication(key, body, headers=headers, encoding=encoding, trace=trace)


def _find_common(traces: Iterable[Trace | None]) -> Trace | None:
    """The trace of a message with records of several mails: when it is the same for all."""
    found = set(traces)
    return found.pop() if len(found) == 1 else None


def _raise_trouble(outcomes: Sequence[Unavailable | BrokerLost | None]) -> None:
    trouble = next((outcome for outcome in outcomes if outcome is not None), None)
    if trouble is None:
        return
    confirmed = [outcome is None for outcome in outcomes]
    if any(confirmed):
        raise PartlyPublished(f"{confirmed.count(False)} of {len(confirmed)} recipients: {trouble}", confirmed)
    raise trouble


async def verify_keys(settings: BrokerSettings, name: str, keys: Sequence[str], _: object = None) -> None:
    """For an inbox that consumes nothing: do the keys lead anywhere? Raises BadSetting that names what is missing, or BrokerLost."""
    connection = await connect(settings.rabbitmq_address, name=f"{name} verifies", verify=settings.rabbitmq_verify)
    try:
        await verify(settings, connection, "", keys)
    finally:
        await connection.close()
