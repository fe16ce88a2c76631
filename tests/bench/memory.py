"""Memory of our processes: idle, and while one mail of 20 MB goes through all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.load import LoadFailed, start_smtp_source
from tests.bench.plan import Job
from tests.bench.rounds import OURS, Course, Stage
from tests.bench.sink import Sink
from tests.bench.usage import Memory, read_memory, reset_peaks

OCTETS = 20_000_000
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
    with Sink(stage.folder / "ledger-large", stage.sink) as sink:
        course = Course(job, stage, sink)
        load = start_smtp_source(stage.stack.env["SMTP_INBOX_ADDRESS"], job)
        try:
            course.watch(load)
        except LoadFailed as error:
            course.faults.append(str(error))
        finally:
            load.stop()
        growth = {name: _largest(pids[name], _peak) - before[name] for name in OURS}
        faults = course.find_faults()
    return Footprint(idle, growth, tuple(faults))


def _largest(pids: list[int], what: Callable[[Memory], int]) -> int:
    return max((what(memory) for memory in map(read_memory, pids) if memory is not None), default=0)


def _resident(memory: Memory) -> int:
    return memory.resident


def _peak(memory: Memory) -> int:
    return memory.peak
