"""Mail waits in ``outbox``, then smtp-senders are started: how fast do they take it out? What (j) and (k) have in common."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pamqp import commands

from tests.bench.amqp import AmqpClient
from tests.bench.load import LoadFailed, start_publisher
from tests.bench.patience import NO_PROGRESS, watch
from tests.bench.plan import Job
from tests.bench.rounds import BENCH, LOGS, SINK, Stage
from tests.bench.sink import Sink
from tests.bench.tally import read_tally
from tests.bench.usage import Meter, Usage
from tests.support.ledger import Mail

SENDER = "smtp-sender"
_QUEUE = "outbox"
_POLL = 0.5
"""Seconds. Looking costs CPU, and when mails arrived is in the ledger."""
_SELDOM = 15.0


@dataclass(frozen=True, slots=True)
class QueuedJob(Job):
    """A backlog of mails to one domain. ``way``: ``b``, or ``d`` for mail from the domain that there is a key for."""

    name: str = ""
    """Of nothing else in this run."""

    @property
    def domain(self) -> str:
        """Of all recipients."""
        return f"{self.name}.bench.example"

    @property
    def title(self) -> str:
        """For a line of progress."""
        return f"({self.name})"


@dataclass(frozen=True, slots=True)
class Drained:
    """How a backlog went. Rates are mails per second from when all senders were ready to the last arrival."""

    rate: float = 0.0
    first: float = 0.0
    """The same in the first tenth of these mails."""
    last: float = 0.0
    """The same in the last tenth."""
    busy: float = 0.0
    """Cores that one smtp-sender kept busy on average; 1.0 is all that it can have."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Group → µs per mail."""
    faults: tuple[str, ...] = ()
    """Why it does not count."""


class Drain:
    """One backlog under way; smtp-sender must be stopped."""

    def __init__(
        self, job: QueuedJob, stage: Stage, sink: Sink, folder: Path, observe: Callable[[int], None] = lambda arrived: None
    ) -> None:
        """``folder``: the ledger of ``sink``. ``observe``: called at every look with the number of mails in the sink."""
        assert stage.stack is not None
        assert stage.records is not None
        self._job, self._stage, self._sink, self._folder, self._observe = job, stage, sink, folder, observe
        self._stack, self._records = stage.stack, stage.records
        self._faults: list[str] = []
        self._results_before = self._records.count_results()
        self._began = time.time()

    def queue(self) -> None:
        """Publish everything and wait until the broker has it. Raises LoadFailed."""
        job, say = self._job, tell_seldom(self._stage.say)
        load = start_publisher(self._stack.env["RABBITMQ_ADDRESS"], job)
        loaded = load.wait(lambda: say(lambda: f"  {job.title} {count_queued(self._stage):,} of {job.messages:,} mails queued"))
        self._stage.say(f"  {job.title} {job.messages:,} mails queued, {job.messages / (loaded.ended - loaded.began):,.0f}/s")
        os.sync()  # what the load left to be written is not the senders' cost

    def run(self, copies: int, **settings: str) -> Drained:
        """Start so many senders with these settings, wait until all is delivered and written down, check; stop them."""
        self._stack.start(SENDER, copies, **settings)
        groups = self._stage.groups()
        roots = {**groups, SINK: [self._sink.pid], BENCH: [os.getpid()]}
        with Meter(roots, alone=[LOGS, BENCH]) as meter:
            ready, arrived = time.time(), self._sink.count()
            self._watch()
            usage = meter.read()
        if self._stage.groups() != groups:
            self._faults.append("a process died and was started again")
        self._stack.stop(SENDER)
        return self._conclude(copies, ready, self._job.messages - arrived, usage)

    def _watch(self) -> None:
        job, say = self._job, tell_seldom(self._stage.say)
        if not watch(
            self._look,
            lambda seen: min(seen) >= job.messages,
            lambda seen: say(lambda: f"  {job.title} {seen[0]:,} of {job.messages:,} in the sink, {seen[1]:,} results read"),
            every=_POLL,
        ):
            self._faults.append(NO_PROGRESS)

    def _look(self) -> tuple[int, ...]:
        """Mails in the sink, results read, final rows (counted when all else is there: it costs)."""
        arrived, results = self._sink.count(), self._count_results()
        self._observe(arrived)
        is_there = min(arrived, results) >= self._job.messages
        return arrived, results, self._records.count_rows(self._job.domain, self._began) if is_there else 0

    def _conclude(self, copies: int, ready: float, metered: int, usage: Usage) -> Drained:
        tally = read_tally(self._folder, self._job.domain, self._job.messages)
        arrivals = sorted(moment for moment in tally.arrivals if moment > ready)
        faults = (*self._faults, *tally.find_faults(self._job.octets), *self._check_records())
        if len(arrivals) < 10:
            return Drained(faults=(*faults, "nothing was left to be sent when all senders were ready"))
        rate, first, last = find_rates(arrivals, ready)
        return Drained(
            rate,
            first,
            last,
            busy=usage.cpu[SENDER] / copies / (arrivals[-1] - ready),
            cpu={name: seconds / metered * 1e6 for name, seconds in usage.cpu.items()} if metered > 0 else {},
            faults=faults,
        )

    def _check_records(self) -> list[str]:
        job, records = self._job, self._records
        found = {
            "results too few or too many": abs(self._count_results() - job.messages),
            "rows too few or too many": abs(records.count_rows(job.domain, self._began) - job.messages),
            "recipients without a row": job.messages - records.count_recipients(job.domain),
            "rows of mail under way left": records.count_under_way(),
            "payloads left in the message store": records.count_payloads(),
            "mails left in outbox": count_queued(self._stage),
        }
        return [f"{count} {what}" for what, count in found.items() if count]

    def _count_results(self) -> int:
        return self._records.count_results() - self._results_before


