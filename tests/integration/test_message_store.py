"""The message store: a folder, killed in mid-write, and a real S3 (OpenStack Swift), down, frozen and with the wrong key."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from shared.settings import load
from shared.storage.directory import DirectoryStore
from shared.storage.keys import InvalidKey
from shared.storage.open_store import StorageSettings, SweptStore, open_store
from shared.storage.payloads import MissingPayload, Upload
from shared.storage.s3 import S3Store
from shared.trouble import BadSetting, Unavailable
from tests.integration.swift import ACCESS_KEY, SECRET_KEY, Swift
from tests.support.waiting import free_ports, wait_until

ROOT = Path(__file__).parents[2]
KEY = "v1/2026/11/23/5b0f6a3e-9f0e-4a52-9a6b-0f5f7f1c2d3e"
MEGABYTE = 1024 * 1024
LARGE = 20 * MEGABYTE


@pytest.fixture(params=["dir", "s3"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The settings of both kinds of store, as an operator writes them."""
    if request.param == "dir":
        return {"storage-url": f"dir://{tmp_path}/payloads"}
    swift: Swift = request.getfixturevalue("swift")
    return s3_options(swift, "payloads")


@pytest.fixture
async def store(options: dict[str, str]) -> AsyncIterator[SweptStore]:
    """An empty store of each kind."""
    store = open_store(load(StorageSettings, options=options).settings)
    yield store
    for key in [key async for key in store.iter_keys(soon())]:
        await store.delete(key)
    await store.close()


def s3_options(swift: Swift, bucket: str) -> dict[str, str]:
    return {
        "storage-url": "s3://",
        "s3-bucket-name": bucket,
        "s3-hostname": swift.address,
        "s3-access-key": ACCESS_KEY,
        "s3-secret-key": SECRET_KEY,
        "s3-secure": "false",
    }


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def begun(store: SweptStore) -> Upload:
    """An upload with something in it."""
    upload = store.begin()
    upload.write(b"x")
    return upload


async def test_what_is_stored_is_what_is_fetched(store: SweptStore) -> None:
    for number, content in enumerate([b"", b"a", bytes(range(256)) * 400, os.urandom(LARGE)]):
        await store.store(f"{KEY}-{number}", content)
        assert await store.fetch(f"{KEY}-{number}") == content


async def test_storing_the_same_again_is_no_error(store: SweptStore) -> None:
    await store.store(KEY, b"x")
    await store.store(KEY, b"x")
    assert await store.fetch(KEY) == b"x"


async def test_missing_and_deleted_payloads(store: SweptStore) -> None:
    with pytest.raises(MissingPayload, match=KEY):
        await store.fetch(KEY)
    await store.delete(KEY)
    await store.store(KEY, b"x")
    await store.delete(KEY)
    with pytest.raises(MissingPayload, match=KEY):
        await store.fetch(KEY)


async def test_many_deleted_at_once(store: SweptStore) -> None:
    there = [f"v1/2026/11/{number % 3:02}/{number}" for number in range(60)]
    await asyncio.gather(*(store.store(key, b"x") for key in [*there, KEY]))
    missing = [f"v1/2026/11/04/{number}" for number in range(1000)]  # a second request to S3
    assert await store.delete_many([*missing, "../etc/passwd", "v1/a?b", there[0], *there]) == {}
    assert [key async for key in store.iter_keys(soon())] == [KEY]
    assert await store.delete_many(there) == {}
    assert await store.delete_many([]) == {}


async def test_keys_that_are_none(store: SweptStore) -> None:
    for key in ("", "/etc/passwd", "v1/../../x", "v1/a?b"):
        with pytest.raises(InvalidKey):
            await store.store(key, b"x")
        with pytest.raises(MissingPayload):
            await store.fetch(key)
        await store.delete(key)


async def test_an_upload_in_pieces_is_what_is_fetched(store: SweptStore) -> None:
    content = os.urandom(LARGE)
    upload = store.begin()
    for start in range(0, LARGE, 300_001):
        upload.write(content[start : start + 300_001])
    assert await upload.read() == content
    await upload.commit(KEY)
    upload.discard()
    assert await store.fetch(KEY) == content
    with pytest.raises(Unavailable, match="has ended"):
        upload.write(b"x")


async def test_the_sweep_sees_every_key_once(store: SweptStore) -> None:
    keys = {f"v1/2026/11/{number % 3:02}/{number}" for number in range(60)}
    await asyncio.gather(*(store.store(key, b"x") for key in keys))
    assert sorted([key async for key in store.iter_keys(soon())]) == sorted(keys)
    assert [key async for key in store.iter_keys(datetime.now(UTC) - timedelta(minutes=1))] == []
    assert await store.tidy(datetime.now(UTC) - timedelta(days=1)) == 0


