"""``--workers N``: a parent that keeps N copies of a process running.

Worker i serves metrics on port + i and has ``MAILWARREN_WORKER=i`` in its environment. A worker that dies is started again, after a
pause that grows while it keeps dying. SIGTERM and SIGINT end all workers and wait for their drain, SIGHUP is passed on. Should the
parent be killed, the kernel ends the workers (SIGTERM).
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared.amqp.settings import BrokerSettings
from shared.log import configure, get_logger
from shared.process import split_address
from shared.settings import Settings

log = get_logger()

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds between the death of a worker and the next one; doubled each time."""
STEADY = 60.0
"""Seconds after which a worker counts as well: the next pause is short again."""
DRAIN = 35.0
"""Seconds that workers have to end; a process gives itself 30."""
REFUSED = 2
"""Exit code of a process whose settings or topology are wrong: starting it again changes nothing."""

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, or the folder of installed packages."""
_PR_SET_PDEATHSIG = 1
_WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class Worker:
    """One copy of the process."""

    number: int
    """From 0."""
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    pause: float = FIRST_PAUSE
    due: float = 0.0
    """When it is to be started again, monotonic seconds."""
    starts: int = 0
    is_refused: bool = False
    """It ended last because settings or topology are wrong."""


def run_workers(service: str, count: int, settings: Settings, arguments: Sequence[str]) -> int:
    """Keep ``count`` copies running until told to stop. The exit code: 0, or 2 when the settings are refused."""
    configure(f"{service} workers", "info")
    # Blocked and taken one by one with sigtimedwait: no handler runs in the middle of anything.
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    parent = _Parent(service, settings, arguments, [Worker(number) for number in range(count)])
    try:
        return parent.run()
    finally:
        parent.stop()


def own_options(settings: Settings, number: int) -> dict[str, str]:
    """What worker ``number`` is told instead of what all are: where it serves its metrics, and when its turn is.

    RabbitMQ gives a message to the first worker that has a hand free. So few workers wake up while there is little to do, and a mail costs
    less: handed out in turn, half as many would come to each at a time.
    """
    own = {"metrics-addr": metrics_address(settings.metrics_addr, number)}
    if isinstance(settings, BrokerSettings):
        own["rabbitmq-consumer-priority"] = str(settings.rabbitmq_consumer_priority - number)
    return own


def metrics_address(address: str, number: int) -> str:
    """Where worker ``number`` serves its metrics: port + number. "" stays off, port 0 stays any."""
    if not address:
        return ""
    host, port = split_address(address, "metrics-addr")
    return f"[{host}]:{port + number}" if ":" in host else f"{host}:{port + number if port else 0}"


class _Parent:
    def __init__(self, service: str, settings: Settings, arguments: Sequence[str], workers: list[Worker]) -> None:
        self._service = service
        self._settings = settings
        self._arguments = arguments
        self._workers = workers

    def run(self) -> int:
        while True:
            now = time.monotonic()
            for worker in self._workers:
                if worker.process is None and worker.due <= now:
                    self._start(worker)
            waits = [worker.due - now for worker in self._workers if worker.process is None]
            info = signal.sigtimedwait(_WATCHED, max(0.0, min(waits, default=5.0)))
            if info is not None and info.si_signo in (signal.SIGTERM, signal.SIGINT):
                return 0
            if info is not None and info.si_signo == signal.SIGHUP:
                self._signal(signal.SIGHUP)
            first = [worker for worker in self._workers if self._reap(worker) == REFUSED and worker.starts == 1]
            if first or all(worker.is_refused for worker in self._workers):
                return REFUSED

    def stop(self) -> None:
        """End all workers: SIGTERM, the drain, SIGKILL for what is left."""
        self._signal(signal.SIGTERM)
        end = time.monotonic() + DRAIN
        for worker in self._workers:
            if worker.process is None:
                continue
            try:
                worker.process.wait(timeout=max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker did not end in time", worker=worker.number, pid=worker.process.pid)
                worker.process.kill()
                worker.process.wait()

    def _start(self, worker: Worker) -> None:
        own = own_options(self._settings, worker.number)
        command = [
            sys.executable,
            "-P",
            "-m",
            "services.cli",
            "run",
            self._service,
            *(word for word in self._arguments if word.partition("=")[0].removeprefix("--") not in own),
            *(f"--{name}={value}" for name, value in own.items()),
        ]
        # What a worker imports is what its parent is made of, never what lies in the caller's folder (hence -P).
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"MAILWARREN_WORKER": str(worker.number), "PYTHONPATH": path}
        worker.process = subprocess.Popen(command, env=environment, preexec_fn=partial(_prepare_child, os.getpid()))  # noqa: S603
        worker.started = time.monotonic()
        worker.starts += 1
        log.info("worker started", worker=worker.number, pid=worker.process.pid, metrics=own["metrics-addr"])

    def _reap(self, worker: Worker) -> int | None:
        """Its exit code when it has ended."""
        if worker.process is None or (code := worker.process.poll()) is None:
            return None
        now = time.monotonic()
        if now - worker.started >= STEADY:
            worker.pause = FIRST_PAUSE
        log.error("worker ended", worker=worker.number, pid=worker.process.pid, exit_code=code, again_after=worker.pause)
        worker.process, worker.due, worker.is_refused = None, now + worker.pause, code == REFUSED
        worker.pause = min(worker.pause * 2, LONGEST_PAUSE)
        return code

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.process.send_signal(number)


_libc = ctypes.CDLL(None, use_errno=True)


def _prepare_child(parent: int) -> None:
    """Between fork and exec: signals as usual, and SIGTERM when the parent is gone (prctl(2), Linux)."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # It was killed before we asked: nobody would ever tell us.
            os._exit(1)
