"""Medians, ratios and bars."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench.backlog import BacklogResult, Growth
from tests.bench.bars import Bar, check_bars
from tests.bench.domains import CrowdResult
from tests.bench.figures import Measured, summarize
from tests.bench.markdown import render_markdown
from tests.bench.memory import Footprint, LoadedPeak
from tests.bench.pacing import PacedResult
from tests.bench.picture import draw
from tests.bench.plan import Crowd, Job, make_crowds, make_plan
from tests.bench.report import print_report, render_json
from tests.bench.rounds import OURS, Round
from tests.bench.scaling import KINDS, ScalingResult

MACHINE = {"cpu": "A CPU, 2 cores", "memory": "4.0 GiB", "disk": "ext4 on /dev/sda", "system": "Debian", "python": "3.11.2"}
OPTIONS = {"rounds": 3, "made": "2026-11-23 05:00:00"}


def make_round(way: str, number: int, delivered: float, *faults: str, size: int = 5, reused: float | None = None) -> Round:
    recorded = None if way == "c" else delivered - 1
    cpu = {"postfix" if way == "c" else "smtp-sender": 1000.0 * number}
    memory = {name: number * 1_000_000 for name in cpu}
    job = Job(way, size, 100, number)
    return Round(job, delivered, delivered, recorded, reused=reused, cpu=cpu, memory=memory, machine=2000.0, faults=faults)


def make_footprint(idle: int, growth: int, *faults: str) -> Footprint:
    return Footprint(dict.fromkeys(OURS, idle), dict.fromkeys(OURS, growth), faults)


def make_crowd(rate: float, *faults: str, has_tarpit: bool, turn: int = 1) -> CrowdResult:
    return CrowdResult(Crowd(1000, 100_000, has_tarpit, turn), rate, 99_900, 0.99, 150_000_000, 20 * has_tarpit, faults)


def find_bars(*rounds: Round) -> list[Bar]:
    return check_bars(summarize(rounds), Measured(rounds))


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


def test_a_figure_of_d_is_compared_with_b_of_the_same_size() -> None:
    rounds = [make_round("b", 1, 1000.0), make_round("d", 1, 850.0), make_round("d", 1, 10.0, size=100)]
    assert [one.over_unsigned for one in summarize(rounds)] == [None, 0.85, None]


def test_the_worst_round_says_how_many_sessions_were_reused() -> None:
    (figure,) = summarize([make_round("b", number, 900.0, reused=share) for number, share in ((1, 0.99), (2, 0.9), (3, None))])
    assert figure.reused == 0.9


@pytest.mark.parametrize(
    ("way", "size", "rate", "is_met"),
    [
        ("a", 5, 600.0, True),
        ("a", 5, 599.0, False),
        ("b", 5, 1200.0, True),
        ("b", 5, 1199.0, False),
        ("a", 100, 400.0, True),
        ("a", 100, 399.0, False),
    ],
)
def test_the_bars_over_postfix(way: str, size: int, rate: float, is_met: bool) -> None:
    (bar,) = find_bars(make_round(way, 1, rate, size=size), make_round("c", 1, 400.0, size=size))
    assert bar.is_met is is_met
    assert bar.what.endswith("over Postfix's")


def test_a_figure_of_b_is_compared_with_celery_of_the_same_size() -> None:
    rounds = [make_round("a", 1, 900.0), make_round("b", 1, 800.0), make_round("h", 1, 500.0), make_round("b", 1, 10.0, size=100)]
    assert {(one.way, one.size): one.over_celery for one in summarize(rounds)} == {
        ("a", 5): None,
        ("b", 5): 1.6,
        ("h", 5): None,
        ("b", 100): None,
    }


@pytest.mark.parametrize(("rate", "is_met"), [(600.0, True), (599.0, False)])
def test_the_bar_over_celery(rate: float, is_met: bool) -> None:
    (bar,) = find_bars(make_round("b", 1, rate), make_round("h", 1, 400.0))
    assert bar.is_met is is_met
    assert bar.what.endswith("over Celery's")


@pytest.mark.parametrize(("rate", "is_met"), [(800.0, True), (799.0, False)])
def test_the_bar_for_signed_mail(rate: float, is_met: bool) -> None:
    (bar,) = find_bars(make_round("b", 1, 1000.0), make_round("d", 1, rate))
    assert bar.is_met is is_met
    assert bar.verdict == f"bar ≥ 0.80: 0.80, {'met' if is_met else 'NOT met'}"


@pytest.mark.parametrize(("share", "is_met"), [(0.95, True), (0.949, False)])
def test_the_bar_for_reused_sessions(share: float, is_met: bool) -> None:
    bars = find_bars(*(make_round(way, 1, 1000.0, reused=share) for way in ("a", "b", "d")))
    assert [bar.is_met for bar in bars if "reused" in bar.what] == [is_met, is_met]


def test_no_bar_without_postfix_and_one_alone_for_large_mail() -> None:
    assert find_bars(make_round("a", 1, 10.0)) == []
    large = [make_round(way, 1, 10.0, size=100, reused=0.1) for way in ("a", "b", "c")]
    assert [bar.what[:3] for bar in find_bars(*large)] == ["(a)"]


TURNS = [(1000.0, False, 1), (800.0, True, 1), (1100.0, True, 2), (1000.0, False, 2)]


@pytest.mark.parametrize(("rate", "is_met"), [(901.0, True), (899.0, False), (1100.0, True)])
def test_the_bar_for_what_a_tarpit_takes_from_the_others(rate: float, is_met: bool) -> None:
    crowds = [make_crowd(1000.0, has_tarpit=False), make_crowd(rate, has_tarpit=True)]
    (bar,) = check_bars([], Measured(crowds=crowds))
    assert bar.is_met is is_met


def test_no_bar_when_one_of_the_crowds_does_not_count() -> None:
    crowds = [make_crowd(1000.0, "1 mails lost", has_tarpit=False), make_crowd(1000.0, has_tarpit=True)]
    measured = Measured(crowds=crowds)
    assert check_bars([], measured) == []
    assert list(measured.find_faults()) == ["(e) 1,000 domains, all well, 1: 1 mails lost"]


def test_what_a_tarpit_takes_is_judged_by_all_turns_or_not_at_all() -> None:
    crowds = [make_crowd(rate, has_tarpit=tarpit, turn=turn) for rate, tarpit, turn in TURNS]
    (bar,) = check_bars([], Measured(crowds=crowds))
    assert (bar.measured, bar.is_met) == ("5.0%", True)
    assert check_bars([], Measured(crowds=crowds[:3])) == []


@pytest.mark.parametrize(
    ("loaded", "is_met"),
    [
        (LoadedPeak(199_999_999, 5000, ()), True),
        (LoadedPeak(200_000_000, 5000, ()), False),
        (LoadedPeak(1, 5000, ("1 mails lost",)), False),
    ],
)
def test_the_bar_for_memory_under_load(loaded: LoadedPeak, is_met: bool) -> None:
    assert [bar.is_met for bar in check_bars([], Measured(loaded=loaded))] == [is_met]


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
    assert [bar.is_met for bar in check_bars([], Measured(footprint=footprint))] == met


def test_the_document_is_json_and_the_readme_can_be_made_of_it() -> None:
    rounds = [*ROUNDS, replace(ROUNDS[1], faults=("1 mails doubled",))]
    document = json.loads(json.dumps(render_json(MACHINE, OPTIONS, Measured(rounds))))
    assert [figure["way"] for figure in document["figures"]] == ["a", "c"]
    assert document["rounds"][-1]["faults"] == ["1 mails doubled"]
    assert "| smtp-source → mailwarren → sink | 5 KB | 200 | 0.50 | – | 2.0 ms | – |" in render_markdown(document).splitlines()


def make_paced(p50: float, p99: float, *faults: str) -> PacedResult:
    return PacedResult(3000, 800.0, 400.0, p50, p50, p99, p99, 7, faults)


@pytest.mark.parametrize(
    ("p50", "p99", "met"), [(0.0299, 0.2499, [True, True]), (0.03, 0.1, [False, True]), (0.01, 0.25, [True, False])]
)
def test_the_bars_for_the_time_from_250_to_the_sink(p50: float, p99: float, met: list[bool]) -> None:
    pacing = [make_paced(p50, p99), make_paced(0.0, 0.0), make_paced(9.0, 9.0), make_paced(9.0, 9.0, "1 mails lost")]
    assert [bar.is_met for bar in check_bars([], Measured(pacing=pacing))] == met


@pytest.mark.parametrize(("two", "is_met"), [(160.0, True), (159.0, False)])
def test_the_bar_for_two_senders_is_asked_where_the_sender_is_the_limit(two: float, is_met: bool) -> None:
    cpu = {"smtp-sender": 850.0, "rabbitmq": 150.0}
    scaling = [ScalingResult(kind, 3000, {1: 100.0, 2: two}, {1: 1.0, 2: 0.9}, cpu) for kind in KINDS]
    (bar,) = check_bars([], Measured(scaling=scaling))
    assert bar.is_met is is_met
    assert "85%" in bar.what


def test_no_bar_for_two_senders_when_one_kind_of_round_is_missing() -> None:
    scaling = [ScalingResult("sealed", 3000, {1: 100.0}, {1: 1.0}, {"smtp-sender": 1.0}, ("2 smtp-sender: 1 mails lost",))]
    measured = Measured(scaling=scaling)
    assert check_bars([], measured) == []
    assert list(measured.find_faults()) == ["DKIM and ARC, RSA-4096, 2 smtp-sender: 1 mails lost"]


@pytest.mark.parametrize(
    ("rate", "late", "met"), [(900.0, 115, [True, True]), (899.0, 115, [False, True]), (900.0, 116, [True, False])]
)
def test_the_bars_for_a_large_backlog(rate: float, late: int, met: list[bool]) -> None:
    growth = Growth(small=90_000_000, first=99_000_000, early=100_000_000, late=late * 1_000_000)
    backlog = BacklogResult(1_000_000, 1000.0, rate, rate, rate, {"smtp-sender": growth})
    assert [bar.is_met for bar in check_bars([], Measured(backlog=backlog))] == met
    assert check_bars([], Measured(backlog=replace(backlog, faults=("1 mails lost",)))) == []


def test_what_is_not_measured_in_rounds_is_told_too() -> None:
    growth = Growth(90_000_000, 99_000_000, 100_000_000, 101_000_000)
    scaling = [ScalingResult("slow", 3000, {1: 190.0, 2: 380.0}, {1: 0.2, 2: 0.2}, {"smtp-sender": 1.0, "sink": 1.0})]
    backlog = BacklogResult(1_000_000, 1000.0, 950.0, 960.0, 940.0, {"rabbitmq": growth})
    measured = Measured(ROUNDS, pacing=[make_paced(0.01, 0.1)], scaling=scaling, backlog=backlog)
    lines = render_markdown(json.loads(json.dumps(render_json(MACHINE, OPTIONS, measured)))).splitlines()
    assert "| 400 of 800 messages/s | 10.0 ms | 10.0 ms | 100.0 ms | 100.0 ms |" in lines
    assert "| a host that answers each dot after 100 ms | 50.0% | 190 | 380 | 2.00 |" in lines
    assert "| 10,000 | 1,000 | – | – | 90 MB |" in lines
    assert "| 1,000,000 | 950 | 960 | 940 | 100 MB → 101 MB |" in lines
    console = Console(width=160, record=True, file=io.StringIO())
    print_report(console, MACHINE, measured)
    told = console.export_text()
    assert all(words in told for words in ("from 250 to the sink", "answers each dot", "1,000,000 mails in outbox", "rabbitmq"))


def test_everything_measured_is_in_the_readme_and_the_picture(tmp_path: Path) -> None:
    crowds = [make_crowd(1000.0, has_tarpit=False), make_crowd(800.0, has_tarpit=True)]
    rounds = [*ROUNDS, make_round("b", 1, 800.0, reused=0.99), make_round("d", 1, 700.0, reused=0.98)]
    rounds.append(make_round("h", 1, 500.0))
    measured = Measured(rounds, make_footprint(1, 1), LoadedPeak(150_000_000, 5000, ()), crowds)
    document = json.loads(json.dumps(render_json(MACHINE, OPTIONS, measured)))
    lines = render_markdown(document).splitlines()
    assert "| 1,000 domains, one with a tarpit | 100,000 | 800 | 99.0% |" in lines
    assert "| (e) 100,000 queued to 1,000 domains, one tarpitted: what the others lose | < 10% | 20.0% | **no** |" in lines
    assert "| peak memory of one smtp-sender, a mail of 20 MB among 4,999 of 5 KB | < 200 MB | 150 MB | yes |" in lines
    draw(document, tmp_path / "bench.svg")
    assert (tmp_path / "bench.svg").read_text().startswith("<?xml")


def test_the_ways_alternate_and_each_round_has_recipients_of_its_own() -> None:
    jobs = make_plan(["a", "c"], [5, 100], 2, quick=False)
    assert [(job.round, job.size, job.way) for job in jobs[4:8]] == [(1, 5, "a"), (1, 5, "c"), (1, 100, "a"), (1, 100, "c")]
    assert len({job.domain for job in jobs}) == len(jobs) == 12
    quick = make_plan(["a"], [5], 1, quick=True)
    assert quick[1].messages * 5 == jobs[4].messages


def test_only_small_mail_is_signed_and_many_domains_are_no_round() -> None:
    assert {(job.way, job.size) for job in make_plan(["d", "e"], [5, 100], 1, quick=True)} == {("d", 5)}


def test_the_crowds_differ_in_the_tarpit_alone_and_their_order_favours_neither() -> None:
    crowds = make_crowds(quick=False)
    assert [crowd.has_tarpit for crowd in crowds] == [False, True, True, False]
    assert {(crowd.domains, crowd.messages) for crowd in crowds} == {(1000, 100_000)}
    assert len({crowd.parent for crowd in crowds}) == len({crowd.title for crowd in crowds}) == 4


def test_a_round_with_a_large_mail_has_recipients_of_its_own() -> None:
    assert Job("b", 5, 10, 0, large=20_000_000).domain != Job("b", 5, 10, 0).domain
    assert Job("b", 5, 10, 0, large=20_000_000).title == "one mail of 20 MB in (b) 5 KB"
