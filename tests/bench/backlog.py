"""(k): does a backlog of a million mails go out as fast as one of 10,000, and in the same memory?"""

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from deploy.stack.places import StackError
from tests.bench.plan import BACKLOG
from tests.bench.queued import SENDER, Drained, QueuedJob, drain, stopped_sender
from tests.bench.rounds import Stage
from tests.bench.usage import read_memory

MESSAGES = 1_000_000
SMALL = 10_000
_SMALL_TURNS = 3
"""Before, and as many after."""
_COPIES = 2
"""Of smtp-sender."""
_ROOM = 12_000
"""Octets of disk for each mail of 5 KB: in the broker, in the sink's ledger, in Postgres and its log."""
_WATCHED = (SENDER, "result-recorder", "rabbitmq")
_INTERVAL = 0.5
"""Seconds between two looks at memory."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory of the largest process of a group while the large backlog went out: octets at the peak."""

    small: int
    """While one of 10,000 went out."""
    first: int
    """In the first tenth of the mails."""
    early: int
    """In the second tenth: everybody has as much in hand as ever, and next to nothing of the backlog is gone."""
    late: int
    """In the last quarter."""

    @property
    def ratio(self) -> float:
        """``late`` over ``early``: 1.0 is flat."""
        return self.late / self.early if self.early else 0.0


@dataclass(frozen=True, slots=True)
class BacklogResult:
    """What came out. Rates are mails per second from when all senders were ready."""

    messages: int
    small_rate: float = 0.0
    """With a backlog of 10,000, the median of those before and after."""
    rate: float = 0.0
    first: float = 0.0
    """In the first tenth."""
    last: float = 0.0
    """In the last tenth."""
    memory: Mapping[str, Growth] = field(default_factory=dict)
    """Group → its memory."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Group → µs per mail of the large backlog."""
    faults: tuple[str, ...] = ()
    """Why it does not count."""

    @property
    def ratio(self) -> float | None:
        """The rate over that with 10,000."""
        return self.rate / self.small_rate if self.small_rate else None


class Sampler:
    """Memory of some groups, with the number of mails that were in the sink at the time."""

    def __init__(self, stage: Stage) -> None:
        self.samples: list[tuple[int, Mapping[str, int]]] = []
        self._stage = stage
        self._pids: Mapping[str, Sequence[int]] = {}
        self._next = 0.0

    def observe(self, arrived: int) -> None:
        """Look, unless the last look was just now."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _INTERVAL
        if not self._pids:  # the senders have been started just now
            groups = self._stage.groups()
            self._pids = {name: list(_find_family(groups[name])) for name in _WATCHED}
        self.samples.append((arrived, {name: _find_largest(pids) for name, pids in self._pids.items()}))


def check_room(folder: Path, messages: int) -> None:
    """Raises StackError when the disk of ``folder`` is too full."""
    free, needed = shutil.disk_usage(folder).free, messages * _ROOM
    if free < needed:
        raise StackError(
            f"({BACKLOG}) {messages:,} mails need {needed / 1e9:.1f} GB of disk, and only {free / 1e9:.1f} GB are free in {folder.parent}: "
            "make room, or take fewer with --outbox"
        )


def measure_backlog(stage: Stage, messages: int) -> BacklogResult:
    """Queue and send 10,000 mails, then ``messages``, then 10,000 again, each of these some times.

    Before and after: a machine that gets slower in a quarter of an hour, or has been idle before, counts for both alike.
    """
    samplers = [Sampler(stage) for _ in range(2 * _SMALL_TURNS)]
    sampler = Sampler(stage)
    before, after = samplers[:_SMALL_TURNS], samplers[_SMALL_TURNS:]
    with stopped_sender(stage):
        small = [_drain(stage, f"{BACKLOG}-{turn}", SMALL, one) for turn, one in enumerate(before, 1)]
        if faults := _find_faults(small):
            return BacklogResult(messages, faults=faults)  # the large one would measure what these have left
        large = _drain(stage, BACKLOG, messages, sampler)
        small += [_drain(stage, f"{BACKLOG}-{turn}", SMALL, one) for turn, one in enumerate(after, 1 + _SMALL_TURNS)]
    return BacklogResult(
        messages,
        small_rate=median(one.rate for one in small),
        rate=large.rate,
        first=large.first,
        last=large.last,
        memory=find_growth(before[-1].samples, sampler.samples),
        cpu=large.cpu,
        faults=_find_faults([large, *small]),
    )


def _find_faults(drained: Iterable[Drained]) -> tuple[str, ...]:
    return tuple(fault for one in drained for fault in one.faults)


def find_growth(
    small: Sequence[tuple[int, Mapping[str, int]]], large: Sequence[tuple[int, Mapping[str, int]]]
) -> dict[str, Growth]:
    """From samples of two backlogs: mails gone so far, and group → octets. Pure."""
    total = large[-1][0] if large else 0

    def peak(name: str, start: float, end: float) -> int:
        return max((sample[name] for arrived, sample in large if start * total <= arrived < end * total), default=0)

    return {
        name: Growth(
            small=max((sample[name] for _, sample in small), default=0),
            first=peak(name, 0.0, 0.1),
            early=peak(name, 0.1, 0.2),
            late=peak(name, 0.75, 1.1),
        )
        for name in (large[-1][1] if large else ())
    }


def _drain(stage: Stage, name: str, messages: int, sampler: Sampler) -> Drained:
    one = drain(QueuedJob("b", 5, messages, 0, name=name), stage, _COPIES, observe=sampler.observe)
    told = f"; DOES NOT COUNT: {', '.join(one.faults)}" if one.faults else ""
    stage.say(
        f"({BACKLOG}) {messages:,} mails: {one.rate:,.0f}/s, first tenth {one.first:,.0f}/s, last tenth {one.last:,.0f}/s{told}"
    )
    return one


def _find_family(roots: Iterable[int]) -> Iterable[int]:
    for pid in roots:
        yield pid
        yield from (child.pid for child in psutil.Process(pid).children(recursive=True))


def _find_largest(pids: Iterable[int]) -> int:
    return max((memory.resident for memory in map(read_memory, pids) if memory is not None), default=0)
