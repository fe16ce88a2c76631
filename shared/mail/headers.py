"""The header section of a mail (RFC 5322 2.2), read fast and bounded; the rest of the content stays opaque.

The standard library's parser is quadratic on crafted input and far slower: it is not on this path.
"""

import binascii
import codecs
import re
from collections.abc import Iterable
from typing import Any

MAX_SECTION = 256 * 1024
"""Octets of the header section that are read."""
MAX_FIELDS = 1000
"""Fields that are read. What lies beyond either bound is ignored."""
MAX_ADDRESSES = 1000
"""Addresses taken from one header field."""
MAX_ENCODED = 16 * 1024
"""Characters of a value in which encoded words (RFC 2047) are looked for; a longer value is left as it is."""

# ftext, RFC 5322 2.2: printable US-ASCII but the colon; white space before the colon is obsolete syntax, and seen.
_NAME = re.compile(r"[!-9;-~]+[ \t]*\Z")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,64})\?([bBqQ])\?([^?]*)\?=")
_NO_SPACE = re.compile(r"[^ \t]+")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|\\.?|[(),<>:;]|[^"\\(),<>:;]+', re.DOTALL)
# Codecs that are no charsets, or that cost quadratic time on hostile text.
_NO_CHARSETS = frozenset(["idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"])


def parse_extract(content: bytes) -> dict[str, Any]:
    """What results and rules show of a mail: ``{"from": address, "to": [address, …], "subject": text, "headers": {…}}``.

    ``headers`` maps lower-case names to the unparsed value, or to the list of values in order when the name is repeated.
    ``from`` is the first address of the first From, "" when there is none; ``to`` are the addresses of all To fields; ``subject``
    is decoded (RFC 2047). Every text is free of NUL and of lone surrogates. Never raises.
    """
    headers: dict[str, Any] = {}
    for name, value in parse_header_section(content):
        lower = name.lower()
        known = headers.get(lower)
        if known is None:
            headers[lower] = value
        elif type(known) is list:
            known.append(value)
        else:
            headers[lower] = [known, value]
    authors = parse_addresses(_all(headers.get("from"))[:1])
    subject = _all(headers.get("subject"))
    return {
        "from": authors[0] if authors else "",
        "to": parse_addresses(_all(headers.get("to"))),
        "subject": decode_words(subject[0]) if subject else "",
        "headers": headers,
    }


def parse_header_section(content: bytes) -> list[tuple[str, str]]:
    """The fields in order as (name as spelled, unfolded value without the white space around it).

    The section ends at the first line that is empty or is no header field, so a message without any header gives [].
    Lines end with CRLF or LF. Octets that are not UTF-8 are read as Latin-1, field by field. An mbox ``From `` line at the
    very top is passed over.
    """
    section = cut_section(content)
    try:
        lines = _unfold(section.decode())
    except UnicodeDecodeError:
        lines = _unfold(section.decode("latin-1"))
        lines = [_decode_field(line) for line in lines]
    fields: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        name, colon, value = line.partition(":")
        if not colon or not _NAME.match(name):
            if number == 0 and line.startswith("From "):
                continue
            break
        fields.append((name.rstrip(" \t"), value.strip(" \t")))
        if len(fields) == MAX_FIELDS:
            break
    return fields


def cut_section(content: bytes) -> bytes:
    """The octets of the header section, MAX_SECTION at most, without the empty line that ends it."""
    if content[:1] in (b"\r", b"\n"):
        return b""
    end = content.find(b"\n\r\n", 0, MAX_SECTION)
    plain = content.find(b"\n\n", 0, MAX_SECTION if end < 0 else end)
    end = plain if plain >= 0 else end
    if end >= 0:
        return content[:end]
    if len(content) <= MAX_SECTION:
        return content
    return content[: max(content.rfind(b"\n", 0, MAX_SECTION), 0)]


def parse_addresses(values: Iterable[str]) -> list[str]:
    """The bare addresses of address lists (RFC 5322 3.4): names, comments, groups and routes removed, the rest byte for byte.

    Lenient, for display and rules only; ``shared.mail.address`` is the strict parser for envelopes.
    """
    addresses: list[str] = []
    for value in values:
        if '"' in value or "(" in value or "\\" in value or ":" in value or ";" in value:
            found = _scan_addresses(value)
        else:
            found = [_strip_name(part) for part in value.split(",", MAX_ADDRESSES)[:MAX_ADDRESSES]]
        addresses += [address for address in found if _NO_SPACE.fullmatch(address) and ("@" in address or '"' not in address)]
    return addresses[:MAX_ADDRESSES]


def decode_words(value: str) -> str:
    """The text with its encoded words (RFC 2047) decoded; what cannot be decoded stays as it is. Never raises."""
    if "=?" not in value or len(value) > MAX_ENCODED:
        return value
    pieces: list[str] = []
    charset, octets = "", b""
    end = 0
    for word in _ENCODED_WORD.finditer(value):
        between = value[end : word.start()]
        end = word.end()
        decoded = _decode_word(word)
        follows = bool(charset) and not between.strip(" \t")
        if decoded and follows and decoded[0] == charset:
            # A character may be split over two words of one charset.
            octets += decoded[1]
            continue
        pieces.append(_decode(charset, octets))
        charset, octets = decoded or ("", b"")
        # White space between two encoded words is not text (RFC 2047 6.2).
        if not (decoded and follows):
            pieces.append(between)
        if decoded is None:
            pieces.append(word[0])
    pieces += (_decode(charset, octets), value[end:])
    return "".join(pieces)


def _unfold(text: str) -> list[str]:
    if "\0" in text:
        text = text.replace("\0", "")
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    if text.endswith("\r"):
        text = text[:-1]
    return text.replace("\n ", " ").replace("\n\t", "\t").split("\n")


def _decode_field(line: str) -> str:
    raw = line.encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return line


def _all(value: Any) -> list[str]:
    if value is None:
        return []
    return value if type(value) is list else [value]


def _strip_name(text: str) -> str:
    start = text.rfind("<")
    if start < 0:
        return text.strip(" \t")
    end = text.find(">", start)
    return text[start + 1 : end if end > 0 else None].strip(" \t")


def _scan_addresses(value: str) -> list[str]:
    """The slow way, for values with quoted strings, comments, groups or routes; linear in the length."""
    found: list[str] = []
    text: list[str] = []
    comments = 0
    in_angle = complete = has_at = False
    for piece in _TOKEN.findall(value):
        if piece == "(":
            comments += 1
        elif comments:
            comments -= piece == ")"
        elif piece == "<":
            text, in_angle, complete, has_at = [], True, False, False
        elif piece == ">":
            in_angle, complete = False, True
        elif piece == ":" and (in_angle or not has_at):
            text = []  # what stood there was a route or the name of a group
        elif piece in (",", ";") and not in_angle:
            found.append("".join(text).strip(" \t"))
            text, complete, has_at = [], False, False
            if len(found) >= MAX_ADDRESSES:
                return found
        elif not complete and piece != ",":
            text.append(piece)
            has_at = has_at or (piece[0] != '"' and "@" in piece)
    found.append("".join(text).strip(" \t"))
    return found


def _decode_word(word: re.Match[str]) -> tuple[str, bytes] | None:
    """(charset as Python calls it, octets) of one encoded word; None when it is not one after all."""
    charset, encoding, text = word.groups()
    try:
        name = codecs.lookup(charset.partition("*")[0]).name
        if name in _NO_CHARSETS:
            return None
        in_base64 = encoding in "bB"
        octets = binascii.a2b_base64(text + "=" * (-len(text) % 4)) if in_base64 else binascii.a2b_qp(text, header=True)
        octets.decode(name, "replace")
    except (LookupError, ValueError, UnicodeError):
        return None
    return name, octets


def _decode(charset: str, octets: bytes) -> str:
    if not charset:
        return ""
    text = octets.decode(charset, "replace")
    text = text.encode("utf-8", "replace").decode().replace("\0", "")  # UTF-7 can spell a lone surrogate
    return text.replace("\r", " ").replace("\n", " ")
