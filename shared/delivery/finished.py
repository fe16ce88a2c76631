"""What a sender gives back after an attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.wire.result import Attempt


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt that was made."""

    attempt: Attempt
    extracted: Mapping[str, Any] | None = None
    """Of the content as sent; None when it did not come to that."""
    size: int = 0
    """Bytes of the content."""
    with_smarthost: bool = False
    host: str | None = None
    """Name of the next hop that had the last word (MX, smarthost); None when it did not come to one."""
