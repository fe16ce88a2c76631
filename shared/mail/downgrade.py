"""8-bit mail for a host without 8BITMIME: the same mail as MIME of 7 bits (RFC 6152 3).

Leaf parts with 8 bits become quoted-printable or base64, what the containers say about their encoding becomes ``7bit``, header
text in raw UTF-8 becomes encoded words (RFC 2047). Parts in 7 bits stay byte-identical. What is not for us to change is left
alone: signed and encrypted mail, and header fields whose syntax has no place for encoded words.

The MIME structure is read here, on the octets, in linear time and bounded: the standard library's parser is quadratic on crafted
input.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.mail.content import has_bare_newlines, normalise_newlines
from shared.mail.fields import STRUCTURED, Section, find_section, iterate_fields, render_field, unfold
from shared.mail.headers import MAX_ENCODED, decode_words

MAX_DEPTH = 100
"""Parts within parts."""
MAX_PARTS = 10_000
MAX_FIELDS = 10_000
"""Parts, and header fields of parts with 8 bits, in one mail."""
MAX_READINGS = 10
"""How often an octet is looked at on average, once per level that it is nested: hostile nesting of large mail ends here."""
SMALL = 1024 * 1024
"""Octets that may always be looked at."""

_TYPE = re.compile(r"[ \t]*([!#-'*+.0-9A-Z^-~-]+)/([!#-'*+.0-9A-Z^-~-]+)[ \t]*(?=;|\Z)", re.IGNORECASE)
_PARAMETER = re.compile(r';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*+"|[^;\s"]*+)')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SIGNATURES = frozenset(
    ["dkim-signature", "domainkey-signature", "arc-seal", "arc-message-signature", "arc-authentication-results"]
)
_SEALED = frozenset(
    [
        "multipart/signed",
        "multipart/encrypted",
        "application/pkcs7-mime",
        "application/x-pkcs7-mime",
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
        "application/pgp-encrypted",
        "application/pgp-signature",
    ]
)
_TO_RECODE = frozenset(["", "7bit", "8bit", "binary"])
_SEVEN = bytes(range(128)) + b"?" * 128


class _Impossible(Exception):
    """Caught in ``downgrade``, where it becomes None."""


def downgrade(content: bytes) -> bytes | None:
    """The mail in 7 bits, each part the same once decoded; the same object when it has 7 bits already. Expects CRLF line ends.

    None when it cannot or must not be changed: it is signed (DKIM, ARC, S/MIME, PGP/MIME) or encrypted, an address or another
    structured field is raw UTF-8 (RFC 6532), a header is not UTF-8, the MIME structure is broken or nested too deep.
    A part without a charset gets none; content without any Content-Type is said to be text/plain in UTF-8, or in ``unknown-8bit``
    (RFC 1428) when it is not. Text before the first and behind the last part of a multipart, which nobody is shown, gets ``?``.
    A signature inside of a forwarded mail (message/rfc822) does not count: nothing is verified by it there.
    """
    if content.isascii():
        return content
    work = _Work(content)
    try:
        section = find_section(content)
        if any(found["name"].decode("ascii").lower() in _SIGNATURES for found in work.fields(section)):
            return None
        work.add_entity(0, len(content), depth=0, is_mail=True)
    except _Impossible:
        return None
    downgraded = b"".join(work.pieces)
    return downgraded if downgraded.isascii() else None


@dataclass(slots=True)
class _Header:
    """The header section of an entity, its raw UTF-8 encoded; for an entity with 8 bits only."""

    fields: list[tuple[str, bytes]]
    """(name in lower case, the field with its line end)."""
    media_type: str
    """``type/subtype`` in lower case; "" when there is none, "?" when it cannot be read (readers take that for text/plain)."""
    parameters: list[tuple[str, str]]
    encoding: str

    def set(self, name: str, value: str) -> None:
        """Replace the field, or add it."""
        written = render_field(name, value)
        for index, (lower, _) in enumerate(self.fields):
            if lower == name.lower():
                self.fields[index] = (lower, written)
                return
        self.fields.append((name.lower(), written))

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return any(lower == name for lower, _ in self.fields)

    def render(self) -> bytes:
        """The fields and the empty line behind them."""
        return b"".join(octets for _, octets in self.fields) + b"\r\n"


@dataclass(slots=True)
class _Work:
    """One downgrade: what was written so far, and what may still be looked at."""

    content: bytes
    pieces: list[bytes] = field(default_factory=list)
    readings: int = 0
    parts: int = 0
    fields_read: int = 0

    def fields(self, section: Section) -> Iterator[re.Match[bytes]]:
        """The fields of a section. Raises _Impossible when there are too many."""
        for found in iterate_fields(self.content, section):
            self.fields_read += 1
            if self.fields_read > MAX_FIELDS:
                raise _Impossible
            yield found

    def add_entity(self, start: int, end: int, *, depth: int, is_mail: bool, is_digest: bool = False) -> None:
        """Write the mail or part that is ``content[start:end]``."""
        self._count(end - start, depth)
        octets = self.content[start:end]
        if octets.isascii():
            self.pieces.append(octets)
            return
        section = find_section(self.content, start, end)
        prefix = self.content[start : section.start]
        if not prefix.isascii():
            raise _Impossible
        header = self._read_header(section)
        body = self.content[section.body : end]
        self.pieces.append(prefix)
        if body.isascii():
            self.pieces += (header.render()[:-2], self.content[section.end : section.body], body)
            return
        media_type = header.media_type or ("message/rfc822" if is_digest else "text/plain")
        if media_type in _SEALED or header.encoding not in _TO_RECODE:
            raise _Impossible
        if is_mail and not header.has("mime-version"):
            header.fields.append(("mime-version", b"MIME-Version: 1.0\r\n"))
        if media_type.startswith("multipart/"):
            self._add_multipart(header, section.body, end, depth, is_digest=media_type == "multipart/digest")
        elif media_type in ("message/rfc822", "message/news"):
            self._add_container(header)
            self.add_entity(section.body, end, depth=depth + 1, is_mail=True)
        elif media_type.startswith("message/") and not media_type.startswith("message/global"):
            raise _Impossible  # RFC 2046 5.2: they are 7bit, and may not be encoded
        else:
            self._add_leaf(header, body, is_last=end == len(self.content))

    def _count(self, octets: int, depth: int) -> None:
        self.parts += 1
        self.readings += octets
        if depth > MAX_DEPTH or self.parts > MAX_PARTS or self.readings > max(MAX_READINGS * len(self.content), SMALL):
            raise _Impossible

    def _read_header(self, section: Section) -> _Header:
        fields: list[tuple[str, bytes]] = []
        known: dict[str, str] = {}
        for found in self.fields(section):
            name, octets = found["name"].decode("ascii"), found[0]
            lower = name.lower()
            fields.append((lower, _ended(octets) if octets.isascii() else _encode_field(name, lower, found["value"])))
            if lower in ("content-type", "content-transfer-encoding"):
                if lower in known:
                    raise _Impossible  # readers disagree about which one holds
                known[lower] = unfold(found["value"]).decode("ascii")
        media_type, parameters = _parse_type(known["content-type"]) if "content-type" in known else ("", [])
        encoding = known.get("content-transfer-encoding", "").partition("(")[0].strip(" \t").lower()
        return _Header(fields, media_type, parameters, encoding)

    def _add_container(self, header: _Header) -> None:
        if header.encoding in ("8bit", "binary"):
            header.set("Content-Transfer-Encoding", "7bit")
        self.pieces.append(header.render())

    def _add_multipart(self, header: _Header, start: int, end: int, depth: int, *, is_digest: bool) -> None:
        boundaries = [value for name, value in header.parameters if name == "boundary"]
        if len(boundaries) != 1 or not boundaries[0] or _CONTROL.search(boundaries[0]):
            raise _Impossible
        self._add_container(header)
        delimiters = list(_find_delimiters(self.content, boundaries[0].encode("ascii"), start, end))
        if not delimiters:
            raise _Impossible
        self.pieces.append(self.content[start : delimiters[0].start].translate(_SEVEN))
        for number, delimiter in enumerate(delimiters):
            self.pieces.append(self.content[delimiter.start : delimiter.end])
            if delimiter.is_last:
                self.pieces.append(self.content[delimiter.end : end].translate(_SEVEN))
                return
            following = delimiters[number + 1].start if number + 1 < len(delimiters) else end
            self.add_entity(delimiter.end, max(following, delimiter.end), depth=depth + 1, is_mail=False, is_digest=is_digest)

    def _add_leaf(self, header: _Header, body: bytes, *, is_last: bool) -> None:
        if not header.media_type:
            charset = "utf-8" if _is_utf8(body) else "unknown-8bit"
            header.set("Content-Type", f"text/plain; charset={charset}")
        is_text = header.media_type in ("", "?") or header.media_type.startswith("text/")
        encoded, encoding = _encode_body(body, is_text=is_text)
        header.set("Content-Transfer-Encoding", encoding)
        ending = b"\r\n" if is_last and not encoded.endswith(b"\r\n") and body.endswith(b"\n") else b""
        self.pieces += (header.render(), encoded, ending)


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """A line between two parts, with the line end before it, which belongs to it (RFC 2046 5.1.1)."""

    start: int
    end: int
    is_last: bool


def _find_delimiters(content: bytes, boundary: bytes, start: int, end: int) -> Iterator[_Delimiter]:
    """Up to the one that closes. Raises _Impossible when there are too many."""
    line = re.compile(rb"(--)?[ \t]*+(?:\r?\n|\Z)")
    needle = b"--" + boundary
    place, count, last = start, 0, start
    while (found := content.find(needle, place, end)) >= 0:
        place = found + len(needle)
        if found > start and content[found - 1] != 0x0A:
            continue
        rest = line.match(content, place, end)
        if rest is None:
            continue
        count += 1
        if count > MAX_PARTS:
            raise _Impossible
        begins = found
        for newline in (b"\r\n", b"\n"):
            if content.endswith(newline, last, found):
                begins = found - len(newline)
                break
        place = last = rest.end()
        yield _Delimiter(begins, rest.end(), rest[1] is not None)
        if rest[1] is not None:
            return


def _parse_type(value: str) -> tuple[str, list[tuple[str, str]]]:
    """(``type/subtype`` in lower case, parameters in order), RFC 2045 5.1. Raises _Impossible when it may have parts."""
    found = _TYPE.match(value)
    if found is None:
        if re.search("multipart|message", value, re.IGNORECASE):
            raise _Impossible
        return "?", []
    parameters = []
    for name, text in _PARAMETER.findall(value[found.end() :]):
        parameters.append((name.lower(), re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text))
    return f"{found[1]}/{found[2]}".lower(), parameters


def _encode_field(name: str, lower: str, value: bytes) -> bytes:
    """A field with raw UTF-8, in encoded words."""
    if lower in STRUCTURED or len(value) > MAX_ENCODED:
        raise _Impossible
    try:
        text = unfold(value).decode()
        if _CONTROL.search(text):
            raise _Impossible
        # Words that are encoded already would be encoded a second time.
        return render_field(name, decode_words(text))
    except ValueError:
        raise _Impossible from None


def _encode_body(body: bytes, *, is_text: bool) -> tuple[bytes, str]:
    """(the octets in 7 bits, how): quoted-printable for text unless base64 is smaller; its lines have 76 octets at most."""
    if is_text and not has_bare_newlines(body):
        quoted = normalise_newlines(binascii.b2a_qp(body, quotetabs=False, istext=True))
        if len(quoted) <= len(body) * 78 // 57:
            return quoted, "quoted-printable"
    return base64.encodebytes(body)[:-1].replace(b"\n", b"\r\n"), "base64"


def _ended(octets: bytes) -> bytes:
    return octets if octets.endswith(b"\n") else octets + b"\r\n"


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
