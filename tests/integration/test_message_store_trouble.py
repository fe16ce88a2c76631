"""A real S3 in trouble, as the store sees it: whatever happens is Unavailable, within a bounded time, and no thread stays behind."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from shared.storage.contents import Contents, NoContent
from shared.storage.payloads import MissingPayload
from shared.storage.s3 import Bucket, S3Store
from shared.trouble import Unavailable
from shared.wire.result import Result, State
from tests.integration.s3_proxy import Fault, S3Proxy
from tests.integration.swift import ACCESS_KEY, REGION, SECRET_KEY, Swift
from tests.support.waiting import until
from tests.unit.shared.delivery.messages import make_message

KEY = "v1/2026/11/23/5b0f6a3e-9f0e-4a52-9a6b-0f5f7f1c2d3e"
OTHER = f"{KEY}-other"
CONTENT = os.urandom(100_000)
BUSY, BUSY_FOR_LONG = Fault(status=503), Fault(status=503, has_body=False, retry_after=3600)


@pytest.fixture
async def store(proxy: S3Proxy) -> AsyncIterator[S3Store]:
    """Two threads; an operation may take two seconds. There is a payload under KEY."""
    bucket = Bucket("payloads", proxy.address, ACCESS_KEY, SECRET_KEY, REGION, secure=False)
    store = S3Store(bucket, threads=2, patience=timedelta(seconds=2))
    await store.store(KEY, CONTENT)
    yield store
    await store.close()


async def list_keys(store: S3Store) -> list[str]:
    return [key async for key in store.iter_keys(datetime.now(UTC) + timedelta(minutes=1))]


@pytest.mark.parametrize("fault", [BUSY, BUSY_FOR_LONG, Fault(is_garbage=True), None], ids=["503", "503 bare", "garbage", "down"])
async def test_whatever_is_asked_of_it_is_our_trouble(store: S3Store, proxy: S3Proxy, fault: Fault | None) -> None:
    proxy.suffer(fault)
    upload = store.begin()
    upload.write(CONTENT)
    async with asyncio.timeout(30):
        attempts = (store.store(OTHER, CONTENT), upload.commit(OTHER), store.delete_many([KEY]), list_keys(store))
        for attempt in attempts:
            with pytest.raises(Unavailable):
                await attempt
        if fault is None or fault.status:  # a page instead of content: its checksum tells
            for asked in (store.fetch(KEY), store.delete(KEY)):
                with pytest.raises(Unavailable):
                    await asked
    proxy.heal()
    assert await store.fetch(KEY) == CONTENT
    with pytest.raises(MissingPayload):
        await store.fetch(OTHER)


async def test_a_server_that_is_busy_for_a_moment_is_asked_again(store: S3Store, proxy: S3Proxy) -> None:
    proxy.fault = Fault(status=503, times=2)
    assert await store.fetch(KEY) == CONTENT
    proxy.fault = Fault(status=503, times=2)
    await store.store(OTHER, CONTENT)
    assert await store.fetch(OTHER) == CONTENT
    await store.delete(OTHER)


@pytest.mark.parametrize("fault", [Fault(rate=1000), Fault(stalls=True)], ids=["1 KB/s", "silent after the head"])
async def test_slow_answers_end_in_time_and_leave_no_thread_behind(store: S3Store, proxy: S3Proxy, fault: Fault) -> None:
    proxy.suffer(fault)
    ended = await asyncio.gather(*(store.fetch(KEY) for _ in range(8)), return_exceptions=True)
    proxy.heal()
    assert [type(error) for error in ended] == [Unavailable] * 8
    # Both threads were at it: had they stayed with the slow answers, this would find none.
    assert await store.fetch(KEY) == CONTENT


async def test_no_answer_holds_a_thread_however_slowly_it_comes(proxy: S3Proxy, swift: Swift) -> None:
    bucket = Bucket("payloads", proxy.address, ACCESS_KEY, SECRET_KEY, REGION, secure=False)
    store = S3Store(bucket, threads=6, patience=timedelta(seconds=2))
    await store.store(KEY, CONTENT)
    upload = store.begin()
    upload.write(CONTENT)
    proxy.fault = Fault(rate=10, slows_head=True)
    operations = (
        store.fetch(KEY), store.store(OTHER, CONTENT), upload.commit(OTHER), store.delete(OTHER), store.delete_many([OTHER]),
        list_keys(store),
    )  # fmt: skip
    ended = await asyncio.gather(*operations, return_exceptions=True)
    assert [type(error) for error in ended] == [Unavailable] * 6
    await until(lambda: proxy.stalled == 6)
    # Listing and a removal of many may have their head at once.
    proxy.fault = Fault(rate=10)
    listed, removed = await asyncio.gather(list_keys(store), store.delete_many([OTHER]), return_exceptions=True)
    assert isinstance(listed, Unavailable)
    assert isinstance(removed, Unavailable)
    proxy.fault = None
    # The answers would go on for a minute: it is this side that has hung up.
    await until(lambda: proxy.under_way == 0, within=8)
    assert await asyncio.gather(*(store.fetch(KEY) for _ in range(6))) == [CONTENT] * 6
    await store.close()


async def test_a_server_that_takes_an_upload_slowly_is_not_waited_for(store: S3Store, proxy: S3Proxy) -> None:
    large = bytes(16 * 1024 * 1024)
    proxy.suffer(Fault(takes=1000))
    ended = await asyncio.gather(*(store.store(OTHER, large) for _ in range(4)), return_exceptions=True)
    assert [type(error) for error in ended] == [Unavailable] * 4
    proxy.fault = None
    assert await asyncio.gather(*(store.fetch(KEY) for _ in range(2))) == [CONTENT] * 2
    with pytest.raises(MissingPayload):
        await store.fetch(OTHER)


async def test_a_clock_that_is_behind_for_minutes_stops_nothing(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = datetime.now(UTC) - timedelta(minutes=10)
    monkeypatch.setattr("minio.time.utcnow", lambda: behind)
    upload = store.begin()
    upload.write(CONTENT)
    await upload.commit(OTHER)
    await store.store(KEY, CONTENT)
    assert await store.fetch(OTHER) == CONTENT
    await store.delete(OTHER)


async def test_what_ends_too_early_is_no_content(store: S3Store, proxy: S3Proxy) -> None:
    for kept in (0, 1, len(CONTENT) - 1):
        proxy.fault = Fault(keeps=kept)
        with pytest.raises(Unavailable):
            await store.fetch(KEY)


async def test_what_is_changed_on_the_way_there_is_refused(store: S3Store, proxy: S3Proxy) -> None:
    """A payload that is not the one that was accepted would be found when it is too late to ask for it again."""
    upload = store.begin()
    upload.write(CONTENT)
    proxy.fault = Fault(flips_request=True)
    for attempt in (store.store(OTHER, CONTENT), upload.commit(OTHER)):
        with pytest.raises(Unavailable, match="BadDigest"):
            await attempt
    proxy.fault = None
    with pytest.raises(MissingPayload):
        await store.fetch(OTHER)


async def test_what_is_changed_on_the_way_back_is_fetched_again(store: S3Store, proxy: S3Proxy) -> None:
    contents = Contents(store, "", domain="me.example")
    message = make_message(mime=..., key=KEY, sha256=hashlib.sha256(CONTENT).hexdigest())
    proxy.fault = Fault(flips_answer=True, times=1)
    assert isinstance(await contents.fetch(message), bytes)
    proxy.fault = Fault(flips_answer=True)
    found = await contents.fetch(message)
    assert isinstance(found, NoContent)
    assert (found.state, found.result) == (State.STORAGE, Result.INVALID)
