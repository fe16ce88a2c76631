"""The publishes of one channel, many in one write: what publishing costs most is not the broker but frames, writes and futures one by one.

What is published in one turn of the event loop, by whomever, goes out together; while the socket is busy, what is published meanwhile
joins the next write. Delivery tags, returned messages and confirms are aiormq's: this fills in what ``Channel.basic_publish`` would
fill in, without its lock, its drains and the four callbacks of each of its futures.
"""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import Any

import pamqp.frame
from aiormq.abc import ChannelFrame
from pamqp import commands
from pamqp.header import ContentHeader

from shared.amqp.metrics import CONFIRM_SECONDS, IN_FLIGHT, PUBLISHES
from shared.trouble import BrokerLost
from shared.wire.trace import SIZE as TRACEPARENT_SIZE

MOST_BYTES = 1024 * 1024
"""In one write; a larger message goes alone."""
ENOUGH = 64 * 1024
"""Octets of bodies that need no company."""
GATHER = 0.001
"""Seconds to wait for company while publishes are unconfirmed."""
_MOST_TEMPLATES = 256
"""Headers with the reason for a park differ each time: all are forgotten then."""
_TAG_SIZE = 16
_BODY_SIZE = slice(11, 19)
"""Where a frame with a content header tells the size of the body (AMQP 0-9-1 4.2.6.1): behind type, channel, size, class and weight."""
_FRAME = struct.Struct(">BHI")
_OCTETS = struct.Struct(">Q")
_BODY, _FRAME_END = 3, b"\xce"

Properties = commands.Basic.Properties
NO_TRACE = token_hex(TRACEPARENT_SIZE)[:TRACEPARENT_SIZE]
"""Stands in a template where a message's own ``traceparent`` goes. Nobody can guess it, and write it into another header."""
_NO_TRACE = NO_TRACE.encode()
Template = tuple[bytes, bytes, bytes]
"""The method frame, and the header frame before and behind the message_id."""
Confirm = asyncio.Future[Any]
"""Ends when the message is confirmed and routed; raises PublishError when it came back, DeliveryError for a nack, BrokerLost."""


@dataclass(slots=True)
class _Write:
    """What goes out together."""

    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    """Octets of bodies."""
    publishes: int = 0
    last: Confirm | None = None


