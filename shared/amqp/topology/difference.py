"""Wanted against found. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.amqp.topology.objects import Arguments, Binding, Exchange, Queue, Topology, TopologyObject


class Kind(StrEnum):
    """What is wrong with an object."""

    MISSING = "missing"
    OTHER = "differs"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a topology and a broker."""

    kind: Kind
    subject: TopologyObject
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}" + (f": {self.detail}" if self.detail else "")


def find_differences(wanted: Topology, found: Iterable[TopologyObject]) -> list[Difference]:
    """Everything that differs: first what is missing or other, in the order of ``wanted``, then what is there beside it.

    ``found`` is all that the broker has, without its own exchanges (``amq.*``, the default one) and default bindings.
    """
    there = {_identity(item): item for item in found}
    differences: list[Difference] = []
    expected = set()
    for item in wanted:
        identity = _identity(item)
        expected.add(identity)
        other = there.get(identity)
        if other is None:
            differences.append(Difference(Kind.MISSING, item))
        elif detail := describe_difference(item, other):
            differences.append(Difference(Kind.OTHER, item, detail))
    extra = [item for identity, item in there.items() if identity not in expected]
    return differences + [Difference(Kind.EXTRA, item) for item in sorted(extra, key=str)]


def describe_difference(wanted: TopologyObject, found: TopologyObject) -> str:
    """What is other about two objects of the same name; "" when nothing is. Both values are named."""
    details: list[str] = []
    for name in ("kind", "durable", "auto_delete", "internal"):
        if isinstance(wanted, Exchange) or (isinstance(wanted, Queue) and name == "durable"):
            details += _compare("exchangetype" if name == "kind" else name, getattr(wanted, name), getattr(found, name))
    if not isinstance(wanted, Binding):
        details += _compare_arguments(wanted, found)
    return ", ".join(details)


def _compare_arguments(wanted: TopologyObject, found: TopologyObject) -> list[str]:
    ours, theirs = _arguments(wanted), _arguments(found)
    return [detail for name in sorted({*ours, *theirs}) for detail in _compare(name, ours.get(name), theirs.get(name))]


def _arguments(item: TopologyObject) -> dict[str, Any]:
    arguments = dict(item.arguments)
    if isinstance(item, Queue):
        # Declared without a type, RabbitMQ makes a classic queue and (since 3.12) says so in the arguments.
        arguments.setdefault("x-queue-type", "classic")
    return arguments


def _compare(name: str, wanted: Any, found: Any) -> list[str]:
    if wanted == found and isinstance(wanted, bool) == isinstance(found, bool):
        return []
    return [f"{name} is {_show(found)} there, {_show(wanted)} wanted"]


def _show(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _identity(item: TopologyObject) -> tuple[Any, ...]:
    if isinstance(item, Binding):
        return ("binding", item.exchange, item.to_exchange, item.destination, item.routing_key, _freeze(item.arguments))
    return (type(item).__name__, item.name)


def _freeze(arguments: Arguments) -> str:
    return json.dumps(dict(arguments), sort_keys=True)
