"""Tag lists (RFC 6376 3.2): what DKIM-Signature, the ARC fields and key records are written in."""

import re
from collections.abc import Iterable

MOST_TAGS = 100
WIDTH = 76
"""Octets of a line of a field that we write, where it can be folded."""

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_SPACE = b" \t\r\n"
_FOLDING = re.compile(rb"[ \t\r\n]+")


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """The tags, values without the white space around them. Raises ValueError: no tag list, or a tag given twice."""
    pieces = text.split(b";", MOST_TAGS + 1)
    if pieces and not pieces[-1].strip(_SPACE):
        pieces.pop()
    if len(pieces) > MOST_TAGS:
        raise ValueError("too many tags")
    tags: dict[bytes, bytes] = {}
    for piece in pieces:
        name, equals, value = piece.partition(b"=")
        name = name.strip(_SPACE)
        if not equals or not _NAME.fullmatch(name):
            raise ValueError("not a list of tags")
        if name in tags:
            raise ValueError("a tag is given twice")
        tags[name] = value.strip(_SPACE)
    return tags


def remove_folding(value: bytes) -> bytes:
    """``value`` without any white space: base64, and the names of ``h=``, may be folded anywhere."""
    return _FOLDING.sub(b"", value)


def empty_signature(raw: bytes) -> bytes:
    """The header field ``raw`` with the value of its ``b=`` and the white space around it deleted (RFC 6376 3.7)."""
    name, colon, value = raw.partition(b":")
    pieces = value.split(b";")
    for number, piece in enumerate(pieces):
        tag, equals, _ = piece.partition(b"=")
        if equals and tag.strip(_SPACE) == b"b":
            pieces[number] = tag + equals
            break
    return name + colon + b";".join(pieces)


def render_tags(field: str, tags: Iterable[tuple[str, str]]) -> bytes:
    """``Field: a=1; b=2; b=``, folded, ready for the signature to be added. Values are ASCII without white space.

    The last tag is always an empty ``b=``, on a line of its own.
    """
    lines: list[str] = []
    line = f"{field}:"
    for name, value in tags:
        for piece in _pieces(name, f"{name}={value};"):
            is_start = piece.startswith(f"{name}=")
            if len(line) + 1 + len(piece) > WIDTH and line.strip():
                lines.append(line)
                line = ""
            line += f" {piece}" if is_start or not line else piece
    lines += [line, " b="]
    return "\r\n".join(lines).encode("ascii")


def render_signature(signature: str) -> bytes:
    """The value of ``b=`` (base64), folded, to follow what ``render_tags`` gave."""
    first, width = WIDTH - 3, WIDTH - 1
    lines = [signature[:first], *(signature[start : start + width] for start in range(first, len(signature), width))]
    return "\r\n ".join(lines).encode("ascii")


def _pieces(name: str, text: str) -> list[str]:
    """Where a value may be folded: after a colon of ``h=``."""
    if name != "h":
        return [text]
    parts = text.split(":")
    return [part + ":" for part in parts[:-1]] + parts[-1:]
