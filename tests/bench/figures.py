"""What a run has measured, and what its rounds say together: medians and ratios. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.accepting import AcceptResult
from tests.bench.archiving import ArchivingResult
from tests.bench.backlog import BacklogResult
from tests.bench.domains import CrowdResult
from tests.bench.memory import Footprint, HeavyPeak, LoadedPeak
from tests.bench.pacing import PacedResult
from tests.bench.plan import CELERY
from tests.bench.recording import RecordingResult
from tests.bench.rounds import GROUPS, Round
from tests.bench.scaling import KINDS, ScalingResult

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """All that one run has found out."""

    rounds: Sequence[Round] = ()
    footprint: Footprint | None = None
    loaded: LoadedPeak | None = None
    crowds: Sequence[CrowdResult] = ()
    accepting: Sequence[AcceptResult] = ()
    heavy: Sequence[HeavyPeak] = ()
    recording: Sequence[RecordingResult] = ()
    archiving: Sequence[ArchivingResult] = ()
    pacing: Sequence[PacedResult] = ()
    scaling: Sequence[ScalingResult] = ()
    backlog: BacklogResult | None = None

    def find_faults(self) -> Iterator[str]:
        """Why something does not count, a sentence each."""
        for one in self.rounds:
            yield from (f"{one.job.title}: {fault}" for fault in one.faults)
        yield from (f"the mail of 20 MB: {fault}" for fault in (self.footprint.faults if self.footprint else ()))
        yield from (f"the mail of 20 MB among others: {fault}" for fault in (self.loaded.faults if self.loaded else ()))
        for crowd in self.crowds:
            yield from (f"{crowd.crowd.title}: {fault}" for fault in crowd.faults)
        for result in self.accepting:
            yield from (f"{result.kind}: {fault}" for fault in result.faults)
        for recorded in self.recording:
            yield from (f"{recorded.kind}: {fault}" for fault in recorded.faults)
        for archived in self.archiving:
            yield from (f"archiving: {fault}" for fault in archived.faults)
        for paced in self.pacing:
            yield from (f"at half load: {fault}" for fault in paced.faults)
        for scaled in self.scaling:
            yield from (f"{KINDS[scaled.kind].what}, {fault}" for fault in scaled.faults)
        yield from (f"the large backlog: {fault}" for fault in (self.backlog.faults if self.backlog else ()))


@dataclass(frozen=True, slots=True)
class Figure:
    """One way with one size: medians over the rounds that count; peaks of memory over all."""

    way: str
    size: int
    messages: int
    rounds: int
    accepted: float
    delivered: float
    slowest: float
    fastest: float
    recorded: float | None
    ratio: float | None
    """``delivered`` over Postfix's."""
    over_unsigned: float | None
    """(d): ``delivered`` over that of (b)."""
    over_celery: float | None
    """(b): ``delivered`` over that of (h)."""
    reused: float | None
    """The smallest share of reused sessions in a round."""
    cpu: Mapping[str, float]
    machine: float
    strange: float
    """The largest share of CPU that strangers had in a round."""
    memory: Mapping[str, int]


def summarize(rounds: Sequence[Round]) -> list[Figure]:
    """A figure for each way and size of which a round counts; warm-ups do not."""
    kinds: dict[tuple[str, int], list[Round]] = {}
    for one in rounds:
        if one.job.round and not one.faults:
            kinds.setdefault((one.job.way, one.job.size), []).append(one)
    rates = {kind: median(one.delivered for one in some) for kind, some in kinds.items()}
    return [_summarize(kinds[kind], rates) for kind in sorted(kinds, key=lambda kind: kind[::-1])]


def _summarize(rounds: Sequence[Round], medians: Mapping[tuple[str, int], float]) -> Figure:
    job = rounds[0].job
    rates = [one.delivered for one in rounds]

    def over(other: str) -> float | None:
        rate = medians.get((other, job.size))
        return median(rates) / rate if rate else None

    recorded = [one.recorded for one in rounds if one.recorded is not None]
    groups = [name for name in GROUPS if any(name in one.cpu for one in rounds)]
    return Figure(
        way=job.way,
        size=job.size,
        messages=job.messages,
        rounds=len(rounds),
        accepted=median(one.accepted for one in rounds),
        delivered=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        recorded=median(recorded) if recorded else None,
        ratio=over("c"),
        over_unsigned=over("b") if job.way == "d" else None,
        over_celery=over(CELERY) if job.way == "b" else None,
        reused=min((one.reused for one in rounds if one.reused is not None), default=None),
        cpu={name: median(one.cpu.get(name, 0.0) for one in rounds) for name in groups},
        machine=median(one.machine for one in rounds),
        strange=max(one.strange for one in rounds),
        memory={name: max(one.memory.get(name, 0) for one in rounds) for name in groups},
    )