async def test_many_at_once(store: SweptStore) -> None:
    contents = {f"{KEY}-{number}": os.urandom(40_000) for number in range(100)}
    await asyncio.gather(*(store.store(key, content) for key, content in contents.items()))
    assert await asyncio.gather(*(store.fetch(key) for key in contents)) == list(contents.values())


def test_a_payload_of_20_mb_is_not_copied_around(options: dict[str, str]) -> None:
    """In a process of its own: the peak of its memory while 20 MB are stored and fetched, beyond those 20 MB themselves."""
    program = """
import asyncio, os, resource, sys
from shared.settings import load
from shared.storage.open_store import StorageSettings, open_store

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main(options):
    store = open_store(load(StorageSettings, options=options).settings)
    await store.store("v1/2026/11/23/warm", b"x" * 100_000)
    await store.fetch("v1/2026/11/23/warm")
    content = os.urandom(20 * 1024 * 1024)
    before = peak()
    await store.store("v1/2026/11/23/large", content)
    stored = peak()
    assert await store.fetch("v1/2026/11/23/large") == content
    print(stored - before, peak() - before)

asyncio.run(main(dict(zip(sys.argv[1::2], sys.argv[2::2]))))
"""
    arguments = [argument for pair in options.items() for argument in pair]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT, check=True)
    storing, fetching = map(int, done.stdout.split())
    assert storing <= 5
    assert fetching <= 45  # the content that came back, and once what the HTTP library collects it in


async def test_the_client_for_s3_costs_nothing_without_s3(tmp_path: Path) -> None:
    program = (
        "import sys; from shared.storage.open_store import open_store; print('minio' in sys.modules, 'urllib3' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    assert told.split() == [b"False", b"False"]


WRITER = """
import asyncio, sys
from pathlib import Path
from shared.storage.directory import DirectoryStore

async def write(store, writer):
    number = 0
    while True:
        name = f"{sys.argv[2]}-{writer}-{number}"
        await store.store(f"v1/2026/11/23/{name}", name.encode() * 3000)
        sys.stdout.write(name + chr(10))
        sys.stdout.flush()
        number += 1

async def main():
    store = DirectoryStore(Path(sys.argv[1]))
    await asyncio.gather(*(write(store, writer) for writer in range(4)))

asyncio.run(main())
"""


async def test_a_writer_killed_at_any_moment_leaves_whole_payloads_and_all_it_reported(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "payloads")
    reported: set[str] = set()
    for life in range(5):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "payloads"), str(life)]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        assert process.stdout
        lines = [await process.stdout.readline() for _ in range(20 + 37 * life)]
        process.kill()
        lines += (await process.stdout.read()).splitlines(keepends=True)
        await process.wait()
        reported |= {line.decode().strip() for line in lines if line.endswith(b"\n")}
    there = {key.rpartition("/")[2] async for key in store.iter_keys(soon())}
    assert len(reported) > 400
    assert reported <= there
    for name in there:
        assert await store.fetch(f"v1/2026/11/23/{name}") == name.encode() * 3000
    await store.close()


async def test_the_order_of_what_makes_a_payload_durable(tmp_path: Path) -> None:
    """The system calls, as strace saw them: content synced before it has its name, the folder synced before we say stored."""
    program = """
import asyncio, os, sys
from pathlib import Path
from shared.storage.directory import DirectoryStore

async def main():
    store = DirectoryStore(Path(sys.argv[1]))
    await store.store("v1/a", b"x" * 10)
    os.write(1, b"stored")

asyncio.run(main())
"""
    trace = tmp_path / "trace"
    calls = "openat,write,fsync,link,unlink,mkdir"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={calls}", sys.executable, "-c", program, f"{tmp_path}/p"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    fan = hashlib.sha256(b"a").hexdigest()
    folder = f"{tmp_path}/p/v1/{fan[0]}/{fan[1]}"
    steps = [
        ('mkdir("', '/p/v1"'),
        ("fsync(", f"<{tmp_path}/p>"),
        ("fsync(", f"<{tmp_path}/p/v1>"),
        ("fsync(", f"<{tmp_path}/p/v1/{fan[0]}>"),
        ("link(", f'"{folder}/a"'),
        ("fsync(", f"<{folder}>"),
        ("write(1<", "stored"),
    ]
    seen = [line for line in trace.read_text().splitlines() if str(tmp_path) in line or "stored" in line]
    places = [next((at for at, line in enumerate(seen) if call in line and what in line), None) for call, what in steps]
    assert None not in places, "\n".join(seen)
    assert places == sorted(place for place in places if place is not None), "\n".join(seen)
    content = next(at for at, line in enumerate(seen) if "fsync(" in line and "/.tmp/" in line)
    assert content < (places[4] or 0)


