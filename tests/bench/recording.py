"""(g): a backlog of records waits in ``records``; how fast does one recorder take it into Postgres, and at what cost?

A result counts when its row is committed; at the end every row must be there, no row of mail under way, no payload, and nothing left in
the queue, acked or not.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pamqp import commands

from shared.storage.directory import DirectoryStore
from tests.bench.amqp import AmqpClient
from tests.bench.load import Load, LoadFailed
from tests.bench.patience import NO_PROGRESS, PATIENCE, POLL, watch
from tests.bench.plan import RECORDING
from tests.bench.record_load import name_payload
from tests.bench.rounds import Stage
from tests.bench.usage import Meter, Usage

_SERVICE = "result-recorder"
_ROWS = 'recorder_rows_total{table="message_status"}'
KINDS = {
    "alone": "results of mail that applications published",
    "inline": "acceptances and results",
    "payloads": "acceptances and results, a payload in the message store for each",
}
_RESULTS = {"alone": 200_000, "inline": 200_000, "payloads": 50_000}
_QUICK = 5
PAYLOAD = 5000
"""Octets."""
# The time keeps the count away from the rows of earlier runs.
_COUNT = "SELECT count(*) FROM message_status WHERE updated_at >= %s AND destination = %s"


@dataclass(frozen=True, slots=True)
class RecordingResult:
    """One backlog."""

    kind: str
    results: int
    rate: float = 0.0
    """Results per second from the first commit to the last."""
    first: float = 0.0
    """The same in the first tenth."""
    last: float = 0.0
    """The same in the last tenth."""
    memory: int = 0
    """Octets of the recorder, at the peak."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Group → µs per result."""
    cleaned: float | None = None
    """Seconds from the last commit until no payload and no row of mail under way was left."""
    faults: tuple[str, ...] = ()
    """Why it does not count."""


