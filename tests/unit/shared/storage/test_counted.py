"""Every operation of a message store is counted once, by what it ended with."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from shared.storage.counted import CountedStore
from shared.storage.directory import DirectoryStore
from shared.storage.payloads import MissingPayload
from shared.trouble import Unavailable

KEY = "v1/2026/11/29/one"


class Counts:
    """What was counted since it was made."""

    def __init__(self) -> None:
        self._before = _read()

    def read(self) -> dict[tuple[str, str], float]:
        """Operation and result -> how often."""
        changes = {key: value - self._before.get(key, 0) for key, value in _read().items()}
        return {key: change for key, change in changes.items() if change}


def _read() -> dict[tuple[str, str], float]:
    family = next(one for one in REGISTRY.collect() if one.name == "store_operations")
    totals = [one for one in family.samples if one.name.endswith("_total")]
    return {(one.labels["operation"], one.labels["result"]): one.value for one in totals}


async def test_what_ends_well_and_what_is_missing(tmp_path: Path) -> None:
    store = CountedStore(DirectoryStore(tmp_path / "payloads"))
    counts = Counts()
    await store.store(KEY, b"content")
    upload = store.begin()
    upload.write(b"piece")
    assert await upload.read() == b"piece"
    await upload.commit("v1/2026/11/29/two")
    upload.discard()
    forgotten = store.begin()
    forgotten.discard()
    assert await store.fetch(KEY) == b"content"
    with pytest.raises(MissingPayload):
        await store.fetch("v1/2026/11/29/none")
    await store.delete(KEY)
    assert await store.delete_many(["v1/2026/11/29/two", "v1/2026/11/29/none"]) == {}
    assert counts.read() == {("store", "ok"): 2, ("fetch", "ok"): 1, ("fetch", "missing"): 1, ("delete", "ok"): 3}
    assert REGISTRY.get_sample_value("store_operation_seconds_count", {"operation": "delete"})
    await store.close()


async def test_what_cannot_be_done(tmp_path: Path) -> None:
    store = CountedStore(DirectoryStore(tmp_path / "payloads"))
    await store.store(KEY, b"content")
    counts = Counts()
    (tmp_path / "payloads").rename(tmp_path / "unmounted")
    for operation in (store.store("v1/2026/11/29/two", b"x"), store.fetch(KEY), store.delete(KEY)):
        with pytest.raises(Unavailable):
            await operation
    assert counts.read() == {("store", "unavailable"): 1, ("fetch", "unavailable"): 1, ("delete", "unavailable"): 1}
    await store.close()


async def test_what_is_left_of_many_deletes(tmp_path: Path) -> None:
    store = CountedStore(DirectoryStore(tmp_path / "payloads"))
    await store.store(KEY, b"content")
    (path,) = (found for found in (tmp_path / "payloads").rglob("*") if found.is_file())
    path.unlink()
    path.mkdir()
    counts = Counts()
    assert list(await store.delete_many([KEY, "v1/2026/11/29/none"])) == [KEY]
    assert counts.read() == {("delete", "ok"): 1, ("delete", "error"): 1}
    await store.close()
