"""The message store in a folder, on the real file system."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.storage.directory import TEMPORARY, DirectoryStore
from shared.storage.keys import InvalidKey, KeyTaken, check_key
from shared.storage.payloads import MissingPayload
from shared.trouble import Unavailable

KEY = "v1/2026/11/23/5b0f6a3e-9f0e-4a52-9a6b-0f5f7f1c2d3e"
PATH = "v1/2026/11/23/5/5/5b0f6a3e-9f0e-4a52-9a6b-0f5f7f1c2d3e"
"""Its file: 55 is how the SHA-256 of the name begins."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "payloads"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[DirectoryStore]:
    store = DirectoryStore(root)
    yield store
    await store.close()


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def unmount(root: Path) -> Path:
    """Put an empty folder in the place of the root, as an unmounted mount point; where the root is now."""
    elsewhere = root.rename(root.with_name("unmounted"))
    root.mkdir()
    return elsewhere


def mount(elsewhere: Path, root: Path) -> None:
    root.rmdir()
    elsewhere.rename(root)


def age(root: Path) -> None:
    """Make everything look untouched since 1970."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (0, 0))


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


@contextmanager
def file_size_limit(octets: int) -> Iterator[None]:
    """Writing beyond it fails (EFBIG), as on a full disk: some octets are written, the next write is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_what_is_stored_is_what_is_fetched(store: DirectoryStore, root: Path) -> None:
    for number, content in enumerate([b"", b"a", bytes(range(256)) * 40_000]):
        await store.store(f"{KEY}{number}", content)
        assert await store.fetch(f"{KEY}{number}") == content
    assert not list((root / TEMPORARY).iterdir())


async def test_layout_is_two_levels_below_the_day(store: DirectoryStore, root: Path) -> None:
    await store.store(KEY, b"x")
    [path] = files(root)
    assert path == PATH
    assert (root / path).stat().st_mode & 0o777 == 0o600
    assert (root / path).parent.stat().st_mode & 0o777 == 0o700
    assert (root / path).stat().st_nlink == 1


async def test_missing_payload(store: DirectoryStore) -> None:
    with pytest.raises(MissingPayload, match=KEY):
        await store.fetch(KEY)


async def test_delete_and_delete_again(store: DirectoryStore, root: Path) -> None:
    await store.store(KEY, b"x")
    await store.delete(KEY)
    await store.delete(KEY)
    assert files(root) == []
    with pytest.raises(MissingPayload):
        await store.fetch(KEY)


async def test_what_cannot_be_deleted_is_told_and_the_rest_is_deleted(store: DirectoryStore, root: Path) -> None:
    await store.store(f"{KEY}-before", b"x")
    await store.store(f"{KEY}-after", b"x")
    (root / PATH).mkdir(parents=True)  # no payload, whatever it is
    assert await store.delete_many([f"{KEY}-before", KEY, f"{KEY}-after"]) == {KEY: "Is a directory"}
    assert files(root) == []


async def test_a_key_is_written_once(store: DirectoryStore, root: Path) -> None:
    await store.store(KEY, b"first")
    await store.store(KEY, b"first")
    with pytest.raises(KeyTaken, match=KEY):
        await store.store(KEY, b"other")
    assert await store.fetch(KEY) == b"first"
    assert not list((root / TEMPORARY).iterdir())


async def test_of_two_writers_at_once_one_wins(store: DirectoryStore, root: Path) -> None:
    sibling = DirectoryStore(root)
    outcomes = await asyncio.gather(store.store(KEY, b"one"), sibling.store(KEY, b"two"), return_exceptions=True)
    await sibling.close()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["KeyTaken", "NoneType"]
    assert await store.fetch(KEY) == (b"one" if outcomes[0] is None else b"two")


@pytest.mark.parametrize(
    "key",
    [
        "", "v1", "/v1/a", "v1/", "v1//a", "v1/../a", "../a", "v1/..", "v1/./a", "v1/.a", ".tmp/a", "v1/a b", "v1/a\n", "v1/a\0b",
        "v1/ü", "v1\\a/b", "v1/" + "a" * 201, "a/" * 300 + "a", "v1/a%2fb", "v1/a:b",
    ],
)  # fmt: skip
async def test_what_is_no_key(store: DirectoryStore, root: Path, key: str) -> None:
    with pytest.raises(InvalidKey):
        await store.store(key, b"x")
    with pytest.raises(MissingPayload):
        await store.fetch(key)
    await store.delete(key)
    assert files(root.parent) == []


@pytest.mark.parametrize("key", [KEY, "clients/a", "v1/A_b-c.d", "a/b/c/d/e/f"])
def test_what_is_a_key(key: str) -> None:
    assert check_key(key) == key


async def test_a_full_disk_is_our_trouble_and_leaves_nothing(store: DirectoryStore, root: Path) -> None:
    with file_size_limit(100_000), pytest.raises(Unavailable, match="File too large"):
        await store.store(KEY, b"x" * 200_000)
    assert files(root) == []
    await store.store(KEY, b"x" * 200_000)
    assert len(await store.fetch(KEY)) == 200_000


