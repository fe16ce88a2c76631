"""The content of a mail, made ready for DATA."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.mail.content import is_seven_bit, stuff_dots
from shared.mail.headers import parse_extract


@dataclass(frozen=True, slots=True)
class Content:
    """What goes over the wire after 354."""

    stuffed: bytes
    """CRLF lines, dot-stuffed (RFC 5321 4.5.2), without the final dot."""
    size: int
    """Bytes before dot-stuffing (RFC 1870)."""
    is_eight_bit: bool
    extracted: Mapping[str, Any]


def prepare(mime: bytes) -> Content:
    """``mime`` has CRLF line ends."""
    return Content(stuff_dots(mime), len(mime), not is_seven_bit(mime), parse_extract(mime))
