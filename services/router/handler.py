"""Route one mail: ask ``shared.delivery.rules``, and publish the mail with the key of the first strategy."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from prometheus_client import Counter

from shared.amqp.consumer import Frame
from shared.delivery.outcome import Keys, refuse
from shared.delivery.rules import Rule, decide_route
from shared.log import get_logger
from shared.wire.instructions import InvalidProperty
from shared.wire.message import parse_message
from shared.wire.publication import Publication, Step

log = get_logger()

ROUTED = Counter("router_routed", "Mails routed, by strategy", ["strategy"])


class Router:
    """The handler of the queue ``inbox``."""

    def __init__(self, rules: Callable[[], Sequence[Rule]], keys: Keys, *, default: str) -> None:
        """``rules``: those in force; raises Unavailable while there are none yet. ``default``: see ``decide_route``."""
        self._rules = rules
        self._keys = keys
        self._default = default

    async def handle(self, frame: Frame) -> Step:
        """Raises BadMessage or Unavailable."""
        now = datetime.now(UTC)
        message = parse_message(frame.body, encoding=frame.encoding, is_ours=frame.is_ours, now=now)
        route = decide_route(message, self._rules(), default=self._default)
        if not route.outbound:
            ROUTED.labels(strategy="none").inc()
            log.info("refused", id=message.id, recipient=message.recipient[:320], reason=route.reason)
            return refuse(message, InvalidProperty(route.reason), keys=self._keys, now=now).step
        first, rest = route.outbound[0], route.outbound[1:]
        ROUTED.labels(strategy=first).inc()
        log.info("routed", id=message.id, recipient=message.recipient[:320], strategy=first, reason=route.reason)
        # As it came, unless the mail must say more: the body is not written anew for nothing.
        body, encoding = frame.body, frame.encoding or ""
        if rest or not frame.is_ours or "outbound" in message.document:
            body, encoding = message.with_properties({"outbound": list(rest)}).render(self._keys.encoding), self._keys.encoding
        return Step((Publication(self._keys.strategies[first], body, priority=frame.priority, encoding=encoding),))
