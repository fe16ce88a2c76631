"""Which way does a mail go? The router's rules, as a pure function of message and rules.

A rule matches when all of its ``params`` match: case-insensitive, ``*`` stands for any text, a list means any of. Rules are
tried by priority, lower first; the first that matches decides. An explicit ``strategy`` on the message wins over all rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.wire.instructions import STRATEGIES
from shared.wire.message import Message

PARAMS = ("channel", "sender", "sender_domain", "recipient", "recipient_domain", "subject", "tag", "size_over")
"""What a rule may ask for, besides ``header.<name>``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One delivery configuration."""

    name: str
    priority: int
    params: Mapping[str, tuple[str, ...]]
    """Parameter → patterns, any of which must match. Empty: the rule matches every mail."""
    outbound: tuple[str, ...]
    """Strategies in order of preference: the first takes the mail, the next one when that is refused for good."""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The configuration as it was given."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a mail goes, and why."""

    outbound: tuple[str, ...]
    reason: str


def parse_rule(document: Mapping[str, Any]) -> Rule:
    """A rule from ``{"name", "priority", "configuration": {"params": {…}, "outbound": […]}}``.

    Raises ValueError that names the field, its value and what was expected.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"a rule: {document!r:.80}: expected an object with name, priority and configuration")
    name, priority, configuration = document.get("name"), document.get("priority", 0), document.get("configuration")
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable() or name in (".", ".."):
        raise ValueError(f"name: {name!r:.250}: expected a text of 1 to 200 printable characters, not . or ..")
    if not isinstance(priority, int) or isinstance(priority, bool) or not -(2**31) <= priority < 2**31:
        raise ValueError(f"priority: {priority!r}: expected a whole number")
    if not isinstance(configuration, Mapping):
        raise ValueError(f"configuration: {configuration!r}: expected an object with params and outbound")
    if unknown := set(configuration) - {"params", "outbound"}:
        raise ValueError(f"configuration.{min(unknown)}: not built yet; expected only params and outbound")
    return Rule(name, priority, _parse_params(configuration.get("params", {})), _parse_outbound(configuration), dict(document))


def decide_route(message: Message, rules: Sequence[Rule], *, default: str) -> Route:
    """The route of ``message``. ``default``: the setting ``router-default``, a strategy or ``fail`` (an empty chain).

    ``rules`` in order of priority (``order_rules``).
    """
    strategy = message.document.get("strategy")
    if strategy is not None:
        if strategy in STRATEGIES:
            return Route((strategy,), f"the message asks for {strategy}")
        return Route((), f"strategy: {str(strategy)[:80]!r}: expected one of {', '.join(STRATEGIES)}")
    for rule in rules:
        if find_mismatch(message, rule) is None:
            return Route(rule.outbound, f"rule {rule.name}")
    if default in STRATEGIES:
        return Route((default,), f"no rule matches: router-default is {default}")
    return Route((), "no rule matches this mail, and router-default is fail")


def explain_route(message: Message, rules: Sequence[Rule], *, default: str) -> tuple[Route, list[tuple[str, str]]]:
    """The route, and for every rule in order (name, why it was passed over, or ``matches``)."""
    passed = [(rule.name, find_mismatch(message, rule) or "matches") for rule in order_rules(rules)]
    return decide_route(message, order_rules(rules), default=default), passed


def order_rules(rules: Sequence[Rule]) -> list[Rule]:
    """By priority, lower first; by name where it is the same."""
    return sorted(rules, key=lambda rule: (rule.priority, rule.name))


def find_mismatch(message: Message, rule: Rule) -> str | None:
    """The first parameter that does not match, in words; None when all match."""
    for param, patterns in rule.params.items():
        values = _values(message, param)
        if param == "size_over":
            if not values or int(values[0]) <= int(patterns[0]):
                return f"size_over: {values[0] if values else 'unknown'} is not over {patterns[0]}"
        elif not any(matches(pattern, value) for pattern in patterns for value in values):
            return f"{param}: {', '.join(values) or 'nothing'} does not match {' or '.join(patterns)}"
    return None


def _values(message: Message, param: str) -> list[str]:
    document = message.document
    extracted = document.get("extracted") or {}
    if param.startswith("header."):
        value = (extracted.get("headers") or {}).get(param.removeprefix("header.").lower(), [])
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]
    found: Any = {
        "channel": message.channel,
        "sender": message.reverse_path,
        "sender_domain": message.reverse_path.rpartition("@")[2],
        "recipient": message.recipient,
        "recipient_domain": message.recipient.rpartition("@")[2],
        "subject": extracted.get("subject"),
        "tag": document.get("tags"),
        "size_over": document.get("size"),
    }[param]
    if isinstance(found, list):
        return [str(item) for item in found]
    return [] if found is None else [str(found)]


def matches(pattern: str, value: str) -> bool:
    """Is ``value`` of the form ``pattern``? Linear in the value: a regular expression with many ``*`` would not be."""
    first, *middle = pattern.casefold().split("*")
    text = value.casefold()
    if not middle:
        return text == first
    last = middle.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def _parse_params(params: Any) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(params, Mapping):
        raise ValueError(f"configuration.params: {params!r}: expected an object")
    return {str(name): _parse_patterns(str(name), value) for name, value in params.items()}


def _parse_patterns(name: str, value: Any) -> tuple[str, ...]:
    where = f"configuration.params.{name}"
    if name not in PARAMS and not (name.startswith("header.") and len(name) > len("header.")):
        raise ValueError(f"{where}: unknown; expected one of {', '.join(PARAMS)}, header.<name>")
    if name == "size_over":
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{where}: {value!r}: expected a number of bytes")
        return (str(value),)
    patterns = value if isinstance(value, list | tuple) else [value]
    if not patterns or not all(isinstance(item, str) for item in patterns):
        raise ValueError(f"{where}: {value!r}: expected a text or a list of texts")
    return tuple(patterns)


def _parse_outbound(configuration: Mapping[str, Any]) -> tuple[str, ...]:
    outbound = configuration.get("outbound")
    if not isinstance(outbound, list) or not outbound:
        raise ValueError(f"configuration.outbound: {outbound!r}: expected a list of strategies ({', '.join(STRATEGIES)})")
    for strategy in outbound:
        if strategy not in STRATEGIES:
            raise ValueError(f"configuration.outbound: {strategy!r}: expected one of {', '.join(STRATEGIES)}")
    if len(set(outbound)) != len(outbound):
        raise ValueError(f"configuration.outbound: {outbound!r}: expected each strategy once")
    return tuple(outbound)
