"""Medians, ratios and bars."""

import json
from dataclasses import replace

import pytest

from tests.bench.markdown import render_markdown
from tests.bench.memory import Footprint
from tests.bench.plan import Job, make_plan
from tests.bench.report import check_bars, render_json, summarize
from tests.bench.rounds import OURS, Round

MACHINE = {"cpu": "A CPU, 2 cores", "memory": "4.0 GiB", "disk": "ext4 on /dev/sda", "system": "Debian", "python": "3.11.2"}


def make_round(way: str, number: int, delivered: float, *faults: str, size: int = 5) -> Round:
    recorded = None if way == "c" else delivered - 1
    cpu = {"postfix" if way == "c" else "smtp-sender": 1000.0 * number}
    memory = {name: number * 1_000_000 for name in cpu}
    job = Job(way, size, 100, number)
    return Round(job, delivered, delivered, recorded, cpu=cpu, memory=memory, machine=2000.0, faults=faults)


def make_footprint(idle: int, growth: int, *faults: str) -> Footprint:
    return Footprint(dict.fromkeys(OURS, idle), dict.fromkeys(OURS, growth), faults)


ROUNDS = [
    make_round("a", 0, 1.0),
    *(make_round("a", number, rate) for number, rate in enumerate((300.0, 100.0, 200.0), 1)),
    *(make_round("c", number, rate) for number, rate in enumerate((500.0, 400.0, 300.0), 1)),
]


def test_a_figure_is_the_median_of_the_rounds_without_the_warm_up() -> None:
    a, c = summarize(ROUNDS)
    assert (a.way, a.delivered, a.slowest, a.fastest, a.recorded, a.ratio) == ("a", 200, 100, 300, 199, 0.5)
    assert (c.way, c.delivered, c.recorded, c.ratio) == ("c", 400, None, 1)
    assert (a.cpu, a.memory) == ({"smtp-sender": 2000}, {"smtp-sender": 3_000_000})


def test_a_round_with_a_fault_does_not_count() -> None:
    (figure,) = summarize([make_round("b", 1, 900.0), make_round("b", 2, 5000.0, "1 mails lost")])
    assert (figure.delivered, figure.rounds, figure.ratio) == (900, 1, None)


@pytest.mark.parametrize(("rate", "is_met"), [(200.0, True), (199.0, False)])
def test_the_bar_for_a_is_half_of_postfix(rate: float, is_met: bool) -> None:
    (bar,) = check_bars(summarize([make_round("a", 1, rate), make_round("c", 1, 400.0)]), None)
    assert bar.is_met is is_met


@pytest.mark.parametrize(("rate", "is_met"), [(400.0, True), (399.0, False)])
def test_the_bar_for_b_is_postfix(rate: float, is_met: bool) -> None:
    (bar,) = check_bars(summarize([make_round("b", 1, rate), make_round("c", 1, 400.0)]), None)
    assert bar.is_met is is_met


def test_no_bar_for_large_mail_or_without_postfix() -> None:
    assert check_bars(summarize([make_round("a", 1, 10.0)]), None) == []
    assert check_bars(summarize([make_round("a", 1, 10.0, size=100), make_round("c", 1, 400.0, size=100)]), None) == []


@pytest.mark.parametrize(
    ("footprint", "met"),
    [
        (make_footprint(89_999_999, 99_999_999), [True, True]),
        (make_footprint(90_000_000, 0), [False, True]),
        (make_footprint(0, 100_000_000), [True, False]),
        (make_footprint(0, 0, "1 mails lost"), [False, False]),
    ],
)
def test_the_bars_for_memory(footprint: Footprint, met: list[bool]) -> None:
    assert [bar.is_met for bar in check_bars([], footprint)] == met


def test_the_document_is_json_and_the_readme_can_be_made_of_it() -> None:
    rounds = [*ROUNDS, replace(ROUNDS[1], faults=("1 mails doubled",))]
    document = json.loads(json.dumps(render_json(MACHINE, {"rounds": 3, "made": "2026-11-23 05:00:00"}, rounds, None)))
    assert [figure["way"] for figure in document["figures"]] == ["a", "c"]
    assert document["rounds"][-1]["faults"] == ["1 mails doubled"]
    assert "| smtp-source → mailwarren → sink | 5 KB | 200 | 0.50 | 2.0 ms |" in render_markdown(document).splitlines()


def test_the_ways_alternate_and_each_round_has_recipients_of_its_own() -> None:
    jobs = make_plan(["a", "c"], [5, 100], 2, quick=False)
    assert [(job.round, job.size, job.way) for job in jobs[4:8]] == [(1, 5, "a"), (1, 5, "c"), (1, 100, "a"), (1, 100, "c")]
    assert len({job.domain for job in jobs}) == len(jobs) == 12
    quick = make_plan(["a"], [5], 1, quick=True)
    assert quick[1].messages * 5 == jobs[4].messages
