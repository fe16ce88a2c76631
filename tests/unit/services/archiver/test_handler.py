"""Months of the archive, and what a run reports."""

from datetime import UTC, datetime

import pytest

from services.archiver.report import Moments, Report
from shared.storage.archive import list_missing, parse_month


def unix(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("moment", "ahead", "name", "start", "end"),
    [
        (unix(2026, 11, 23), 0, "message_status_archive_2026_11", unix(2026, 11), unix(2026, 12)),
        (unix(2026, 11, 23), 1, "message_status_archive_2026_12", unix(2026, 12), unix(2027, 1)),
        (unix(2026, 11, 30), 2, "message_status_archive_2027_01", unix(2027, 1), unix(2027, 2)),
        (unix(2026, 12, 1), 0, "message_status_archive_2026_12", unix(2026, 12), unix(2027, 1)),
        (unix(2028, 1, 31), 1, "message_status_archive_2028_02", unix(2028, 2), unix(2028, 3)),
    ],
)
def test_month(moment: int, ahead: int, name: str, start: int, end: int) -> None:
    month = parse_month(moment, ahead)
    assert (month.name, month.start, month.end) == (name, start, end)


def test_missing_months() -> None:
    now = unix(2026, 11, 23)
    assert [month.name[-7:] for month in list_missing([], now)] == ["2026_11", "2026_12", "2027_01"]
    assert [month.name[-7:] for month in list_missing([parse_month(now), parse_month(now, 2)], now)] == ["2026_12"]


def test_a_month_is_past_when_its_last_second_is() -> None:
    month = parse_month(unix(2026, 11, 23))
    assert Moments(0, 0, unix(2026, 12), 0).is_past(month)
    assert not Moments(0, 0, unix(2026, 12) - 1, 0).is_past(month)


def test_report_says_would_be_in_a_dry_run() -> None:
    assert Report(True, moved=3).lines()[0] == "verdicts would be moved to the archive: 3"
    assert Report(False, moved=3).lines()[0] == "verdicts moved to the archive: 3"
    assert Report(False, not_swept="it rains").lines()[-1] == "payloads not swept: it rains"
