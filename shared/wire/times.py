"""Times on the wire: UTC, ``YYYY-MM-DD HH:MM:SS``, parsed strictly."""

import re
from datetime import UTC, datetime
from functools import lru_cache

_FORM = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_LENGTH = len("YYYY-MM-DD HH:MM:SS")


def parse_time(text: str) -> datetime:
    """An aware datetime. Raises ValueError that names the form expected."""
    if not isinstance(text, str):
        raise ValueError("expected UTC time as YYYY-MM-DD HH:MM:SS")
    return _parse(text)


@lru_cache(maxsize=1024)  # every mail of the same second has the same, and is asked for it several times
def _parse(text: str) -> datetime:
    if not _FORM.fullmatch(text):
        raise ValueError("expected UTC time as YYYY-MM-DD HH:MM:SS")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"expected UTC time as YYYY-MM-DD HH:MM:SS: {error}") from None


def render_time(moment: datetime) -> str:
    """``moment`` (aware) in UTC, cut to whole seconds."""
    return moment.astimezone(UTC).isoformat(" ", "seconds")[:_LENGTH]
