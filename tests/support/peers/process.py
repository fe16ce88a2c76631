"""The process of a private server: started, waited for, ended by its id."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import free_ports, wait_until

HOST = "127.0.0.1"
PATIENCE = 20.0
"""Seconds to answer after the start, or to end."""


class PeerProcess(ABC):
    """A server that logs to files in its folder. ``host`` and ``port`` are where it is reached."""

    def __init__(self, folder: Path, *, host: str = HOST) -> None:
        """``folder``: a new one, which is made; everybody may enter it."""
        self.folder = folder
        self.host = host
        self.port = free_ports(1, host)[0]
        self._process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process; all others of the server descend from it."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._output.read_text(errors="replace")

    def __enter__(self) -> Self:
        """Start. Raises NotInTime or AssertionError with its log when it does not answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        argv, environment = self.prepare()
        # The server ends with us, whatever happens to us (PR_SET_PDEATHSIG, prctl(2)).
        guard = ["setpriv", "--pdeathsig", "TERM", "--"]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*guard, *argv],
                env={"PATH": os.environ["PATH"], **environment},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(self._has_started, within=PATIENCE, every=0.02, what=f"{argv[0]} to answer on {self.address}")
        except BaseException:
            self.__exit__(None, None, None)
            print(self.log)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it and wait until it is gone."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if error is not None:
            print(self.log)

    @abstractmethod
    def prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Write what the server reads; its command line and environment."""

    def answers(self) -> bool:
        """Does it serve? By default: does it greet as SMTP servers do?"""
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                return connection.recv(3) == b"220"
        except OSError:
            return False

    @property
    def _output(self) -> Path:
        return self.folder / "output"

    def _has_started(self) -> bool:
        assert self._process.poll() is None, f"it ended with {self._process.returncode}: {self.log[-2000:]}"
        return self.answers()


def other_user() -> pwd.struct_passwd:
    """As whom a server runs that must not be root: ``nobody`` when we are root, else ourselves."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def as_other_user() -> list[str]:
    """What stands before a command line to run it as ``other_user``."""
    if os.geteuid() != 0:
        return []
    user = other_user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig", "TERM", "--"]


def make_folder(path: Path) -> Path:
    """A new folder that belongs to ``other_user``."""
    path.mkdir(parents=True)
    user = other_user()
    if os.geteuid() == 0:
        os.chown(path, user.pw_uid, user.pw_gid)
    return path
