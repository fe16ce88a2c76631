"""One file of a journal: the lines of one process, and what they say together.

A line is ``WORD ident attempt [rest]`` with WORD one of begin, end, done, forget, claim. ``shared.storage.journal`` says what for.
"""

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIX = ".journal"
MOST_DONE = 100_000
"""Attempts that are done are remembered until so many others were."""
CHUNK = 1 << 20
Key = tuple[str, int]
"""The id of a message, and the number of the attempt."""


@dataclass(slots=True, eq=False)
class JournalFile:
    """The file, as far as it was read or written."""

    path: Path
    fd: int
    process: str
    """Whose file it is."""
    position: int = 0
    """Bytes read or written so far."""
    began: dict[Key, int] = field(default_factory=dict)
    """In work, or in work when the process died: since when (nanoseconds of the clock)."""
    ended: dict[Key, bytes] = field(default_factory=dict)
    """Ended, not done: digest and attempt as they stand in the line."""
    done: dict[Key, None] = field(default_factory=dict)
    """Done, oldest first, MOST_DONE at most."""
    forgotten: dict[Key, int] = field(default_factory=dict)
    """What began before this moment does not count."""
    claimed: set[str] = field(default_factory=set)
    """Ids of ended attempts of others that this process has taken over."""
    _rest: bytes = b""
    """The beginning of a line that is not whole yet."""
    _is_dead: bool = False

    def append(self, word: bytes, key: Key, rest: bytes = b"") -> None:
        """Write a line. Raises OSError; what it says is known all the same, to this process."""
        self._apply(word, key, rest)
        line = b"%s %s %d %s\n" % (word, key[0].encode(), key[1], rest)
        self.position += len(line)
        if os.write(self.fd, line) != len(line):
            raise OSError("disk full")

    def read(self) -> bool:
        """Read what was added; was there anything?"""
        if os.fstat(self.fd).st_size == self.position:
            return False
        while data := os.pread(self.fd, CHUNK, self.position):
            self.position += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line)
        return True

    def knows(self, key: Key) -> bool:
        """Is the attempt in work here, or ended and not done?"""
        return key in self.began or key in self.ended

    def lives(self) -> bool:
        """Does the process live that writes here? It holds a lock as long as it does."""
        if not self._is_dead:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            self._is_dead = True
        return False

    def close(self) -> None:
        """Let go of the file and its lock."""
        os.close(self.fd)

    def _take(self, line: bytes) -> None:
        # The last line of a full disk is cut: it cannot be read and is passed over.
        word, ident, number, *rest = [*line.split(b" ", 3), b""]
        if number.isdigit():
            self._apply(word, (ident.decode(errors="replace"), int(number)), rest[0])

    def _apply(self, word: bytes, key: Key, rest: bytes) -> None:
        if word == b"begin":
            self.began[key] = int(rest) if rest.isdigit() else 0
        elif word == b"claim":
            self.claimed.add(key[0])
        elif word == b"end":
            self.began.pop(key, None)
            self.ended[key] = rest
        elif word == b"done":
            self.began.pop(key, None)
            self.ended.pop(key, None)
            self.claimed.discard(key[0])
            _remember(self.done, key, None)
        elif word == b"forget":
            self.began.pop(key, None)
            _remember(self.forgotten, key, int(rest) if rest.isdigit() else 0)


def create_file(folder: Path, name: str) -> JournalFile:
    """A new file of this process (``name`` is its id, a hyphen, a number), locked before anybody can see it. Raises OSError."""
    hidden, path = folder / f"{name}.new", folder / f"{name}{SUFFIX}"
    fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    hidden.rename(path)
    return JournalFile(path, fd, name.partition("-")[0])


def open_file(path: Path) -> JournalFile:
    """The file of another process. Raises FileNotFoundError when it has gone."""
    return JournalFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), path.name.partition("-")[0])


def _remember(known: dict[Key, Any], key: Key, value: Any) -> None:
    known[key] = value
    if len(known) > MOST_DONE:
        del known[next(iter(known))]
