"""One round: load, wait until all has arrived and is recorded, look at what it cost, check that nothing is lost."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy.stack.health import tail
from deploy.stack.services import SERVICES
from deploy.stack.temporary import TemporaryStack
from tests.bench.celery_workers import CeleryWorkers
from tests.bench.load import Load, Loaded, LoadFailed, start_publisher, start_smtp_source, start_tasks
from tests.bench.patience import NO_PROGRESS, watch
from tests.bench.plan import CELERY, OUR_WAYS, Job
from tests.bench.postfix import Postfix
from tests.bench.records import Records
from tests.bench.sessions import Sessions, read_sessions
from tests.bench.signing import SigningKey
from tests.bench.sink import Arrived, Sink, summarize_mails
from tests.bench.usage import Meter, Usage
from tests.support.ledger import Mail

SINK, LOAD, DRAIN, LOGS = "sink", "load generator", "reader of results", "logs (supervisord)"
POSTFIX, WORKERS = "postfix", "celery"
BENCH = "bench itself"
OURS = tuple(SERVICES)
SERVERS = ("rabbitmq", "postgres")
GROUPS = (*OURS, *SERVERS, LOGS, POSTFIX, WORKERS, SINK, LOAD, DRAIN, BENCH)
"""Groups of processes, in the order of tables and pictures."""


@dataclass(frozen=True, slots=True)
class Stage:
    """All that runs during the whole bench."""

    folder: Path
    sink: str
    """host:port of the sink."""
    say: Callable[[str], None]
    stack: TemporaryStack | None = None
    records: Records | None = None
    drains: Sequence[int] = ()
    """Pids of the readers of results."""
    postfix: Postfix | None = None
    celery: CeleryWorkers | None = None
    key: SigningKey | None = None
    """What smtp-sender signs the mails of (d) with."""

    def groups(self) -> dict[str, list[int]]:
        """Group → the pids of its roots."""
        groups: dict[str, list[int]] = {}
        if self.stack is not None:
            groups |= {name: self.stack.pids(name) for name in (*OURS, *SERVERS)}
            groups[LOGS] = [psutil.Process(groups["rabbitmq"][0]).ppid()]
        if self.drains:
            groups[DRAIN] = list(self.drains)
        if self.postfix is not None:
            groups[POSTFIX] = [self.postfix.pid]
        if self.celery is not None:
            groups[WORKERS] = self.celery.pids
        return groups

    def read_sessions(self) -> Sessions | None:
        """Of smtp-sender."""
        return read_sessions(self.stack.env["METRICS_SMTP_SENDER"]) if self.stack is not None else None


@dataclass(frozen=True, slots=True)
class Round:
    """What came out. Rates are messages per second from the first message handed in."""

    job: Job
    accepted: float = 0.0
    """Rate until the last one was taken from the load generator."""
    delivered: float = 0.0
    """Rate until the last one was in the sink: the figure that counts."""
    recorded: float | None = None
    """Rate until the last one had its final row in Postgres and its result was read; None for Postfix and Celery."""
    reused: float | None = None
    """Share of smtp-sender's transactions on a session that had carried a mail before; None for Postfix and Celery."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Group → µs per message, until all was written down and cleaned up."""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Group → octets, at the peak."""
    machine: float = 0.0
    """µs per message of the whole machine."""
    strange: float = 0.0
    """Share of it that was neither ours nor the bench's: the kernel's own threads, and strangers."""
    faults: tuple[str, ...] = ()
    """Why it does not count."""
    is_stuck: bool = False
    """Nothing moved any more: mail is left that would come to light in a later round."""


def run_round(job: Job, stage: Stage) -> Round:
    """Run one round."""
    os.sync()  # what the round before left to be written is not this one's cost
    sink = Sink(stage.folder / f"ledger-{job.domain}", stage.sink, keeps_content=job.way == "d")
    with sink, Meter({**stage.groups(), SINK: [sink.pid], BENCH: [os.getpid()]}, alone=[LOGS, BENCH]) as meter:
        course = Course(job, stage, sink)
        with _start_load(job, stage) as load:
            meter.watch(LOAD, load.pid)
            try:
                course.watch(load)
            except LoadFailed as error:
                course.faults.append(str(error))
        meter.add_cpu(LOAD, course.loaded.cpu if course.loaded else 0.0)
        return course.conclude(meter.read())


