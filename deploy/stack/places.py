"""Where things are on this machine: the servers' programs, free ports, folders that others can reach."""

import glob
import os
import random
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

HOST = "127.0.0.1"
"""The only address that a stack listens on."""

SOCKET_ROOM = 107 - len("/supervisor.sock.4194304")
"""Longest folder, in bytes, for supervisor's socket and its temporary twin (unix(7): a path has 107 bytes)."""


class StackError(Exception):
    """The stack cannot do what was asked; the text is one for the user, without a traceback."""


def find_program(name: str, *patterns: str) -> Path:
    """The program ``name``: the last match of ``patterns`` (globs, compared by version), else from ``PATH``.

    The patterns come first: what PATH offers may be a wrapper that switches users.
    """
    matches = [Path(match) for pattern in patterns for match in glob.glob(pattern) if os.access(match, os.X_OK)]
    if matches:
        return max(matches, key=_version_in)
    on_path = shutil.which(name)
    if on_path is None:
        raise StackError(f"{name} is not on this machine: run `make setup`")
    return Path(on_path)


def _version_in(path: Path) -> tuple[int, ...]:
    """The numbers in a path, so that 15 sorts after 9."""
    digits = "".join(letter if letter.isdigit() else " " for letter in str(path))
    return tuple(int(number) for number in digits.split())


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of ``HOST`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int, taken: frozenset[int] = frozenset()) -> list[int]:
    """``count`` different free ports outside ``taken``, below the range that the kernel gives to outgoing connections.

    A port inside that range is lost while its server restarts: somebody's outgoing connection takes it, or a client
    that keeps trying connects to itself.
    """
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    choice = range(10_240, lowest_ephemeral) if lowest_ephemeral > 12_000 else range(10_240, 65_000)
    found: list[int] = []
    for port in random.SystemRandom().sample(choice, len(choice)):
        if len(found) == count:
            return found
        if port not in taken and is_free(port):
            found.append(port)
    raise StackError(f"no {count} free ports on {HOST}")


def can_reach(user: str, folder: Path) -> bool:
    """Whether ``user`` can enter ``folder``. Only root can ask; it is asked of the kernel, so ACLs count too."""
    asked = subprocess.run(["test", "-x", str(folder)], user=user, group=user, extra_groups=[], cwd="/", check=False)
    return asked.returncode == 0


def make_short_folder() -> Path:
    """A new folder of ours under the system's temporary one, short enough for sockets, to be entered by everybody."""
    above = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="mailwarren-", dir=above if len(os.fsencode(above)) < 40 else "/tmp"))  # noqa: S108 - mkdtemp makes it private
    folder.chmod(0o711)
    return folder


def is_ours(folder: Path) -> bool:
    """Whether this is still the folder that we made: a real folder, owned by us (anybody can write to /tmp)."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def write_private(path: Path, text: str) -> None:
    """Write a file that may hold passwords: mode 600 from its first byte, replaced in one step."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
