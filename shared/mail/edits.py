"""Header edits: the property ``headers`` of a message, checked and then applied to the mail's octets.

``remove`` (name or list), ``prepend``, ``append`` (alias ``add``), ``replace`` (set the first, delete the others, append if absent),
``update`` (as ``replace``, only if present). Names in any case of letters. They work in the order remove, replace, update,
prepend, append: a field that was removed is absent for ``replace``. Every octet that no edit names stays as it is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.mail.fields import MAX_NAME, NAME, find_section, iterate_fields, render_field

OPERATIONS = ("remove", "prepend", "append", "add", "replace", "update")
"""What ``headers`` may hold."""
MAX_EDITS = 200
"""Names to remove and values to write, all operations together."""
MAX_VALUE = 16 * 1024
"""Characters of one value."""

# A control character, CR and LF above all, would let a value become another header; a lone surrogate has no octets.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """What shall be done to the header of a mail. Each value is a whole field as it will be written, CRLF line ends."""

    remove: frozenset[str] = frozenset()
    """Names in lower case."""
    replace: Mapping[str, bytes] = field(default_factory=dict)
    """Name in lower case to the field, or fields, that stand in the place of the first one."""
    update: Mapping[str, bytes] = field(default_factory=dict)
    prepend: bytes = b""
    append: bytes = b""


def parse_edits(value: Any) -> HeaderEdits | None:
    """The property ``headers``; None when it asks for nothing.

    Values that are not ASCII become encoded words (RFC 2047), in address fields the display names only.
    Raises ValueError that names ``headers.<operation>.<name>`` and what was expected.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"headers: expected an object, not {type(value).__name__}")
    for operation in value:
        if operation not in OPERATIONS:
            raise ValueError(f"headers.{_shown(operation)}: expected one of {', '.join(OPERATIONS)}")
    remove = frozenset(_names(value.get("remove")))
    written = {name: list(_fields(value, name)) for name in ("prepend", "append", "add", "replace", "update")}
    if len(remove) + sum(len(fields) for fields in written.values()) > MAX_EDITS:
        raise ValueError(f"headers: expected at most {MAX_EDITS} edits")
    edits = HeaderEdits(
        remove,
        _by_name(written["replace"]),
        _by_name(written["update"]),
        b"".join(octets for _, octets in written["prepend"]),
        b"".join(octets for _, octets in (*written["append"], *written["add"])),
    )
    return None if edits == HeaderEdits() else edits


def apply_edits(content: bytes, edits: HeaderEdits) -> bytes:
    """The content with its header section edited; the same object when nothing changes.

    ``content`` without a header section gets one when fields are added. New fields end as the first line of the content does.
    """
    section = find_section(content)
    pieces = [content[: section.start], b""]
    newline = _newline(content)
    present: set[str] = set()
    kept = section.start
    for found in iterate_fields(content, section):
        name = found["name"].decode("ascii").lower()
        written = _decide(name, edits, is_first=name not in present)
        present.add(name)
        if written is not None:
            pieces += (content[kept : found.start()], _ended(written, newline))
            kept = found.end()
    pieces.append(content[kept : section.end])
    pieces[1] = _ended(edits.prepend, newline)
    # What ``update`` names was set by ``replace``, so it is there to be updated.
    absent = [
        edits.update.get(name, octets) for name, octets in edits.replace.items() if name in edits.remove or name not in present
    ]
    added = _ended(b"".join(absent) + edits.append, newline)
    if added and section.end > section.start and not content.endswith(b"\n", section.start, section.end) and pieces[-1]:
        pieces.append(newline)
    pieces.append(added)
    rest = content[section.end :]
    if section.end == section.start and section.body == section.end and rest and (edits.prepend or added):
        pieces.append(newline)  # all of it was body: it must not become a header now
    edited = b"".join((*pieces, rest))
    return content if edited == content else edited


def _decide(name: str, edits: HeaderEdits, *, is_first: bool) -> bytes | None:
    """What stands in the place of a field; None: it stays."""
    if name in edits.remove:
        return b""
    written = edits.update.get(name, edits.replace.get(name))
    return written if written is None or is_first else b""


def _names(given: Any) -> Iterator[str]:
    names = given if isinstance(given, list) else [] if given is None else [given]
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"headers.remove: {_shown(name)}: expected the name of a header, or a list of names")
        yield name.lower()


def _fields(edits: Mapping[str, Any], operation: str) -> Iterator[tuple[str, bytes]]:
    """(name in lower case, the field as written) of every value of an operation."""
    given = edits.get(operation)
    if given is None:
        return
    if not isinstance(given, dict):
        raise ValueError(f"headers.{operation}: {_shown(given)}: expected an object of names and values")
    seen: set[str] = set()
    for name, values in given.items():
        where = f"headers.{operation}.{_shown(name)}"
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{where}: expected the name of a header: 1 to {MAX_NAME} printable ASCII characters without a colon"
            )
        if operation in ("replace", "update") and name.lower() in seen:
            raise ValueError(f"{where}: expected each name once, in whatever case of letters")
        seen.add(name.lower())
        if values == []:
            raise ValueError(f"{where}: expected a string, or a list of strings that is not empty")
        for value in values if isinstance(values, list) else [values]:
            yield name.lower(), _render(name, value, where)


def _render(name: str, value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{where}: {_shown(value)}: expected a string, or a list of strings")
    if len(value) > MAX_VALUE:
        raise ValueError(f"{where}: expected at most {MAX_VALUE} characters, not {len(value)}")
    bad = _FORBIDDEN.search(value)
    if bad:
        raise ValueError(f"{where}: {_shown(value)}: control character U+{ord(bad[0]):04X}; expected one line of text")
    try:
        return render_field(name, value)
    except ValueError as error:
        raise ValueError(f"{where}: {_shown(value)}: {error}") from None


def _by_name(fields: list[tuple[str, bytes]]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, octets in fields:
        found[name] = found.get(name, b"") + octets
    return found


def _newline(content: bytes) -> bytes:
    first = content.find(b"\n")
    return b"\n" if first >= 0 and content[first - 1 : first] != b"\r" else b"\r\n"


def _ended(fields: bytes, newline: bytes) -> bytes:
    return fields if newline == b"\r\n" else fields.replace(b"\r\n", newline)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = ascii(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
    text = text[1:-1] if isinstance(value, str) else text
    return text if len(text) <= 80 else text[:80] + "…"
