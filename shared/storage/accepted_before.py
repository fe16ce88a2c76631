"""Which recipients of a mail were confirmed although its client does not know it: one small file per mail, for an hour.

The processes of a host share the folder, and it outlives them. A file is written only when a client was told no after some of its
mail had been published, or could not read its 250; so the folder is empty nearly always, and a look at it is one ``stat``. Nothing
here is worth refusing mail: what cannot be written is logged, and the worst that follows is a mail that arrives twice.
"""

import json
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client import Counter
from pydantic import Field

from shared.acceptance import Accepted
from shared.log import get_logger
from shared.settings import Settings

log = get_logger()

MAX_AGE = 3600.0
"""Seconds for which a mail is remembered."""
MAX_FILES = 10_000
"""Mails that are remembered; further ones are not."""
SWEEP = 60.0
"""Seconds between two looks for what is too old."""
_TICK = 1_000_000_000
"""Nanoseconds that the clock of a file system may lag behind: what changes twice within them may look unchanged."""

_NAME = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.[0-9]+")
"""Our files, and those that are being written: nothing else in the folder is touched."""

REMEMBERED = Counter("accepted_before_remembered", "Recipients that were confirmed without their client knowing it")
REPEATED = Counter("accepted_before_repeated", "Recipients whose mail came again, and was answered without sending it twice")


class MemorySettings(Settings):
    """Where an inbox remembers. A mixin."""

    accepted_dir: str = Field(
        default="/var/lib/mailwarren/accepted",
        description="folder, on a local disk, the same for all inboxes of a host: which recipients were accepted in the last hour "
        "although the client was told otherwise, or could not read it",
    )


class AcceptedBefore:
    """``shared.acceptance.Memory`` in a folder."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder when it is missing; one that cannot be used is told in the log."""
        self._folder = folder
        self._empty_since: int | None = None
        self._swept = 0.0
        self._files = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            usable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        except OSError:
            usable = False
        if not usable:
            log.warning("accepted-dir cannot be written to: mail may arrive twice after a failed reply", folder=str(folder))

    def recall(self, name: str) -> Mapping[str, Accepted]:
        """The recipients of the mail ``name`` that were confirmed before, by address."""
        self._sweep()
        return {one.recipient: one for one in self._read(name)}

    def remember(self, name: str, accepted: Sequence[Accepted]) -> None:
        """These recipients of the mail ``name`` were confirmed, and its client does not know it; nor those remembered before."""
        self._sweep()
        if self._files >= MAX_FILES:
            log.error("too many mails to remember: this one may arrive twice", limit=MAX_FILES, folder=str(self._folder))
            return
        # The same mail may come in several transactions, each with a part of its recipients.
        merged = {one.recipient: one for one in (*self._read(name), *accepted)}
        if self._write(name, list(merged.values())):
            self._files += 1
            REMEMBERED.inc(len(accepted))

    def forget(self, name: str, told: Collection[str]) -> None:
        """The client is told now that its mail to these addresses was accepted. Others of the same mail stay remembered."""
        known = self._read(name)
        again = [one for one in known if one.recipient in told]
        if not again:
            return
        REPEATED.inc(len(again))
        log.info("mail came again, and is not sent twice", ids=[one.id for one in again])
        left = [one for one in known if one.recipient not in told]
        if left and self._write(name, left):
            return
        # Without room for those left, too: who was told means another mail next time, and to swallow that is worse than a duplicate.
        with suppress(OSError):
            os.unlink(self._folder / name)

    def _write(self, name: str, accepted: Sequence[Accepted]) -> bool:
        temporary = self._folder / f".{name}.{os.getpid()}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(render_accepted(accepted))
            os.replace(temporary, self._folder / name)
        except OSError as error:
            log.error("what was accepted cannot be remembered: the mail may arrive twice", reason=error.strerror or str(error))
            with suppress(OSError):
                os.unlink(temporary)
            return False
        return True

    def _read(self, name: str) -> list[Accepted]:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > MAX_AGE:
                    return []
                return parse_accepted(file.read())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError) as error:
            log.error("what was accepted before cannot be read", file=str(path), reason=str(error))
            return []

    def is_empty(self) -> bool:
        """Nothing is remembered. Costs one look at the folder."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed == self._empty_since:
                return True
            with os.scandir(self._folder) as entries:
                is_empty = next(entries, None) is None
        except OSError:
            return True
        if is_empty and abs(time.time_ns() - changed) > _TICK:
            self._empty_since = changed
        return is_empty

    def _sweep(self) -> None:
        """Remove what is too old, once in a while, and count what is left."""
        now = time.monotonic()
        if self._swept and now - self._swept < SWEEP:
            return
        self._swept, self._files = now, 0
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if not _NAME.fullmatch(entry.name):
                        continue
                    if abs(time.time() - entry.stat(follow_symlinks=False).st_mtime) > MAX_AGE:
                        os.unlink(entry.path)
                    else:
                        self._files += 1


def render_accepted(accepted: Sequence[Accepted]) -> bytes:
    """The content of a file."""
    return json.dumps([[one.id, one.message_id, one.recipient] for one in accepted]).encode("ascii")


def parse_accepted(text: bytes) -> list[Accepted]:
    """What ``render_accepted`` wrote. Raises ValueError: a power cut may leave half a file."""
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("expected a list")
    for row in rows:
        if not (isinstance(row, list) and len(row) == 3 and all(isinstance(word, str) for word in row)):
            raise ValueError("expected lists of an id, a message-id and a recipient")
    return [Accepted(*row) for row in rows]
