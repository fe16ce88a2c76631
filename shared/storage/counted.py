"""A message store whose operations are counted and timed, whichever store it is."""

import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from shared.storage.payloads import MissingPayload, StoreFull, Upload
from shared.trouble import Unavailable

if TYPE_CHECKING:
    from shared.storage.open_store import SweptStore

OPERATIONS = Counter(
    "store_operations", "Payloads stored, fetched and deleted: ok, missing, full, unavailable, error", ["operation", "result"]
)
SECONDS = Histogram(
    "store_operation_seconds",
    "Time of an operation of the message store",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)


class CountedStore:
    """Passes everything on to a store, and counts."""

    def __init__(self, store: "SweptStore") -> None:
        self._inner = store
        for operation in ("store", "fetch", "delete"):
            # Shown from the start: a rate over one that appears with its first event misses that.
            SECONDS.labels(operation)
            for result in ("ok", "full", "unavailable"):
                OPERATIONS.labels(operation, result)

    async def store(self, key: str, content: bytes) -> None:
        """As of ``Store``."""
        with _counting("store"):
            await self._inner.store(key, content)

    async def fetch(self, key: str) -> bytes:
        """As of ``Store``."""
        with _counting("fetch"):
            return await self._inner.fetch(key)

    async def delete(self, key: str) -> None:
        """As of ``Store``."""
        with _counting("delete"):
            await self._inner.delete(key)

    async def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        """As of ``Store``. Each payload counts, the time is that of all."""
        with _counting("delete") as counted:
            failures = await self._inner.delete_many(keys)
            counted.ok, counted.failed = len(keys) - len(failures), len(failures)
        return failures

    def begin(self) -> Upload:
        """As of ``UploadStore``. Counts as stored when it is committed."""
        return _CountedUpload(self._inner.begin())

    def iter_keys(self, older_than: datetime) -> AsyncIterator[str]:
        """As of ``SweptStore``; not counted."""
        return self._inner.iter_keys(older_than)

    async def tidy(self, older_than: datetime) -> int:
        """As of ``SweptStore``; not counted."""
        return await self._inner.tidy(older_than)

    async def close(self) -> None:
        """As of ``Store``."""
        await self._inner.close()


class _CountedUpload:
    def __init__(self, upload: Upload) -> None:
        self._inner = upload

    def write(self, piece: bytes | memoryview) -> None:
        self._inner.write(piece)

    async def read(self) -> bytes:
        return await self._inner.read()

    async def commit(self, key: str) -> None:
        with _counting("store"):
            await self._inner.commit(key)

    def discard(self) -> None:
        self._inner.discard()


@dataclass(slots=True)
class _Counted:
    ok: int = 1
    failed: int = 0


@contextmanager
def _counting(operation: str) -> Iterator[_Counted]:
    """Counts one operation as what it ends with, or those that the block tells."""
    began, result, counted = time.perf_counter(), "error", _Counted()
    try:
        yield counted
        result = "ok"
    except MissingPayload:
        result = "missing"
        raise
    except StoreFull:
        result = "full"
        raise
    except Unavailable:
        result = "unavailable"
        raise
    finally:
        OPERATIONS.labels(operation, result).inc(counted.ok if result == "ok" else 1)
        if counted.failed:
            OPERATIONS.labels(operation, "error").inc(counted.failed)
        SECONDS.labels(operation).observe(time.perf_counter() - began)
