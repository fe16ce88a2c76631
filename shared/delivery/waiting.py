"""Mail that is not due: parked in a wait queue, which hands it back after its time."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.wire.message import Message
from shared.wire.publication import Publication

WAIT_QUEUES: tuple[tuple[timedelta, str], ...] = (
    (timedelta(hours=2), "wait.2h"),
    (timedelta(hours=1), "wait.1h"),
    (timedelta(minutes=30), "wait.30m"),
    (timedelta(minutes=10), "wait.10m"),
    (timedelta(minutes=5), "wait.5m"),
    (timedelta(minutes=1), "wait.1m"),
    (timedelta(seconds=30), "wait.30s"),
    (timedelta(seconds=5), "wait.5s"),
)
"""Longest first: how long each keeps a message, and the exchange that leads to it."""
WEBHOOK_WAIT_QUEUES: tuple[tuple[timedelta, str], ...] = (
    (timedelta(minutes=30), "webhook.wait.30m"),
    (timedelta(minutes=5), "webhook.wait.5m"),
    (timedelta(seconds=30), "webhook.wait.30s"),
    (timedelta(seconds=5), "webhook.wait.5s"),
)
"""The same for what no mail must wait behind: events that are posted over HTTP. topology-webhook.json has them."""


def choose_wait_queue(left: timedelta, queues: Sequence[tuple[timedelta, str]] = WAIT_QUEUES) -> str:
    """The longest wait that is not longer than what is ``left``; the shortest when less is left than that."""
    for duration, name in queues:
        if duration <= left:
            return name
    return queues[-1][1]


def render_wait(message: Message, *, home: str, due: datetime, now: datetime, encoding: str = "") -> Publication:
    """Park ``message`` until ``due`` or earlier; it comes home by the routing key ``home``. No attempt is counted."""
    return Publication(
        home,
        message.render(encoding),
        exchange=choose_wait_queue(due - now),
        priority=_priority(message),
        encoding=encoding,
    )


def _priority(message: Message) -> int | None:
    priority = message.document.get("priority")
    return priority if isinstance(priority, int) and 0 <= priority <= 255 else None
