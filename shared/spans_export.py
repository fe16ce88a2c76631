"""Spans on their way to a collector: OTLP over HTTP, from a thread of its own. Mail never waits for it.

The queue is bounded; what does not fit is dropped and counted. The libraries' own processor waits for 30 seconds when a process ends, and
their exporter reads answers of any length, so both parts are ours; the encoding is theirs.
"""

from __future__ import annotations

import http.client
import logging
import math
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from prometheus_client import Counter

# From a thread: not the log of the event loop's.
log = logging.getLogger(__name__)

MOST_WAITING = 4096
"""Spans."""
BATCH = 512
"""Spans in one request."""
EVERY = 1.0
"""Seconds that spans wait for company."""
TIMEOUT = 10.0
"""Seconds for one request, from the connection to the end of the answer's head."""
TRIES = 5
"""Requests for one batch while the collector is away or busy; a second lies between the first two, then twice as long each time."""
CLOSING = 1.0
"""Seconds for the rest when the process ends."""
LATER = frozenset({429, 502, 503, 504})
"""Answers after which the same may be sent again (OTLP/HTTP, failures)."""

SENT = Counter("trace_spans_sent", "Spans that the collector has taken")
DROPPED = Counter("trace_spans_dropped", "Spans that were dropped: queue full, collector away, or refused", ["reason"])


class SpanQueue(SpanProcessor):
    """Takes spans as they end; its thread sends them."""

    def __init__(self, endpoint: str) -> None:
        """``endpoint``: http[s]://host[:port][/path]; ``/v1/traces`` is added when it is not there."""
        self._collector = Collector(endpoint)
        self._spans: deque[ReadableSpan] = deque()
        self._is_wanted = threading.Event()
        self._closes_at = math.inf
        """When the process has no more time for us (time.monotonic)."""
        self._closing = threading.Event()
        self._is_away = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue it, or drop it. Never blocks."""
        if self._closing.is_set() or len(self._spans) >= MOST_WAITING:
            DROPPED.labels(reason="queue").inc()
            return
        self._spans.append(span)
        if len(self._spans) == BATCH:
            self._is_wanted.set()

    def shutdown(self) -> None:
        """Send what is waiting, within CLOSING."""
        self._closes_at = time.monotonic() + CLOSING
        self._closing.set()
        self._is_wanted.set()
        self._thread.join(CLOSING)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._is_wanted.wait(EVERY)
            self._is_wanted.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._spans:
            batch = [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]
            try:
                reason = self._send(encode_spans(batch).SerializeToString())
            except Exception:  # whatever it is, the next batch may be better
                log.exception("spans cannot be sent")
                reason = "bug"
            if reason:
                DROPPED.labels(reason=reason).inc(len(batch))
            else:
                SENT.inc(len(batch))

    def _send(self, body: bytes) -> str:
        """Why it was dropped; "": it was taken."""
        pause = 1.0
        for _ in range(TRIES):
            timeout = min(TIMEOUT, self._closes_at - time.monotonic())
            if timeout <= 0:
                break
            try:
                code = self._collector.post(body, timeout)
            except (OSError, http.client.HTTPException) as error:
                self._tell(f"{type(error).__name__}: {error}")
            else:
                if 200 <= code < 300:
                    self._is_away = False
                    return ""
                self._tell(f"it answers {code}")
                if code not in LATER:
                    return "refused"
            if self._closing.wait(pause):
                break
            pause *= 2
        return "away"

    def _tell(self, reason: str) -> None:
        if not self._is_away:
            self._is_away = True
            log.warning("the collector of traces takes nothing, spans are dropped: %s", reason[:200])


class Collector:
    """Posts to one URL, a connection each time. Proxies and credentials in the environment are not looked at."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        path = parts.path.rstrip("/")
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = path if path.endswith("/v1/traces") else f"{path}/v1/traces"
        self._context = ssl.create_default_context() if parts.scheme == "https" else None

    def post(self, body: bytes, timeout: float) -> int:
        """The status of the answer; of its body nothing is read. Raises OSError or HTTPException."""
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=timeout)
            if self._context is None
            else http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
        )
        # The library's timeout is that of each read: an answer that trickles would never end.
        ends = threading.Timer(timeout, _cut, (connection,))
        ends.daemon = True
        ends.start()
        try:
            headers = {"Content-Type": "application/x-protobuf", "User-Agent": "mailwarren", "Connection": "close"}
            connection.request("POST", self._path, body, headers)
            return connection.getresponse().status
        finally:
            ends.cancel()
            connection.close()


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
