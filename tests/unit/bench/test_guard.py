"""The guard: what it reads from the record, what it compares, and of what it complains."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.figures import Figure, summarize
from tests.bench.guard import RECORD, WATCHED, NotComparable, compare, make_jobs, read_record
from tests.bench.plan import Job
from tests.bench.rounds import Round

RECORDED = {watched: 2.0 for watched in WATCHED}


def make_figures(rates: dict[tuple[str, int], float]) -> list[Figure]:
    return summarize([Round(Job(way, size, 100, 1), rate, rate) for (way, size), rate in rates.items()])


def make_document(ratio: Any = 2.0) -> Any:
    figures = [{"way": watched.way, "size": watched.size, "ratio": 2.0, "over_celery": 1.5} for watched in WATCHED]
    figures[0]["ratio"] = ratio
    return {"figures": figures}


ALL = {("a", 5): 200.0, ("b", 5): 200.0, ("c", 5): 100.0, ("h", 5): 100.0, ("a", 100): 20.0, ("c", 100): 10.0}


def test_the_same_ratios_are_fine_however_slow_the_machine() -> None:
    for speed in (1.0, 0.1):
        found = compare(RECORDED, make_figures({kind: rate * speed for kind, rate in ALL.items()}))
        assert len(found) == len(WATCHED)
        assert all(one.is_fine and one.change == 0 for one in found)


@pytest.mark.parametrize(("rate", "is_fine"), [(170.0, True), (169.0, False), (300.0, True)])
def test_a_ratio_may_be_15_percent_lower(rate: float, is_fine: bool) -> None:
    one = compare(RECORDED, make_figures({**ALL, ("a", 5): rate}))[0]
    assert one.is_fine is is_fine


def test_a_complaint_says_what_how_much_and_by_how_much() -> None:
    found = compare(RECORDED, make_figures({**ALL, ("b", 5): 160.0}))
    assert [one.complaint for one in found if not one.is_fine] == [
        "(b) 5 KB over Postfix: 2.00 recorded, 1.60 now: 20 % less (15 % allowed)",
        "(b) 5 KB over Celery: 2.00 recorded, 1.60 now: 20 % less (15 % allowed)",
    ]
    assert all(one.is_fine for one in compare(RECORDED, make_figures({**ALL, ("b", 5): 160.0}), 20.0))


def test_what_was_not_measured_is_not_fine() -> None:
    found = compare(RECORDED, make_figures({kind: rate for kind, rate in ALL.items() if kind != ("c", 100)}))
    assert [one.complaint for one in found if not one.is_fine] == [
        "(a) 100 KB over Postfix: 2.00 recorded, not measured now: no round counts"
    ]


def test_the_record_is_read_from_the_document_of_the_bench(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(make_document()))
    assert [round(ratio, 1) for ratio in read_record(file).values()] == [2.0, 2.0, 1.5, 2.0]


@pytest.mark.parametrize("ratio", [None, 0.0, "2"])
def test_a_record_without_a_figure_says_which_and_how_to_get_it(tmp_path: Path, ratio: Any) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(make_document(ratio)))
    with pytest.raises(NotComparable, match=r"no figure of \(a\) 5 KB over Postfix: `make bench .*--save"):
        read_record(file)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"figures": [{}]}', '{"figures": 3}', "\x00"])
def test_a_record_that_cannot_be_read_is_named_in_one_line(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "bench.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(NotComparable, match=r"bench\.json cannot be read: ") as caught:
        read_record(file)
    assert "\n" not in str(caught.value)


def test_the_record_is_that_of_the_docs() -> None:
    assert (RECORD.parent.name, RECORD.is_file()) == ("docs", True)


def test_it_runs_what_it_compares_and_nothing_else() -> None:
    kinds = {(job.way, job.size) for job in make_jobs(1)}
    assert kinds == set(ALL)
    assert max(job.round for job in make_jobs(3)) == 3
