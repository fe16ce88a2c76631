"""Deliveries, taken out of the stream before the library sees them.

The library makes several objects and a task of every delivery: 50 µs, more than all the rest that the recorder does with one. Here a
reader stands between the socket and the library. It makes a ``Frame`` of each delivery itself and passes on all other frames: log-in,
heartbeats, answers, the end are the library's as before.
"""

import asyncio
import struct
from collections.abc import Callable

import pamqp.frame
from pamqp import constants
from pamqp.header import ContentHeader

from shared.amqp.frame import Frame, parse_frame

_HEAD = struct.Struct(">BHI")
_METHOD, _CONTENT_HEADER, _CONTENT_BODY = constants.FRAME_METHOD, constants.FRAME_HEADER, constants.FRAME_BODY
_KNOWN = frozenset((_METHOD, _CONTENT_HEADER, _CONTENT_BODY, constants.FRAME_HEARTBEAT))
_OVERHEAD = _HEAD.size + 1
"""Octets of a frame beyond its payload."""
_DELIVER = struct.pack(">HH", 60, 60)
_TAG_AND_BITS = struct.Struct(">QB")
_BODY_SIZE = struct.Struct(">Q")
_HEARTBEAT = _HEAD.pack(constants.FRAME_HEARTBEAT, 0, 0) + bytes([constants.FRAME_END])
_SIGN_OF_LIFE = 5.0
"""Seconds after which the library is told that the broker lives: while it delivers it sends no heartbeats."""
_CHUNK = 256 * 1024
_MOST_KINDS = 256
"""Kinds of properties that are remembered."""

_SHORT_BEFORE_TABLE = (0x8000, 0x4000)
"""Bits of content-type and content-encoding (AMQP 0-9-1, 4.2.6.1, and the order of the class basic)."""
_TABLE, _DELIVERY_MODE, _PRIORITY = 0x2000, 0x1000, 0x0800
_SHORT_AFTER_TABLE = (0x0400, 0x0200, 0x0100)
"""Of correlation-id, reply-to and expiration."""
_ANY_AFTER_TABLE = sum(_SHORT_AFTER_TABLE)
_MESSAGE_ID, _TIMESTAMP, _MORE_FLAGS = 0x0080, 0x0040, 0x0001


class Sieve:
    """Puts a ``SiftingReader`` between a connection and the library."""

    def __init__(self) -> None:
        self.take: Callable[[Frame], None] = _refuse
        """Gets every delivery. To be set before anything is consumed."""

    def wrap(self, reader: asyncio.StreamReader) -> asyncio.StreamReader:
        """What the library reads from."""
        return SiftingReader(reader, lambda frame: self.take(frame))


def _refuse(frame: Frame) -> None:
    raise AssertionError(f"delivery {frame.tag} before anybody consumes")


