"""The bars: what the figures must reach. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.accepting import KINDS, AcceptResult
from tests.bench.archiving import ArchivingResult
from tests.bench.backlog import SMALL, BacklogResult
from tests.bench.domains import CrowdResult
from tests.bench.figures import MB, Figure, Measured
from tests.bench.memory import Footprint, HeavyPeak, LoadedPeak
from tests.bench.pacing import PacedResult
from tests.bench.plan import ACCEPTING, BACKLOG, PACED, RECORDING, SCALING, WAYS
from tests.bench.recording import KINDS as RECORDED_KINDS
from tests.bench.recording import RecordingResult
from tests.bench.scaling import KINDS as SCALED_KINDS
from tests.bench.scaling import ScalingResult

_OVER_POSTFIX = {("a", 5): 1.5, ("b", 5): 3.0, ("a", 100): 1.0}
"""By way and KB."""
_OVER_CELERY = 1.5
_ACCEPTED_OVER_POSTFIX = {"connection": 1.2, "pipelining": 1.5}
_ACCEPTED = {"batch": 5000, "single": 800}
"""Messages per second."""
_OVER_UNSIGNED = 0.8
_REUSED = 0.95
_MOST_LOST = 0.1
"""Of the rate, by a tarpit of somebody else's."""
_MOST_AT_ONCE, _MOST_FOR_NOTHING = 400, 20
"""MB: smtp-inbox with 200 mails of 20 MB coming in at once; its growth by what is no mail."""
_RECORDED, _LAST_OVER_FIRST, _LARGEST_RECORDER = 10_000, 0.8, 150
"""Results per second; of the last tenth of a backlog over the first; MB."""
_ARCHIVED = 20_000
"""Rows per second."""
_LARGEST_IDLE, _MOST_GROWTH, _LARGEST_LOADED = 90, 100, 200
"""MB."""
_PERCENTILES = {"p50": 0.03, "p99": 0.25}
"""Seconds from 250 to the sink at half load."""
_TWO_OVER_ONE = 1.6
_LARGE_OVER_SMALL, _LATE_OVER_EARLY = 0.9, 1.15


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that must be reached."""

    what: str
    wanted: str
    measured: str
    is_met: bool

    @property
    def verdict(self) -> str:
        """``bar ≥ 0.8: 0.86, met``."""
        return f"bar {self.wanted}: {self.measured}, {'met' if self.is_met else 'NOT met'}"


def check_bars(figures: Sequence[Figure], measured: Measured) -> list[Bar]:
    """The bars, as far as they were measured."""
    bars = [bar for figure in figures for bar in _check_figure(figure)]
    if measured.crowds:
        bars += _check_crowds(measured.crowds)
    bars += [bar for result in measured.accepting for bar in _check_accepting(result)]
    bars += _check_recording([result for result in measured.recording if not result.faults])
    bars += _check_archiving([result for result in measured.archiving if not result.faults])
    bars += _check_pacing([result for result in measured.pacing if not result.faults])
    bars += [bar for result in measured.scaling for bar in _check_scaling(result)]
    if measured.backlog is not None and not measured.backlog.faults:
        bars += _check_backlog(measured.backlog)
    bars += [_check_heavy(peak) for peak in measured.heavy]
    if measured.loaded is not None:
        bars.append(_check_loaded(measured.loaded))
    if measured.footprint is not None:
        bars += _check_footprint(measured.footprint)
    return bars


def _check_figure(figure: Figure) -> Iterator[Bar]:
    what = f"({figure.way}) {WAYS[figure.way]}, {figure.size} KB"
    ratios = [
        ("messages/s over Postfix's", figure.ratio, _OVER_POSTFIX.get((figure.way, figure.size))),
        ("messages/s over those of (b)", figure.over_unsigned, _OVER_UNSIGNED),
        ("messages/s over Celery's", figure.over_celery, _OVER_CELERY),
    ]
    for over, ratio, least in ratios:
        if ratio is not None and least is not None:
            yield Bar(f"{what}, {over}", f"≥ {least:.2f}", f"{ratio:.2f}", ratio >= least)
    if figure.way in ("b", "d") and figure.size == 5 and figure.reused is not None:
        yield Bar(f"{what}, reused sessions", f"≥ {_REUSED:.0%}", f"{figure.reused:.1%}", figure.reused >= _REUSED)


def _check_crowds(crowds: Sequence[CrowdResult]) -> Iterator[Bar]:
    sound = [one for one in crowds if not one.faults]
    well = [one.rate for one in sound if not one.crowd.has_tarpit]
    tarpit = [one.rate for one in sound if one.crowd.has_tarpit]
    if well and len(well) == len(tarpit):
        lost = 1 - sum(tarpit) / sum(well)
        crowd = sound[0].crowd
        what = f"(e) {crowd.messages:,} queued to {crowd.domains:,} domains, one tarpitted: what the others lose"
        yield Bar(what, f"< {_MOST_LOST:.0%}", f"{lost:.1%}", lost < _MOST_LOST)


def _check_accepting(result: AcceptResult) -> Iterator[Bar]:
    if result.faults or not result.rate:
        return
    what = f"({ACCEPTING}) {KINDS[result.kind]}, {result.size // 1000} KB"
    if result.ratio is not None:
        least = _ACCEPTED_OVER_POSTFIX[result.kind]
        yield Bar(f"{what}, accepted over Postfix's", f"≥ {least:.2f}", f"{result.ratio:.2f}", result.ratio >= least)
    else:
        wanted = _ACCEPTED[result.kind]
        yield Bar(f"{what}, messages/s", f"≥ {wanted:,}", f"{result.rate:,.0f}", result.rate >= wanted)


def _check_recording(results: Sequence[RecordingResult]) -> Iterator[Bar]:
    for one in results:
        what = f"({RECORDING}) {one.results:,} results, {RECORDED_KINDS[one.kind]}"
        # An acceptance before each of them is a second record.
        least = _RECORDED if one.kind == "alone" else _RECORDED / 2
        yield Bar(f"{what}: results/s", f"≥ {least:,.0f}", f"{one.rate:,.0f}", one.rate >= least)
        ratio = one.last / one.first if one.first else 0.0
        yield Bar(
            f"{what}: rate of the last tenth over the first", f"≥ {_LAST_OVER_FIRST}", f"{ratio:.2f}", ratio >= _LAST_OVER_FIRST
        )
        is_small = one.memory < _LARGEST_RECORDER * MB
        yield Bar(f"{what}: peak memory of the recorder", f"< {_LARGEST_RECORDER} MB", f"{one.memory / MB:.0f} MB", is_small)


def _check_archiving(results: Sequence[ArchivingResult]) -> Iterator[Bar]:
    if results:
        best = max(result.rate for result in results)
        what = f"({RECORDING}) {results[0].rows:,} old verdicts into the archive, rows/s, the best of {len(results)}"
        yield Bar(what, f"≥ {_ARCHIVED:,}", f"{best:,.0f}", best >= _ARCHIVED)


def _check_pacing(results: Sequence[PacedResult]) -> Iterator[Bar]:
    if results:
        rate = median(result.rate for result in results)
        for name, most in _PERCENTILES.items():
            found = median(getattr(result, name) for result in results)
            what = f"({PACED}) SMTP at half load, {rate:,.0f}/s: from 250 to the sink, {name}"
            yield Bar(what, f"< {most * 1e3:.0f} ms", f"{found * 1e3:.1f} ms", found < most)


def _check_scaling(result: ScalingResult) -> Iterator[Bar]:
    kind, ratio, share = SCALED_KINDS[result.kind], result.ratio, result.share
    if kind.is_sealed and ratio is not None and share is not None:
        what = f"({SCALING}) {kind.what} ({share:.0%} of the CPU is smtp-sender's): two senders over one"
        yield Bar(what, f"≥ {_TWO_OVER_ONE:.2f}", f"{ratio:.2f}", ratio >= _TWO_OVER_ONE)


def _check_backlog(result: BacklogResult) -> Iterator[Bar]:
    what, ratio = f"({BACKLOG}) {result.messages:,} mails in outbox", result.ratio or 0.0
    yield Bar(
        f"{what}: messages/s over those with {SMALL:,}", f"≥ {_LARGE_OVER_SMALL:.2f}", f"{ratio:.2f}", ratio >= _LARGE_OVER_SMALL
    )
    for name, growth in result.memory.items():
        is_flat = 0 < growth.ratio <= _LATE_OVER_EARLY
        measured = f"{growth.ratio:.2f} ({growth.early / MB:.0f} → {growth.late / MB:.0f} MB)"
        yield Bar(f"{what}: memory of {name}, last quarter over second tenth", f"≤ {_LATE_OVER_EARLY:.2f}", measured, is_flat)


def _check_heavy(peak: HeavyPeak) -> Bar:
    replies = set(peak.replies)
    if peak.replies and replies <= {"250"}:
        return Bar(
            f"smtp-inbox: {peak.what}",
            f"< {_MOST_AT_ONCE} MB",
            f"{peak.octets / MB:.0f} MB",
            0 < peak.octets < _MOST_AT_ONCE * MB,
        )
    is_refused = bool(replies) and replies <= {"421", "500", "552"}
    measured = f"{peak.growth / MB:+.0f} MB, {', '.join(replies) or 'no reply'}"
    is_met = peak.octets > 0 and peak.growth < _MOST_FOR_NOTHING * MB and is_refused
    return Bar(f"smtp-inbox: {peak.what}", f"< +{_MOST_FOR_NOTHING} MB and refused", measured, is_met)


def _check_loaded(loaded: LoadedPeak) -> Bar:
    what = f"peak memory of one smtp-sender, a mail of 20 MB among {loaded.messages - 1:,} of 5 KB"
    is_met = loaded.octets < _LARGEST_LOADED * MB and not loaded.faults
    return Bar(what, f"< {_LARGEST_LOADED} MB", f"{loaded.octets / MB:.0f} MB", is_met)


def _check_footprint(footprint: Footprint) -> Iterator[Bar]:
    for what, octets, most in (
        ("idle memory of a process", footprint.idle, _LARGEST_IDLE),
        ("growth of a process while a mail of 20 MB goes through", footprint.growth, _MOST_GROWTH),
    ):
        name, largest = max(octets.items(), key=lambda item: item[1])
        is_met = largest < most * MB and not footprint.faults
        yield Bar(what, f"< {most} MB", f"at most {largest / MB:.0f} MB ({name})", is_met)
