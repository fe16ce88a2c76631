"""Which way does a mail go? The router's rules, as a pure function of message and rules.

A rule matches when all of its ``params`` match: case-insensitive, ``*`` stands for any text, a list means any of. Rules are
tried by priority, lower first; the first that matches decides. An explicit ``strategy`` on the message wins over where the rule
sends it, not over what the rule rewrites.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.delivery.rewrites import parse_rewrite
from shared.delivery.rule_params import Condition, Facts, explain_mismatch, parse_params, prepare
from shared.wire.instructions import STRATEGIES
from shared.wire.message import Message

NAMES = ("name", "priority", "configuration", "created_at", "updated_at")
"""What a rule as a whole consists of; the times are written by us."""
CONFIGURATION = ("params", "outbound", "rewrite")
MATCHES = "matches"
MATCHES_TOO = "matches, but a rule before it has the mail"


@dataclass(frozen=True, slots=True)
class Rule:
    """One delivery configuration."""

    name: str
    priority: int
    params: Mapping[str, tuple[str, ...]]
    """Parameter → patterns, any of which must match. Empty: the rule matches every mail."""
    outbound: tuple[str, ...]
    """Strategies in order of preference: the first takes the mail, the next one when that is refused for good."""
    rewrite: Mapping[str, Any] = field(default_factory=dict)
    """Properties that the mail gets (``shared.delivery.rewrites``)."""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The configuration as it was given."""
    conditions: tuple[Condition, ...] = field(default=(), compare=False, repr=False)
    """``params``, prepared."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a mail goes, and why."""

    outbound: tuple[str, ...]
    reason: str
    rule: Rule | None = None
    """The rule that matches it; its ``rewrite`` is to be applied."""


def parse_rule(document: Mapping[str, Any]) -> Rule:
    """A rule from ``{"name", "priority", "configuration": {"params": {…}, "outbound": […], "rewrite": {…}}}``.

    Raises ValueError that names the field, its value and what was expected.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"a rule: {document!r:.80}: expected an object with name, priority and configuration")
    name, priority, configuration = document.get("name"), document.get("priority", 0), document.get("configuration")
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable() or name in (".", ".."):
        raise ValueError(f"name: {name!r:.250}: expected a text of 1 to 200 printable characters, not . or ..")
    if not isinstance(priority, int) or isinstance(priority, bool) or not -(2**31) <= priority < 2**31:
        raise ValueError(f"priority: {priority!r:.80}: expected a whole number")
    if not isinstance(configuration, Mapping):
        raise ValueError(f"configuration: {configuration!r:.80}: expected an object with params and outbound")
    if unknown := set(configuration) - set(CONFIGURATION):
        raise ValueError(f"configuration.{min(unknown)[:80]}: unknown; expected one of {', '.join(CONFIGURATION)}")
    if unknown := set(document) - set(NAMES):
        raise ValueError(f"{min(unknown)[:80]}: unknown; expected name, priority and configuration")
    params = parse_params(configuration.get("params", {}))
    outbound, rewrite = _parse_outbound(configuration), parse_rewrite(configuration.get("rewrite"))
    if b"\\u0000" in orjson.dumps(configuration):
        raise ValueError("configuration: a text in it contains NUL, which cannot be stored")
    return Rule(name, priority, params, outbound, rewrite, dict(document), prepare(params))


def decide_route(message: Message, rules: Sequence[Rule], *, default: str) -> Route:
    """The route of ``message``. ``default``: the setting ``router-default``, a strategy or ``fail`` (an empty chain).

    ``rules`` in order of priority (``order_rules``).
    """
    strategy = message.document.get("strategy")
    if strategy is not None and strategy not in STRATEGIES:
        return Route((), f"strategy: {str(strategy)[:80]!r}: expected one of {', '.join(STRATEGIES)}")
    facts = Facts(message)
    found = next((rule for rule in rules if facts.fit_all(rule.conditions)), None)
    if strategy is not None:
        rewritten = f"; rule {found.name} rewrites it" if found is not None and found.rewrite else ""
        return Route((strategy,), f"the message asks for {strategy}{rewritten}", found)
    if found is not None:
        return Route(found.outbound, f"rule {found.name}", found)
    if default in STRATEGIES:
        return Route((default,), f"no rule matches: router-default is {default}")
    return Route((), "no rule matches this mail, and router-default is fail")


def explain_route(message: Message, rules: Sequence[Rule], *, default: str) -> tuple[Route, list[tuple[str, str]]]:
    """The route, and for every rule in order (name, why it was passed over, or ``matches``)."""
    ordered, facts = order_rules(rules), Facts(message)
    route = decide_route(message, ordered, default=default)
    matching = {True: MATCHES, False: MATCHES_TOO}
    told = [(rule.name, explain_mismatch(facts, rule.conditions) or matching[rule is route.rule]) for rule in ordered]
    return route, told


def order_rules(rules: Sequence[Rule]) -> list[Rule]:
    """By priority, lower first; by name where it is the same."""
    return sorted(rules, key=lambda rule: (rule.priority, rule.name))


def find_mismatch(message: Message, rule: Rule) -> str | None:
    """The first parameter that does not match, in words; None when all match."""
    return explain_mismatch(Facts(message), rule.conditions)


def _parse_outbound(configuration: Mapping[str, Any]) -> tuple[str, ...]:
    outbound = configuration.get("outbound")
    if not isinstance(outbound, list) or not outbound:
        raise ValueError(f"configuration.outbound: {outbound!r:.80}: expected a list of strategies ({', '.join(STRATEGIES)})")
    for strategy in outbound:
        if strategy not in STRATEGIES:
            raise ValueError(f"configuration.outbound: {strategy!r:.80}: expected one of {', '.join(STRATEGIES)}")
    if len(set(outbound)) != len(outbound):
        raise ValueError(f"configuration.outbound: {outbound!r}: expected each strategy once")
    return tuple(outbound)
