"""A server of the tests as a process beside the bench: started, waited for, ended."""

import select
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from deploy.stack.places import StackError

_PATIENCE = 20.0


class Listener:
    """``python -m MODULE ARGUMENTS``, which prints ``… listening on …`` for each of its addresses; use as ``with``."""

    def __init__(self, module: str, arguments: Sequence[str], addresses: Sequence[str]) -> None:
        """``addresses``: host:port, each given to it as ``--listen``. It ends when we do."""
        listen = [word for address in addresses for word in ("--listen", address)]
        self._argv = [sys.executable, "-m", module, *listen, *arguments]
        self._addresses = addresses
        self._process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def __enter__(self) -> Self:
        """Start it and wait until it listens. Raises StackError."""
        argv = ["setpriv", "--pdeathsig", "TERM", "--", *self._argv]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        lines = [self._process.stdout.readline() for _ in self._addresses] if ready else [""]
        if not all("listening" in line for line in lines):
            self.__exit__(None, None, None)
            raise StackError(f"{self._argv[2]} does not listen on {self._addresses[0]}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
