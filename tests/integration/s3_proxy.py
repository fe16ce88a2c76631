"""A bad way to a good S3: an HTTP proxy that forwards every request on a connection of its own, and does to it what the test says."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.waiting import free_ports

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_GARBAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<p>Welcome</p>"
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class Fault:
    """What happens to requests."""

    status: int = 0
    """Answered with this status by the proxy itself."""
    has_body: bool = True
    retry_after: int = 0
    """Seconds, in the header of that answer."""
    times: int = -1
    """So many requests, then no longer; -1: for ever."""
    rate: int = 0
    """Octets per second of what comes back, the head aside; 0 = at once."""
    slows_head: bool = False
    """The head comes at that rate, too."""
    takes: int = 0
    """Octets per second of what is sent; 0 = at once."""
    flips_answer: bool = False
    """The last octet of every answer's body is another one."""
    flips_request: bool = False
    """The last octet of every request's body is another one."""
    keeps: int = -1
    """Of an answer's body so many octets come, then the connection ends; -1: all."""
    stalls: bool = False
    """After the head of the answer nothing comes any more."""
    is_garbage: bool = False
    """A page of some web server instead of an answer of S3."""


class S3Proxy:
    """``with S3Proxy(swift.address) as proxy: … proxy.address … proxy.suffer(Fault(status=503)) … proxy.heal()``"""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        (self._port,) = free_ports(1)
        self._server: _Server | None = None
        self.fault: Fault | None = None
        self.requests = 0
        """How many came so far."""
        self.stalled = 0
        """How many answers have stalled or begun to trickle."""
        self.under_way = 0
        """How many answers are trickling now."""
        self.healed = threading.Event()

    @property
    def address(self) -> str:
        """``host:port`` of the bad way."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.healed.set()
        self.shut()

    def open(self) -> None:
        """Listen."""
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    proxy.forward(self.request)

        self._server = _Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3-proxy", daemon=True).start()

    def shut(self) -> None:
        """Refuse connections from now on."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def suffer(self, fault: Fault | None) -> None:
        """From now on requests fare so; None: connections are refused."""
        self.fault, self.healed = fault, threading.Event()
        self.stalled = 0
        if fault is None:
            self.shut()

    def heal(self) -> None:
        """All is well again; answers under way are cut off."""
        self.fault = None
        self.healed.set()
        if self._server is None:
            self.open()

    def forward(self, client: socket.socket) -> None:
        """One request and its answer."""
        healed = self.healed
        if self.fault is not None and self.fault.takes:
            while client.recv(self.fault.takes) and not healed.wait(1):
                pass
            return
        head, body = _read_message(client)
        if not head:
            return
        self.requests += 1
        fault = self._take_fault()
        if fault.is_garbage or fault.status:
            client.sendall(_GARBAGE if fault.is_garbage else _refuse(fault))
            return
        if fault.flips_request:
            body = _flip(body)
        with socket.create_connection(self._target, 30) as server:
            server.sendall(head[:-2] + b"Connection: close\r\n\r\n" + body)
            answer = b"".join(iter(lambda: server.recv(65536), b""))
        self._give(client, answer, fault, healed)

    def _give(self, client: socket.socket, answer: bytes, fault: Fault, healed: threading.Event) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        if fault.flips_answer:
            body = _flip(body)
        head += b"\r\nConnection: close\r\n\r\n"
        if fault.slows_head:
            head, body = b"", head + body
        client.sendall(head)
        if fault.stalls:
            self.stalled += 1
            healed.wait(120)
        elif fault.rate and body:
            self.stalled += 1
            self.under_way += 1
            piece = max(1, fault.rate // 10)
            try:
                for start in range(0, len(body), piece):
                    client.sendall(body[start : start + piece])
                    if healed.wait(piece / fault.rate):
                        return
            finally:
                self.under_way -= 1
        else:
            client.sendall(body if fault.keeps < 0 else body[: fault.keeps])

    def _take_fault(self) -> Fault:
        fault = self.fault
        if fault is None or fault.times == 0:
            return Fault()
        if fault.times > 0:
            self.fault = Fault(**{**vars(fault), "times": fault.times - 1})
        return fault


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


def _read_message(peer: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = peer.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if b"100-continue" in head:
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(match[1]) if (match := _LENGTH.search(head)) else 0
    while len(body) < length:
        piece = peer.recv(65536)
        if not piece:
            return b"", b""
        body += piece
    return head + b"\r\n\r\n", body


def _refuse(fault: Fault) -> bytes:
    body = _BUSY if fault.has_body else b""
    after = f"Retry-After: {fault.retry_after}\r\n" if fault.retry_after else ""
    head = f"HTTP/1.1 {fault.status} Trouble\r\n{after}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def _flip(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body
