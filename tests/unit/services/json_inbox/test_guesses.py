"""Who guesses tokens is slowed down, and nobody else."""

from services.json_inbox import guesses
from services.json_inbox.guesses import BURST, EVERY, Guesses


class Clock:
    """A clock that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def guess(one: Guesses, address: str, count: int) -> None:
    for number in range(count):
        one.count(address, f"guess {number}")


def test_some_are_free_and_then_one_at_a_time() -> None:
    clock = Clock()
    one = Guesses(clock)
    guess(one, "192.0.2.1", BURST - 1)
    assert one.wait("192.0.2.1", "d") == 0
    one.count("192.0.2.1", "another")
    assert one.wait("192.0.2.1", "d") == EVERY
    clock.now += EVERY
    assert one.wait("192.0.2.1", "d") == 0
    one.count("192.0.2.1", "the next")
    assert one.wait("192.0.2.1", "d") == EVERY
    clock.now += EVERY * BURST
    guess(one, "192.0.2.1", BURST - 1)
    assert one.wait("192.0.2.1", "d") == 0


def test_another_address_is_not_concerned() -> None:
    one = Guesses(Clock())
    guess(one, "192.0.2.1", BURST)
    assert one.wait("192.0.2.2", "d") == 0


def test_a_network_of_ipv6_is_one_guesser() -> None:
    one = Guesses(Clock())
    for number in range(BURST):
        one.count(f"2001:db8::{number:x}", f"guess {number}")
    assert one.wait("2001:db8::ffff", "d") > 0
    assert one.wait("2001:db8:0:1::1", "d") == 0


def test_a_token_that_worked_from_there_goes_on_working() -> None:
    one = Guesses(Clock())
    one.trust("192.0.2.1", "good")
    guess(one, "192.0.2.1", BURST)
    assert one.wait("192.0.2.1", "good") == 0
    assert one.wait("192.0.2.1", "other") > 0


def test_the_same_bad_token_again_is_no_guess() -> None:
    one = Guesses(Clock())
    for _ in range(BURST * 2):
        assert one.wait("192.0.2.1", "old") == 0
        one.count("192.0.2.1", "old")
    assert one.wait("192.0.2.1", "d") == 0


def test_memory_is_bounded() -> None:
    one = Guesses(Clock())
    guess(one, "198.51.100.1", BURST)
    for number in range(guesses.MOST):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        one.count(address, "guess")
        one.trust(address, "d")
    assert one.wait("198.51.100.1", "d") == 0
    assert len(one._known) == len(one._worked) == guesses.MOST
