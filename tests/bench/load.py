"""The load: Postfix's smtp-source, or our publishers of JSON. A process that ends when everything was taken."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.plan import Crowd, Job
from tests.bench.publisher import SENDER
from tests.bench.signing import SIGNED_SENDER

SESSIONS = 20
"""SMTP sessions at once; each is kept for many mails."""
_POLL = 0.25
WINDOW = 500
"""Publishes that wait for their confirm."""


class LoadFailed(Exception):
    """The load generator was refused something."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How it went."""

    began: float
    """Unix seconds."""
    ended: float
    """When the last mail had been taken."""
    cpu: float
    """Seconds that the generator used."""


class Load:
    """A running load generator."""

    def __init__(self, argv: list[str], *, messages: int, tells: bool) -> None:
        """``tells``: it prints when it began and ended, as the publisher does."""
        self.messages = messages
        self._began = time.time()
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE if tells else None)
        self._end: tuple[float, float, int] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def finish(self) -> Loaded | None:
        """None while it runs. Raises LoadFailed."""
        if self._end is None and not self._reap():
            return None
        assert self._end is not None
        ended, cpu, code = self._end
        if code != 0:
            raise LoadFailed(f"the load generator ended with exit code {code}")
        if self._process.stdout is None:
            return Loaded(self._began, ended, cpu)
        with self._process.stdout as output:
            *complaints, last = output.read().splitlines()
            told = json.loads(last)
        if told["refused"]:
            first = complaints[0].decode(errors="replace") if complaints else "they came back or were refused by the broker"
            raise LoadFailed(f"{told['refused']} refused: {first:.200}")
        return Loaded(told["began"], told["ended"], told["cpu"])

    def wait(self, tell: Callable[[], None] = lambda: None) -> Loaded:
        """Until it has ended, telling now and then. Raises LoadFailed."""
        try:
            while (loaded := self.finish()) is None:
                time.sleep(_POLL)
                tell()
        finally:
            self.stop()
        return loaded

    def stop(self) -> None:
        """End it if it runs still."""
        if self._end is None and not self._reap():
            self._process.kill()
            self._process.wait()

    def _reap(self) -> bool:
        pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
        if pid:
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._end = (time.time(), used.ru_utime + used.ru_stime, self._process.returncode)
        return bool(pid)


def start_smtp_source(address: str, job: Job, *, keeps: bool = True) -> Load:
    """Send the mails of ``job`` to an SMTP server; ``keeps``: connections are kept for many mails. ``-N``: recipients of their own."""
    how_many = ["-s", str(min(SESSIONS, job.messages)), "-m", str(job.messages), "-l", str(job.octets), "-N", *["-d"] * keeps]
    argv = ["smtp-source", *how_many, "-f", SENDER, "-t", f"r@{job.domain}", address]
    return Load(argv, messages=job.messages, tells=False)


def start_publisher(url: str, job: Job) -> Load:
    """Publish the mails of ``job`` to the exchange ``outbox``; those of (d) from the domain that there is a key for."""
    sender = SIGNED_SENDER if job.way == "d" else SENDER
    return _start_publisher(url, job.messages, job.octets, job.domain, "--sender", sender, "--large", str(job.large))


def start_crowd(url: str, crowd: Crowd) -> Load:
    """Publish the mails of ``crowd`` to the exchange ``outbox``."""
    return _start_publisher(url, crowd.messages, crowd.octets, crowd.parent, "--domains", str(crowd.domains))


def start_tasks(url: str, job: Job) -> Load:
    """Publish the mails of ``job`` as tasks for Celery."""
    return _start_publisher(url, job.messages, job.octets, job.domain, module="tests.bench.celery_load")


def _start_publisher(
    url: str, messages: int, octets: int, domain: str, *options: str, module: str = "tests.bench.publisher"
) -> Load:
    what = ["--messages", str(messages), "--size", str(octets), "--domain", domain, "--window", str(WINDOW)]
    return Load([sys.executable, "-m", module, url, *what, *options], messages=messages, tells=True)
