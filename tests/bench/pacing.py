"""(i): mail over SMTP at half of the rate that the whole way reaches. How long is it from our 250 to the sink?

A mail may be in the sink before its client has read the 250: that counts as 0.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

from tests.bench.load import SESSIONS, Load, LoadFailed
from tests.bench.paced import read_times
from tests.bench.plan import PACED, Job, make_plan
from tests.bench.rounds import Course, Round, Stage
from tests.bench.series import run_series
from tests.bench.sink import Sink
from tests.bench.tally import read_tally

_SIZE = 5
"""KB."""
_SECONDS, _QUICK_SECONDS = 15, 5
_SHARE = 0.5
"""Of the full rate."""


@dataclass(frozen=True, slots=True)
class PacedJob(Job):
    """A round of (a) at a pace."""

    @property
    def domain(self) -> str:
        """No round of (a) has this one."""
        return f"{PACED}-{self.round}.bench.example"

    @property
    def title(self) -> str:
        """For a line of progress."""
        return f"round {self.round} ({PACED}) {self.size} KB"


@dataclass(frozen=True, slots=True)
class PacedResult:
    """One round. Times are seconds from the 250 to the sink."""

    messages: int
    full: float
    """Mails per second of (a), whole."""
    rate: float = 0.0
    """Mails per second that were accepted here."""
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    longest: float = 0.0
    ahead: int = 0
    """Mails that were in the sink before their 250 was read."""
    faults: tuple[str, ...] = ()
    """Why it does not count."""


def measure_pacing(stage: Stage, rounds: Sequence[Round], turns: int, *, quick: bool) -> list[PacedResult]:
    """``rounds``: what was measured in this run; when (a) is not among them, it is measured first. ``turns``: how many rounds."""
    full = find_full_rate(rounds)
    if not full:
        stage.say(f"({PACED}) how much is half? A short round of (a) first")
        before = run_series(make_plan(["a"], [_SIZE], 1, quick=True), stage)
        full = find_full_rate(before)
        if not full:
            return [PacedResult(0, 0.0, faults=("the rate of (a) is not known", *before[-1].faults))]
    messages = round(full * _SHARE * (_QUICK_SECONDS if quick else _SECONDS))
    return [_measure(stage, PacedJob("a", _SIZE, messages, turn), full) for turn in range(1, turns + 1)]


def find_full_rate(rounds: Sequence[Round]) -> float:
    """Mails per second of (a), the median of the rounds that count; 0.0: there are none."""
    rates = [one.delivered for one in rounds if (one.job.way, one.job.size) == ("a", _SIZE) and one.job.round and not one.faults]
    return median(rates) if rates else 0.0


def find_percentile(values: Sequence[float], percent: float) -> float:
    """The least of the values that so many percent of them do not exceed (nearest rank). ``values``: some."""
    return sorted(values)[max(0, ceil(len(values) * percent / 100) - 1)]


def find_delays(accepted: Sequence[float], arrived: Sequence[float]) -> tuple[list[float], int]:
    """Seconds from the one time to the other, not below 0, of the mails that have both (0.0: none); how many would be below 0."""
    delays = [there - here for here, there in zip(accepted, arrived, strict=True) if here and there]
    return [max(0.0, delay) for delay in delays], sum(delay < 0 for delay in delays)


def _measure(stage: Stage, job: PacedJob, full: float) -> PacedResult:
    folder, times = stage.folder / f"ledger-{job.domain}", stage.folder / f"accepted-{job.domain}"
    with Sink(folder, stage.sink) as sink:
        course = Course(job, stage, sink)
        load = _start(stage, job, full * _SHARE, times)
        try:
            course.watch(load)
        except LoadFailed as error:
            course.faults.append(str(error))
        finally:
            load.stop()
        faults = tuple(course.find_faults())
        tally = read_tally(folder, job.domain, job.messages)
    loaded = course.loaded
    delays, ahead = find_delays(read_times(times), tally.arrivals) if loaded else ([], 0)
    if loaded is None or not delays:
        return PacedResult(job.messages, full, faults=(*faults, "no mail was timed"))
    result = PacedResult(
        job.messages,
        full,
        rate=job.messages / (loaded.ended - loaded.began),
        p50=find_percentile(delays, 50),
        p90=find_percentile(delays, 90),
        p99=find_percentile(delays, 99),
        longest=max(delays),
        ahead=ahead,
        faults=faults,
    )
    told = f"; DOES NOT COUNT: {', '.join(faults)}" if faults else ""
    stage.say(
        f"{job.title}: {result.rate:,.0f}/s, from 250 to the sink p50 {result.p50 * 1e3:.1f} ms, p99 {result.p99 * 1e3:.1f} ms{told}"
    )
    return result


def _start(stage: Stage, job: PacedJob, rate: float, times: Path) -> Load:
    assert stage.stack is not None
    argv = [sys.executable, "-m", "tests.bench.paced", stage.stack.env["SMTP_INBOX_ADDRESS"], str(times), "--rate", f"{rate:.3f}"]
    argv += ["--messages", str(job.messages), "--size", str(job.octets), "--domain", job.domain, "--sessions", str(SESSIONS)]
    return Load(argv, messages=job.messages, tells=True)
