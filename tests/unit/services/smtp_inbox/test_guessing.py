"""Failures are counted, forgotten after their window, and cost a bounded memory whoever guesses."""

from datetime import timedelta
from itertools import count

import pytest

from services.smtp_inbox.guessing import Counts, Guesses, Limit

WINDOW = timedelta(seconds=60)


def guesses(per_address: int = 3, per_user: int = 5, capacity: int = 100) -> Guesses:
    return Guesses(WINDOW, per_address, per_user, capacity)


def test_an_address_that_fails_too_often_is_refused_until_its_window_ends() -> None:
    found = guesses()
    for failure, second in enumerate((0, 10, 20), 1):
        assert found.find_limit("192.0.2.1", "a", second) is Limit.NONE
        assert found.add_failure("192.0.2.1", f"user {failure}", second) == failure
    assert found.find_limit("192.0.2.1", "never tried", 59.9) is Limit.ADDRESS
    assert found.find_limit("192.0.2.2", "never tried", 59.9) is Limit.NONE
    assert found.find_limit("192.0.2.1", "never tried", 60) is Limit.NONE
    assert found.add_failure("192.0.2.1", "a", 61) == 1


def test_a_user_who_is_guessed_at_from_everywhere_is_refused_to_strangers_only() -> None:
    found = guesses()
    found.add_success("203.0.113.9", "a")
    for number in range(5):
        assert found.find_limit(f"192.0.2.{number}", "a", 1) is Limit.NONE
        found.add_failure(f"192.0.2.{number}", "a", 1)
    assert found.find_limit("192.0.2.99", "a", 2) is Limit.USER
    assert found.find_limit("192.0.2.99", "b", 2) is Limit.NONE
    assert found.find_limit("203.0.113.9", "a", 2) is Limit.NONE


def test_one_application_with_an_old_password_does_not_lock_out_its_neighbours() -> None:
    found = guesses()
    found.add_success("192.0.2.1", "old")
    for second in range(3):
        assert found.find_limit("192.0.2.1", "old", second) is Limit.NONE
        found.add_failure("192.0.2.1", "old", second)
    assert found.find_limit("192.0.2.1", "old", 3) is Limit.ADDRESS
    assert found.find_limit("192.0.2.1", "new", 3) is Limit.NONE
    found.add_success("192.0.2.1", "old")
    assert found.find_limit("192.0.2.1", "old", 3) is Limit.NONE


@pytest.mark.parametrize(
    ("other", "limit"), [("2001:db8:0:1::ffff", Limit.ADDRESS), ("2001:db8:0:2::1", Limit.NONE)], ids=["same /64", "other /64"]
)
def test_a_64_is_one_address(other: str, limit: Limit) -> None:
    found = guesses()
    for number in range(3):
        found.add_failure(f"2001:db8:0:1::{number}", "a", 0)
    assert found.find_limit(other, "b", 0) is limit


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    counts = Counts(WINDOW, capacity=100)
    for number in range(1000):
        counts.add(number, number / 1000)
    assert len(counts) == 100
    assert counts.get(899, 1) == 0
    assert counts.get(900, 1) == 1
    found, numbers = guesses(capacity=100), count()
    for number in range(1000):
        client = f"10.0.{number // 250}.{number % 250}"
        found.add_success(client, f"user {next(numbers)}")
        found.add_failure(client, f"other {next(numbers)}", 0)
    assert max(len(found._known), len(found._addresses), len(found._users), len(found._pairs)) == 100
