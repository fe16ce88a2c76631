"""Which queues a routing key leads to. Pure: the broker's rules for direct, fanout and topic exchanges."""

import re
from collections.abc import Iterable, Mapping

from shared.amqp.topology.objects import Binding, Exchange


def find_queues(exchanges: Iterable[Exchange], bindings: Iterable[Binding], exchange: str, key: str) -> frozenset[str]:
    """Names of the queues that a message published to ``exchange`` with ``key`` reaches.

    Exchanges of other types (headers, plugins) may lead to every queue bound to them. The default exchange "" is the
    caller's case: there a key is a queue's name.
    """
    kinds = {item.name: item.kind for item in exchanges}
    outgoing: dict[str, list[Binding]] = {}
    for binding in bindings:
        outgoing.setdefault(binding.exchange, []).append(binding)
    queues: set[str] = set()
    seen: set[str] = set()
    waiting = [exchange]
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        for binding in outgoing.get(source, []):
            if matches(kinds.get(source, "direct"), binding.routing_key, key):
                (waiting.append if binding.to_exchange else queues.add)(binding.destination)
    return frozenset(queues)


def matches(kind: str, pattern: str, key: str) -> bool:
    """Whether an exchange of this type passes ``key`` on to a binding with ``pattern``."""
    if kind == "direct":
        return pattern == key
    if kind == "topic":
        return _topic(pattern).fullmatch(key) is not None
    return True


def find_loops(
    exchanges: Iterable[Exchange], bindings: Iterable[Binding], exchange: str, keys: Mapping[str, str], inputs: Iterable[str]
) -> list[str]:
    """A sentence for each of ``keys`` (setting → routing key) that leads into one of the queues that our processes read."""
    exchanges, bindings, ours = tuple(exchanges), tuple(bindings), frozenset(inputs)
    sentences = []
    for setting, key in keys.items():
        reached = find_queues(exchanges, bindings, exchange, key) if exchange else frozenset({key})
        sentences += [
            f"{setting}: key {key!r} leads into queue {queue!r}, which our own processes read: results would be taken for mail"
            for queue in sorted(reached & ours)
        ]
    return sentences


def _topic(pattern: str) -> re.Pattern[str]:
    """A topic pattern (``*`` one word, ``#`` any number of words) as a regular expression over a key that ends with a dot."""
    parts = []
    for word in pattern.split("."):
        parts.append({"*": r"[^.]*", "#": None}.get(word, re.escape(word)))
    # Built from the right: "#" also swallows its dot, and may stand for no word at all.
    expression = ""
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        last = index == len(parts) - 1
        if part is None:
            expression = r".*" if last else rf"(?:(?:[^.]*\.)*){expression}"
        elif last:
            expression = part
        elif all(later is None for later in parts[index + 1 :]):
            expression = rf"{part}(?:\..*)?"
        else:
            expression = rf"{part}\.{expression}"
    return re.compile(expression, re.DOTALL)