async def test_no_such_bucket_is_our_trouble(swift: Swift) -> None:
    store = S3Store(swift.bucket("never-made"))
    for attempt in (store.store(KEY, b"x"), store.fetch(KEY), store.delete_many([KEY]), begun(store).commit(KEY)):
        with pytest.raises(Unavailable, match=r"never-made.*NoSuchBucket"):
            await attempt
    await store.close()


async def test_a_wrong_key_is_our_trouble_and_is_not_told(swift: Swift) -> None:
    store = S3Store(swift.bucket("payloads", secret_key="wrong-secret"))
    for attempt in (
        store.store(KEY, b"x"),
        store.fetch(KEY),
        store.delete(KEY),
        store.delete_many([KEY]),
        begun(store).commit(KEY),
    ):
        with pytest.raises(Unavailable, match="SignatureDoesNotMatch") as trouble:
            await attempt
        assert "wrong-secret" not in str(trouble.value)
    await store.close()


async def test_nobody_listening_is_our_trouble(swift: Swift) -> None:
    bucket = swift.bucket("payloads")
    store = S3Store(type(bucket)(bucket.name, f"127.0.0.1:{free_ports(1)[0]}", ACCESS_KEY, SECRET_KEY, "us-east-1", secure=False))
    async with asyncio.timeout(10):
        for attempt in (
            store.store(KEY, b"x"),
            store.fetch(KEY),
            store.delete(KEY),
            store.delete_many([KEY]),
            begun(store).commit(KEY),
        ):
            with pytest.raises(Unavailable, match="message store s3://payloads") as trouble:
                await attempt
    # Said of the upload, whose URL is as good as a key.
    assert "refused" in str(trouble.value)
    assert "Signature" not in str(trouble.value)
    await store.close()


async def test_a_frozen_service_is_our_trouble_and_comes_back(swift: Swift) -> None:
    store = S3Store(swift.bucket("payloads"), patience=timedelta(seconds=1))
    await store.store(KEY, b"x")
    swift.proxy.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: swift.proxy.status() == psutil.STATUS_STOPPED)
        with pytest.raises(Unavailable, match="no answer within 1 s"):
            await store.fetch(KEY)
    finally:
        swift.proxy.send_signal(signal.SIGCONT)
    assert await store.fetch(KEY) == b"x"
    await store.delete(KEY)
    await store.close()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"storage-url": "payloads"}, "storage-url: 'payloads': expected dir:///path or s3://bucket"),
        ({"storage-url": "http://x/y"}, "storage-url: "),
        ({"storage-url": "dir://relative/path"}, "expected dir:// and an absolute path"),
        ({"storage-url": "dir:///"}, "expected dir:// and an absolute path"),
        ({"storage-url": "dir:///proc/version/x"}, "the folder cannot be used: Not a directory"),
        ({"storage-url": "s3://"}, "s3-bucket-name: missing"),
        ({"storage-url": "s3://bucket"}, "s3-hostname: missing"),
        ({"storage-url": "s3://bucket/prefix", "s3-hostname": "h"}, "expected s3://bucket and nothing more"),
        ({"storage-url": "s3://B_", "s3-hostname": "h"}, "s3-hostname 'h', bucket 'B_'"),
        ({"storage-url": "s3://bucket", "s3-hostname": "h:x:y/z"}, "s3-hostname 'h:x:y/z'"),
        ({"storage-url": "s3://bucket", "s3-hostname": "h", "s3-access-key": "a"}, "expected both or neither"),
        ({"storage-url": "s3://b-b", "s3-hostname": "h", "storage-spool": "/nowhere"}, "storage-spool: '/nowhere'"),
        ({"storage-max-message": "1"}, "storage-max-message: "),
        ({"storage-policy": "x"}, "storage-policy: "),
        ({"storage-threshold": "-1"}, "storage-threshold: "),
    ],
)
def test_settings_that_name_no_store(settings: dict[str, str], why: str) -> None:
    with pytest.raises(BadSetting) as wrong:
        open_store(load(StorageSettings, options=settings).settings)
    assert why in str(wrong.value)
    assert "\n" not in str(wrong.value)
