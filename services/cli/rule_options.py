"""A rule from the options of ``mailwarren rules add``, and a rule in words for ``rules list``."""

import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import orjson

from services.cli.table import render_table
from shared.delivery.rewrites import PROPERTIES, mask
from shared.delivery.rule_params import list_some
from shared.delivery.rules import Rule
from shared.trouble import BadSetting
from shared.wire.document import WireError, parse_document

_LISTS = ("ips", "tags")
_HEADS = ("priority", "name", "outbound", "when all match")
_WIDEST_NAME = 24
_NARROWEST = 30
"""Columns for the last cell, however narrow the terminal."""


def build_rule(name: str, priority: int, params: Sequence[str], outbound: str, rewrite: Sequence[str] = ()) -> dict[str, Any]:
    """The document of a rule from options. Raises BadSetting."""
    gathered: dict[str, Any] = {}
    for param in params:
        key, pattern = _split("--param", param, "NAME=PATTERN")
        if key == "size_over":
            if not pattern.isascii() or not pattern.isdigit():
                raise BadSetting(f"--param {param!r}: expected a number of bytes")
            gathered[key] = int(pattern[:20])
        else:
            gathered.setdefault(key, []).append(pattern)
    strategies = [word.strip() for word in outbound.split(",") if word.strip()]
    configuration: dict[str, Any] = {"params": gathered, "outbound": strategies}
    if rewrite:
        configuration["rewrite"] = _build_rewrite(rewrite)
    return {"name": name, "priority": priority, "configuration": configuration}


def render_rules(rules: Sequence[Rule], width: int | None = None) -> list[str]:
    """A table no wider than the terminal (80 columns when there is none): a parameter and a rewrite to a line."""
    width = width or shutil.get_terminal_size((80, 24)).columns
    cells = [_describe(rule) for rule in rules]
    widths = [max(len(line) for row in cells for line in (*row[index], _HEADS[index])) for index in range(3)]
    names = min(_WIDEST_NAME, widths[1])
    left = widths[0] + names + widths[2] + 6
    rows: list[tuple[str, ...]] = []
    for priority, name, outbound, told in cells:
        wrapped = [line for one in told for line in textwrap.wrap(one, max(width - left, _NARROWEST), subsequent_indent="  ")]
        columns = [priority, textwrap.wrap(name[0], names), outbound, wrapped]
        rows += zip_longest(*columns, fillvalue="")
    return render_table(_HEADS, rows)


def render_value(name: str, value: Any) -> str:
    """The value of a rewritten property for people, without a password."""
    if value is None:
        return "(removed)"
    shown = mask(name, value)
    return shown if isinstance(shown, str) else orjson.dumps(shown).decode()


def _describe(rule: Rule) -> list[list[str]]:
    params = [f"{name} = {list_some(patterns, ' or ')}" for name, patterns in rule.params.items()]
    changes = [f"sets {name} = {render_value(name, value)}" for name, value in rule.rewrite.items()]
    outbound = [f"{strategy}," for strategy in rule.outbound[:-1]] + [rule.outbound[-1]]
    return [[str(rule.priority)], [rule.name], outbound, [*(params or ["(every mail)"]), *changes]]


def _split(option: str, text: str, expected: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise BadSetting(f"{option} {text!r}: expected {expected}")
    return key, value


def _build_rewrite(options: Sequence[str]) -> dict[str, Any]:
    rewrite: dict[str, Any] = {}
    for option in options:
        name, value = _split("--set", option, "PROPERTY=VALUE")
        if name not in PROPERTIES:
            raise BadSetting(f"--set {option!r}: expected one of {', '.join(PROPERTIES)}")
        if name in _LISTS:
            rewrite.setdefault(name, []).append(value)
        elif name in rewrite:
            raise BadSetting(f"--set {option!r}: {name} is given twice")
        else:
            rewrite[name] = _READ.get(name, str)(value)
    return rewrite


def _read_smarthost(value: str) -> dict[str, Any]:
    """``HOST[:PORT]``, an IPv6 address with a port in brackets. Credentials do not belong on a command line: use a file."""
    host, separator, port = value.rpartition(":")
    if not separator or not port.isdecimal() or (":" in host and not host.endswith("]")):
        return {"hostname": value}
    return {"hostname": host, "port": int(port[:6])}


def _read_time(value: str) -> int | dict[str, str]:
    return int(value[:20]) if value.isascii() and value.isdigit() else {"time": value}


def _read_json(value: str) -> Mapping[str, Any]:
    try:
        return parse_document(value.encode())
    except WireError as error:
        raise BadSetting(f"--set headers: {error}") from None


_READ: Mapping[str, Callable[[str], Any]] = {"smarthost": _read_smarthost, "nextattempt": _read_time, "headers": _read_json}
