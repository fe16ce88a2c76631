"""The message store in a folder: one file per payload, durable before ``store`` returns, written once.

A payload ``v1/2026/11/23/NAME`` is the file ``v1/2026/11/23/A/B/NAME``: A and B are the first two hex digits of the SHA-256
of NAME, so that a day's payloads spread over 256 folders. Files under way are in ``.tmp`` and come into being under their name
by a hard link, which never replaces anything. A power cut, or a process killed in the middle, leaves a payload whole or absent,
and perhaps a file in ``.tmp`` (see ``tidy``).
"""

import asyncio
import errno
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from shared.storage.file_upload import FileUpload
from shared.storage.keys import InvalidKey, KeyTaken, check_key, list_batches
from shared.storage.payloads import MissingPayload, to_trouble
from shared.storage.threads import Threads
from shared.trouble import Unavailable

T = TypeVar("T")

THREADS = 8
"""Payloads written, read or deleted at once; file I/O blocks, and has threads of its own so that it never holds up a look-up."""
PATIENCE = timedelta(seconds=60)
"""How long one operation may take before the store counts as out of reach (a hanging network file system)."""
TEMPORARY = ".tmp"
_CHUNK = 1 << 20
_KNOWN_FOLDERS = 16_384
_TURNS = 3
_BATCH = 250
_LONGEST_WRITE = 3600.0
_FAN_OUT = re.compile(r"[0-9a-f]")


