"""Durations as people write them in settings."""

import re
from datetime import timedelta

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def parse_duration(value: str | float) -> timedelta:
    """Seconds (``600``, ``"0.5"``) or Go's form (``"1h30m"``, ``"2160h"``). Raises ValueError for anything else."""
    if isinstance(value, int | float) or re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        seconds = float(value)
    elif re.fullmatch(f"(?:{_PART.pattern})+", value.strip()):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    else:
        raise ValueError("expected seconds (600) or a duration such as 1h30m, 500ms, 2160h")
    if seconds < 0:
        raise ValueError("expected a duration that is not negative")
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("the duration is too long") from None
