"""Names the machine and the versions that figures belong to."""

import os
import platform
import subprocess
from pathlib import Path

import psutil
import psycopg

from deploy.stack.temporary import TemporaryStack


def describe(folder: Path, stack: TemporaryStack | None) -> dict[str, str]:
    """What was measured on, a short sentence each. ``folder``: where queues and data are. No stack: no servers of ours."""
    memory = psutil.virtual_memory().total / 2**30
    found = {
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{memory:.1f} GiB",
        "disk": _disk(folder),
        "system": f"{_system()}, Linux {platform.release()}",
        "python": platform.python_version(),
    }
    if stack is not None:
        overview = stack.rabbitmq.call_api("GET", "/api/overview")
        found["rabbitmq"] = f"{overview['rabbitmq_version']} on Erlang {overview['erlang_version']}"
        with psycopg.connect(stack.postgres.address()) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        found["postgres"] = row[0].split()[0] if row else "?"
    if (postfix := _postfix()) is not None:
        found["postfix"] = postfix
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return " ".join(value.split())
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "Linux"


def _disk(folder: Path) -> str:
    """The file system that a folder is on."""
    path = str(folder.resolve())
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    over = [mount for mount in mounts if path == mount[1] or path.startswith(mount[1].rstrip("/") + "/")]
    device, _, kind, *_ = max(over, key=lambda mount: len(mount[1]))
    return f"{kind} on {device}"


def _postfix() -> str | None:
    try:
        said = subprocess.run(["postconf", "-hd", "mail_version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.strip()
