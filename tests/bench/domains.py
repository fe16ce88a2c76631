"""(e): mail to many domains waits in the outbox; one of them may be a tarpit. How fast do the others get theirs?"""

import os
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from deploy.stack.places import HOST, free_ports
from tests.bench.listener import Listener
from tests.bench.load import LoadFailed, start_crowd
from tests.bench.patience import NO_PROGRESS, watch
from tests.bench.plan import Crowd
from tests.bench.publisher import name_domain
from tests.bench.queued import SENDER, stopped_sender
from tests.bench.rounds import Stage
from tests.bench.sink import Sink, summarize_mails
from tests.bench.usage import read_memory
from tests.bench.zone import TARPIT, TARPITTED, find_host
from tests.support.ledger import Mail

_WAITS = ("5s", "30s", "1m", "5m", "10m", "30m", "1h", "2h")
_QUEUES = ("outbox", *(f"wait.{wait}" for wait in _WAITS))
"""Where mail for the tarpit may lie when all is over."""


@dataclass(frozen=True, slots=True)
class CrowdResult:
    """What came out. ``others``: the domains that never have a tarpit."""

    crowd: Crowd
    rate: float = 0.0
    """Mails of the others per second, from the first arrival to their last one."""
    others: int = 0
    """Mails to them."""
    reused: float | None = None
    """Share of transactions on a session that had carried a mail before."""
    memory: int = 0
    """Octets of one process of smtp-sender, at the peak."""
    caught: int = 0
    """Connections that the tarpit held in the end."""
    faults: tuple[str, ...] = ()
    """Why it does not count."""


def measure_crowd(crowd: Crowd, stage: Stage) -> CrowdResult:
    """Queue, start smtp-sender, wait for the others' mail, check, and leave everything as it was."""
    _raise_descriptors()
    os.sync()
    with stopped_sender(stage, _QUEUES), ExitStack() as servers:
        course = CrowdCourse(crowd, stage, servers)
        try:
            course.queue()
        except LoadFailed as error:
            return CrowdResult(crowd, faults=(str(error),))
        course.send()
        return course.conclude()


