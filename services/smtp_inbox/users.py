"""The users file, ``name:hash`` per line: read at the start, on SIGHUP, and whenever it has changed."""

import asyncio
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path

from services.smtp_inbox.passwords import PasswordHash, make_unknown_hash, parse_hash
from services.smtp_inbox.saslprep import prepare
from shared.log import get_logger
from shared.trouble import BadSetting

log = get_logger()

SLOTS = 2
"""Passwords that are hashed at once: as many threads, each with the memory that its hash asks for."""
REMEMBERED = 10_000
"""Logins that were right, whose next time costs no hash."""

Stamp = tuple[int, int, int]


def parse_users(text: str, source: str) -> dict[str, PasswordHash]:
    """The users of a file; empty lines and ``#`` comments count for nothing.

    Raises BadSetting that names ``source`` and the line, and never shows a hash.
    """
    users: dict[str, PasswordHash] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, hashed = line.partition(":")
        try:
            if not separator:
                raise ValueError("expected name:hash")
            name = prepare_name(name)
            if name in users:
                raise ValueError(f"{name!r} is there already")
            users[name] = parse_hash(hashed.strip())
        except ValueError as error:
            raise BadSetting(f"{source}: line {number}: {error}") from None
    return users


def prepare_name(name: str) -> str:
    """A user's name in the form that is compared. Raises ValueError."""
    try:
        name = prepare(name)
    except ValueError as error:
        raise ValueError(f"name: {error}") from None
    if ":" in name or name != name.strip() or name.startswith("#") or len(name) > 255:
        raise ValueError("name: expected at most 255 characters without ':', no '#' at the start, no space at either end")
    return name


class UsersFile:
    """Says yes to those whose password has the hash that the file gives."""

    slots = SLOTS

    def __init__(self, path: Path) -> None:
        """Read the file. Raises BadSetting."""
        self._path = path
        self._stamp: Stamp | None = None
        self._users: Mapping[str, PasswordHash] = {}
        self._hashes: Sequence[PasswordHash] = ()
        self._threads = ThreadPoolExecutor(SLOTS, "password")
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, PasswordHash] = OrderedDict()
        self._stranger = make_unknown_hash()
        self._read()

    def knows(self, name: str) -> bool:
        """Whether there is such a user."""
        return name in self._users

    async def verify(self, name: str, password: str) -> bool:
        """Whether it is this user's password. One that we have not takes as long as one that we have."""
        self._refresh()
        user = self._users.get(name)
        digest = blake2b(f"{name}\0{password}".encode(), key=self._secret).digest()
        if user is not None and self._right.get(digest) == user:
            self._right.move_to_end(digest)
            return True
        hashed = user or self._find_stand_in(name)
        is_right = await asyncio.get_running_loop().run_in_executor(self._threads, partial(hashed.verify, password))
        if user is None or not is_right:
            return False
        self._right[digest] = user
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True

    def reload(self) -> None:
        """Read the file again. A bad one is logged, and what was read before stays."""
        try:
            self._read()
        except BadSetting as error:
            log.error("the users were not replaced", reason=str(error))
        else:
            log.info("users read again", users=len(self._users))

    async def close(self) -> None:
        """Give the threads up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _find_stand_in(self, name: str) -> PasswordHash:
        """For a name that we have not: the hash of somebody, always the same one, so that the time tells nothing."""
        if not self._hashes:
            return self._stranger
        number = int.from_bytes(blake2b(name.encode(), key=self._secret, digest_size=8).digest(), "big")
        return self._hashes[number % len(self._hashes)]

    def _refresh(self) -> None:
        try:
            stamp = _stamp(self._path.stat())
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self.reload()

    def _read(self) -> None:
        self._stamp = None
        try:
            found = self._path.stat()
            self._stamp = _stamp(found)
            text = self._path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise BadSetting(f"inbound-smtp-auth: {str(self._path)!r}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise BadSetting(f"inbound-smtp-auth: {str(self._path)!r}: byte {error.start + 1}: not UTF-8") from None
        self._users = parse_users(text, f"inbound-smtp-auth: {str(self._path)!r}")
        self._hashes = tuple(self._users.values())
        if found.st_mode & 0o004:
            log.warning("everybody on this machine can read the users file; expected mode 0600 or 0640", path=str(self._path))


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino
