"""What an answer means."""

from datetime import UTC, datetime, timedelta

import pytest

from services.webhook.client import Result, decide_answer, parse_retry_after

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, Result.TAKEN), (202, Result.TAKEN), (204, Result.TAKEN), (299, Result.TAKEN), (301, Result.FAILED), (302, Result.FAILED),
        (400, Result.REFUSED), (401, Result.FAILED), (404, Result.FAILED), (408, Result.FAILED), (410, Result.GONE),
        (413, Result.REFUSED), (422, Result.REFUSED), (429, Result.FAILED), (500, Result.FAILED), (503, Result.FAILED),
    ],
)  # fmt: skip
def test_every_status(status: int, result: Result) -> None:
    assert decide_answer(status, None, NOW).result is result


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("9" * 40, 10**8),
        ("Mon, 23 Nov 2026 04:02:00 GMT", 120),
        ("Mon, 23 Nov 2020 04:02:00 GMT", 0),
        ("-1", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert parse_retry_after(text, NOW) == expected
