"""Hops as spans of OpenTelemetry. Imported only when there is an endpoint to send them to (``shared.tracing``).

Names and attributes are those of the semantic conventions where they have one, and ``mailwarren.…`` where not.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from shared.spans_export import SpanQueue
from shared.tracing import Facts, Hop
from shared.wire.trace import Trace, render_trace

MAX_LINKS = 1000
"""Of one span: as many as a batch has messages."""
MAX_TEXT = 255
"""Characters of a fact."""


class RecordedSpans:
    """Opens hops, and decides which are recorded: as the trace says that a message came with, else a random part of them."""

    def __init__(self, service: str, endpoint: str, sample: float) -> None:
        self._sample = sample
        self._queue = SpanQueue(endpoint)
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=_describe(service),
            span_limits=SpanLimits(max_links=MAX_LINKS, max_span_attribute_length=MAX_TEXT),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._queue)
        self._tracer = provider.get_tracer("mailwarren", _version())

    def open_message(self, operation: str, queue: str, size: int, incoming: Trace | None) -> Hop:
        """See ``shared.tracing``."""
        if (unseen := self._pass_by(incoming)) is not None:
            return unseen
        facts = _tell_messaging(operation, queue) | {"messaging.message.body.size": size}
        return SpanHop(self._start(f"{operation} {queue}", SpanKind.CONSUMER, facts, incoming), incoming, is_told=False)

    def open_request(self, name: str, facts: Facts, incoming: Trace | None) -> Hop:
        """See ``shared.tracing``."""
        unseen = self._pass_by(incoming)
        return unseen or SpanHop(self._start(name, SpanKind.SERVER, facts, incoming), incoming, is_told=True)

    def open_batch(self, operation: str, queue: str, traces: Sequence[Trace | None]) -> Hop | None:
        """See ``shared.tracing``."""
        seen = dict.fromkeys(trace for trace in traces if trace is not None and trace.is_sampled)
        if not seen:
            return None
        facts = _tell_messaging(operation, queue) | {"messaging.batch.message_count": len(traces)}
        links = [Link(_to_context(trace)) for trace in seen]
        span = self._tracer.start_span(f"{operation} {queue}", kind=SpanKind.CONSUMER, attributes=facts, links=links)
        return SpanHop(span, None, is_told=True)

    def close(self) -> None:
        """See ``shared.tracing``."""
        self._queue.shutdown()

    def _pass_by(self, incoming: Trace | None) -> Hop | None:
        """A hop that is not recorded; None: it is. What follows it must not decide anew."""
        if incoming is not None:
            return None if incoming.is_sampled else Hop(incoming)
        if random.random() < self._sample:  # noqa: S311 - a choice, not a secret
            return None
        return Hop(render_trace(random.getrandbits(128) or 1, random.getrandbits(64) or 1, is_sampled=False))

    def _start(self, name: str, kind: SpanKind, facts: Facts, incoming: Trace | None) -> Span:
        parent = None if incoming is None else set_span_in_context(NonRecordingSpan(_to_context(incoming)))
        return self._tracer.start_span(name, parent, kind, facts)


class SpanHop(Hop):
    """A hop that is recorded."""

    def __init__(self, span: Span, incoming: Trace | None, *, is_told: bool) -> None:
        super().__init__(incoming)
        self._span = span
        self._is_told = is_told
        place = span.get_span_context()
        tracestate = "" if incoming is None else incoming.tracestate
        # The libraries can be switched off by a variable of theirs.
        self._own = (
            render_trace(place.trace_id, place.span_id, is_sampled=True, tracestate=tracestate) if place.is_valid else incoming
        )

    @property
    def trace(self) -> Trace | None:
        """Without a span of its own it passes on what came: nobody may look for a parent that was never sent."""
        return self._own if self._is_told else self.incoming

    @property
    def own(self) -> Trace | None:
        """The place of its span."""
        return self._own

    def tell(self, facts: Facts) -> None:
        """Attributes of the span."""
        self._is_told = True
        self._span.set_attributes(facts)

    def fail(self, kind: str) -> None:
        """The span's status."""
        self._is_told = True
        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)

    def rename(self, name: str) -> None:
        """The span's name."""
        self._span.update_name(name)

    def finish(self) -> None:
        """Sends the span, if there is anything to be told."""
        if self._is_told:
            self._span.end()


def _tell_messaging(operation: str, queue: str) -> dict[str, str | int | bool]:
    return {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": "process",
    }


def _to_context(trace: Trace) -> SpanContext:
    state = TraceState.from_header([trace.tracestate]) if trace.tracestate else None
    return SpanContext(trace.trace_id, trace.span_id, True, TraceFlags(int(trace.is_sampled)), state)


def _describe(service: str) -> Resource:
    return Resource.create(
        {
            "service.namespace": "mailwarren",
            "service.name": service,
            "service.version": _version(),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
    )


def _version() -> str:
    try:
        return version("mailwarren")
    except PackageNotFoundError:
        return "unknown"