async def test_a_vanished_store_is_our_trouble_not_a_missing_payload(store: DirectoryStore, root: Path) -> None:
    await store.store(KEY, b"x")
    elsewhere = unmount(root)
    for attempt in (store.store(KEY, b"y"), store.fetch(KEY), store.delete(KEY), store.delete_many([KEY]), store.tidy(soon())):
        with pytest.raises(Unavailable, match="No such file"):
            await attempt
    with pytest.raises(Unavailable):
        [key async for key in store.iter_keys(soon())]
    assert files(root) == []
    mount(elsewhere, root)
    assert await store.fetch(KEY) == b"x"


async def test_a_store_that_hangs_is_our_trouble(root: Path) -> None:
    store = DirectoryStore(root, patience=timedelta(seconds=0.2))
    await store.store(KEY, b"x")
    [path] = files(root)
    (root / path).unlink()
    os.mkfifo(root / path)  # opening it waits for a writer
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        await store.fetch(KEY)
    with (root / path).open("wb"):
        await store.close()


async def test_keys_older_than(store: DirectoryStore, root: Path) -> None:
    keys = {f"v1/2026/{month}/{day}/{number}" for month in ("10", "11") for day in ("01", "02") for number in range(20)}
    await asyncio.gather(*(store.store(key, b"x") for key in keys))
    assert {key async for key in store.iter_keys(soon())} == keys
    assert [key async for key in store.iter_keys(datetime.now(UTC) - timedelta(minutes=1))] == []
    old = next(path for path in files(root) if path.endswith("/7"))
    os.utime(root / old, (0, 0))
    parts = old.split("/")
    assert [key async for key in store.iter_keys(datetime.now(UTC) - timedelta(days=1))] == ["/".join([*parts[:-3], parts[-1]])]


async def test_foreign_files_are_no_payloads(store: DirectoryStore, root: Path) -> None:
    await store.store(KEY, b"x")
    for name in ("README", "v1/x", "v1/2026/11/23/0/0/not-its-place", "v1/2026/11/23/5/5/.hidden", f"{TEMPORARY}/half"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    assert [key async for key in store.iter_keys(soon())] == [KEY]


async def test_tidy_removes_what_the_dead_left_and_nothing_else(store: DirectoryStore, root: Path) -> None:
    await store.store(KEY, b"x")
    await store.store("v1/2026/11/22/gone", b"x")
    await store.delete("v1/2026/11/22/gone")
    (root / TEMPORARY / "half").write_bytes(b"x")
    assert await store.tidy(soon()) == 0  # all this may be somebody's work of this very moment
    age(root)
    (root / TEMPORARY / "under-way").write_bytes(b"x")
    assert await store.tidy(datetime.fromtimestamp(0, UTC)) == 0
    assert await store.tidy(soon()) == 2  # the half file, and of the empty folders the innermost
    assert files(root) == [".tmp/under-way", PATH]
    for _ in range(2):
        age(root / "v1")
        assert await store.tidy(soon()) == 1
    assert not (root / "v1/2026/11/22").exists()


async def test_a_folder_that_was_tidied_away_is_made_again(store: DirectoryStore, root: Path) -> None:
    await store.store(KEY, b"x")
    await store.delete(KEY)
    age(root)
    sweeper = DirectoryStore(root)
    assert await sweeper.tidy(soon()) == 1
    await sweeper.close()
    await store.store(KEY, b"y")
    assert await store.fetch(KEY) == b"y"


@pytest.mark.parametrize(
    "key", ["v1/a․․b/c", "v1/．．/c", "v1/a／b", "v1/\u202ea/b", "v1/ａ/b", "v1/①/b", "~/a", "v1/~a", "C:/a"]
)
async def test_what_only_looks_like_a_key(store: DirectoryStore, root: Path, key: str) -> None:
    with pytest.raises(InvalidKey):
        await store.store(key, b"x")
    assert files(root.parent) == []


async def test_a_link_in_the_store_leads_nowhere_new(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    """Who may make links in there may write there anyway; but nothing of ours replaces or follows one at a payload's own place."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    place = root / PATH
    place.parent.mkdir(parents=True)
    place.symlink_to(secret)
    for attempt in (store.store(KEY, b"x"), store.fetch(KEY)):
        with pytest.raises(Unavailable, match="symbolic link"):
            await attempt
    assert [key async for key in store.iter_keys(soon())] == []
    await store.delete(KEY)
    assert secret.read_bytes() == b"secret"
    assert not place.is_symlink()
    await store.store(KEY, b"x")
    assert await store.fetch(KEY) == b"x"


async def test_many_writers_of_the_same_content_make_one_file(store: DirectoryStore, root: Path) -> None:
    siblings = [DirectoryStore(root) for _ in range(4)]
    await asyncio.gather(*(one.store(KEY, b"x" * 10_000) for one in [store, *siblings] for _ in range(4)))
    assert files(root) == [PATH]
    for one in siblings:
        await one.close()
