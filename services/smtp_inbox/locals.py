"""The local recipients in force: those of the settings and their files, and those of Postgres (``/v1/locals``).

Postgres may be down, or never have been there: then those of the settings count, and those last seen. Mail goes on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import Gauge

from services.smtp_inbox.local_settings import LocalSettings
from shared.delivery.local_patterns import (
    NO_PATTERNS,
    LocalEntry,
    LocalPattern,
    LocalPatterns,
    index_patterns,
    parse_local,
    parse_local_pattern,
)
from shared.log import get_logger
from shared.mail.address import InvalidAddress, parse_mailbox
from shared.storage.database import Connection
from shared.storage.documents import fetch_documents
from shared.storage.snapshot import Follower, Snapshot
from shared.trouble import BadSetting

log = get_logger()

LOCALS = Gauge("smtp_inbox_locals", "Patterns of local recipients in Postgres, as last seen")
FRESH = Gauge("smtp_inbox_locals_fresh", "1 while they follow Postgres, 0 while the last snapshot is used")
LOOK_EVERY = 10.0
"""Seconds between two looks whether the files have changed."""


class LocalRecipients:
    """Knows which recipients are local."""

    def __init__(self, settings: LocalSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the settings and their files. ``clock``: seconds. Raises BadSetting that names the setting, the value and the file."""
        self._settings = settings
        self._clock = clock
        self._looked = clock()
        self._marks = self._stat()
        self._own = read_patterns(settings)
        self._table = LocalTable(settings.locals_snapshot) if settings.db_uri else None
        followed = [] if self._table is None else [self._table]
        self._follower = Follower(settings, followed, name="smtp-inbox", refresh=settings.locals_refresh)

    @property
    def patterns(self) -> list[LocalPattern]:
        """Those in force, Postgres' ones last."""
        return [*self._own[0], *(entry.pattern for entry in (self._table.known if self._table else ()))]

    @property
    def may_be_unknown(self) -> bool:
        """Postgres may have some, and was never seen."""
        return self._table is not None and not self._table.is_known

    def hold(self, recipient: str) -> bool:
        """Is this recipient, an address as RCPT gave it, local?"""
        if self._clock() - self._looked >= LOOK_EVERY:
            self.reload()
        if not self._own[0] and (self._table is None or not self._table.known):
            return False
        try:
            mailbox = parse_mailbox(recipient)
        except InvalidAddress:
            return False
        return self._own[1].hold(mailbox) or (self._table is not None and self._table.index.hold(mailbox))

    async def load(self) -> None:
        """Those in Postgres for the first time; without Postgres, those on disk."""
        await self._follower.load()

    async def follow(self) -> None:
        """Follow Postgres for ever; without ``db-uri`` there is nothing to follow, and this returns."""
        await self._follower.follow()

    def reload(self) -> None:
        """Read the files again if they have changed. What cannot be read leaves the last ones in force."""
        self._looked = self._clock()
        marks = self._stat()
        if marks == self._marks:
            return
        self._marks = marks
        try:
            self._own = read_patterns(self._settings)
        except BadSetting as error:
            log.error("going on with the last local recipients", reason=str(error))
        else:
            log.info("in force", what="local recipients of the settings", count=len(self._own[0]))

    def _stat(self) -> list[tuple[int, int, int] | None]:
        """What differs when a file differs."""
        marks: list[tuple[int, int, int] | None] = []
        for item in (*self._settings.local_domains, *self._settings.local_addresses):
            if item.startswith("@"):
                try:
                    found = Path(item[1:]).stat()
                except OSError:
                    marks.append(None)
                else:
                    marks.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return marks


class LocalTable(Snapshot[LocalEntry]):
    """The local recipients in Postgres."""

    what, table, count, fresh = "local recipients", "locals", LOCALS, FRESH

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._indexed: tuple[Sequence[LocalEntry], LocalPatterns] = (), NO_PATTERNS

    @property
    def known(self) -> Sequence[LocalEntry]:
        """Those last seen; none when they were never seen."""
        return self._items or ()

    @property
    def index(self) -> LocalPatterns:
        """The same, filed."""
        items = self.known
        if self._indexed[0] is not items:
            self._indexed = items, index_patterns(entry.pattern for entry in items)
        return self._indexed[1]

    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        return await fetch_documents(connection, self.table)

    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[LocalEntry]:
        """The entries. One that cannot be read takes no mail, and leaves the others in force. Raises ValueError when there are too many."""
        entries = []
        for document in documents:
            try:
                entries.append(parse_local(document))
            except ValueError as error:
                log.error("not a local recipient", reason=str(error))
        index_patterns(entry.pattern for entry in entries)
        return entries

    def render(self, item: LocalEntry) -> Mapping[str, Any]:
        """An entry as it is kept on disk."""
        return {"name": item.name, **item.document}


def read_patterns(settings: LocalSettings) -> tuple[list[LocalPattern], LocalPatterns]:
    """The patterns of ``local-domains`` and ``local-addresses``, and the same filed. Raises BadSetting."""
    patterns: list[LocalPattern] = []
    for setting, items, domains_only in (
        ("local-domains", settings.local_domains, True),
        ("local-addresses", settings.local_addresses, False),
    ):
        for item in items:
            for where, text in _read_file(setting, item) if item.startswith("@") else [(setting, item)]:
                if not domains_only and not text.startswith("/") and "@" not in text:
                    raise BadSetting(f"{where}: {text!r:.200}: expected an address; whole domains stand in local-domains")
                try:
                    patterns.append(parse_local_pattern(text, domains_only=domains_only))
                except ValueError as error:
                    raise BadSetting(f"{where}: {text!r:.200}: {error}") from None
    try:
        return patterns, index_patterns(patterns)
    except ValueError as error:
        raise BadSetting(f"local-domains, local-addresses: {error}") from None


def _read_file(setting: str, item: str) -> list[tuple[str, str]]:
    """The lines of ``@/a/file`` as (where, text), without empty ones and those that begin with #. Raises BadSetting."""
    path = item[1:]
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise BadSetting(f"{setting}: {item!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadSetting(f"{setting}: {item!r}: byte {error.start + 1}: not UTF-8") from None
    stripped = [(f"{setting}: {path}, line {number}", line.strip()) for number, line in enumerate(lines, 1)]
    return [(where, text) for where, text in stripped if text and not text.startswith("#")]
