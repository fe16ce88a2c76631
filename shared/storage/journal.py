"""The journal of the senders of one host: one folder, a file or two for each process, read by all.

A line for each step of an attempt, written with one ``write`` and not synced: it survives the end of the process, however it ends. A
power cut loses the last lines, and then the mail of that moment may be sent twice. Each process holds a lock on its files, so that
the others know whether it lives; they read what was added since they looked last, which costs a ``stat`` for each file.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import orjson

from shared.delivery.finished import Finished
from shared.delivery.journal import Crashed, Done, Ended, InWork, Known, Unknown
from shared.log import get_logger
from shared.storage.journal_file import SUFFIX, JournalFile, Key, create_file, open_file
from shared.trouble import BadSetting, Unavailable
from shared.wire.result import Attempt, Result, State

log = get_logger()

ROTATE = 16 * 1024 * 1024
"""Bytes after which a process goes on in a new file. It takes along what is not done, and the old file is kept until the next time."""
KEEP_OPEN = 7 * 86400.0
"""Seconds for which the file of a process that is gone is kept when something in it is not done."""
KEEP_DONE = 3600.0
"""The same when nothing is: a message that was handed out twice comes soon."""


class FileJournal:
    """``shared.delivery.journal.Journal`` in a folder."""

    def __init__(self, folder: Path, *, rotate: int = ROTATE) -> None:
        """Open the folder, made when missing. ``rotate``: see ROTATE. Raises BadSetting when it cannot be used."""
        self._folder = folder
        self._rotate_at = rotate
        self._process = uuid4().hex
        self._count = 0
        self._previous: JournalFile | None = None
        self._others: dict[str, JournalFile] = {}
        self._looked_at = 0
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._own = self._create()
            self._claims = os.open(folder / "claims.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._sweep()
        except OSError as error:
            raise BadSetting(f"journal-dir: {str(folder)!r}: {error.strerror or error}") from None

    def look(self, ident: str, attempt: int) -> Known:
        """See ``Journal``."""
        key = (ident, attempt)
        while True:
            self._refresh()
            files = self._files()
            if any(key in file.done for file in files):
                return Done()
            dead = [file for file in files if file.knows(key) and not self._lives(file)]
            # A process that died in the meantime may have written more than was read above.
            if not any(file.read() for file in dead):
                return self._judge(key, files, dead)

    def claim(self, digest: str) -> Ended | None:
        """See ``Journal``."""
        wanted = digest.encode() + b" "
        with self._claiming():
            self._refresh()
            files = self._files()
            living = [file for file in files if self._lives(file)]
            for file in files:
                # One that died in the meantime may have written that it is done: the same body would be another mail, and lost.
                if file not in living:
                    file.read()
            taken = {ident for file in living for ident in file.claimed}
            for file in files:
                for key, rest in file.ended.items():
                    if not rest.startswith(wanted) or key[0] in taken or file in living:
                        continue
                    if not any(key in other.done for other in files):
                        self._write(b"claim", key)
                        return _parse_ended(key, rest)
        return None

    def begin(self, ident: str, attempt: int) -> None:
        """See ``Journal``."""
        try:
            self._own.append(b"begin", (ident, attempt), b"%d" % time.time_ns())
        except OSError as error:
            raise Unavailable(f"the journal cannot be written: {error.strerror or error}") from None

    def end(self, ident: str, finished: Finished, digest: str = "") -> None:
        """See ``Journal``."""
        self._write(b"end", (ident, finished.attempt.number), (digest or "-").encode() + b" " + orjson.dumps(finished))

    def done(self, ident: str, attempt: int) -> None:
        """See ``Journal``."""
        self._write(b"done", (ident, attempt))
        if self._own.position > self._rotate_at:
            with suppress(OSError):
                self._rotate()

    def forget(self, ident: str, attempt: int) -> None:
        """See ``Journal``."""
        self._write(b"forget", (ident, attempt), b"%d" % time.time_ns())

    def close(self) -> None:
        """Let go of the files. They stay: a message whose ack was lost at the end is still known by them.

        What is in work still when a process is told to stop did not kill it.
        """
        for key in list(self._own.began):
            self.forget(*key)
        for file in (self._own, self._previous, *self._others.values()):
            if file is not None:
                file.close()
        os.close(self._claims)
        self._others.clear()

    def _judge(self, key: Key, files: list[JournalFile], dead: list[JournalFile]) -> Known:
        pardoned = max((file.forgotten.get(key, 0) for file in files), default=0)
        living = [file for file in files if file not in dead]
        if any(key in file.ended or file.began.get(key, 0) > pardoned for file in living):
            return InWork()
        for file in dead:
            if key in file.ended:
                return _parse_ended(key, file.ended[key])
        # By process: one that went on in a new file took along what it had in work.
        crashed = {file.process for file in dead if file.began.get(key, 0) > pardoned}
        return Crashed(len(crashed)) if crashed else Unknown()

    def _files(self) -> list[JournalFile]:
        own = [self._own] if self._previous is None else [self._own, self._previous]
        return own + list(self._others.values())

    def _lives(self, file: JournalFile) -> bool:
        return file.process == self._process or file.lives()

    def _refresh(self) -> None:
        """Read what the others have written since the last time."""
        changed = os.stat(self._folder).st_mtime_ns
        if changed != self._looked_at:
            names = {name for name in os.listdir(self._folder) if name.endswith(SUFFIX) and not name.startswith(self._process)}
            for name in self._others.keys() - names:
                self._others.pop(name).close()
            for name in names - self._others.keys():
                with suppress(FileNotFoundError):
                    self._others[name] = open_file(self._folder / name)
            self._looked_at = changed
        for file in self._others.values():
            file.read()

    def _write(self, word: bytes, key: Key, rest: bytes = b"") -> None:
        try:
            self._own.append(word, key, rest)
        except OSError as error:
            # The mail may be sent: all that is lost is that a crash at this moment would send it twice.
            log.error("the journal cannot be written", reason=error.strerror or str(error))

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        fcntl.flock(self._claims, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._claims, fcntl.LOCK_UN)

    def _create(self) -> JournalFile:
        self._count += 1
        return create_file(self._folder, f"{self._process}-{self._count}")

    def _rotate(self) -> None:
        new = self._create()
        for key, rest in self._own.ended.items():
            new.append(b"end", key, rest)
        for key, moment in self._own.began.items():
            new.append(b"begin", key, b"%d" % moment)
        for ident in self._own.claimed:
            new.append(b"claim", (ident, 0))
        old, self._previous, self._own = self._previous, self._own, new
        if old is not None:
            old.path.unlink(missing_ok=True)
            old.close()

    def _sweep(self) -> None:
        """Delete the files of processes that are gone, when nobody can need them any more."""
        self._refresh()
        now = time.time()
        for name, file in list(self._others.items()):
            age = now - file.path.stat().st_mtime
            if age > (KEEP_OPEN if file.began or file.ended else KEEP_DONE) and not file.lives():
                file.path.unlink(missing_ok=True)
                self._others.pop(name).close()


def _parse_ended(key: Key, rest: bytes) -> Ended:
    document = orjson.loads(rest.partition(b" ")[2])
    told = document["attempt"]
    told |= {"state": State(told["state"]), "result": Result(told["result"]), "time": datetime.fromisoformat(told["time"])}
    return Ended(key[0], Finished(**document | {"attempt": Attempt(**told)}))
