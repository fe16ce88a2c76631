"""How fast is mail accepted? smtp-inbox beside Postfix, and json-inbox: until the last 250 or 202, with everything behind at rest.

Behind smtp-inbox and json-inbox the router and the recorder are stopped, so that mail stays in ``inbox`` and records in ``record``;
Postfix puts all it accepts on hold. So acceptance is measured and nothing else, on both sides with the mail safe on disk.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

from pamqp import commands

from deploy.stack.places import free_ports
from tests.bench.amqp import AmqpClient
from tests.bench.load import SESSIONS, Load, LoadFailed, start_smtp_source
from tests.bench.plan import ACCEPTING, Job
from tests.bench.postfix import Postfix
from tests.bench.rounds import Stage
from tests.support.queues import Queues

COPIES = 2
"""Of smtp-inbox and of json-inbox: ``--workers 2``."""
BATCH = 1000
"""Messages in one request over HTTP."""
HTTP_SIZE = 1000
"""Octets of text in a message over HTTP."""
_STOPPED = ("router", "result-recorder")
_PATIENCE = 120.0

KINDS = {
    "connection": "SMTP, a connection per mail",
    "pipelining": "SMTP, connections kept, PIPELINING",
    "batch": f"HTTP, {BATCH:,} messages per request",
    "single": "HTTP, a message per request",
}
_MESSAGES = {"connection": 4000, "pipelining": 8000, "batch": 40_000, "single": 4000}
_HTTP = ("batch", "single")


@dataclass(frozen=True, slots=True)
class AcceptResult:
    """One kind of client: medians over the rounds."""

    kind: str
    messages: int
    """Per round."""
    size: int
    """Octets of text in a mail."""
    rate: float
    """Messages per second, from the first connection to the last positive reply."""
    postfix: float | None
    """The same for Postfix; None: it has no HTTP."""
    faults: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Ours over Postfix's."""
        return self.rate / self.postfix if self.postfix else None


def measure_accepting(stage: Stage, rounds: int, *, quick: bool) -> list[AcceptResult]:
    """Stop what is behind the inboxes, measure, put all back."""
    assert stage.stack is not None
    (port,) = free_ports(1)
    with (
        _alone(stage),
        Postfix(stage.folder / "postfix-holding", port=port, sink=stage.sink, holds=True) as postfix,
    ):
        return [_measure(kind, stage, postfix, rounds, quick=quick) for kind in KINDS]


def _measure(kind: str, stage: Stage, postfix: Postfix, rounds: int, *, quick: bool) -> AcceptResult:
    messages = _MESSAGES[kind] // (5 if quick else 1)
    size = HTTP_SIZE if kind in _HTTP else 5000
    ours: list[float] = []
    theirs: list[float] = []
    faults: list[str] = []
    for number in range(rounds + 1):
        job = Job(ACCEPTING, size // 1000, messages if number else max(BATCH, messages // 10), number)
        try:
            rate = _run(partial(_load_ours, kind, stage, job))
            faults += _check_queue(stage, job.messages)
            other = 0.0
            if kind not in _HTTP:
                other = _run(partial(_load, kind, postfix.address, job))
                faults += _check_held(postfix, job.messages)
        except LoadFailed as error:
            faults.append(str(error))
            break
        if number:
            ours.append(rate)
            theirs.append(other)
            stage.say(f"({ACCEPTING}) {KINDS[kind]}: {rate:,.0f}/s" + (f", Postfix {other:,.0f}/s" if other else ""))
    return AcceptResult(kind, messages, size, _median(ours), _median(theirs) or None, tuple(faults))


def _run(start: Callable[[], Load]) -> float:
    """Messages per second of one load. Raises LoadFailed."""
    os.sync()
    load = start()
    deadline = time.monotonic() + _PATIENCE
    try:
        while (loaded := load.finish()) is None:
            if time.monotonic() > deadline:
                raise LoadFailed(f"not done after {_PATIENCE:.0f} s")
            time.sleep(0.02)
    finally:
        load.stop()
    return load.messages / (loaded.ended - loaded.began)


def _load_ours(kind: str, stage: Stage, job: Job) -> Load:
    assert stage.stack is not None
    env = stage.stack.env
    if kind not in _HTTP:
        return _load(kind, env["SMTP_INBOX_ADDRESS"], job)
    batch, sessions = (BATCH, 4) if kind == "batch" else (1, SESSIONS)
    argv = ["tests.bench.poster", env["HTTP_ADDRESS"], "--batch", str(batch)]
    return _start(argv, job, sessions)


def _load(kind: str, address: str, job: Job) -> Load:
    if kind == "connection":
        return start_smtp_source(address, job, keeps=False)
    return _start(["tests.bench.pipeliner", address], job, SESSIONS)


def _start(argv: Sequence[str], job: Job, sessions: int) -> Load:
    what = ["--messages", str(job.messages), "--size", str(job.octets), "--domain", job.domain, "--sessions", str(sessions)]
    return Load([sys.executable, "-m", *argv, *what], messages=job.messages, tells=True)


def _check_queue(stage: Stage, expected: int) -> list[str]:
    """Is every mail there, and its record? Empties the queues."""
    assert stage.stack is not None
    faults = []
    with AmqpClient(stage.stack.env["RABBITMQ_ADDRESS"], "bench counts") as client:
        found = client.call(commands.Queue.Declare(queue="inbox", passive=True), commands.Queue.DeclareOk).message_count
        if found != expected:
            faults.append(f"{found} messages in inbox, expected {expected}")
        client.call(commands.Queue.Purge(queue="inbox"), commands.Queue.PurgeOk)
    recorded, deadline = 0, time.monotonic() + 10
    # Nobody waits for records.
    while recorded < expected and time.monotonic() < deadline:
        recorded += len(Queues(stage.stack.env["RABBITMQ_ADDRESS"]).take("records"))
    if recorded != expected:
        faults.append(f"{recorded} records, expected {expected}")
    return faults


def _check_held(postfix: Postfix, expected: int) -> list[str]:
    found = postfix.count_queued()
    postfix.delete_held()
    return [] if found == expected else [f"{found} mails in Postfix's queue, expected {expected}"]


@contextmanager
def _alone(stage: Stage) -> Iterator[None]:
    """The inboxes have ``COPIES`` copies, and nobody takes what they publish."""
    stack = stage.stack
    assert stack is not None
    before = {name: len(stack.pids(name)) for name in ("smtp-inbox", "json-inbox", *_STOPPED)}
    for name in before:
        stack.stop(name)
    try:
        for name in ("smtp-inbox", "json-inbox"):
            stack.start(name, COPIES)
        yield
    finally:
        for name in ("smtp-inbox", "json-inbox"):
            stack.stop(name)
        for name, copies in before.items():
            stack.start(name, copies)


def _median(rates: Sequence[float]) -> float:
    return median(rates) if rates else 0.0
