"""Threads that never keep a process alive."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared.storage.threads import Threads

ROOT = Path(__file__).parents[4]


async def test_work_is_done_and_errors_are_told() -> None:
    threads = Threads(2, "t")
    assert await asyncio.gather(*(threads.run(pow, 2, number) for number in range(20))) == [2**number for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("t-")}
    assert names <= {"t-1", "t-2"}
    await threads.close()
    with pytest.raises(RuntimeError, match="closed"):
        await threads.run(pow, 2, 2)


async def test_what_was_given_up_before_its_turn_is_not_begun() -> None:
    threads, busy = Threads(1, "t"), threading.Event()
    done: list[str] = []
    first = asyncio.ensure_future(threads.run(busy.wait))
    second = asyncio.ensure_future(threads.run(done.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    # Only then has the thread's own future heard of it.
    await asyncio.wait({second})
    busy.set()
    assert await first
    await threads.run(done.append, "third")
    assert done == ["third"]
    await threads.close()


async def test_what_is_started_is_done_before_the_end_and_at_once_after_it() -> None:
    threads = Threads(1, "t")
    done: list[int] = []
    for number in range(5):
        threads.start(done.append, number)
    await threads.close()
    assert done == [0, 1, 2, 3, 4]
    threads.start(done.append, 5)
    assert done[-1] == 5


def test_a_process_ends_although_all_threads_hang() -> None:
    program = """
import asyncio, socket
from shared.storage.threads import Threads

async def main():
    ours, _theirs = socket.socketpair()
    threads = Threads(8, "t")
    waiting = [asyncio.ensure_future(threads.run(ours.recv, 1)) for _ in range(20)]
    await asyncio.sleep(0)
    await threads.close(0.1)
    for one in waiting:
        one.cancel()
    # Look-ups have threads of their own.
    print((await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 25))[0][4])

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "('127.0.0.1', 25)\n"
