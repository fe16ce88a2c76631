"""Times from 250 to the sink: percentiles, and what does not count."""

from array import array
from pathlib import Path

import pytest

from tests.bench.paced import read_times
from tests.bench.pacing import PacedJob, find_delays, find_full_rate, find_percentile
from tests.bench.plan import Job
from tests.bench.rounds import Round


@pytest.mark.parametrize(("percent", "value"), [(50, 50.0), (90, 90.0), (99, 99.0), (100, 100.0), (0, 1.0), (0.5, 1.0)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert find_percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_the_percentiles_of_few_values() -> None:
    assert [find_percentile([7.0], percent) for percent in (50, 99)] == [7.0, 7.0]
    assert [find_percentile([1.0, 2.0, 3.0], percent) for percent in (50, 90)] == [2.0, 3.0]


def test_a_mail_that_was_there_before_its_250_was_read_counts_as_0() -> None:
    assert find_delays([10.0, 11.0, 12.0], [10.5, 10.75, 12.0]) == ([0.5, 0.0, 0.0], 1)


def test_a_mail_without_both_times_has_no_delay() -> None:
    assert find_delays([10.0, 0.0, 12.0], [0.0, 11.0, 12.25]) == ([0.25], 0)


def test_the_full_rate_is_the_median_of_small_mail_that_counts() -> None:
    rounds = [
        Round(Job("a", 5, 300, 0), delivered=9000.0),
        *(Round(Job("a", 5, 300, number), delivered=rate) for number, rate in enumerate((500.0, 300.0, 400.0), 1)),
        Round(Job("a", 5, 300, 4), delivered=9000.0, faults=("1 mails lost",)),
        Round(Job("a", 100, 300, 1), delivered=9000.0),
        Round(Job("b", 5, 300, 1), delivered=9000.0),
    ]
    assert find_full_rate(rounds) == 400.0
    assert find_full_rate(rounds[:1]) == 0.0


def test_the_times_are_read_as_they_were_written(tmp_path: Path) -> None:
    with (tmp_path / "times").open("wb") as file:
        array("d", [1.5, 0.0, 1795000000.125]).tofile(file)
    assert list(read_times(tmp_path / "times")) == [1.5, 0.0, 1795000000.125]


def test_paced_mail_has_recipients_that_no_round_of_a_has() -> None:
    assert PacedJob("a", 5, 100, 1).domain not in {Job("a", 5, 100, 1).domain, PacedJob("a", 5, 100, 2).domain}
