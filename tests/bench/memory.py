"""Memory of our processes: idle, while one mail of 20 MB goes through all of them, and while it goes out among many others."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pamqp import commands

from tests.bench.amqp import AmqpClient
from tests.bench.load import LoadFailed, start_publisher, start_smtp_source
from tests.bench.plan import Job
from tests.bench.rounds import OURS, Course, Stage
from tests.bench.sink import Sink
from tests.bench.usage import Memory, read_memory, reset_peaks

OCTETS = 20_000_000
_LOADED = 5000
"""Messages of the round with a large mail in the middle."""
_CLIENTS = 200
_HEAVY = {
    f"{_CLIENTS} clients at once, each with a mail of 20 MB": ("large", "--octets", str(OCTETS)),
    "9 MB of empty lines": ("lines", "--octets", "9000000"),
    "a line of 31 MB for a command": ("endless", "--octets", "31000000"),
    "a line of 31 MB in a mail": ("endless-data", "--octets", "31000000"),
}
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


@dataclass(frozen=True, slots=True)
class HeavyPeak:
    """smtp-inbox under clients that mean to fill its memory."""

    what: str
    octets: int
    """Resident, at the peak."""
    growth: int
    """Above what it was before."""
    replies: Mapping[str, int]
    """Last reply to a client (its code) → clients; "": none."""


def measure_heavy(stage: Stage, *, quick: bool) -> list[HeavyPeak]:
    """One process of smtp-inbox, freshly started for each; what it accepts stays in ``inbox`` and is thrown away."""
    stack = stage.stack
    assert stack is not None
    copies = {name: len(stack.pids(name)) for name in ("smtp-inbox", "router", "result-recorder")}
    for name in copies:
        stack.stop(name)
    peaks = []
    try:
        for what, given in _HEAVY.items():
            argv = [*given, "--clients", str(_CLIENTS // (10 if quick else 1))] if "large" in given else list(given)
            stack.start("smtp-inbox", 1, INBOUND_SMTP_MAX_CONNECTIONS_PER_ADDRESS="1000")
            peaks.append(_attack(stage, what, argv))
            stage.say(
                f"{what}: {peaks[-1].octets / 1e6:.0f} MB, {peaks[-1].growth / 1e6:+.0f} MB, replies {dict(peaks[-1].replies)}"
            )
            stack.stop("smtp-inbox")
    finally:
        with AmqpClient(stack.env["RABBITMQ_ADDRESS"], "bench clears up") as client:
            for queue in ("inbox", "records"):
                client.call(commands.Queue.Purge(queue=queue), commands.Queue.PurgeOk)
        _empty_store(stage)
        for name, count in copies.items():
            stack.start(name, count)
    return peaks


def _attack(stage: Stage, what: str, argv: list[str]) -> HeavyPeak:
    assert stage.stack is not None
    [pid] = stage.stack.pids("smtp-inbox")
    reset_peaks([pid])
    before = _largest([pid], _resident)
    command = [sys.executable, "-m", "tests.bench.heavy", stage.stack.env["SMTP_INBOX_ADDRESS"], *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        return HeavyPeak(what, 0, 0, {f"failed: {done.stderr[-200:]}": 1})
    replies: dict[str, int] = {}
    for reply in json.loads(done.stdout):
        replies[reply[:3]] = replies.get(reply[:3], 0) + 1
    peak = _largest([pid], _peak) if stage.stack.pids("smtp-inbox") == [pid] else 0
    return HeavyPeak(what, peak, peak - before, replies)


def _empty_store(stage: Stage) -> None:
    """Nobody will ever ask for these payloads."""
    assert stage.records is not None
    for folder in os.scandir(stage.records.payloads):
        if folder.is_dir():
            shutil.rmtree(folder.path)


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
