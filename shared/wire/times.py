"""Times on the wire: UTC, ``YYYY-MM-DD HH:MM:SS``, parsed strictly."""

import re
from datetime import UTC, datetime

_FORM = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_LENGTH = len("YYYY-MM-DD HH:MM:SS")


def parse_time(text: str) -> datetime:
    """An aware datetime. Raises ValueError that names the form expected."""
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise ValueError("expected UTC time as YYYY-MM-DD HH:MM:SS")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"expected UTC time as YYYY-MM-DD HH:MM:SS: {error}") from None


def render_time(moment: datetime) -> str:
    """``moment`` (aware) in UTC, cut to whole seconds."""
    return moment.astimezone(UTC).isoformat(" ", "seconds")[:_LENGTH]
