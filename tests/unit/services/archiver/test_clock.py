"""When nothing may be deleted because the clock may be wrong."""

import pytest

from services.archiver.clock import APART, TRIAL, Clock

NOW = 1_795_406_400.0
DAY = 86_400.0
APART_SECONDS = APART.total_seconds()
TRIAL_SECONDS = TRIAL.total_seconds()


@pytest.mark.parametrize(
    ("postgres", "doubt"),
    [
        (NOW, ""),
        (NOW - APART_SECONDS, ""),
        (NOW + APART_SECONDS, ""),
        (NOW - 2 * DAY, "172800 s ahead of that of Postgres"),
        (NOW + 2 * DAY, "172800 s behind that of Postgres"),
    ],
)
def test_postgres_is_a_witness(postgres: float, doubt: str) -> None:
    found = Clock().find_doubt(NOW, 1000.0, postgres)
    assert doubt in found
    assert bool(found) == bool(doubt)


def test_a_clock_set_forward_is_believed_after_a_day() -> None:
    clock = Clock()
    clock.note(NOW, 1000.0)
    ahead = NOW + 2 * DAY
    assert "set forward by 172800 s" in clock.find_doubt(ahead + 60, 1060.0, ahead + 60)
    last = TRIAL_SECONDS - 1
    assert clock.find_doubt(ahead + 60 + last, 1060.0 + last, ahead + 60 + last)
    assert clock.find_doubt(ahead + 60 + TRIAL_SECONDS, 1060.0 + TRIAL_SECONDS, ahead + 60 + TRIAL_SECONDS) == ""


def test_a_clock_put_right_again_is_believed_at_once() -> None:
    clock = Clock()
    clock.note(NOW, 1000.0)
    assert clock.find_doubt(NOW + 2 * DAY, 1000.0, NOW + 2 * DAY)
    assert clock.find_doubt(NOW + 60, 1060.0, NOW + 60) == ""


def test_a_clock_set_back_is_believed_and_its_way_back_is_not() -> None:
    clock = Clock()
    clock.note(NOW, 1000.0)
    assert clock.find_doubt(NOW - 2 * DAY, 1060.0, NOW - 2 * DAY) == ""
    assert clock.find_doubt(NOW + 120, 1120.0, NOW + 120)


def test_a_small_step_is_none() -> None:
    clock = Clock()
    clock.note(NOW, 1000.0)
    assert clock.find_doubt(NOW + APART_SECONDS, 1000.0, NOW + APART_SECONDS) == ""
    assert clock.find_doubt(NOW + 2 * APART_SECONDS + 1, 1000.0, NOW + 2 * APART_SECONDS + 1)
