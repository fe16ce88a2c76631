"""One message as RabbitMQ delivered it, and how it goes on unchanged: parked, held, copied. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pamqp.commands import Basic

from shared.amqp.settings import BrokerSettings
from shared.amqp.tolerance import UNREADABLE
from shared.wire.message import APP_ID
from shared.wire.publication import EVENT, Publication
from shared.wire.trace import Trace, read_trace

HOLD = "wait.30s"
"""The wait queue for what is held: the exchange that leads to it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as RabbitMQ delivered it."""

    body: bytes
    encoding: str | None
    is_ours: bool
    """The app-id is ours."""
    redelivered: bool
    delivery_count: int
    """How often it was delivered before (x-delivery-count of a quorum queue)."""
    priority: int | None
    event: str | None
    """Our header on messages for the recorder."""
    tag: int
    unreadable: str | None = None
    """Why the message's AMQP properties could not be read; None when they could."""
    trace: Trace | None = None
    """Where it stands in a trace; None: in none."""


def parse_frame(properties: Basic.Properties, body: bytes, *, tag: int, is_redelivered: bool) -> Frame:
    """The parts of a delivery that we use. Nothing else of a received message is ever published again."""
    headers = properties.headers or {}
    # At the first delivery RabbitMQ writes no count: what stands there was copied or forged by the publisher.
    count = headers.get("x-delivery-count", 0) if is_redelivered else 0
    return Frame(
        body=body,
        encoding=properties.content_encoding,
        is_ours=properties.app_id == APP_ID,
        redelivered=is_redelivered,
        delivery_count=count if isinstance(count, int) else 0,
        priority=properties.priority,
        event=event if isinstance(event := headers.get(EVENT), str) else None,
        unreadable=reason if isinstance(reason := headers.get(UNREADABLE), str) else None,
        tag=tag,
        trace=read_trace(headers) if headers else None,
    )


def render_park(settings: BrokerSettings, frame: Frame, queue: str, reason: str) -> Publication:
    """The message, unchanged, for the queue ``dead``: with where it was, why, and when."""
    headers = {"origin-queue": queue, "reason": reason[:1024], "time": datetime.now(UTC).isoformat(timespec="seconds")}
    headers |= _render_event(frame)
    body, encoding = frame.body, frame.encoding or ""
    return Publication(settings.rabbitmq_dead, body, headers=headers, encoding=encoding, is_ours=frame.is_ours, trace=frame.trace)


def render_hold(frame: Frame, home: str, hold: str = HOLD) -> Publication:
    """The message, unchanged, for the wait queue ``hold``; after its time it comes back to the queue of the key ``home``."""
    return Publication(
        home,
        frame.body,
        exchange=hold,
        headers=_render_event(frame),
        priority=frame.priority,
        encoding=frame.encoding or "",
        is_ours=frame.is_ours,
        trace=frame.trace,
    )


def render_copy(frame: Frame, key: str) -> Publication:
    """The message, unchanged, for a reader of copies; dropped when nothing is bound to ``key``."""
    return Publication(
        key,
        frame.body,
        headers=_render_event(frame),
        encoding=frame.encoding or "",
        is_optional=True,
        is_ours=frame.is_ours,
        trace=frame.trace,
    )


def _render_event(frame: Frame) -> dict[str, str]:
    """The one header of a message, beside its trace, that survives a park: without it a record does not say what happened."""
    return {} if frame.event is None else {EVENT: frame.event}
