"""The file format of MailerQ's ``amqpinit``: a JSON list of objects, applied in order.

| object      | fields                                                                                   |
|-------------|------------------------------------------------------------------------------------------|
| ``exchange``| ``name``, ``exchangetype``, ``durable``, ``arguments``; ours: ``auto_delete``, ``internal`` |
| ``queue``   | ``name``, ``durable``, ``arguments``                                                     |
| ``binding`` | ``exchange``, ``queue`` or (ours) ``destination``, ``routingkey``, ``arguments``           |

``durable`` is true unless it says false: mail shall survive a restart of the broker.
"""

from collections.abc import Mapping
from typing import Any

from shared.amqp.topology.located import Member, Node, parse_located, place, to_plain
from shared.amqp.topology.objects import Binding, Exchange, Queue, Topology, TopologyObject
from shared.trouble import BadSetting

_FIELDS: Mapping[str, Mapping[str, type]] = {
    "exchange": {
        "name": str,
        "exchangetype": str,
        "durable": bool,
        "auto_delete": bool,
        "internal": bool,
        "arguments": dict,
    },
    "queue": {"name": str, "durable": bool, "arguments": dict},
    "binding": {"exchange": str, "queue": str, "destination": str, "routingkey": str, "arguments": dict},
}
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "exchange": ("name", "exchangetype"),
    "queue": ("name",),
    "binding": ("exchange",),
}
_WORDS: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    int: "a number",
    float: "a number",
    type(None): "null",
}
MAX_NAME = 255
"""Bytes of a name or routing key: AMQP's short string."""


def parse_topology(text: str, source: str = "topology.json") -> Topology:
    """The topology in ``text``. Raises BadSetting, one line naming ``source``, line, column and what was expected."""
    return _Parser(text, source).parse()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._warnings: list[str] = []

    def parse(self) -> Topology:
        root = parse_located(self._text, self._source)
        if not isinstance(root.value, list):
            raise self._error(root.offset, f"expected a list of objects, not {_WORDS[type(to_plain(root))]}")
        return Topology(tuple(self._parse_object(node) for node in root.value), tuple(self._warnings))

    def _parse_object(self, node: Node) -> TopologyObject:
        if not isinstance(node.value, dict):
            raise self._error(node.offset, f"expected an object, not {_WORDS[type(to_plain(node))]}")
        members: dict[str, Member] = node.value
        if "type" not in members:
            raise self._error(node.offset, "the field 'type' is missing: expected exchange, queue or binding")
        kind = members["type"].node
        if not isinstance(kind.value, str) or kind.value not in _FIELDS:
            raise self._error(kind.offset, f"unknown type {to_plain(kind)!r}: expected exchange, queue or binding")
        fields = self._parse_fields(kind.value, node, members)
        at = place(self._text, node.offset)
        if kind.value == "exchange":
            return Exchange(kind=fields.pop("exchangetype"), at=at, **fields)
        if kind.value == "queue":
            self._warn_of_arguments(fields["name"], members)
            return Queue(at=at, **fields)
        to_exchange = "destination" in fields
        return Binding(
            exchange=fields["exchange"],
            destination=fields["destination"] if to_exchange else fields["queue"],
            routing_key=fields.get("routingkey", ""),
            to_exchange=to_exchange,
            arguments=fields.get("arguments", {}),
            at=at,
        )

    def _parse_fields(self, kind: str, node: Node, members: Mapping[str, Member]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, member in members.items():
            if name == "type":
                continue
            if name not in _FIELDS[kind]:
                raise self._error(member.offset, f"{kind}: unknown key {name!r}: expected {', '.join(_FIELDS[kind])}")
            fields[name] = self._parse_field(kind, name, member.node)
        for name in _REQUIRED[kind]:
            if name not in fields:
                raise self._error(node.offset, f"{kind}: the field {name!r} is missing")
        if kind == "binding" and ("queue" in fields) == ("destination" in fields):
            told = "has both 'queue' and 'destination'" if "queue" in fields else "has neither 'queue' nor 'destination'"
            raise self._error(node.offset, f"binding: {told}: expected one of them")
        return fields

    def _parse_field(self, kind: str, name: str, node: Node) -> Any:
        value, expected = to_plain(node), _FIELDS[kind][name]
        if type(value) is not expected:
            raise self._error(node.offset, f"{kind}: {name}: {_show(value)}: expected {_WORDS[expected]}")
        if isinstance(value, str):
            self._check_name(kind, name, value, node)
        if isinstance(value, dict):
            self._check_arguments(kind, node)
        return value

    def _check_name(self, kind: str, name: str, value: str, node: Node) -> None:
        if name == "routingkey":
            empty_is = None
        elif kind == "binding" and name == "exchange":
            empty_is = "the default exchange takes no bindings: every queue is bound to it by its own name"
        else:
            empty_is = f"expected a name of 1 to {MAX_NAME} bytes"
        if not value and empty_is:
            raise self._error(node.offset, f"{kind}: {name}: '': {empty_is}")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise self._error(node.offset, f"{kind}: {name}: {value!r}: not valid Unicode") from None
        if size > MAX_NAME:
            raise self._error(node.offset, f"{kind}: {name}: {_show(value)}: longer than {MAX_NAME} bytes")

    def _check_arguments(self, kind: str, node: Node) -> None:
        """AMQP's tables know no null here, and integers of 64 bits."""
        for name, member in node.value.items():
            value = member.node.value
            if value is None or (isinstance(value, int) and not -(2**63) <= value < 2**63):
                raise self._error(
                    member.node.offset, f"{kind}: argument {name!r}: {_show(value)}: expected a value that AMQP can carry"
                )
            if isinstance(value, dict):
                self._check_arguments(kind, member.node)

    def _warn_of_arguments(self, queue: str, members: Mapping[str, Member]) -> None:
        given = members["arguments"].node.value if "arguments" in members else {}
        for name, member in given.items():
            if not name.startswith("x-"):
                where = place(self._text, member.offset)
                self._warnings.append(
                    f"{self._source}: {where}: queue {queue!r}: argument {name!r} does not begin with x-: RabbitMQ ignores it"
                )

    def _error(self, offset: int, text: str) -> BadSetting:
        return BadSetting(f"{self._source}: {place(self._text, offset)}: {text}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
