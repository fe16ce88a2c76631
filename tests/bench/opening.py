"""Sets the stage: a folder on a real disk, our stack, the readers of results, Postfix, Celery's workers."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.stack.places import HOST, free_ports
from deploy.stack.temporary import TemporaryStack
from tests.bench.celery_load import RESULTS
from tests.bench.celery_workers import CeleryWorkers, open_vhost
from tests.bench.drain import QUEUE
from tests.bench.plan import CELERY
from tests.bench.postfix import Postfix
from tests.bench.records import Records
from tests.bench.rounds import Stage
from tests.bench.signing import SigningKey
from tests.support.waiting import wait_until

_BELOW = Path("/var/tmp")  # noqa: S108 - a folder of our own in it; unlike /tmp always on disk (file-hierarchy(7))


@contextmanager
def open_stage(
    ways: Collection[str],
    settings: Mapping[str, str],
    scale: Mapping[str, int],
    say: Callable[[str], None],
    *,
    keep: bool = False,
) -> Iterator[Stage]:
    """All that ``ways`` need, until leaving. ``settings`` and ``scale``: of our processes. ``keep``: the folder stays."""
    folder = Path(tempfile.mkdtemp(prefix="mailwarren-bench-", dir=_BELOW))
    folder.chmod(0o755)  # postgres and postfix are users of their own
    sink_port, postfix_port = free_ports(2)
    stage = Stage(folder, f"{HOST}:{sink_port}", say)
    try:
        if set(ways) == {"c"}:
            with _postfix(folder, postfix_port, stage.sink) as postfix:
                yield Stage(folder, stage.sink, say, postfix=postfix)
            return
        key = SigningKey(folder)
        given = {"SMTP_SINK_ADDRESS": stage.sink, "SMTP_HOSTNAME": "bench.example", "DKIM_KEYS": str(key.file), **settings}
        with (
            TemporaryStack(given, scale=scale, below=folder, say=lambda line: say(f"  {line}")) as stack,
            _drain(stack.env["RABBITMQ_ADDRESS"], folder / "results", QUEUE) as pid,
            _postfix(folder, postfix_port if "c" in ways else None, stage.sink) as postfix,
            _celery(stack if CELERY in ways else None, folder, stage.sink) as (celery, pids),
        ):
            records = Records.of(stack, folder / "results")
            with records.database:
                yield Stage(folder, stage.sink, say, stack, records, [pid, *pids], postfix, celery, key)
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _postfix(folder: Path, port: int | None, sink: str) -> Iterator[Postfix | None]:
    if port is None:
        yield None
        return
    with Postfix(folder / "postfix", port=port, sink=sink) as postfix:
        yield postfix


@contextmanager
def _celery(stack: TemporaryStack | None, folder: Path, sink: str) -> Iterator[tuple[CeleryWorkers | None, list[int]]]:
    """The workers, and the reader of their results."""
    if stack is None:
        yield None, []
        return
    url, results = open_vhost(stack.rabbitmq), folder / "celery-results"
    with _drain(url, results, RESULTS) as pid, CeleryWorkers(url, folder, sink, results) as workers:
        yield workers, [pid]


@contextmanager
def _drain(url: str, file: Path, queue: str) -> Iterator[int]:
    """The reader of results; ``file`` is for their number."""
    argv = [sys.executable, "-m", "tests.bench.drain", url, str(file), queue]
    with subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *argv]) as process:
        try:
            wait_until(lambda: file.exists() and os.path.getsize(file), within=20, what="the reader of results to start")
            yield process.pid
        finally:
            process.terminate()
