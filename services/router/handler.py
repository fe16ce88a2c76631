"""Route one mail: ask ``shared.delivery.rules``, and publish the mail with the key of the first strategy."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from prometheus_client import Counter

from shared.amqp.frame import Frame
from shared.delivery.outcome import Keys, refuse
from shared.delivery.rewrites import apply_rewrite, find_changes
from shared.delivery.rules import Route, Rule, decide_route
from shared.log import get_logger
from shared.tracing import current_hop
from shared.wire.instructions import InvalidProperty
from shared.wire.message import Message, parse_message
from shared.wire.publication import Publication, Step

log = get_logger()

ROUTED = Counter("router_routed", "Mails routed, by strategy", ["strategy"])
TAKEN = Counter("router_rule_matches", "Mails that a rule has matched, by its name", ["rule"])
REWRITTEN = Counter("router_rewritten", "Mails that a rule has changed")


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
            if (hop := current_hop()) is not None:
                hop.tell({"mailwarren.id": message.id, "mailwarren.strategy": "none"})
                hop.fail("refused")
            log.info("refused", id=message.id, recipient=message.recipient[:320], reason=route.reason)
            return refuse(message, InvalidProperty(route.reason), keys=self._keys, now=now).step
        changed = message if route.rule is None else apply_rewrite(message, route.rule.rewrite)
        self._tell(message, changed, route)
        first, rest = route.outbound[0], list(route.outbound[1:])
        # As it came, unless the mail must say more: the body is not written anew for nothing.
        body, encoding = frame.body, frame.encoding or ""
        if changed is not message or not frame.is_ours or rest != (message.document.get("outbound") or []):
            chained = changed.with_properties({"outbound": rest} if rest else {}, without=("outbound",))
            body, encoding = chained.render(self._keys.encoding), self._keys.encoding
        return Step((Publication(self._keys.strategies[first], body, priority=frame.priority, encoding=encoding),))

    def _tell(self, message: Message, changed: Message, route: Route) -> None:
        strategy = route.outbound[0]
        ROUTED.labels(strategy=strategy).inc()
        if route.rule is not None:
            TAKEN.labels(rule=route.rule.name).inc()
        if (hop := current_hop()) is not None:
            rule = {} if route.rule is None else {"mailwarren.rule": route.rule.name}
            hop.tell({"mailwarren.id": message.id, "mailwarren.strategy": strategy, **rule})
        told = {}
        if changed is not message:
            REWRITTEN.inc()
            told = {"rewritten": sorted(find_changes(message, changed))}
        log.info("routed", id=message.id, recipient=message.recipient[:320], strategy=strategy, reason=route.reason, **told)
