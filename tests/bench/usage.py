"""CPU and memory of groups of processes while something is measured.

A group is a name and the pids of its roots; all descendants belong to it, also those that have ended meanwhile (their
parent has their CPU time). CPU: user and system, in steps of 10 ms. Memory of one process: its peak resident set, of
which the kernel keeps the high-water mark (reset at the start); of several: the private memory of all plus the largest
shared part (Postgres' buffers count once), looked at twice a second.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_INTERVAL = 0.5
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used between start and stop."""

    cpu: Mapping[str, float]
    """Group → seconds."""
    memory: Mapping[str, int]
    """Group → octets, at the peak."""
    machine: float
    """Seconds of CPU of the whole machine, the kernel's own threads and strangers included."""


class Meter:
    """Measures from entering to leaving; then ``usage`` tells."""

    def __init__(self, groups: Mapping[str, Iterable[int]], *, alone: Iterable[str] = ()) -> None:
        """``groups``: name → pids of the roots. ``alone``: the groups whose descendants do not belong to them."""
        self._roots = {name: set(pids) for name, pids in groups.items()}
        self._alone = frozenset(alone)
        self._peaks: dict[str, int] = dict.fromkeys(self._roots, 0)
        self._before: dict[str, float] = {}
        self._added: dict[str, float] = {}
        self._machine = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="meter", daemon=True)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for pids in self._find_all().values():
            reset_peaks(pids)
        self._before = self._read_cpu()
        self._machine = _read_machine()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def watch(self, name: str, pid: int) -> None:
        """A process was started that belongs to the group ``name``."""
        with self._lock:
            self._roots.setdefault(name, set()).add(pid)
            self._peaks.setdefault(name, 0)

    def add_cpu(self, name: str, seconds: float) -> None:
        """What a process has used that has ended and was no child of the group."""
        self._added[name] = self._added.get(name, 0.0) + seconds

    def read(self) -> Usage:
        """What was used until now. Processes that were watched must live still, or be told of by ``add_cpu``."""
        now = self._read_cpu()
        cpu = {name: seconds - self._before.get(name, 0.0) + self._added.get(name, 0.0) for name, seconds in now.items()}
        machine = _read_machine() - self._machine
        self._sample()
        return Usage(cpu, dict(self._peaks), machine)

    def _find_all(self) -> dict[str, list[int]]:
        with self._lock:
            roots = {name: set(pids) for name, pids in self._roots.items()}
        children = read_children()
        return {name: list(pids if name in self._alone else _descendants(pids, children)) for name, pids in roots.items()}

    def _read_cpu(self) -> dict[str, float]:
        groups = self._find_all().items()
        return {name: sum(_read_cpu(pid, with_ended=name not in self._alone) for pid in pids) for name, pids in groups}

    def _sample(self) -> None:
        for name, pids in self._find_all().items():
            memories = [memory for memory in map(read_memory, pids) if memory is not None]
            if memories:
                together = sum(one.private for one in memories) + max(one.shared for one in memories)
                self._peaks[name] = max(self._peaks[name], together, max(one.peak for one in memories))

    def _sample_on(self) -> None:
        while not self._over.wait(_INTERVAL):
            self._sample()


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in octets (proc(5): VmHWM, RssAnon, RssFile + RssShmem)."""

    peak: int
    private: int
    shared: int

    @property
    def resident(self) -> int:
        """Now."""
        return self.private + self.shared


def read_memory(pid: int) -> Memory | None:
    """None when there is no such process, or no memory any more."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except _GONE:
        return None
    found = dict.fromkeys(("VmHWM", "RssAnon", "RssFile", "RssShmem"), 0)
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    if not found["VmHWM"]:
        return None
    return Memory(found["VmHWM"], found["RssAnon"], found["RssFile"] + found["RssShmem"])


def reset_peaks(pids: Iterable[int]) -> None:
    """Let VmHWM start anew at what is resident now (proc(5): clear_refs)."""
    for pid in pids:
        with suppress(*_GONE):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def read_children() -> dict[int, list[int]]:
    """Parent → children, of all processes."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(*_GONE):
                stat = Path(f"/proc/{entry}/stat").read_bytes()
                parent = int(stat[stat.rindex(b")") + 2 :].split(maxsplit=2)[1])
                children.setdefault(parent, []).append(int(entry))
    return children


def _descendants(roots: Iterable[int], children: Mapping[int, list[int]]) -> set[int]:
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return found


def _read_cpu(pid: int, *, with_ended: bool) -> float:
    """Of the process and, ``with_ended``, of those of its children that have ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended = times.children_user + times.children_system if with_ended else 0.0
    return float(times.user + times.system + ended)


def _read_machine() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
