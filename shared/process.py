"""The life of a process: start, signals, health and metrics, drain, end."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import prometheus_client
import uvloop

from shared import log as logs
from shared.settings import S, Settings, load
from shared.tracing import start_tracing, stop_tracing
from shared.trouble import BadSetting, BrokerLost

log = logs.get_logger()

READY = prometheus_client.Gauge("process_ready", "1 while the process is ready (/readiness)")

STALLED = 60.0
"""Seconds without a turn of the event loop after which the process is no longer alive."""


class Runtime:
    """What a running process knows about itself; handed to its ``serve`` function."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.ready = False
        """Shown by /readiness."""
        self.stopping = asyncio.Event()
        """Set by SIGTERM and SIGINT."""
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Done when some task failed for good."""
        self.on_hangup: list[Callable[[], None]] = []
        """Called on SIGHUP: reload what can be reloaded."""
        self.beat = time.monotonic()

    def fail(self, error: BaseException) -> None:
        """End the process because of ``error``."""
        if not self.failed.done():
            self.failed.set_result(error)

    def raise_failure(self) -> None:
        """Raise what ``fail`` was called with, if it was."""
        if self.failed.done():
            raise self.failed.result()

    async def pause(self, duration: timedelta) -> None:
        """Sleep, but no longer than until the process is asked to stop."""
        try:
            async with asyncio.timeout(duration.total_seconds()):
                await self.stopping.wait()
        except TimeoutError:
            return

    async def run_until_stopping(self) -> None:
        """Wait for SIGTERM or SIGINT; raise what some task failed with."""
        stopping = asyncio.ensure_future(self.stopping.wait())
        waits: set[asyncio.Future[Any]] = {stopping, self.failed}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self.raise_failure()


def run_service(
    service: str,
    cls: type[S],
    serve: Callable[[S, Runtime], Awaitable[None]],
    *,
    options: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> int:
    """Load the settings of ``service`` and run it. The exit code, as of ``run``."""
    try:
        settings = load(cls, config=config, options=options).settings
    except BadSetting as error:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201 - the one line an operator reads
        return 2
    return run(service, settings, lambda runtime: serve(settings, runtime))


def run(service: str, settings: Settings, serve: Callable[[Runtime], Awaitable[None]]) -> int:
    """Run ``serve`` until it returns. The exit code: 0 done, 1 to be started again, 2 a setting is wrong."""
    logs.configure(service, settings.log_level)
    start_tracing(service, settings.otlp_endpoint, settings.trace_sample)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # the library is typed in part only
    # Messages make few cycles and many objects: the default thresholds spend per cents of the CPU on looking for them.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    _work_in_batches()
    try:
        return uvloop.run(_main(service, settings, serve))
    except BadSetting as error:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201 - the one line an operator reads
        return 2
    finally:
        stop_tracing()


def _work_in_batches() -> None:
    """Ask the kernel not to interrupt another process for us the moment something comes in: a little later more has come in, and is handled
    together. On two busy cores a mail costs a tenth less; on idle ones nothing changes (sched(7), SCHED_BATCH).
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _main(service: str, settings: Settings, serve: Callable[[Runtime], Awaitable[None]]) -> int:
    runtime = Runtime(service)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: [reload() for reload in runtime.on_hangup])
    with ExitStack() as stack:
        stack.enter_context(_health(settings.metrics_addr, runtime))
        beating = asyncio.ensure_future(_beat(runtime))
        try:
            return await _serve(runtime, settings, serve)
        finally:
            beating.cancel()


async def _serve(runtime: Runtime, settings: Settings, serve: Callable[[Runtime], Awaitable[None]]) -> int:
    log.info("starting")
    serving = asyncio.ensure_future(serve(runtime))
    stopping = asyncio.ensure_future(runtime.stopping.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done() and not runtime.ready:
            # Still waiting for a server: there is no work in hand to be finished.
            log.info("stopped before anything had begun")
            return 0
        if not serving.done():
            runtime.ready = False
            log.info("stopping")
            await asyncio.wait({serving}, timeout=settings.drain_timeout.total_seconds() + 4)
        if not serving.done():
            log.error("work in hand did not end in time")
            return 1
        serving.result()
    except BrokerLost as error:
        log.error("lost the broker, ending to be started again", reason=str(error))
        return 1
    finally:
        runtime.ready = False
        stopping.cancel()
        serving.cancel()
        await asyncio.wait({serving}, timeout=1)
    log.info("stopped")
    return 0


async def _beat(runtime: Runtime) -> None:
    while True:
        runtime.beat = time.monotonic()
        await asyncio.sleep(1)


class _Threading(ThreadingMixIn, WSGIServer):
    """Who connects and says nothing keeps no probe waiting."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        return


class _health:
    """Serves /metrics, /liveness and /readiness in a thread of its own, so that a busy loop can be seen from outside."""

    def __init__(self, address: str, runtime: Runtime) -> None:
        self._address = address
        self._runtime = runtime
        self._metrics: Any = prometheus_client.make_wsgi_app()
        self._server: WSGIServer | None = None

    def __enter__(self) -> "_health":
        READY.set_function(lambda: float(self._runtime.ready))
        if self._address:
            host, port = split_address(self._address, "metrics-addr")
            try:
                self._server = make_server(host, port, self._answer, _Threading, _Quiet)
            except OSError as error:
                raise BadSetting(f"metrics-addr: {self._address!r}: {error.strerror}") from None
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start_response)
        checks = {
            "/liveness": time.monotonic() - self._runtime.beat < STALLED,
            "/readiness": self._runtime.ready,
        }
        if path not in checks:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /liveness and /readiness are here\n"]
        fine = checks[path]
        start_response("200 OK" if fine else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok\n" if fine else b"not " + path[1:].encode() + b"\n"]


def split_address(address: str, setting: str) -> tuple[str, int]:
    """``host:port`` (``[::1]:25`` too) as a pair. Raises BadSetting that names ``setting``."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise BadSetting(f"{setting}: {address!r}: expected host:port")
    return host.strip("[]"), int(port)
