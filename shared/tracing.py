"""Tracing: the work of each process on a mail as a span of OpenTelemetry, when ``otlp-endpoint`` is set, and nothing when not.

The work on one message, request or batch is a hop. While it lasts it is the current one: what knows a fact tells it, and what is published
carries its place in the trace. Without an endpoint a message that comes with a trace is a hop as well, one that records nothing and passes
the trace on; any other message is None. The libraries are imported by ``start_tracing`` alone: they cost 5 MB.

Never in a fact: an address, a subject, content, or the text of a peer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from shared.wire.trace import Trace

Fact = str | int | bool
Facts = Mapping[str, Fact]


class Hop:
    """The work on one thing, within a trace; this one records nothing. A context manager: inside it is the current hop."""

    def __init__(self, incoming: Trace | None) -> None:
        self.incoming = incoming
        self._outer: Hop | None = None

    @property
    def trace(self) -> Trace | None:
        """Goes with what the hop publishes."""
        return self.incoming

    @property
    def own(self) -> Trace | None:
        """Goes with what the hop asks of others before it is known whether there is anything to tell."""
        return self.incoming

    def tell(self, facts: Facts) -> None:
        """Something was done: a hop that is told nothing, a mail that was only put off, leaves no span."""

    def fail(self, kind: str) -> None:
        """It ended badly; ``kind`` is one of few words."""

    def rename(self, name: str) -> None:
        """What it is called."""

    def finish(self) -> None:
        """The work is done."""

    def __enter__(self) -> Hop:
        self._outer = _CURRENT.get()
        _CURRENT.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _CURRENT.set(self._outer)
        if kind is not None:
            self.fail(kind.__name__)
        self.finish()


class Spans(Protocol):
    """What records hops (``shared.spans``)."""

    def open_message(self, operation: str, queue: str, size: int, incoming: Trace | None) -> Hop:
        """See the function of this name."""

    def open_request(self, name: str, facts: Facts, incoming: Trace | None) -> Hop:
        """See the function of this name."""

    def open_batch(self, operation: str, queue: str, traces: Sequence[Trace | None]) -> Hop | None:
        """See the function of this name."""

    def close(self) -> None:
        """Send what is waiting, within a second."""


_CURRENT: ContextVar[Hop | None] = ContextVar("hop", default=None)
_NO_HOP: AbstractContextManager[None] = nullcontext()
_spans: Spans | None = None

current_hop: Callable[[], Hop | None] = _CURRENT.get
"""The hop that the running code belongs to."""


def start_tracing(service: str, endpoint: str, sample: float) -> None:
    """Record hops from now on, if there is an ``endpoint``; ``sample`` of those mails that come without a trace, from 0 to 1."""
    global _spans
    if endpoint:
        # Nothing of it is to be loaded without an endpoint.
        from shared.spans import RecordedSpans

        _spans = RecordedSpans(service, endpoint, sample)


def stop_tracing() -> None:
    """Send what is waiting, within a second. Safe to repeat."""
    global _spans
    spans, _spans = _spans, None
    if spans is not None:
        spans.close()


def is_tracing() -> bool:
    """Hops are recorded."""
    return _spans is not None


def open_message(operation: str, queue: str, size: int, incoming: Trace | None) -> Hop | None:
    """The work on a message from ``queue``, ``size`` its octets, that came with ``incoming``."""
    if _spans is None:
        return None if incoming is None else Hop(incoming)
    return _spans.open_message(operation, queue, size, incoming)


def open_request(name: str, facts: Facts, incoming: Trace | None = None) -> Hop | None:
    """The work for a client that waits for an answer."""
    if _spans is None:
        return None if incoming is None else Hop(incoming)
    return _spans.open_request(name, facts, incoming)


def open_batch(operation: str, queue: str, traces: Sequence[Trace | None]) -> Hop | None:
    """The work on several messages: a trace of its own, linked to those of them that are recorded; None when none is."""
    return None if _spans is None else _spans.open_batch(operation, queue, traces)


def enter(hop: Hop | None) -> AbstractContextManager[Hop | None]:
    """The hop as a context, or one that does nothing."""
    return _NO_HOP if hop is None else hop
