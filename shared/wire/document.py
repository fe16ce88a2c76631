"""The body of an AMQP message: one UTF-8 JSON object, gzip'ed or not.

Strict where a lenient parser would corrupt silently: integers beyond 64 bits, duplicate keys and depth over 100 are refused.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from shared.trouble import BadMessage

MAX_DEPTH = 100
MAX_BODY = 128 * 1024 * 1024
"""Bytes of a body, after decompression. RabbitMQ 3.10 takes 128 MiB, 4.x 16 MiB by default."""

_LARGE = 1 << 20
"""Bytes from which a body is worth shortening before it is parsed for a second time."""
_LONG = 4096
_LONG_BODY = 16 * 1024
# Possessive: linear in time, and no stack grows with the string.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_INT64 = range(-(2**63), 2**64)
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME


class WireError(BadMessage):
    """The body is not one of our messages: parked, with this text as the reason."""


def parse_document(body: bytes, encoding: str | None = None) -> dict[str, Any]:
    """The JSON object in ``body``; ``encoding`` is the AMQP property ``content-encoding``. Raises WireError."""
    raw = decompress(body) if encoding == "gzip" else body
    if encoding not in (None, "", "gzip", "identity", "utf-8"):
        raise WireError(f"content-encoding {encoding!r}: expected gzip or none")
    document = parse_json(raw)
    if not isinstance(document, dict):
        raise WireError(f"body is a JSON {_kind(document)}, expected an object")
    return document


def parse_json(raw: bytes) -> Any:
    """The value in ``raw``, parsed strictly; any kind of value. Raises WireError."""
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise WireError(f"body is not JSON: {error}") from None
    if not isinstance(document, dict | list):
        return document
    # A large body is not written out once more only to be compared.
    if len(raw) >= _LARGE or not _is_canonical(document, raw):
        _check_strictly(raw)
    if is_too_deep(document, raw):
        raise WireError(f"body is nested deeper than {MAX_DEPTH}")
    return document


def render_document(document: Mapping[str, Any], encoding: str = "") -> bytes:
    """The bytes for the wire. ``encoding`` is "" or ``gzip``."""
    body = orjson.dumps(document, option=_OPTIONS)
    return gzip.compress(body, compresslevel=1, mtime=0) if encoding == "gzip" else body


def decompress(body: bytes, limit: int = MAX_BODY) -> bytes:
    """Gunzip at most ``limit`` bytes. Raises WireError when it is not gzip or grows beyond the limit."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        raw = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise WireError(f"body is not gzip: {error}") from None
    if len(raw) > limit:
        raise WireError(f"body is larger than {limit} bytes after decompression")
    if not inflater.eof or inflater.unused_data:
        raise WireError("body is not one whole gzip stream")
    return raw


def _is_canonical(document: Any, raw: bytes) -> bool:
    """Written by orjson (as our own processes do): then nothing was lost in parsing. Far cheaper than the strict parser."""
    try:
        return orjson.dumps(document, option=_OPTIONS) == raw
    except orjson.JSONEncodeError:
        return False


def _check_strictly(raw: bytes) -> None:
    # The content of a mail is of no interest here, and parsing it once more would need its size twice.
    checked = raw if len(raw) < _LARGE else _STRING.sub(_shorten, raw)
    try:
        json.loads(checked, object_pairs_hook=_unique, parse_int=_bounded, parse_constant=_no_constant)
    except RecursionError:
        raise WireError(f"body is nested deeper than {MAX_DEPTH}") from None


def _shorten(string: re.Match[bytes]) -> bytes:
    """A long string as its digest: two names that differ still do."""
    start, end = string.span()
    if end - start < _LONG:
        return string[0]
    return b'"%s"' % hashlib.sha256(memoryview(string.string)[start:end]).hexdigest().encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise WireError(f"property {name[:80]!r} stands twice in one object")
            seen.add(name)
    return members


def _bounded(digits: str) -> int:
    if len(digits) > 20 or (number := int(digits)) not in _INT64:
        raise WireError(f"integer {digits[:40]} does not fit into 64 bits")
    return number


def _no_constant(name: str) -> Any:
    raise WireError(f"{name} is not JSON")


def is_too_deep(document: Any, raw: bytes) -> bool:
    """Is it nested deeper than MAX_DEPTH? ``raw``: its JSON."""
    # Brackets are counted before anything is walked through: in most messages there are not enough of them. In a long one that takes
    # longer than the walk, for what makes it long is one string.
    return (len(raw) > _LONG_BODY or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH) and _depth(document) > MAX_DEPTH


_NESTED = (dict, list)


def _depth(value: Any, level: int = 1) -> int:
    """Depth of nesting, counted no further than just beyond MAX_DEPTH."""
    if level > MAX_DEPTH:
        return level
    children = value.values() if isinstance(value, dict) else value
    deepest = level
    for child in children:
        if isinstance(child, _NESTED) and child:
            deepest = max(deepest, _depth(child, level + 1))
            if deepest > MAX_DEPTH:
                break
    return deepest


def _kind(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
