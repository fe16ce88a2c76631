"""Many publishes as one write: what a thousand mails of one request cost most is not the broker but a thousand small frames.

The frames of a batch differ in little, so most of their bytes are made once. aiormq does the rest as for any other publish: its lock, its
delivery tags and its confirms are used here as ``Channel.basic_publish`` uses them.
"""

import asyncio
import itertools
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

import pamqp.frame
from aiormq.abc import ChannelFrame
from pamqp import commands
from pamqp.header import ContentHeader

FEW = 8
"""Publishes that are not worth it."""
MOST = 250
"""Publishes in one write."""
MOST_BYTES = 1024 * 1024
"""Of bodies in one write: the next one waits until the socket has taken some of it, others come in between."""

# A message_id tells returned messages of one channel apart; random bits for each would be a system call for each.
_PREFIX = token_hex(8)
_NUMBERS = itertools.count(1)
_BODY_SIZE = slice(11, 19)
"""Where a frame with a content header tells the size of the body (AMQP 0-9-1 4.2.6.1): behind type, channel, size, class and weight."""


def cut(sizes: Sequence[int], most: int) -> Iterator[range]:
    """Ranges of what goes into one write each: at most ``most`` and ``MOST`` publishes, and ``MOST_BYTES`` unless one has more."""
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and (index - start >= min(most, MOST) or total + size > MOST_BYTES):
            yield range(start, index)
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield range(start, len(sizes))


def fits(channel: Any, body: bytes) -> bool:
    """Is the body one frame, as all here must be?"""
    return bool(0 < len(body) < channel.max_content_size)


async def send(
    channel: Any, exchange: str, key: str, properties: commands.Basic.Properties, bodies: Sequence[bytes]
) -> list["asyncio.Future[Any]"]:
    """Publish bodies that ``fits``, mandatory, with the same key and properties and a ``message_id`` each; their confirms to come.

    A confirm raises as ``basic_publish`` does: PublishError for a message that came back, DeliveryError for a nack. Raises AMQPError
    or RuntimeError when the channel is closed.
    """
    method, before, behind = _make_template(channel.number, exchange, key, properties)
    async with channel.lock:
        pieces: list[bytes] = []
        confirms: list[asyncio.Future[Any]] = []
        for body in bodies:
            ident = f"{_PREFIX}{next(_NUMBERS):016x}"
            channel.delivery_tag += 1
            confirm = channel.create_future()
            channel.confirmations[channel.delivery_tag] = confirm
            channel.message_id_delivery_tag[ident] = channel.delivery_tag
            confirm.add_done_callback(partial(_forget, channel, ident))
            confirms.append(confirm)
            header = before[: _BODY_SIZE.start] + struct.pack(">Q", len(body)) + before[_BODY_SIZE.stop :]
            pieces += (method, header, ident.encode(), behind, struct.pack(">BHI", 3, channel.number, len(body)), body, b"\xce")
        # Nothing was awaited since the first tag was taken: either all of this goes out or, cancelled before, nothing has happened.
        channel.write_queue.put_nowait(ChannelFrame(payload=b"".join(pieces), should_close=False))
    return confirms


def _make_template(number: int, exchange: str, key: str, properties: commands.Basic.Properties) -> tuple[bytes, bytes, bytes]:
    """The method frame, and the header frame before and behind the message_id."""
    method = pamqp.frame.marshal(commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True), number)
    properties.message_id = ident = token_hex(16)
    header = pamqp.frame.marshal(ContentHeader(properties=properties, body_size=0), number)
    before, _, behind = header.partition(ident.encode())
    return method, before, behind


def _forget(channel: Any, ident: str, _: "asyncio.Future[Any]") -> None:
    channel.message_id_delivery_tag.pop(ident, None)
