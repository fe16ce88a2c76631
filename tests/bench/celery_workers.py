"""The workers of (h): Celery as an experienced team runs it, at our broker, in a virtual host of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from pamqp import commands

from deploy.stack.health import tail
from deploy.stack.places import ROOT, StackError
from deploy.stack.rabbitmq import RabbitMQ
from tests.bench.amqp import AmqpClient
from tests.bench.celery_load import QUEUE, RESULTS
from tests.bench.drain import read_count
from tests.support.waiting import NotInTime, wait_until

COPIES, POOL, THREADS = 2, "threads", 8
"""The best of what Celery has. Mails of 5 KB per second on two cores, means of 2 to 10 rounds, single ones a quarter off:

prefork, 2, 3, 4, 8 processes       680, 670, 530, 630: each task goes through pipes to its process and back
prefork, 2 workers of 1, 2, 4       650, 630, 540
solo, 1, 2, 3, 4 workers            550, 830, 830, 860
gevent, 1 worker of 4, of 16        750, 740
gevent, 2 workers of 4, 8, 16, 32   870, 750, 960, 830
threads, 1 worker of 4, 8, 16       880, 980, 900
threads, 2 workers of 2, 4, 8, 16   870, 880, 950, 960
threads, 3 workers of 4, 4 of 4     1000, 1010: the same within the error, for more CPU
"""
_PATIENCE = 60.0


def open_vhost(rabbitmq: RabbitMQ) -> str:
    """Make the virtual host with both queues; its URL."""
    url = rabbitmq.create_vhost("celery")
    with AmqpClient(url, "bench declares") as client:
        for queue in (QUEUE, RESULTS):
            declare = commands.Queue.Declare(queue=queue, durable=True, arguments={"x-queue-type": "quorum"})
            client.call(declare, commands.Queue.DeclareOk)
    return url


class CeleryWorkers:
    """Use as ``with``."""

    def __init__(self, url: str, folder: Path, sink: str, results: Path) -> None:
        """``url``: of the virtual host. ``folder``: for logs. ``sink``: host:port. ``results``: the file with the drain's count."""
        self.url = url
        self._folder = folder
        self._results = results
        self._settings = {"CELERY_BROKER_URL": url, "BENCH_SINK": sink}
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        """The workers that live."""
        return [process.pid for process in self._processes if process.poll() is None]

    def count_results(self) -> int:
        """Results read so far."""
        return read_count(self._results)

    def count_queued(self) -> int:
        """Tasks that no worker has taken yet."""
        return self._ask().message_count or 0

    def __enter__(self) -> Self:
        """Start them and wait until all consume. Raises StackError."""
        logs = [self._folder / f"celery-{number}.log" for number in range(1, COPIES + 1)]
        self._processes = [_start(number, log, self._settings) for number, log in enumerate(logs, 1)]
        try:
            wait_until(lambda: self._ask().consumer_count == COPIES, within=_PATIENCE, what="Celery's workers to consume")
        except NotInTime as error:
            self.__exit__(None, None, None)
            raise StackError(f"{error}\n{tail(logs[0])}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End them."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _ask(self) -> commands.Queue.DeclareOk:
        with AmqpClient(self.url, "bench asks") as client:
            queue = commands.Queue.Declare(queue=QUEUE, passive=True)
            answer: commands.Queue.DeclareOk = client.call(queue, commands.Queue.DeclareOk)
            return answer


def _start(number: int, log: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    how = ["--pool", POOL, "--concurrency", str(THREADS), "--hostname", f"bench-{number}@localhost", "--loglevel", "WARNING"]
    less = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    argv = [sys.executable, "-m", "celery", "-A", "tests.bench.celery_app", "worker", *how, *less]
    with log.open("wb") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *argv],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the bench, which then ends them
        )
