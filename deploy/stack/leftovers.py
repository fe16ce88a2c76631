"""Processes of a stack whose supervisord is gone: found by what they carry, and ended."""

import os
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.stack.supervisor import MARK


def find_leftovers(folder: Path, data: Path | None) -> list[psutil.Process]:
    """All running processes of the stack in ``folder``: by the mark in their environment, or by their working folder
    being the Postgres ``data`` (Postgres overwrites its environment with its title). Callers of ours are left out."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in spared and _is_of(process, folder, data)]


def _is_of(process: psutil.Process, folder: Path, data: Path | None) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # In a container or chroot the same path is another folder.
        if not os.path.samestat(os.stat(f"/proc/{process.pid}/root"), os.stat("/")):
            return False
        if process.environ().get(MARK) == str(folder):
            return True
        return data is not None and process.cwd() == str(data)
    except (psutil.AccessDenied, psutil.NoSuchProcess, PermissionError, FileNotFoundError, ProcessLookupError):
        return False


def end_leftovers(folder: Path, data: Path | None, *, patience: float) -> list[str]:
    """Wait ``patience`` seconds for the stack's processes to go, then kill the rest; what was killed, as text."""
    psutil.wait_procs(find_leftovers(folder, data), timeout=patience)
    killed: list[str] = []
    while alive := find_leftovers(folder, data):  # again and again: a process may have had a child just before it died
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                killed.append(f"{process.name()} ({process.pid})")
                process.kill()
        psutil.wait_procs(alive, timeout=5)
    return killed
