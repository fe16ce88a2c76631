"""JSON with the place of every value, for error messages that an editor can jump to."""

import json
import re
from dataclasses import dataclass
from typing import Any

from shared.trouble import BadSetting

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_CONSTANTS = ("NaN", "Infinity", "-Infinity")
_ATOM = re.compile(r"[^\s,\]}]+")


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON value and where it stands."""

    value: Any
    """A scalar, a list of Nodes, or a dict of member name → Member."""
    offset: int
    """Characters from the start of the text."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object: where its name stands, and its value."""

    offset: int
    node: Node


def parse_located(text: str, source: str) -> Node:
    """The JSON value in ``text``. Raises BadSetting, one line: ``source``, line, column, what is wrong."""
    try:
        json.loads(text)
        return _parse_value(text, _skip(text, 0))[0]
    except json.JSONDecodeError as error:
        raise BadSetting(f"{source}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except _Refused as error:
        raise BadSetting(f"{source}: {place(text, error.offset)}: {error}") from None
    except RecursionError:
        raise BadSetting(f"{source}: nested too deep") from None


def place(text: str, offset: int) -> str:
    """``line 3, column 7``: both from 1, the column in characters, as editors count."""
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"


def to_plain(node: Node) -> Any:
    """The value without places."""
    if isinstance(node.value, list):
        return [to_plain(item) for item in node.value]
    if isinstance(node.value, dict):
        return {name: to_plain(member.node) for name, member in node.value.items()}
    return node.value


class _Refused(Exception):
    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


def _skip(text: str, offset: int) -> int:
    match = _SPACE.match(text, offset)
    return match.end() if match else offset


def _parse_value(text: str, start: int) -> tuple[Node, int]:
    """The value at ``start`` and where it ends. The syntax was checked before: only places are gathered here."""
    opening = text[start]
    if opening == '"':
        string, end = _DECODER.raw_decode(text, start)
        return Node(string, start), end
    if opening == "{":
        return _parse_object(text, start)
    if opening == "[":
        return _parse_list(text, start)
    match = _ATOM.match(text, start)
    token = match.group() if match else ""
    if token in _CONSTANTS:
        raise _Refused(f"{token} is not JSON", start)
    return Node(json.loads(token), start), start + len(token)


def _parse_list(text: str, start: int) -> tuple[Node, int]:
    items = []
    offset = _skip(text, start + 1)
    while text[offset] != "]":
        item, offset = _parse_value(text, offset)
        items.append(item)
        offset = _skip(text, offset)
        if text[offset] == ",":
            offset = _skip(text, offset + 1)
    return Node(items, start), offset + 1


def _parse_object(text: str, start: int) -> tuple[Node, int]:
    members: dict[str, Member] = {}
    offset = _skip(text, start + 1)
    while text[offset] != "}":
        at = offset
        name, offset = _DECODER.raw_decode(text, at)
        offset = _skip(text, offset)
        value, offset = _parse_value(text, _skip(text, offset + 1))
        if name in members:
            raise _Refused(f"key {name!r} stands twice in one object", at)
        members[name] = Member(at, value)
        offset = _skip(text, offset)
        if text[offset] == ",":
            offset = _skip(text, offset + 1)
    return Node(members, start), offset + 1
