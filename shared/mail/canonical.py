"""Canonical forms of header fields and bodies, as signatures hash them (RFC 6376 3.4), over octets with CRLF line ends."""

import hashlib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

# A field ends at a CRLF that no white space follows (RFC 5322 2.2.3).
_END_OF_FIELD = re.compile(rb"\r\n(?![ \t])")
# ftext, RFC 5322 2.2.
_NAME = re.compile(rb"[!-9;-~]+")
_EMPTY_LINES_REVERSED = re.compile(rb"(?:\n\r)*")


class Form(StrEnum):
    """A canonicalization algorithm."""

    SIMPLE = "simple"
    """Nothing may change on the way but empty lines at the end of the body (RFC 6376 3.4.1, 3.4.3)."""
    RELAXED = "relaxed"
    """White space and folding may change (RFC 6376 3.4.2, 3.4.4)."""


class Canonicalization(NamedTuple):
    """``c=``: the forms of header and body. Spelled ``relaxed/simple``."""

    header: Form
    body: Form

    def __str__(self) -> str:
        return f"{self.header}/{self.body}"


class HeaderField(NamedTuple):
    """One header field."""

    name: bytes
    """In lower case, without white space around it."""
    raw: bytes
    """The whole field as it stands, folded, without its final CRLF."""


class SplitContent:
    """The content of a mail, taken apart once for several signatures.

    The header section ends at the first empty line. A line in it that is no header field (an mbox ``From`` line) is passed over, its
    folded lines too: nothing can name it in ``h=``.
    """

    def __init__(self, content: bytes) -> None:
        header, self._body = _split(content)
        self.fields: list[HeaderField] = []
        """In order."""
        self._by_name: dict[bytes, list[HeaderField]] = {}
        for piece in _END_OF_FIELD.split(header):
            name, colon, _ = piece.partition(b":")
            name = name.rstrip(b" \t").lower()
            if colon and _NAME.fullmatch(name):
                field = HeaderField(name, piece)
                self.fields.append(field)
                self._by_name.setdefault(name, []).append(field)
        self._bodies: dict[tuple[Form, int | None], bytes] = {}

    def named(self, name: bytes) -> list[HeaderField]:
        """The fields of that (lower-case) name, in order."""
        return self._by_name.get(name, [])

    def render_header(self, names: Iterable[bytes], form: Form) -> bytes:
        """The fields that ``h=`` names, in canonical form, each with its CRLF.

        A name that is repeated takes the next field of that name from the bottom up; beyond the last one it stands for nothing
        (RFC 6376 5.4.2).
        """
        taken: dict[bytes, int] = {}
        parts: list[bytes] = []
        for name in names:
            number = taken.get(name, 0)
            taken[name] = number + 1
            fields = self.named(name)
            if number < len(fields):
                parts.append(canonicalize_field(fields[-1 - number].raw, form))
        return b"".join(parts)

    def hash_body(self, form: Form, length: int | None = None) -> bytes:
        """SHA-256 of the canonical body, computed once per form; of its first ``length`` octets when that is given (``l=``).

        Raises ValueError when the body is shorter than ``length``.
        """
        known = self._bodies.get((form, length))
        if known is None:
            body = canonicalize_body(self._body, form)
            if length is not None and length > len(body):
                raise ValueError("l= is beyond the end of the body")
            known = hashlib.sha256(body if length is None else memoryview(body)[:length]).digest()
            self._bodies[form, length] = known
        return known


RELAXED = Canonicalization(Form.RELAXED, Form.RELAXED)
"""Our default: survives what servers on the way do to white space."""


def parse_canonicalization(text: str) -> Canonicalization:
    """``header/body``; the body's form is ``simple`` when it is left out (RFC 6376 3.5). Raises ValueError."""
    header, slash, body = text.partition("/")
    try:
        return Canonicalization(Form(header), Form(body if slash else "simple"))
    except ValueError:
        raise ValueError("expected simple or relaxed for the header, a slash, and the same for the body") from None


def canonicalize_field(raw: bytes, form: Form) -> bytes:
    """One header field with its final CRLF; ``raw`` has none (RFC 6376 3.4.1, 3.4.2)."""
    if form is Form.SIMPLE:
        return raw + b"\r\n"
    name, _, value = raw.partition(b":")
    if b"\r\n" in value:
        value = value.replace(b"\r\n", b"")
    return name.rstrip(b" \t").lower() + b":" + _compress(value).strip(b" ") + b"\r\n"


def canonicalize_body(body: bytes, form: Form) -> bytes:
    """The whole body (RFC 6376 3.4.3, 3.4.4). A last line without CRLF gets one: on the wire it has it."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    if form is Form.RELAXED:
        body = _compress(body)
        if b" \r\n" in body:
            body = body.replace(b" \r\n", b"\r\n")
    body = _strip_empty_lines(body)
    return b"\r\n" if not body and form is Form.SIMPLE else body


def _split(content: bytes) -> tuple[bytes, bytes]:
    if content.startswith(b"\r\n"):
        return b"", content[2:]
    end = content.find(b"\r\n\r\n")
    if end < 0:
        return content.removesuffix(b"\r\n"), b""
    return content[:end], content[end + 4 :]


def _compress(text: bytes) -> bytes:
    """Every run of white space becomes one space. Halving passes: linear, and far faster than a regular expression."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _strip_empty_lines(body: bytes) -> bytes:
    """Without the empty lines at its end; what is left ends with one CRLF, or is empty. ``body`` is empty or ends with CRLF."""
    if body == b"\r\n":
        return b""
    if not body.endswith(b"\r\n\r\n"):
        return body
    text = len(body.rstrip(b"\r\n"))
    tail = body[text:]
    if 2 * tail.count(b"\r\n") != len(tail):
        # A bare CR or LF is text: only whole pairs count, from the end.
        pairs = _EMPTY_LINES_REVERSED.match(tail[::-1])
        text = len(body) - (pairs.end() if pairs else 0)
    return body[:text] + b"\r\n" if text else b""
