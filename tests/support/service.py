"""One of our processes for an integration test, started directly, with nothing but the settings that the test gives."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import free_ports, wait_until

PATIENCE = 30.0
"""Seconds to become ready, or to end."""


class ServiceProcess:
    """``with ServiceProcess("json-inbox", {"RABBITMQ_ADDRESS": …}) as inbox:`` is entered when the process is ready."""

    def __init__(self, name: str, settings: Mapping[str, str], *, ready: bool = True) -> None:
        """``ready=False``: enter as soon as it is alive."""
        self.name = name
        self._path = "/readiness" if ready else "/liveness"
        self.metrics = f"127.0.0.1:{free_ports(1)[0]}"
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        self._env = {**kept, "METRICS_ADDR": self.metrics, **settings}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> Self:
        module = f"services.{self.name.replace('-', '_')}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=Path(__file__).resolve().parents[2],
            env=self._env,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(self._has_started, within=PATIENCE, what=f"{self.name} to answer {self._path} with 200")
        except BaseException:
            self._process.kill()
            self._process.wait()
            print(self.log)
            self._log.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if error is not None:
            print(self.log)
        self._log.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET on its health and metrics port; (0, "") when nobody answers."""
        connection = http.client.HTTPConnection(self.metrics, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, within: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(within)

    def _has_started(self) -> bool:
        assert self._process.poll() is None, f"{self.name} ended with {self._process.returncode}: {self.log}"
        return self.get(self._path)[0] == 200
