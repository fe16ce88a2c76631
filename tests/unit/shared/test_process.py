"""The life of a process, as far as one need not be started."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from shared.process import Runtime, split_address
from shared.trouble import BadSetting, BrokerLost


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:25", ("::1", 25)),
        (":8080", ("", 8080)),
        ("host:65535", ("host", 65535)),
    ],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address, "metrics-addr") == parts


@pytest.mark.parametrize("address", ["", "host", "host:", "host:http", "host:65536", "host:-1", "host:２５", "host:1.5"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(BadSetting, match=r"^metrics-addr: .*: expected host:port$"):
        split_address(address, "metrics-addr")


async def test_a_pause_ends_when_the_process_is_asked_to_stop() -> None:
    runtime = Runtime("test")
    began = time.monotonic()
    await runtime.pause(timedelta(seconds=0.05))
    assert time.monotonic() - began >= 0.05
    asyncio.get_running_loop().call_later(0.01, runtime.stopping.set)
    began = time.monotonic()
    await runtime.pause(timedelta(seconds=60))
    assert time.monotonic() - began < 5


async def test_the_first_failure_counts() -> None:
    runtime = Runtime("test")
    runtime.raise_failure()
    runtime.fail(BrokerLost("first"))
    runtime.fail(ZeroDivisionError("second"))
    with pytest.raises(BrokerLost, match="first"):
        runtime.raise_failure()
    with pytest.raises(BrokerLost, match="first"):
        await asyncio.wait_for(runtime.run_until_stopping(), 1)


async def test_run_until_stopping() -> None:
    runtime = Runtime("test")
    waiting = asyncio.ensure_future(runtime.run_until_stopping())
    await asyncio.sleep(0)
    assert not waiting.done()
    runtime.stopping.set()
    await asyncio.wait_for(waiting, 1)