def measure_recording(
    stage: Stage, *, quick: bool, results: int | None = None, kinds: Sequence[str] = tuple(KINDS)
) -> list[RecordingResult]:
    """Stop the recorder, and for each kind queue a backlog and let it go. ``results``: instead of the usual numbers."""
    assert stage.stack is not None
    before = len(stage.stack.pids(_SERVICE))
    stage.stack.stop(_SERVICE)
    try:
        return [_measure(stage, kind, results or _RESULTS[kind] // (_QUICK if quick else 1)) for kind in kinds]
    finally:
        stage.stack.stop(_SERVICE)
        stage.stack.start(_SERVICE, before)


def _measure(stage: Stage, kind: str, results: int) -> RecordingResult:
    domain = f"{RECORDING}-{kind}-{int(time.time()) % 100_000}.bench.example"
    course = Course(stage, kind, domain, results)
    with _clean_queue(stage):
        try:
            course.queue()
        except LoadFailed as error:
            return RecordingResult(kind, results, faults=(str(error),))
        os.sync()  # what the load left to be written is not the recorder's cost
        return course.run()


class Course:
    """A backlog under way."""

    def __init__(self, stage: Stage, kind: str, domain: str, results: int) -> None:
        assert stage.stack is not None
        assert stage.records is not None
        self._stage, self._kind, self._domain, self._results = stage, kind, domain, results
        self._stack, self._records = stage.stack, stage.records
        self._samples: list[tuple[float, int]] = []
        """When (monotonic) how many rows had been committed."""
        self._faults: list[str] = []

    def queue(self) -> None:
        """Publish all records, and put the payloads into the store. Raises LoadFailed."""
        argv = [sys.executable, "-m", "tests.bench.record_load", self._stack.env["RABBITMQ_ADDRESS"]]
        argv += ["--results", str(self._results), "--domain", self._domain]
        if self._kind == "alone":
            argv.append("--alone")
        if self._kind == "payloads":
            argv.append("--payloads")
            self._put_payloads()
        loaded = Load(argv, messages=self._results, tells=True).wait()
        self._stage.say(
            f"  ({RECORDING}) {self._results:,} results queued, {self._results / (loaded.ended - loaded.began):,.0f}/s"
        )

    def run(self) -> RecordingResult:
        """Start the recorder, wait until all is done, check."""
        began = time.time()
        self._stack.start(_SERVICE)
        with Meter(self._stage.groups()) as meter:
            pids = self._stack.pids(_SERVICE)
            self._watch()
            usage, before = meter.read(), self._samples[0][1]
        done = time.monotonic()
        cleaned = done - self._samples[-1][0] if self._wait_clean() else None
        if self._stack.pids(_SERVICE) != pids:
            self._faults.append("the recorder died and was started again")
        self._stack.stop(_SERVICE)
        self._check(began)
        return self._conclude(usage, self._samples[-1][1] - before, cleaned)

    def _watch(self) -> None:
        results = self._results
        if not watch(
            self._sample,
            lambda rows: rows >= results,
            lambda rows: self._stage.say(f"  ({RECORDING}) {rows:,} of {results:,} recorded"),
        ):
            self._faults.append(NO_PROGRESS)

    def _sample(self) -> int:
        rows = self._count_committed()
        self._samples.append((time.monotonic(), rows))
        return rows

    def _wait_clean(self) -> bool:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if not self._records.count_under_way() and not self._records.count_payloads():
                return True
            time.sleep(POLL)
        return False

    def _conclude(self, usage: Usage, counted: int, cleaned: float | None) -> RecordingResult:
        groups = {name: seconds / max(1, counted) * 1e6 for name, seconds in usage.cpu.items() if seconds}
        return RecordingResult(
            self._kind,
            self._results,
            rate=find_rate(self._samples, 0.0, 1.0),
            first=find_rate(self._samples, 0.0, 0.1),
            last=find_rate(self._samples, 0.9, 1.0),
            memory=usage.memory.get(_SERVICE, 0),
            cpu=groups,
            cleaned=cleaned,
            faults=tuple(self._faults),
        )

    def _check(self, began: float) -> None:
        row = self._records.database.execute(_COUNT, [int(began) - 2, self._domain]).fetchone()
        rows = int(row[0]) if row else 0
        found = {
            "results without a row": max(0, self._results - rows),
            "rows too many": max(0, rows - self._results),
            "rows of mail under way left": self._records.count_under_way(),
            "payloads left": self._records.count_payloads(),
            "messages left in the queue, not acked": _count_queued(self._stage),
        }
        self._faults += [f"{count} {what}" for what, count in found.items() if count]

    def _count_committed(self) -> int:
        """What the recorder itself says: asking Postgres would cost what is measured."""
        return read_metric(self._stack.env["METRICS_RESULT_RECORDER"], _ROWS)

    def _put_payloads(self) -> None:
        asyncio.run(_put_payloads(self._records.payloads, [name_payload(self._domain, n) for n in range(self._results)]))


async def _put_payloads(folder: Path, keys: Sequence[str]) -> None:
    store = DirectoryStore(folder)
    for start in range(0, len(keys), 1000):
        await asyncio.gather(*[store.store(key, b"x" * PAYLOAD) for key in keys[start : start + 1000]])
    await store.close()


def find_rate(samples: Sequence[tuple[float, int]], start: float, end: float) -> float:
    """Rows per second between these shares of what the last sample has. Samples: when, how many rows."""
    if not samples:
        return 0.0
    total = samples[-1][1]
    began = max((one for one in samples if one[1] <= start * total), default=samples[0])
    ended = next(one for one in samples if one[1] >= end * total)
    took = ended[0] - began[0]
    return (ended[1] - began[1]) / took if took > 0 else 0.0


def read_metric(address: str, name: str) -> int:
    """The value of a metric of the process whose METRICS_ADDR is ``address``; 0 while it does not answer."""
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()
    return next((int(float(line[len(name) :])) for line in text.splitlines() if line.startswith(name)), 0)


def _count_queued(stage: Stage) -> int:
    assert stage.stack is not None
    with AmqpClient(stage.stack.env["RABBITMQ_ADDRESS"], "bench counts") as client:
        return int(client.call(commands.Queue.Declare(queue="records", passive=True), commands.Queue.DeclareOk).message_count)


@contextmanager
def _clean_queue(stage: Stage) -> Iterator[None]:
    """Nothing is in ``records`` before and afterwards."""
    assert stage.stack is not None
    _purge(stage.stack.env["RABBITMQ_ADDRESS"])
    try:
        yield
    finally:
        _purge(stage.stack.env["RABBITMQ_ADDRESS"])


def _purge(address: str) -> None:
    with AmqpClient(address, "bench clears up") as client:
        client.call(commands.Queue.Purge(queue="records"), commands.Queue.PurgeOk)