class Course:
    """A round under way."""

    def __init__(self, job: Job, stage: Stage, sink: Sink) -> None:
        self.faults: list[str] = []
        self.loaded: Loaded | None = None
        self._job = job
        self._stage = stage
        self._sink = sink
        self._records = stage.records if job.way in OUR_WAYS else None
        self._results = stage.celery if job.way == CELERY else self._records
        self._sessions_before = stage.read_sessions() if job.way in OUR_WAYS else None
        self._results_before = self._results.count_results() if self._results else 0
        self._began = time.time()
        self._recorded_at: float | None = None
        self._pids = stage.groups()
        self._is_stuck = False

    def watch(self, load: Load) -> None:
        """Wait until all has arrived, is written down and is cleaned up, or nothing moves any more. Raises LoadFailed."""
        title = self._job.title
        if not watch(lambda: self._look(load), self._is_done, lambda seen: self._stage.say(f"  {title}: {self._spell(seen)}")):
            self.faults.append(NO_PROGRESS)
            self._is_stuck = True

    def _is_done(self, progress: tuple[int, ...]) -> bool:
        if self.loaded is None or min(progress) < self._job.messages:
            return False
        self._recorded_at = self._recorded_at or time.time()
        return not self._find_remains()

    def conclude(self, usage: Usage) -> Round:
        """Check, and work out the figures."""
        job, mails = self._job, self._sink.read_mails()
        arrived, reused = summarize_mails(mails), self._find_reused()
        faults = (*self.find_faults(arrived), *self._check_signatures(mails))
        if self.loaded is None or not arrived.mails:
            return Round(job, faults=faults, is_stuck=self._is_stuck)
        began = self.loaded.began
        recorded = job.messages / (self._recorded_at - began) if self._recorded_at and self._records else None
        return Round(
            job,
            accepted=job.messages / (self.loaded.ended - began),
            delivered=job.messages / (arrived.last - began),
            recorded=recorded,
            reused=reused,
            cpu={name: seconds / job.messages * 1e6 for name, seconds in usage.cpu.items()},
            memory=usage.memory,
            machine=usage.machine / job.messages * 1e6,
            strange=max(0.0, 1 - sum(usage.cpu.values()) / usage.machine) if usage.machine else 0.0,
            faults=faults,
            is_stuck=self._is_stuck,
        )

    def find_faults(self, arrived: Arrived | None = None) -> list[str]:
        """Everything for which the round does not count, a sentence each."""
        faults = [*self.faults, *self._check(arrived or self._sink.read()), *self._find_remains()]
        for name, pids in self._stage.groups().items():
            if pids != self._pids[name]:
                faults.append(f"{name} died")
                if self._stage.stack is not None and name not in (POSTFIX, WORKERS):
                    self._stage.say(f"the end of its log:\n{tail(self._stage.stack.log(name))}")
        return faults

    def _look(self, load: Load) -> tuple[int, ...]:
        """Mails in the sink, results read, final rows (counted when all else is there: it costs)."""
        self.loaded = self.loaded or load.finish()
        arrived = self._sink.count()
        if self._results is None:
            return (arrived,)
        if self._records is None:
            return arrived, self._count_results()
        rows = self._records.count_rows(self._job.domain, self._began) if arrived >= self._job.messages else 0
        return arrived, self._count_results(), rows

    def _count_results(self) -> int:
        return self._results.count_results() - self._results_before if self._results else 0

    def _spell(self, progress: tuple[int, ...]) -> str:
        arrived, *recorded = progress
        words = f"{arrived} of {self._job.messages} in the sink"
        if arrived >= self._job.messages and recorded:
            told = zip(recorded, ("results read", "rows in Postgres"), strict=False)  # Celery writes no rows
            words += "".join(f", {count} {what}" for count, what in told)
        return words

    def _find_remains(self) -> list[str]:
        """What is left of mail that has gone."""
        remains: dict[str, int] = {}
        if self._records is not None:
            remains["rows of mail under way"] = self._records.count_under_way()
            remains["payloads in the message store"] = self._records.count_payloads()
        elif self._job.way == CELERY and self._stage.celery is not None:
            remains["tasks in their queue"] = self._stage.celery.count_queued()
        elif self._stage.postfix is not None:
            remains["mails in Postfix's queue"] = self._stage.postfix.count_queued()
        return [f"{count} {what} left" for what, count in remains.items() if count]

    def _find_reused(self) -> float | None:
        before, now = self._sessions_before, self._stage.read_sessions() if self._sessions_before else None
        return now.find_share(before) if before and now else None

    def _check_signatures(self, mails: Sequence[Mail]) -> list[str]:
        if self._job.way != "d":
            return []
        assert self._stage.key is not None
        return [f"{count} {what}" for what, count in self._stage.key.find_flaws(mails).items() if count]

    def _check(self, arrived: Arrived) -> list[str]:
        job = self._job
        found = {
            "mails lost": arrived.count_lost(job.messages, job.domain),
            "mails doubled": arrived.surplus,
            "mails that nobody sent": arrived.count_strange(job.domain),
            "mails too small": arrived.mails if arrived.smallest < job.octets else 0,
        }
        if self._results is not None:
            found["results too few or too many"] = abs(self._count_results() - job.messages)
        if self._records is not None:
            found["rows too few or too many"] = abs(self._records.count_rows(job.domain, self._began) - job.messages)
            found["recipients without a row"] = job.messages - self._records.count_recipients(job.domain)
        return [f"{count} {what}" for what, count in found.items() if count]


@contextmanager
def _start_load(job: Job, stage: Stage) -> Iterator[Load]:
    if job.way == "c":
        assert stage.postfix is not None
        load = start_smtp_source(stage.postfix.address, job)
    elif job.way == CELERY:
        assert stage.celery is not None
        load = start_tasks(stage.celery.url, job)
    else:
        assert stage.stack is not None
        env = stage.stack.env
        is_smtp = job.way == "a"
        load = start_smtp_source(env["SMTP_INBOX_ADDRESS"], job) if is_smtp else start_publisher(env["RABBITMQ_ADDRESS"], job)
    try:
        yield load
    finally:
        load.stop()