class CrowdCourse:
    """A measurement under way."""

    def __init__(self, crowd: Crowd, stage: Stage, servers: ExitStack) -> None:
        """Starts the hosts, their DNS and the tarpit; they end with ``servers``."""
        assert stage.stack is not None
        assert stage.records is not None
        self._crowd, self._stage = crowd, stage
        self._stack, self._records = stage.stack, stage.records
        self._faults: list[str] = []
        self._results_before = self._records.count_results()
        self._began = time.time()
        self._port, dns_port = free_ports(2)
        self._dns = f"{HOST}:{dns_port}"
        folder, tarpit = stage.folder / f"ledger-{crowd.parent}", ["--tarpit"] if crowd.has_tarpit else []
        hosts = [find_host(index, has_tarpit=crowd.has_tarpit) for index in range(crowd.domains)]
        self._sink = servers.enter_context(Sink(folder, *(f"{host}:{self._port}" for host in hosts if host != TARPIT)))
        about = ["--parent", crowd.parent, "--domains", str(crowd.domains), *tarpit]
        servers.enter_context(Listener("tests.bench.zone", about, [self._dns]))
        self._tarpit: Listener | None = None
        if crowd.has_tarpit:
            silent = ["--connection", "silent-ehlo", "--ledger", f"{folder}-tarpit"]
            self._tarpit = servers.enter_context(Listener("tests.support.mx", silent, [f"{TARPIT}:{self._port}"]))

    def queue(self) -> None:
        """Publish everything and wait until the broker has it. Raises LoadFailed."""
        loaded = start_crowd(self._stack.env["RABBITMQ_ADDRESS"], self._crowd).wait()
        rate = self._crowd.messages / (loaded.ended - loaded.began)
        self._stage.say(f"  {self._crowd.title}: {self._crowd.messages:,} mails queued, {rate:,.0f}/s")

    def send(self) -> None:
        """Start smtp-sender and wait until all mail that can arrive has arrived and is written down, or nothing moves."""
        settings = {
            "SMTP_SINK_ADDRESS": "",
            "SMTP_PORT": str(self._port),
            "SMTP_ALLOW_PRIVATE": "127.0.0.0/8",
            "DNS_SERVERS": self._dns,
        }
        self._stack.start(SENDER, max(1, self._stack_copies()), **settings)
        self._pids = self._stack.pids(SENDER)
        expected = self._crowd.messages - (count_tarpitted(self._crowd) if self._crowd.has_tarpit else 0)
        title = self._crowd.title
        if not watch(
            lambda: self._look(expected),
            lambda progress: min(progress) >= expected,
            lambda progress: self._stage.say(f"  {title}: {progress[0]:,} of {expected:,} in the sink"),
        ):
            self._faults.append(NO_PROGRESS)

    def conclude(self) -> CrowdResult:
        """Check, and work out the figures."""
        crowd = self._crowd
        sessions = self._stage.read_sessions()
        peaks = [memory.peak for memory in map(read_memory, self._pids) if memory is not None]
        caught = _count_connections(self._tarpit.pid) if self._tarpit is not None else 0
        if self._stack.pids(SENDER) != self._pids:
            self._faults.append(f"{SENDER} died and was started again")
        if crowd.has_tarpit and not caught:
            self._faults.append("the tarpit held nobody")
        mails = self._sink.read_mails()
        others = [mail for mail in mails if not mail.recipient.endswith(f"@{name_domain(TARPITTED, crowd.parent)}")]
        arrived = summarize_mails(others)
        took = arrived.last - arrived.first
        found = {**check_mails(crowd, mails), "rows of the others too few": self._count_missing_rows(arrived.mails)}
        return CrowdResult(
            crowd,
            rate=arrived.mails / took if took else 0.0,
            others=arrived.mails,
            reused=sessions.find_share(type(sessions)(0, 0)) if sessions is not None else None,
            memory=max(peaks, default=0),
            caught=caught,
            faults=(*self._faults, *(f"{count} {what}" for what, count in found.items() if count)),
        )

    def _look(self, expected: int) -> tuple[int, ...]:
        """Mails in the sink, results read, final rows (counted when all else is there: it costs)."""
        arrived, results = self._sink.count(), self._records.count_results() - self._results_before
        is_there = min(arrived, results) >= expected
        return arrived, results, self._records.count_rows_below(self._crowd.parent, self._began) if is_there else 0

    def _count_missing_rows(self, mails: int) -> int:
        return max(0, mails - self._records.count_rows_below(self._crowd.parent, self._began))

    def _stack_copies(self) -> int:
        return sum(1 for state in self._stack.states() if state.name.startswith(SENDER))


def count_tarpitted(crowd: Crowd) -> int:
    """Mails to the domain that may have a tarpit."""
    return len(range(TARPITTED, crowd.messages, crowd.domains))


def check_mails(crowd: Crowd, mails: Sequence[Mail]) -> Mapping[str, int]:
    """What is wrong with what arrived, counted. With a tarpit nothing need arrive at its domain, and nothing can."""
    sent = {
        f"r{index + 1:07}@{name_domain(index % crowd.domains, crowd.parent)}"
        for index in range(crowd.messages)
        if not (crowd.has_tarpit and index % crowd.domains == TARPITTED)
    }
    arrived = summarize_mails(mails)
    return {
        "mails lost": len(sent - arrived.recipients),
        "mails doubled": arrived.surplus,
        "mails that nobody sent": len(arrived.recipients - sent),
        "mails too small": arrived.mails if arrived.smallest < crowd.octets else 0,
    }


def _count_connections(pid: int) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(pid).net_connections("tcp"))


def _raise_descriptors() -> None:
    """The sink needs two for every domain; it inherits our limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(65_536, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
