"""Uploads of the message store in a folder: in pieces, given up, onto a full disk, and by a process that was killed."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.storage.directory import DirectoryStore
from shared.storage.keys import InvalidKey, KeyTaken
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
KEY = "v1/2026/11/23/5b0f6a3e-9f0e-4a52-9a6b-0f5f7f1c2d3e"
MEGABYTE = 1024 * 1024


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def temporary_files(tmp_path: Path) -> list[Path]:
    """What the store has under way."""
    return list((tmp_path / "payloads" / ".tmp").iterdir())


async def test_a_discarded_upload_leaves_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "payloads")
    upload = store.begin()
    upload.write(b"x" * MEGABYTE)
    upload.discard()
    upload.discard()
    invalid = store.begin()
    with pytest.raises(InvalidKey):
        await invalid.commit("../x")
    invalid.discard()
    assert [key async for key in store.iter_keys(soon())] == []
    await until(lambda: not temporary_files(tmp_path))
    await store.close()


async def test_an_upload_replaces_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "payloads")
    await store.store(KEY, b"first")
    upload = store.begin()
    upload.write(b"second")
    with pytest.raises(KeyTaken):
        await upload.commit(KEY)
    assert await store.fetch(KEY) == b"first"
    assert temporary_files(tmp_path) == []
    await store.close()


async def test_a_full_disk_is_told_apart_and_nothing_is_kept(tmp_path: Path) -> None:
    """The kernel says ENOSPC, or EFBIG at a limit of the process: both mean that there is no room."""
    program = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from shared.storage.directory import DirectoryStore
from shared.storage.payloads import StoreFull

async def main():
    store = DirectoryStore(Path(sys.argv[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    upload = store.begin()
    try:
        upload.write(b"x" * 200_000)
    except StoreFull as error:
        print(error)
    upload.discard()
    try:
        await store.store("v1/a", b"x" * 200_000)
    except StoreFull as error:
        print(error)
    await store.close()

asyncio.run(main())
"""
    command = [sys.executable, "-c", program, str(tmp_path / "payloads")]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    await process.wait()
    assert told.decode().splitlines() == [f"message store {tmp_path}/payloads: File too large"] * 2
    assert temporary_files(tmp_path) == []


async def test_what_a_killed_process_had_under_way_is_swept_by_its_age(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from shared.storage.directory import DirectoryStore
DirectoryStore(Path(sys.argv[1])).begin().write(b"x" * 100_000)
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path / "payloads"), cwd=ROOT)
    assert await process.wait() == -signal.SIGKILL
    (left,) = temporary_files(tmp_path)
    store = DirectoryStore(tmp_path / "payloads")
    assert [key async for key in store.iter_keys(soon())] == []
    assert await store.tidy(soon()) == 0
    long_ago = datetime.now(UTC).timestamp() - 7200
    os.utime(left, (long_ago, long_ago))
    assert await store.tidy(soon()) == 1
    await store.close()
