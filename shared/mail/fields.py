"""Header fields as octets: where each stands in a mail, and how new ones are written (RFC 5322 2.2, RFC 2047).

``shared.mail.headers`` reads fields as text, for display and rules; here they are cut and written, and the octets of every other
field stay as they are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.header import Header

MAX_NAME = 76
"""Octets of a name that we write."""
LINE = 78
MAX_LINE = 998
"""Octets of a line, without its end: as it should be, and at most (RFC 5322 2.1.1)."""

NAME = re.compile(rf"[!-9;-~]{{1,{MAX_NAME}}}")
"""ftext, RFC 5322 2.2, in full."""

ADDRESSES = frozenset(
    ["from", "sender", "reply-to", "to", "cc", "bcc"]
    + [f"resent-{name}" for name in ("from", "sender", "reply-to", "to", "cc", "bcc")]
)
"""Fields that hold addresses (RFC 5322 3.6)."""
STRUCTURED = ADDRESSES | frozenset(
    [
        "authentication-results", "autocrypt", "content-base", "content-disposition", "content-id", "content-language",
        "content-location", "content-md5", "content-transfer-encoding", "content-type", "date", "delivered-to",
        "disposition-notification-to", "dkim-signature", "domainkey-signature", "errors-to", "in-reply-to", "keywords",
        "list-archive", "list-help", "list-id", "list-owner", "list-post", "list-subscribe", "list-unsubscribe",
        "list-unsubscribe-post", "message-id", "mime-version", "received", "received-spf", "references", "resent-date",
        "resent-message-id", "return-path", "return-receipt-to", "x-original-to",
    ]
)  # fmt: skip
"""Fields with a syntax of their own: what is not ASCII in them cannot become encoded words as a whole (RFC 2047 5)."""

_REST = rb"(?:[ \t]|\r?\n[ \t])*+:(?P<value>[^\n]*+(?:\n|\Z)(?:[ \t][^\n]*+(?:\n|\Z))*+)"
FIELD = re.compile(rb"(?P<name>[!-9;-~]++)" + _REST)
"""One field with its continuation lines and its line end. White space before the colon is obsolete syntax, and seen."""
_SECTION = re.compile(rb"(?:[!-9;-~]++" + _REST + rb")*+")
_MBOX = re.compile(rb"From [^\n]*+\n(?:[ \t][^\n]*+(?:\n|\Z))*+")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_PHRASES = re.compile(r'"(?:[^"\\]|\\.)*+"|<[^<>]*+>|[,;:()]|[^"<>,;:()]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Section:
    """Where the header section of a mail or of a part stands: offsets into its content."""

    start: int
    """Of the first field: an mbox ``From `` line is passed over."""
    end: int
    """Behind the last field and its line end."""
    body: int
    """Behind the empty line; the same as ``end`` when there is none."""


def find_section(content: bytes, start: int = 0, end: int | None = None) -> Section:
    """The header section of ``content[start:end]``: up to the first line that is empty or is no header field.

    Linear, in one pass. Lines end with CRLF or LF.
    """
    limit = len(content) if end is None else end
    if not FIELD.match(content, start, limit) and (mbox := _MBOX.match(content, start, limit)):
        start = mbox.end()
    found = _SECTION.match(content, start, limit)
    last = found.end() if found else start
    body = last
    for newline in (b"\r\n", b"\n"):
        if content.startswith(newline, last, limit):
            body = last + len(newline)
            break
    return Section(start, last, body)


def iterate_fields(content: bytes, section: Section) -> Iterator[re.Match[bytes]]:
    """The fields in order: matches with the groups ``name`` and ``value`` (not unfolded)."""
    return FIELD.finditer(content, section.start, section.end)


def unfold(value: bytes) -> bytes:
    """The value on one line, without the white space around it (RFC 5322 2.2.3)."""
    return (_FOLD.sub(b"", value) if b"\n" in value else value).strip(b" \t\r\n")


def render_field(name: str, value: str, newline: str = "\r\n") -> bytes:
    """``name: value``, folded at 78 where there are spaces, with its line end.

    What is not ASCII becomes encoded words (RFC 2047): the whole value, or the display names where the field holds addresses.
    Raises ValueError that says what was expected when the field's syntax has no place for encoded words.
    """
    value = value.strip(" \t")
    if not value:
        return f"{name}:{newline}".encode("ascii")
    encoded = _encode(name, value)
    return f"{name}: {_fold(encoded.split(' '), len(name) + 2, newline)}{newline}".encode("ascii")


def _encode(name: str, value: str) -> str:
    lower = name.lower()
    limit = MAX_LINE - len(name) - 2
    too_long = any(len(word) > limit for word in value.split(" "))
    if value.isascii() and not too_long:
        return value
    if lower in ADDRESSES and not too_long:
        return _encode_phrases(value)
    if lower in STRUCTURED:
        raise ValueError(f"expected a value of ASCII words, each of at most {limit} characters")
    return _encode_words(value, name)


def _encode_words(text: str, name: str | None = None) -> str:
    # A surrogate cannot be encoded; callers refuse it before.
    return Header(text, "utf-8", maxlinelen=75, header_name=name).encode(linesep="\n").replace("\n ", " ")


def _encode_phrases(value: str) -> str:
    pieces = _PHRASES.findall(value)
    if "".join(pieces) != value:
        raise ValueError("expected addresses such as Jane Doe <jane@example.org>")
    return "".join(piece if piece.isascii() else _encode_phrase(piece) for piece in pieces)


def _encode_phrase(piece: str) -> str:
    if piece[0] == '"':
        return _encode_words(re.sub(r"\\(.)", r"\1", piece[1:-1], flags=re.DOTALL))
    if piece[0] == "<" or "@" in piece:
        raise ValueError("expected addresses in ASCII; a domain has an xn-- form")
    text = piece.strip(" \t")
    before, _, after = piece.partition(text)
    return before + _encode_words(text) + after


def _fold(words: Sequence[str], start: int, newline: str) -> str:
    """Words joined by spaces, lines of 78 where that goes. Never a line of white space alone."""
    lines = [words[0]]
    length = start + len(words[0])
    for word in words[1:]:
        if length + 1 + len(word) > LINE and word.strip("\t") and lines[-1].strip(" \t"):
            lines.append(word)
            length = 1 + len(word)
        else:
            lines[-1] += " " + word
            length += 1 + len(word)
    return f"{newline} ".join(lines)
