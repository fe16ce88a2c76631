"""The pools of source addresses that a message can name: those of a file (``pools-file``) and those of Postgres (``/v1/pools``).

Of two with the same name the one in Postgres counts: it was made later than the file was rolled out, and for all senders.

    [pool.bulk]
    ips = ["192.0.2.1", "192.0.2.2"]
    helo = "bulk.example"

    [pool.news.ips]
    "192.0.2.3" = "news1.example"
    "192.0.2.4" = "news2.example"
"""

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import Gauge

from services.smtp_sender.settings import ServiceSettings
from shared.delivery.pools import SourcePool, parse_pool
from shared.log import get_logger
from shared.storage.database import Connection
from shared.storage.documents import fetch_documents
from shared.storage.snapshot import Followed, Snapshot
from shared.trouble import BadSetting

log = get_logger()

POOLS = Gauge("smtp_pools", "Pools of source addresses in Postgres, as last seen")
FRESH = Gauge("smtp_pools_fresh", "1 while the pools follow Postgres, 0 while the last snapshot is used")
LOOK_EVERY = 10.0
"""Seconds between two looks whether the file has changed."""


class PoolBook:
    """Finds pools by name."""

    def __init__(self, settings: ServiceSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the file. ``clock``: seconds. Raises BadSetting that names the file and what is wrong in it."""
        self._file = PoolFile(Path(settings.pools_file), clock) if settings.pools_file else None
        self._table = PoolTable(settings) if settings.db_uri else None

    @property
    def count(self) -> int:
        """How many names are known."""
        kept = set(self._file.pools) if self._file else set()
        return len(kept.union(self._table.known) if self._table else kept)

    @property
    def followed(self) -> list[Followed]:
        """The table to be followed; none without ``db-uri``."""
        return [] if self._table is None else [self._table]

    def reload(self) -> None:
        """Look at the file now (SIGHUP)."""
        if self._file is not None:
            self._file.look()

    async def find(self, name: str) -> SourcePool | None:
        """The pool, or None when nobody has defined it.

        Raises Unavailable when that cannot be known: not in the file, and the pools in Postgres were never seen.
        """
        kept = self._file.find(name) if self._file is not None else None
        if self._table is None:
            return kept
        if kept is not None and not self._table.is_known:
            return kept
        return self._table.find(name) or kept


class PoolTable(Snapshot[SourcePool]):
    """The pools in Postgres, all or none of them."""

    what, table, count, fresh = "pools", "pools", POOLS, FRESH

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings.pools_snapshot)
        self._indexed: tuple[list[SourcePool], Mapping[str, SourcePool]] | None = None

    @property
    def known(self) -> Mapping[str, SourcePool]:
        """By name; empty when they were never seen."""
        return self._index() if self.is_known else {}

    def find(self, name: str) -> SourcePool | None:
        """The pool of this name. Raises Unavailable when none were ever seen."""
        return self._index().get(name)

    def _index(self) -> Mapping[str, SourcePool]:
        items = self.items
        if self._indexed is None or self._indexed[0] is not items:
            self._indexed = items, {pool.name: pool for pool in items}
        return self._indexed[1]

    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        return await fetch_documents(connection, self.table)

    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[SourcePool]:
        """The pools. Raises ValueError."""
        return [parse_pool(document) for document in documents]

    def render(self, item: SourcePool) -> Mapping[str, Any]:
        """A pool as it is kept on disk."""
        return {"name": item.name, **item.document}


class PoolFile:
    """The pools in a TOML file, read again when it changes. One that cannot be read later on leaves the last ones in force."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Raises BadSetting."""
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._mark = self._stat()
        try:
            self.pools = parse_pools(path.read_text("utf-8"))
        except OSError as error:
            raise BadSetting(f"pools-file: {str(path)!r}: {error.strerror}") from None
        except ValueError as error:
            raise BadSetting(f"pools-file: {str(path)!r}: {error}") from None

    def find(self, name: str) -> SourcePool | None:
        """The pool of this name, as the file has been within the last ``LOOK_EVERY`` seconds."""
        if self._clock() - self._looked >= LOOK_EVERY:
            self.look()
        return self.pools.get(name)

    def look(self) -> None:
        """Read the file again if it has changed."""
        self._looked = self._clock()
        mark = self._stat()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self.pools = parse_pools(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            log.error("pools-file cannot be read: going on with the last pools", path=str(self._path), reason=str(error))
            return
        log.info("in force", what="pools of the file", count=len(self.pools))

    def _stat(self) -> tuple[int, int, int] | None:
        """What differs when the file differs; None when there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def parse_pools(text: str) -> dict[str, SourcePool]:
    """The pools of a file. Raises ValueError that names the field: ``pool.bulk.ips: …``."""
    document = tomllib.loads(text)
    if unknown := set(document) - {"pool"}:
        raise ValueError(f"{min(unknown)}: unknown; expected tables [pool.NAME]")
    tables = document.get("pool", {})
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        raise ValueError("pool: expected tables [pool.NAME]")
    pools: dict[str, SourcePool] = {}
    for name, table in tables.items():
        if unknown := set(table) - {"ips", "helo"}:
            raise ValueError(f"pool.{name}.{min(unknown)}: unknown; expected ips and helo")
        try:
            pools[name] = parse_pool({"name": name, **table})
        except ValueError as error:
            raise ValueError(f"pool.{name}.{error}") from None
    return pools
