"""Which payloads may go, and when none may."""

import pytest

from services.archiver.sweep import find_refusal, is_candidate, parse_day
from shared.storage.progress import GAP, Progress

DAY = 86_400
NOW = 1_795_406_400 + 4 * 3600
"""2026-11-23 08:00 UTC."""
MIDNIGHT = 1_795_392_000


@pytest.mark.parametrize(
    ("progress", "refusal"),
    [
        (Progress(None, 0), "no recorder has ever said"),
        (Progress(None, NOW), "behind"),
        (Progress(NOW - 10 * DAY, NOW - GAP - 1), "no sign of life from the recorder for 601 s"),
        (Progress(NOW - 10 * DAY, NOW + GAP + 1), "no sign of life"),
        (Progress(NOW - 10 * DAY, NOW - GAP), ""),
    ],
)
def test_refusal(progress: Progress, refusal: str) -> None:
    found = find_refusal(progress, NOW)
    assert found.startswith(refusal) or refusal in found
    assert bool(found) == bool(refusal)


@pytest.mark.parametrize(
    ("key", "day"),
    [
        ("v1/2026/11/23/abc", MIDNIGHT),
        ("v1/2026/02/30/abc", None),
        ("v1/2026/11/23/abc/def", None),
        ("clients/2026/11/23/abc", None),
        ("v2/2026/11/23/abc", None),
    ],
)
def test_day_of_a_key(key: str, day: int | None) -> None:
    assert parse_day(key) == day


@pytest.mark.parametrize(
    ("key", "since", "may_go"),
    [
        ("v1/2026/11/20/abc", MIDNIGHT - 3 * DAY, True),
        ("v1/2026/11/20/abc", MIDNIGHT - 3 * DAY + 1, False),  # the recorder had a break on that day
        ("v1/2026/11/21/abc", MIDNIGHT - 9 * DAY, False),  # written at 23:59 it would be younger than the grace
        ("clients/abc", MIDNIGHT - 9 * DAY, False),
    ],
)
def test_candidate(key: str, since: int, may_go: bool) -> None:
    assert is_candidate(key, Progress(since, NOW), now=NOW, grace=2 * DAY) is may_go