class DirectoryStore:
    """A ``Store`` in a folder that exists; several processes may share it."""

    def __init__(self, path: Path, *, threads: int = THREADS, patience: timedelta = PATIENCE) -> None:
        """``path`` is the root, made when it is missing: one file system, one that knows hard links. Raises OSError."""
        (path / TEMPORARY).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = path
        self._where = f"message store {path}"
        self._patience = patience.total_seconds()
        self._threads = Threads(threads, "store")
        self._durable: set[str] = set()
        self._lock = threading.Lock()

    async def store(self, key: str, content: bytes) -> None:
        """Keep ``content`` durably under ``key``. Raises Unavailable, InvalidKey, or KeyTaken when other content is there."""
        await self._run(self._store, check_key(key), content)

    def begin(self) -> FileUpload:
        """A payload that comes piece by piece; until its commit it is a file in ``.tmp``. Raises StoreFull or Unavailable."""
        temporary = self._name_temporary()
        try:
            file = FileIO(temporary, "x+", opener=_open_privately)
        except OSError as error:
            raise to_trouble(self._where, error) from error
        drop = partial(_drop, temporary)
        return FileUpload(
            file, self._where, run=self._run, submit=self._threads.start, finish=partial(self._adopt, temporary), drop=drop
        )

    async def fetch(self, key: str) -> bytes:
        """The content. Raises MissingPayload (InvalidKey is one) or Unavailable."""
        return await self._run(self._fetch, check_key(key))

    async def delete(self, key: str) -> None:
        """Remove the payload; a missing one, or a key that cannot exist, is no error. Raises Unavailable."""
        with suppress(InvalidKey):
            await self._run(self._delete, check_key(key))

    async def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        """Remove all payloads; key -> why it could not be removed. A missing one, or a key that cannot exist, is no failure.

        Raises Unavailable when the folder is not there, or hangs.
        """
        failures: dict[str, str] = {}
        for batch in list_batches(keys, _BATCH):
            failures |= await self._run(self._delete_batch, batch)
        return failures

    async def iter_keys(self, older_than: datetime) -> AsyncIterator[str]:
        """The keys of all payloads written before ``older_than``, in the order of their folders. Raises Unavailable."""
        walk = self._walk(older_than.timestamp())
        while keys := await self._run(_take, walk, 1000):
            for key in keys:
                yield key

    async def tidy(self, older_than: datetime) -> int:
        """Remove what writers that died left behind in ``.tmp``, and empty folders, both untouched since ``older_than``.

        Safe beside running writers: whatever was touched within the last hour stays (a folder is touched when one in
        it goes, so empty folders go one level at a time). Returns how many were removed. Raises
        Unavailable.
        """
        return await self._run(self._tidy, min(older_than.timestamp(), time.time() - _LONGEST_WRITE))

    async def close(self) -> None:
        """Nothing new is taken; what is under way gets a second."""
        await self._threads.close()

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        """``work`` in a thread of the store; every OSError becomes Unavailable."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._threads.run(work, *args)
        except TimeoutError:
            raise Unavailable(f"{self._where}: no answer within {self._patience:g} s") from None
        except OSError as error:
            raise to_trouble(self._where, error) from error

    def _path(self, key: str) -> str:
        folder, _, name = key.rpartition("/")
        fan = hashlib.sha256(name.encode()).hexdigest()
        return os.path.join(self._root, folder, fan[0], fan[1], name)

    def _store(self, key: str, content: bytes) -> None:
        path = self._path(key)
        folder = os.path.dirname(path)
        temporary = self._write_temporary(content)
        try:
            if not self._link(temporary, path, folder):
                if _read(path) != content:
                    raise _taken(key)
                _sync_file(path)
        finally:
            os.unlink(temporary)
        with suppress(FileNotFoundError):  # somebody has deleted the payload already
            _sync_folder(folder)

    def _adopt(self, temporary: str, key: str, file: FileIO) -> None:
        path = self._path(key)
        folder = os.path.dirname(path)
        try:
            os.fsync(file.fileno())
            if not self._link(temporary, path, folder):
                raise _taken(key)
        finally:
            _drop(temporary, file)
        with suppress(FileNotFoundError):  # somebody has deleted the payload already
            _sync_folder(folder)

    def _name_temporary(self) -> str:
        return os.path.join(self._root, TEMPORARY, uuid4().hex)

    def _write_temporary(self, content: bytes) -> str:
        """A new file below ``.tmp`` with the content, synced; nothing is left when that fails."""
        temporary = self._name_temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        # The folder is made at the start and never again: an unmounted root must not be written to.
        handle = os.open(temporary, flags, 0o600)
        try:
            with memoryview(content) as rest:
                done = 0
                while done < len(rest):
                    done += os.write(handle, rest[done : done + _CHUNK])
            os.fsync(handle)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(handle)
        return temporary

    def _link(self, temporary: str, path: str, folder: str) -> bool:
        """Give the file its name, unless there is one of that name already."""
        for _ in range(_TURNS):
            try:
                self._ensure_folder(folder)
                os.link(temporary, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                # ``tidy`` took the empty folder away in between.
                self._forget_folders()
                continue
            return True
        raise FileNotFoundError(errno.ENOENT, "folder vanishes again and again", folder)

    def _ensure_folder(self, folder: str) -> None:
        """The folder exists durably: every folder on the way is synced once by every process.

        Another process may have made a folder and not yet synced it, so finding one there proves nothing.
        """
        if folder in self._durable:
            return
        with self._lock:
            below = os.path.relpath(folder, self._root).split(os.sep)
            parent = str(self._root)
            for name in below:
                child = os.path.join(parent, name)
                if child not in self._durable:
                    _make_folder(child)
                    _sync_folder(parent)
                    if len(self._durable) >= _KNOWN_FOLDERS:
                        self._durable.clear()
                    self._durable.add(child)
                parent = child

    def _forget_folders(self) -> None:
        with self._lock:
            self._durable.clear()

    def _fetch(self, key: str) -> bytes:
        try:
            return _read(self._path(key))
        except FileNotFoundError:
            self._look_at_root()
            raise MissingPayload(f"no payload under {key}") from None

    def _delete(self, key: str) -> None:
        path = self._path(key)
        try:
            os.unlink(path)
        except FileNotFoundError:
            self._look_at_root()
            return
        with suppress(FileNotFoundError):  # ``tidy`` was faster
            _sync_folder(os.path.dirname(path))

    def _delete_batch(self, keys: Sequence[str]) -> dict[str, str]:
        self._look_at_root()
        failures, folders = {}, set()
        for key in keys:
            path = self._path(key)
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                failures[key] = error.strerror or str(error)
            else:
                folders.add(os.path.dirname(path))
        for folder in folders:
            with suppress(FileNotFoundError):  # ``tidy`` was faster
                _sync_folder(folder)
        return failures

    def _look_at_root(self) -> None:
        """An unmounted store has no payloads either: that must not look like a missing one. Raises OSError."""
        os.stat(os.path.join(self._root, TEMPORARY))

    def _walk(self, before: float) -> Iterator[str]:
        self._look_at_root()
        for parent, folders, files in os.walk(self._root, onerror=_raise_unless_gone):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            relative = os.path.relpath(parent, self._root).split(os.sep)
            if len(relative) < 2 or not all(_FAN_OUT.fullmatch(digit) for digit in relative[-2:]):
                continue
            for name in sorted(files):
                key = "/".join([*relative[:-2], name])
                path = os.path.join(parent, name)
                with suppress(InvalidKey, FileNotFoundError):
                    if self._path(check_key(key)) == path and _is_older(os.lstat(path), before):
                        yield key

    def _tidy(self, before: float) -> int:
        removed = 0
        temporary = os.path.join(self._root, TEMPORARY)
        with os.scandir(temporary) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
                        removed += 1
        for parent, _, _ in os.walk(self._root, topdown=False, onerror=_raise_unless_gone):
            if parent in (str(self._root), temporary):
                continue
            # rmdir refuses a folder that is not empty; a writer that loses this race makes the folder again.
            with suppress(OSError):
                if os.stat(parent).st_mtime < before:
                    os.rmdir(parent)
                    removed += 1
        return removed


def _take(keys: Iterator[str], most: int) -> list[str]:
    return list(islice(keys, most))


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _drop(temporary: str, file: FileIO) -> None:
    file.close()
    with suppress(FileNotFoundError):
        os.unlink(temporary)


def _taken(key: str) -> KeyTaken:
    return KeyTaken(f"message store: other content is there under {key}")


def _read(path: str) -> bytes:
    # A link is none of ours, wherever it leads.
    with FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
        return file.readall()


def _is_older(status: os.stat_result, before: float) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_mtime < before


def _make_folder(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def _sync_folder(path: str) -> None:
    _sync(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sync_file(path: str) -> None:
    _sync(path, os.O_RDONLY | os.O_CLOEXEC)


def _sync(path: str, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