class SiftingReader(asyncio.StreamReader):
    """Hands deliveries to ``take`` and gives the library what is left, in the order in which it came."""

    def __init__(self, inner: asyncio.StreamReader, take: Callable[[Frame], None]) -> None:
        super().__init__()
        self._inner = inner
        self._take = take
        self._unread = bytearray()
        """Perhaps the beginning of a frame."""
        self._passed = bytearray()
        """Whole frames for the library."""
        self._assembly = _Assembly()
        self._is_strange = False
        self._told = asyncio.get_running_loop().time()

    def at_eof(self) -> bool:
        """Whether nothing is left and nothing comes any more."""
        return not self._passed and not self._unread and self._inner.at_eof()

    async def readexactly(self, n: int) -> bytes:
        """See ``StreamReader``."""
        while len(self._passed) < n:
            octets = await self._inner.read(_CHUNK)
            if not octets:
                partial = bytes(self._passed)
                self._passed.clear()
                self._unread.clear()
                raise asyncio.IncompleteReadError(partial, n)
            self._unread += octets
            self._sift()
            self._tell_of_life()
        taken = bytes(self._passed[:n])
        del self._passed[:n]
        return taken

    async def read(self, n: int = -1) -> bytes:
        """See ``StreamReader``; what there is, at once."""
        octets = bytes(self._passed or self._unread) or await self._inner.read(n)
        self._passed.clear()
        return octets

    def _tell_of_life(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._passed:
            self._told = now
        elif now - self._told > _SIGN_OF_LIFE:
            self._passed += _HEARTBEAT
            self._told = now

    def _sift(self) -> None:
        data = bytes(self._unread)
        start, size = 0, len(data)
        while size - start >= _HEAD.size and not self._is_strange:
            kind, channel, length = _HEAD.unpack_from(data, start)
            # The end of it all is the library's to explain: not AMQP, or another version of it.
            self._is_strange = kind not in _KNOWN
            end = start + _OVERHEAD + length
            if end > size:
                break
            if not self._assembly.add(kind, channel, data, start + _HEAD.size, end - 1):
                self._passed += data[start:end]
            elif (frame := self._assembly.take()) is not None:
                self._take(frame)
            start = end
        if self._is_strange:
            self._passed += data[start:]
            start = size
        del self._unread[:start]


class _Assembly:
    """Method, header and body of one delivery."""

    def __init__(self) -> None:
        self._channel = 0
        self._tag = 0
        self._is_redelivered = False
        self._size = -1
        """Octets of the body; -1: the header has not come."""
        self._parts: list[bytes] = []
        self._got = 0
        self._traits: Frame | None = None
        self._kinds: dict[tuple[bool, bytes, bytes], Frame] = {}

    def add(self, kind: int, channel: int, data: bytes, start: int, end: int) -> bool:
        """Take a frame's payload, ``data[start:end]``; False: it is no part of a delivery."""
        if kind == _METHOD:
            if data[start : start + 4] != _DELIVER:
                return False
            self._begin(channel, data, start)
            return True
        if channel != self._channel or not channel:
            return False
        if kind == _CONTENT_HEADER and self._size < 0:
            (self._size,) = _BODY_SIZE.unpack_from(data, start + 4)
            self._traits = self._read_traits(data[start:end])
            return True
        if kind == _CONTENT_BODY and self._size >= 0:
            self._parts.append(data[start:end])
            self._got += end - start
            return True
        return False

    def take(self) -> Frame | None:
        """The delivery, when it is complete."""
        traits = self._traits
        if traits is None or self._got < self._size:
            return None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._channel, self._traits, self._parts = 0, None, []
        return Frame(
            body,
            traits.encoding,
            traits.is_ours,
            traits.redelivered,
            traits.delivery_count,
            traits.priority,
            traits.event,
            self._tag,
            traits.unreadable,
            traits.trace,
        )

    def _begin(self, channel: int, data: bytes, start: int) -> None:
        self._tag, bits = _TAG_AND_BITS.unpack_from(data, start + 5 + data[start + 4])
        self._is_redelivered = bool(bits & 1)
        self._channel, self._size, self._got, self._traits, self._parts = channel, -1, 0, None, []

    def _read_traits(self, payload: bytes) -> Frame:
        """What the properties say; read anew only where they differ from all before."""
        try:
            kind = (self._is_redelivered, *split_properties(payload))
        except (IndexError, ValueError):
            return self._parse(payload)
        traits = self._kinds.get(kind)
        if traits is None:
            traits = self._parse(payload)
            if traits.unreadable is None:  # what is wrong may stand in the part that differs
                if len(self._kinds) >= _MOST_KINDS:
                    self._kinds.clear()
                self._kinds[kind] = traits
        return traits

    def _parse(self, payload: bytes) -> Frame:
        raw = _HEAD.pack(_CONTENT_HEADER, self._channel, len(payload)) + payload + bytes([constants.FRAME_END])
        _, _, header = pamqp.frame.unmarshal(raw)
        assert isinstance(header, ContentHeader)  # noqa: S101 - that is what it was packed as
        return parse_frame(header.properties, b"", tag=self._tag, is_redelivered=self._is_redelivered)


def split_properties(payload: bytes) -> tuple[bytes, bytes]:
    """Of a content header, the properties before and behind message-id and timestamp, which differ in every message.

    Raises ValueError or IndexError when they are too odd to be split.
    """
    flags = payload[12] << 8 | payload[13]
    if flags & _MORE_FLAGS:
        raise ValueError("more than the properties of the class basic")
    at = _skip_short(payload, 14, flags, _SHORT_BEFORE_TABLE)
    if flags & _TABLE:
        at += 4 + int.from_bytes(payload[at : at + 4], "big")
    at += bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    if flags & _ANY_AFTER_TABLE:
        at = _skip_short(payload, at, flags, _SHORT_AFTER_TABLE)
    rest = at
    if flags & _MESSAGE_ID:
        rest += 1 + payload[rest]
    if flags & _TIMESTAMP:
        rest += 8
    if rest > len(payload):
        raise ValueError("longer than the frame")
    return payload[12:at], payload[rest:]


def _skip_short(payload: bytes, at: int, flags: int, bits: tuple[int, ...]) -> int:
    for bit in bits:
        if flags & bit:
            at += 1 + payload[at]
    return at