class Outgoing:
    """Publishes on a channel that nobody else publishes on."""

    def __init__(self, channel: Any, failed: Callable[[str], None]) -> None:
        """``channel``: of aiormq, with publisher confirms, raising for returned messages. ``failed`` is told when no write goes out
        any more; it calls ``close``."""
        self._channel = channel
        self._ids = _Ids(channel)
        # A message that comes back is told apart by its message_id.
        channel.message_id_delivery_tag = self._ids
        self._templates: dict[Hashable, Template] = {}
        self._writes: deque[_Write] = deque()
        self._unwritten = 0
        """Publishes in them."""
        self._is_waiting = asyncio.Event()
        self._lost = ""
        _OPEN.add(self)
        self._pump = asyncio.ensure_future(self._write_on())
        self._pump.add_done_callback(
            lambda task: failed("nothing is written any more" if task.cancelled() else str(task.exception()))
        )

    def publish(
        self, exchange: str, key: str, traits: Hashable, describe: Callable[[], Properties], body: bytes, traceparent: str = ""
    ) -> Confirm:
        """Publish, mandatory, with a new ``message_id``. ``describe`` makes the properties; they are the same for the same ``traits``,
        and never kept for None. ``traceparent`` comes in the place of the NO_TRACE in them.
        """
        confirm: Confirm = asyncio.get_running_loop().create_future()
        if self._lost:
            confirm.set_exception(BrokerLost(f"while publishing to {key!r}: {self._lost}"))
            return confirm
        try:
            method, before, behind = self._find_template(exchange, key, traits, describe)
        except Exception as error:  # noqa: BLE001 - whoever waits for the confirm is told
            # A key of over 255 octets, say. No tag is taken yet.
            confirm.set_exception(error)
            return confirm
        if traceparent:
            # As long as what stood there: no size in the frame changes.
            before = before.replace(_NO_TRACE, traceparent.encode(), 1)
        channel = self._channel
        channel.delivery_tag = tag = channel.delivery_tag + 1
        channel.confirmations[tag] = confirm
        if not self._writes or self._writes[-1].size + len(body) > MOST_BYTES:
            self._writes.append(_Write())
        write = self._writes[-1]
        write.size += len(body)
        write.publishes += 1
        write.last = confirm
        self._unwritten += 1
        write.pieces += (
            method,
            before[: _BODY_SIZE.start],
            _OCTETS.pack(len(body)),
            before[_BODY_SIZE.stop :],
            self._ids.make(tag),
            behind,
        )
        most = channel.max_content_size
        for start in range(0, len(body), most):
            part = body if len(body) <= most else body[start : start + most]
            write.pieces += (_FRAME.pack(_BODY, channel.number, len(part)), part, _FRAME_END)
        self._is_waiting.set()
        return confirm

    async def _write_on(self) -> None:
        while True:
            await self._is_waiting.wait()
            self._is_waiting.clear()
            while self._writes:
                if len(self._channel.confirmations) > self._unwritten and self._writes[0].size < ENOUGH:
                    # As Nagle's algorithm: while something is on its way, what comes soon can go with this.
                    await asyncio.sleep(GATHER)
                write = self._writes.popleft()
                self._unwritten -= write.publishes
                PUBLISHES.inc(write.publishes)
                if write.last is not None:
                    write.last.add_done_callback(partial(_observe, time.perf_counter()))
                drained = asyncio.get_running_loop().create_future()
                frame = ChannelFrame(payload=b"".join(write.pieces), should_close=False, drain_future=drained)
                await self._channel.write_queue.put(frame)
                await drained

    def _find_template(self, exchange: str, key: str, traits: Hashable, describe: Callable[[], Properties]) -> Template:
        if traits is None:
            return _make_template(self._channel.number, exchange, key, describe())
        name = (exchange, key, traits)
        found = self._templates.get(name)
        if found is None:
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates.clear()
            found = self._templates[name] = _make_template(self._channel.number, exchange, key, describe())
        return found

    @property
    def unconfirmed(self) -> int:
        """Publishes that wait for their confirm."""
        return len(self._channel.confirmations)

    def close(self, reason: str) -> None:
        """The channel or its connection is gone: nobody waits any longer. Safe to repeat."""
        _OPEN.discard(self)
        self._lost = self._lost or reason
        self._pump.cancel()
        self._writes.clear()
        for confirm in self._channel.confirmations.values():
            if isinstance(confirm, asyncio.Future) and not confirm.done():
                confirm.set_exception(BrokerLost(f"while waiting for a confirm: {reason}"))
        self._channel.confirmations.clear()


_OPEN: set[Outgoing] = set()
# Counted when the metrics are fetched: that costs a publish nothing. In another thread, hence the copy.
IN_FLIGHT.set_function(lambda: sum(outgoing.unconfirmed for outgoing in tuple(_OPEN)))


def _observe(began: float, confirm: Confirm) -> None:
    if not confirm.cancelled() and not isinstance(confirm.exception(), BrokerLost):
        CONFIRM_SECONDS.observe(time.perf_counter() - began)


class _Ids(Mapping[str, int]):
    """From the ``message_id`` of a returned message to its delivery tag, which stands in it: nothing is to be kept or forgotten."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._prefix = token_hex(8)
        self._prefix_octets = self._prefix.encode()

    def make(self, tag: int) -> bytes:
        """The message_id, ``_TAG_SIZE`` digits behind the prefix."""
        return self._prefix_octets + b"%016x" % tag

    def __getitem__(self, ident: str) -> int:
        if not ident.startswith(self._prefix):
            raise KeyError(ident)
        tag = int(ident[-_TAG_SIZE:], 16)
        confirm = self._channel.confirmations.get(tag)
        if isinstance(confirm, asyncio.Future) and confirm.cancelled():
            # aiormq is about to tell it that the message came back, and would close the channel over one that cannot be told. The tag
            # must stay: a confirm of many up to it counts for those before.
            self._channel.confirmations[tag] = nobodys = asyncio.get_running_loop().create_future()
            nobodys.add_done_callback(lambda told: told.exception())
        return tag

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _make_template(number: int, exchange: str, key: str, properties: Properties) -> Template:
    method = pamqp.frame.marshal(commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True), number)
    properties.message_id = ident = token_hex(16)
    header = pamqp.frame.marshal(ContentHeader(properties=properties, body_size=0), number)
    before, _, behind = header.partition(ident.encode())
    return method, before, behind
