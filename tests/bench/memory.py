"""Memory of our processes: idle, while one mail of 20 MB goes through all of them, and while it goes out among many others."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.load import LoadFailed, start_publisher, start_smtp_source
from tests.bench.plan import Job
from tests.bench.rounds import OURS, Course, Stage
from tests.bench.sink import Sink
from tests.bench.usage import Memory, read_memory, reset_peaks

OCTETS = 20_000_000
_LOADED = 5000
"""Messages of the round with a large mail in the middle."""
_SETTLE = 3.0
"""Seconds in which fresh processes are looked at."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Octets of resident memory per process of ours; the largest of its copies."""

    idle: Mapping[str, int]
    growth: Mapping[str, int]
    """From idle to the peak while the large mail went through."""
    faults: tuple[str, ...]


def measure_memory(stage: Stage) -> Footprint:
    """To be called when the stack is fresh: a process that has worked has room to spare, and grows less."""
    assert stage.stack is not None
    pids = {name: stage.stack.pids(name) for name in OURS}
    idle = dict.fromkeys(OURS, 0)
    end = time.monotonic() + _SETTLE
    while time.monotonic() < end:
        idle = {name: max(idle[name], _largest(pids[name], _resident)) for name in OURS}
        time.sleep(0.25)
    reset_peaks(pid for copies in pids.values() for pid in copies)
    before = {name: _largest(pids[name], _resident) for name in OURS}
    job = Job("a", OCTETS // 1000, 1, 0)
    faults = _send(job, stage)
    growth = {name: _largest(pids[name], _peak) - before[name] for name in OURS}
    return Footprint(idle, growth, faults)


@dataclass(frozen=True, slots=True)
class LoadedPeak:
    """One process of smtp-sender under load."""

    octets: int
    """Resident, at the peak; the largest of its copies."""
    messages: int
    """Of which one had 20 MB, the others 5 KB."""
    faults: tuple[str, ...]


def measure_loaded(stage: Stage, *, quick: bool) -> LoadedPeak:
    """A round of (b) with a mail of 20 MB in the middle, by senders that were just started.

    After the rounds with 100 KB, of which 200 were in hand at once, they would be some 20 MB larger.
    """
    assert stage.stack is not None
    stage.stack.restart("smtp-sender")
    pids = stage.stack.pids("smtp-sender")
    reset_peaks(pids)
    job = Job("b", 5, _LOADED // (5 if quick else 1), 0, large=OCTETS)
    faults = _send(job, stage)
    return LoadedPeak(_largest(pids, _peak), job.messages, faults)


def _send(job: Job, stage: Stage) -> tuple[str, ...]:
    """Send the mails of ``job``; why it does not count."""
    assert stage.stack is not None
    env = stage.stack.env
    with Sink(stage.folder / f"ledger-{job.domain}", stage.sink) as sink:
        course = Course(job, stage, sink)
        load = (
            start_smtp_source(env["SMTP_INBOX_ADDRESS"], job) if job.way == "a" else start_publisher(env["RABBITMQ_ADDRESS"], job)
        )
        try:
            course.watch(load)
        except LoadFailed as error:
            course.faults.append(str(error))
        finally:
            load.stop()
        return tuple(course.find_faults())


def _largest(pids: list[int], what: Callable[[Memory], int]) -> int:
    return max((what(memory) for memory in map(read_memory, pids) if memory is not None), default=0)


def _resident(memory: Memory) -> int:
    return memory.resident


def _peak(memory: Memory) -> int:
    return memory.peak