def find_rates(arrivals: Sequence[float], ready: float) -> tuple[float, float, float]:
    """Per second of all, of the first and of the last tenth. ``arrivals``: when, ten at least, sorted, all after ``ready``. Pure."""
    tenth = len(arrivals) // 10
    last = arrivals[-1]
    return len(arrivals) / (last - ready), tenth / (arrivals[tenth - 1] - ready), tenth / (last - arrivals[-1 - tenth])


def drain(
    job: QueuedJob,
    stage: Stage,
    copies: int,
    settings: Mapping[str, str] | None = None,
    *,
    behaviour: str = "",
    check: Callable[[Sequence[Mail]], Mapping[str, int]] | None = None,
    observe: Callable[[int], None] = lambda arrived: None,
) -> Drained:
    """Queue the mails of ``job`` and let so many senders take them out; smtp-sender must be stopped, and is so afterwards.

    ``behaviour``: of the sink. ``check``: a further look at the contents of what arrived: what is wrong, and how many times.
    """
    folder = stage.folder / f"ledger-{job.domain}"
    with Sink(folder, stage.sink, behaviour=behaviour, keeps_content=check is not None) as sink:
        course = Drain(job, stage, sink, folder, observe)
        try:
            course.queue()
        except LoadFailed as error:
            return Drained(faults=(str(error),))
        drained = course.run(copies, **(settings or {}))
        found = check(sink.read_mails()) if check is not None else {}
        return replace(drained, faults=(*drained.faults, *(f"{count} {what}" for what, count in found.items() if count)))


@contextmanager
def stopped_sender(stage: Stage, queues: Sequence[str] = (_QUEUE,)) -> Iterator[None]:
    """smtp-sender is stopped; afterwards the queues are empty, and it runs again as before."""
    assert stage.stack is not None
    copies = len(stage.stack.pids(SENDER))
    stage.stack.stop(SENDER)
    try:
        yield
    finally:
        stage.stack.stop(SENDER)
        with AmqpClient(stage.stack.env["RABBITMQ_ADDRESS"], "bench clears up") as client:
            for queue in queues:
                client.call(commands.Queue.Purge(queue=queue), commands.Queue.PurgeOk)
        stage.stack.start(SENDER, copies)


def count_queued(stage: Stage) -> int:
    """Mails that wait in ``outbox``."""
    assert stage.stack is not None
    with AmqpClient(stage.stack.env["RABBITMQ_ADDRESS"], "bench counts") as client:
        return int(client.call(commands.Queue.Declare(queue=_QUEUE, passive=True), commands.Queue.DeclareOk).message_count)


def tell_seldom(say: Callable[[str], None]) -> Callable[[Callable[[], str]], None]:
    """Says what it is given when the last time was long ago, from now on."""
    told = time.monotonic()

    def tell(render: Callable[[], str]) -> None:
        nonlocal told
        if time.monotonic() - told > _SELDOM:
            told = time.monotonic()
            say(render())

    return tell
