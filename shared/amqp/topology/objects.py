"""What a topology is made of. Values; AMQP's words, in MailerQ's file format on the outside."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Arguments: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """``{"type": "exchange"}``"""

    name: str
    kind: str
    """direct, topic, fanout, headers, x-consistent-hash …"""
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Arguments = field(default_factory=dict)
    at: str = field(default="", compare=False)
    """Where it stands in the file: ``line 3, column 7``; "" when it comes from no file."""

    def __str__(self) -> str:
        return f"exchange {self.name!r}"

    def to_document(self) -> dict[str, Any]:
        """The object as it stands in a file."""
        document: dict[str, Any] = {"type": "exchange", "name": self.name, "exchangetype": self.kind, "durable": self.durable}
        document |= {name: True for name in ("auto_delete", "internal") if getattr(self, name)}
        return document | ({"arguments": dict(self.arguments)} if self.arguments else {})


@dataclass(frozen=True, slots=True)
class Queue:
    """``{"type": "queue"}``"""

    name: str
    durable: bool = True
    arguments: Arguments = field(default_factory=dict)
    at: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"queue {self.name!r}"

    @property
    def kind(self) -> str:
        """``quorum``, ``classic`` or ``stream``: RabbitMQ's ``x-queue-type``."""
        return str(self.arguments.get("x-queue-type", "classic"))

    def to_document(self) -> dict[str, Any]:
        """The object as it stands in a file."""
        document: dict[str, Any] = {"type": "queue", "name": self.name, "durable": self.durable}
        return document | ({"arguments": dict(self.arguments)} if self.arguments else {})


@dataclass(frozen=True, slots=True)
class Binding:
    """``{"type": "binding"}``: from an exchange to a queue or (ours) to an exchange."""

    exchange: str
    destination: str
    routing_key: str = ""
    to_exchange: bool = False
    arguments: Arguments = field(default_factory=dict)
    at: str = field(default="", compare=False)

    def __str__(self) -> str:
        kind = "exchange" if self.to_exchange else "queue"
        key = f" with key {self.routing_key!r}" if self.routing_key else ""
        return f"binding of exchange {self.exchange!r} to {kind} {self.destination!r}{key}"

    def to_document(self) -> dict[str, Any]:
        """The object as it stands in a file."""
        target = "destination" if self.to_exchange else "queue"
        document: dict[str, Any] = {"type": "binding", "exchange": self.exchange, target: self.destination}
        if self.routing_key:
            document["routingkey"] = self.routing_key
        return document | ({"arguments": dict(self.arguments)} if self.arguments else {})


TopologyObject: TypeAlias = Exchange | Queue | Binding


@dataclass(frozen=True, slots=True)
class Topology:
    """Objects in the order in which they are applied."""

    objects: tuple[TopologyObject, ...]
    warnings: tuple[str, ...] = ()
    """One line each: allowed, yet hardly meant."""

    def __iter__(self) -> Iterator[TopologyObject]:
        return iter(self.objects)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The exchanges, in order."""
        return tuple(item for item in self.objects if isinstance(item, Exchange))

    @property
    def queues(self) -> tuple[Queue, ...]:
        """The queues, in order."""
        return tuple(item for item in self.objects if isinstance(item, Queue))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The bindings, in order."""
        return tuple(item for item in self.objects if isinstance(item, Binding))


def render_topology(objects: Iterable[TopologyObject]) -> str:
    """The text of a file: a JSON list, one object a line."""
    lines = ",\n".join("  " + json.dumps(item.to_document(), ensure_ascii=False) for item in objects)
    return f"[\n{lines}\n]\n" if lines else "[]\n"
