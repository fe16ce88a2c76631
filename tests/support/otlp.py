"""A collector of traces: takes OTLP over HTTP, and keeps the spans. It can behave badly.

with Collector() as collector: … collector.endpoint … collector.named("route inbox")
Collector("silent")     takes the request and never answers
Collector("endless")    200, and a body without an end
Collector("500")        that code
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Seen:
    """One span."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    """"" is a root."""
    state: str
    facts: Mapping[str, Any]
    is_error: bool
    links: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """Trace and span."""


class Collector:
    """Use as ``with``; it listens on a free port of this host."""

    def __init__(self, manner: str = "200") -> None:
        self.spans: list[Seen] = []
        self.requests = 0
        self.manner = manner
        self.is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Taking,), {"collector": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Serve in a thread."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop; nobody waits for an answer any longer."""
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()

    def named(self, name: str, trace_id: str = "") -> list[Seen]:
        """The spans of that name, of that trace."""
        return [span for span in self.spans if span.name == name and trace_id in ("", span.trace_id)]

    def take(self, body: bytes) -> None:
        """Keep the spans of a request."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _to_facts(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_to_seen(span, str(about.get("service.name"))) for span in scope.spans]


class _Taking(BaseHTTPRequestHandler):
    collector: Collector

    def do_POST(self) -> None:
        collector = self.collector
        body = self.rfile.read(int(self.headers["Content-Length"]))
        collector.requests += 1
        if collector.manner == "silent":
            collector.is_over.wait()
            return
        is_endless = collector.manner == "endless"
        code = 200 if is_endless else int(collector.manner)
        if code == 200 and self.path == "/v1/traces":
            collector.take(body)
        self.send_response(code)
        self.end_headers()
        try:
            while is_endless and not collector.is_over.is_set():
                self.wfile.write(b"x" * 65536)
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        return


def _to_seen(span: Any, service: str) -> Seen:
    return Seen(
        service,
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        _to_facts(span.attributes),
        span.status.code == Status.STATUS_CODE_ERROR,
        frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _to_facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
