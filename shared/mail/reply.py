"""SMTP replies (RFC 5321 4.2, RFC 2034): what a peer answered. A refusal is a value, never an exception."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_DESCRIPTION = 1024
"""Characters of a reply's text that go into results and logs."""

# The RFC says 2-5, 0-5, 0-9; real servers answer 571 as well, and clients must live by the first digit.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?!\.?[0-9])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class InvalidReply(ValueError):
    """What the peer sent is no SMTP reply (result ``invalid``)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, of one or more lines."""

    code: int
    """200 to 599."""
    lines: tuple[str, ...]
    """The text of every line, without the code; never empty."""

    @property
    def text(self) -> str:
        """The lines joined by ``\\n``, as the peer wrote them, enhanced status codes included."""
        return "\n".join(self.lines)

    @property
    def description(self) -> str:
        """The text as it stands in results: without control characters, MAX_DESCRIPTION characters at most."""
        return _CONTROLS.sub("", self.text)[:MAX_DESCRIPTION]

    @property
    def enhanced_status(self) -> str | None:
        """The enhanced status code (RFC 3463) that the text begins with, such as ``5.1.1``; None when there is none, or when its
        class contradicts the code (RFC 2034 4)."""
        status = _ENHANCED.match(self.lines[0])
        if status is None or int(status[1]) != self.code // 100:
            return None
        return ".".join(str(int(number)) for number in status.groups())

    @property
    def is_positive(self) -> bool:
        """2xx: done."""
        return self.code < 300

    @property
    def is_intermediate(self) -> bool:
        """3xx: go on (DATA, AUTH)."""
        return 300 <= self.code < 400

    @property
    def is_temporary(self) -> bool:
        """4xx: try again later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5xx: do not try again."""
        return self.code >= 500

    def __str__(self) -> str:
        return f"{self.code} {self.description}".rstrip()


def parse_reply(lines: Sequence[bytes]) -> Reply:
    """One whole reply from its lines, with or without their CRLF. Raises InvalidReply.

    All lines have the same code; all but the last have a hyphen after it, the last a space or nothing. Text that is not UTF-8 is
    read as Latin-1.
    """
    if not lines:
        raise InvalidReply("an empty reply")
    code = b""
    texts = []
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line.rstrip(b"\r\n"))
        if found is None:
            raise InvalidReply(f"not an SMTP reply: {line[:80].decode('latin-1')!a}")
        if code and found[1] != code:
            raise InvalidReply(f"code {found[1].decode()} in a reply that began with {code.decode()}")
        code = found[1]
        if (found[2] == b"-") != (number < len(lines)):
            raise InvalidReply(
                f"line {number} of {len(lines)} {'ends the reply' if number < len(lines) else 'announces another'}"
            )
        texts.append(_decode(found[3] or b""))
    return Reply(int(code), tuple(texts))


def is_last_line(line: bytes) -> bool:
    """No other line follows in this reply: what reads a reply from the connection stops here."""
    return line[3:4] != b"-"


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
