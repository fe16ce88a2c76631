"""What a handler decides: messages to publish. A value; only the consumer loop acts on it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared.wire.trace import Trace

EVENT = "event"
"""Our AMQP header on every message for the result-recorder: ``accepted``, ``retry``, ``success`` or ``failure``."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to publish."""

    key: str
    """Routing key."""
    body: bytes
    exchange: str | None = None
    """None: the exchange of the settings."""
    record: bool = False
    """Also to the result-recorder, by the header BCC, in the same confirmed publish. Only for messages that carry no mail: the broker
    takes a message with a reachable BCC for routed, even when nothing is bound to its own key."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    """Our own AMQP headers. Headers of a message that was received are never copied (x-death stops dead-lettering)."""
    priority: int | None = None
    encoding: str = ""
    """content-encoding of ``body``: "" or ``gzip``."""
    otherwise: str | None = None
    """Routing key to use when nothing is bound to ``key``."""
    is_optional: bool = False
    """A copy for somebody who may not be there: dropped, with a warning now and then, when nothing is bound to its key. Never for mail
    or records."""
    is_ours: bool = True
    """Published with our app-id. False only for a foreign message that is handed back unchanged: a hold or a park must not make it one
    of ours, whose id and attempts are believed."""
    trace: Trace | None = None
    """Goes along as AMQP headers; not one of ``headers``, which are alike for many messages."""


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one message: publish all of these, then it is done."""

    publications: tuple[Publication, ...] = ()
    confirmed: Callable[[], None] | None = None
    """Called when every publication is confirmed, before the message is acked. Must not raise."""


def with_trace(publications: Iterable[Publication], trace: Trace | None) -> tuple[Publication, ...]:
    """The same within ``trace``; None leaves them as they are."""
    return tuple(publications) if trace is None else tuple(replace(one, trace=trace) for one in publications)
