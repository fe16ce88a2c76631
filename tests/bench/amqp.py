"""An AMQP 0-9-1 connection that costs next to nothing: what smtp-source is for SMTP.

The bench shares its machine with what it measures, so its own clients must be lean. This one blocks, has one channel,
knows no TLS and no heartbeat, and believes the broker.
"""

import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pamqp import commands, frame, header

_HEAD = struct.Struct(">BHI")
_HEAD_SIZE = _HEAD.size
METHOD, CONTENT_HEADER, CONTENT_BODY = 1, 2, 3
"""Types of frames (AMQP 0-9-1, 4.2.3)."""
FRAME_MAX = 131072
"""RabbitMQ's default; a body longer than this less 8 octets takes several frames."""
_CHANNEL = 1
_READ = 256 * 1024


class AmqpClient:
    """A connection with one channel; use as ``with``."""

    def __init__(self, url: str, name: str) -> None:
        """``url``: amqp://user:password@host:port/vhost. ``name`` is what the broker shows."""
        self._url = urlsplit(url)
        self._name = name
        self._buffer = bytearray()
        self._socket: socket.socket

    def __enter__(self) -> Self:
        self._socket = socket.create_connection((self._url.hostname or "127.0.0.1", self._url.port or 5672), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(frame.marshal(header.ProtocolHeader(), 0))
        self._expect(commands.Connection.Start)
        login = f"\0{unquote(self._url.username or 'guest')}\0{unquote(self._url.password or 'guest')}"
        properties: dict[str, Any] = {"connection_name": self._name, "capabilities": {"basic.nack": True}}
        self.send(commands.Connection.StartOk(properties, "PLAIN", login, "en_US"), channel=0)
        self._expect(commands.Connection.Tune)
        self.send(commands.Connection.TuneOk(channel_max=1, frame_max=FRAME_MAX, heartbeat=0), channel=0)
        self.send(commands.Connection.Open(unquote(self._url.path[1:]) or "/"), channel=0)
        self._expect(commands.Connection.OpenOk)
        self.call(commands.Channel.Open(), commands.Channel.OpenOk)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close without a goodbye; the broker takes that for what it is."""
        self._socket.close()

    def send(self, method: Any, channel: int = _CHANNEL) -> None:
        """Send a method without content."""
        self.write(frame.marshal(method, channel))

    def write(self, frames: bytes) -> None:
        """Send frames that were made before."""
        self._socket.sendall(frames)

    def call(self, method: Any, answer: type) -> Any:
        """Send a method and wait for its answer; nothing else may be under way."""
        self.send(method)
        return self._expect(answer)

    def read(self, patience: float | None = 60) -> None:
        """Wait until the broker says something. Raises ConnectionError when it hangs up, TimeoutError after ``patience`` s."""
        self._socket.settimeout(patience)
        octets = self._socket.recv(_READ)
        if not octets:
            raise ConnectionError("the broker closed the connection")
        self._buffer += octets

    def take_frames(self) -> Iterator[tuple[int, memoryview]]:
        """The whole frames that were read: type and payload. Raises ConnectionError when the broker closes."""
        buffer, view = self._buffer, memoryview(bytes(self._buffer))
        start = 0
        while len(view) - start >= _HEAD_SIZE:
            kind, _, size = _HEAD.unpack_from(view, start)
            end = start + _HEAD_SIZE + size + 1
            if end > len(view):
                break
            yield kind, view[start + _HEAD_SIZE : end - 1]
            start = end
        del buffer[:start]

    def _expect(self, answer: type) -> Any:
        while True:
            try:
                count, _, got = frame.unmarshal(bytes(self._buffer))
            except Exception:  # noqa: BLE001 - pamqp has an exception of its own for every way to be incomplete
                self.read()
                continue
            del self._buffer[:count]
            if not isinstance(got, answer):
                raise ConnectionError(f"expected {answer.__name__}, the broker said {got!r}")
            return got


def render_publication(exchange: str, key: str, body_size: int) -> bytes:
    """The method and header frames of a persistent, mandatory JSON message; body frames follow."""
    properties = commands.Basic.Properties(content_type="application/json", delivery_mode=2)
    method = commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True)
    content = header.ContentHeader(body_size=body_size, properties=properties)
    return frame.marshal(method, _CHANNEL) + frame.marshal(content, _CHANNEL)


def render_body(body: bytes) -> bytes:
    """The body frames."""
    most = FRAME_MAX - _HEAD_SIZE - 1
    parts = [body[start : start + most] for start in range(0, len(body), most)]
    return b"".join(_HEAD.pack(CONTENT_BODY, _CHANNEL, len(part)) + part + b"\xce" for part in parts)
