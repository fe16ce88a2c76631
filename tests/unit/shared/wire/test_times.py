"""Times on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from shared.wire.times import parse_time, render_time


def test_a_time_comes_back() -> None:
    moment = datetime(2026, 2, 28, 23, 59, 58, tzinfo=UTC)
    assert render_time(moment) == "2026-02-28 23:59:58"
    assert parse_time("2026-02-28 23:59:58") == moment


def test_rendering_converts_to_utc_and_cuts() -> None:
    east = datetime(2026, 3, 1, 1, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert render_time(east) == "2026-02-28 23:00:00"


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-02-28", "2026-02-28T23:59:58", "2026-02-28 23:59", "2026-02-28 23:59:58Z", "2026-02-28 23:59:58.0",
        " 2026-02-28 23:59:58",
        "2026-02-28 23:59:58\n", "2026-02-30 00:00:00", "2026-13-01 00:00:00", "2026-01-01 24:00:00", "2026-01-01 00:00:60",
        "0000-01-01 00:00:00",
        "٢٠٢٦-02-28 23:59:58", None, 7, ["2026-02-28 23:59:58"],
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="expected UTC time as YYYY-MM-DD HH:MM:SS"):
        parse_time(text)
