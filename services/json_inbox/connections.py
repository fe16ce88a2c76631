"""The connections of the HTTP interface, below the requests: how many there may be, and how long one may go on without a request.

uvicorn reads a head of any length, waits for it for ever, and takes whoever comes. All three are bounded here, before a client has shown a
token. A TLS handshake that does not end is ended by asyncio after 60 s.
"""

import asyncio
from collections import Counter
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.json_inbox.access import is_here
from services.json_inbox.guesses import group_address
from services.json_inbox.problems import Problem
from shared.log import get_logger

log = get_logger()

IDLE = 60
"""Seconds that a connection may rest before, between and after requests, and that the head of one may take."""
MOST_HEAD = 64 * 1024
"""Bytes of a head (or of anything else that is no body: trailers, extensions of chunks), and one read of the event loop more."""


class Crowd:
    """Who is connected. Addresses are counted as ``Guesses`` does: IPv6 by /64.

    This machine's own are not counted by address: all that a proxy here passes on comes from there.
    """

    def __init__(self, most: int, per_address: int) -> None:
        """``most``: connections at once (``http-max-connections``), ``per_address``: of them from one address."""
        self._most = most
        self._per_address = per_address
        self._present: Counter[str] = Counter()
        self._total = 0

    def enter(self, address: str) -> str | None:
        """None: it may stay, and must ``leave``; else why not."""
        group = group_address(address)
        if self._total >= self._most:
            return "too many connections: come again"
        if self._present[group] >= self._per_address and not is_here(address):
            return "too many connections from your address"
        self._present[group] += 1
        self._total += 1
        return None

    def leave(self, address: str) -> None:
        """A connection that was let in has ended."""
        group = group_address(address)
        self._total -= 1
        self._present[group] -= 1
        if not self._present[group]:
            del self._present[group]


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, crowd: Crowd, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._crowd = crowd
        self._entered: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Somebody came."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        trouble = self._crowd.enter(address)
        if trouble is not None:
            log.warning("connection refused", remote_ip=address, reason=trouble)
            self._refuse(Problem(429, trouble))
            return
        self._entered = address
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._unset_deadline()
        if self._entered is not None:
            self._crowd.leave(self._entered)
            self._entered = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on. What is no body is bounded."""
        self._unread += len(data)
        super().data_received(data)
        if self._in_head or not self._is_busy:
            if self._deadline is None:
                self._set_deadline()
            if self._unread > MOST_HEAD and not self.transport.is_closing():
                self._refuse(Problem(431, f"the head is larger than {MOST_HEAD} bytes"))
        elif self._unread > MOST_HEAD:
            # Not a word: the answer may have begun.
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is read."""
        self._in_head = False
        self._unread = 0
        self._unset_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body: whoever reads it bounds it."""
        self._unread = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._refuse(Problem(400, msg))

    @property
    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        if self._is_busy:
            self.transport.close()
            return
        body = orjson.dumps(problem.document)
        head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[problem.status] + head + body)
        self.transport.close()

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(IDLE, self._on_deadline)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._is_busy:
            # The head of the next request came before the answer to this one.
            self._set_deadline()
        elif self._in_head:
            self._refuse(Problem(408, f"the head did not arrive within {IDLE} s"))
        else:
            self.transport.close()
