"""The figure to be alarmed by: right at rest, in trouble, and while catching up."""

from services.result_recorder.lag import Lag


def test_at_rest_nothing_is_behind() -> None:
    lag = Lag()
    assert lag.read(1000.0) == 0
    lag.begin(1000.0)
    lag.commit(999.5, 1000.2)
    lag.end(1000.2)
    assert lag.read(5000.0) == 0


def test_a_record_after_an_hour_of_rest_has_not_waited_an_hour() -> None:
    lag = Lag()
    lag.begin(1000.0)
    lag.commit(1000.0, 1000.1)
    lag.end(1000.1)
    lag.begin(4600.0)
    assert lag.read(4600.5) == 0.5


def test_while_catching_up_it_is_the_age_of_the_newest_that_is_recorded() -> None:
    lag = Lag()
    lag.count(50_000, 10_000.0)
    lag.begin(10_000.0)
    assert lag.read(10_003.0) == 3  # nothing known yet but that it waits
    lag.commit(6400.0, 10_003.0)
    lag.end(10_003.0)
    assert lag.read(10_004.0) == 3604
    lag.commit(6300.0, 10_005.0)  # out of order
    assert lag.read(10_005.0) == 3605
    lag.count(0, 10_006.0)
    assert lag.read(10_006.0) == 0


def test_it_grows_while_postgres_does_not_answer_and_after_what_was_in_hand_was_handed_back() -> None:
    lag = Lag()
    lag.begin(100.0)
    assert lag.read(130.0) == 30
    lag.end(130.0, failed=True)
    lag.count(0, 135.0)  # what is held lies in a wait queue
    assert lag.read(160.0) == 60
    lag.begin(170.0)
    lag.commit(100.0, 170.0)
    lag.end(170.0)
    assert lag.read(171.0) == 0


def test_what_waits_in_the_queue_counts_without_a_consumer() -> None:
    lag = Lag()
    lag.count(1, 100.0)
    lag.count(7, 115.0)
    assert lag.read(160.0) == 60


def test_a_record_from_the_future_hides_nothing() -> None:
    lag = Lag()
    lag.count(10, 100.0)
    lag.commit(9_999_999.0, 100.0)
    assert lag.read(110.0) == 10


def test_how_old_it_is_is_not_known_before_something_was_recorded() -> None:
    lag = Lag()
    assert lag.is_known
    lag.count(9, 100.0)
    assert not lag.is_known
    lag.commit(40.0, 101.0)
    assert lag.is_known
    lag.count(0, 102.0)
    assert lag.is_known
