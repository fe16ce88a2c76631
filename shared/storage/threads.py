"""Threads for work that blocks: a fixed number, apart from asyncio's own (which also do DNS), and never in the way of the process's end.

``concurrent.futures`` waits at the end of the process for whatever its threads do, and a store may be silent for a minute.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Task = tuple["Future[Any]", Callable[..., Any], tuple[object, ...]]


class Threads:
    """Runs work, first come, first served. A thread is started when there is work for it."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._under_way: set[Future[Any]] = set()
        self._is_closed = False

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """What ``work`` returns or raises. Cancelled before its turn, it is not begun. Raises RuntimeError when closed."""
        return await asyncio.wrap_future(self._submit(work, *args))

    def start(self, work: Callable[..., object], *args: object) -> None:
        """Have it done, without waiting; what it raises is dropped. Once closed, it is done here and now."""
        if self._is_closed:
            work(*args)
        else:
            self._submit(work, *args)

    async def close(self, patience: float = 1.0) -> None:
        """Take nothing new, and wait so many seconds for what is under way; what takes longer ends with the process."""
        with self._lock:
            self._is_closed = True
            waiting = [asyncio.wrap_future(future) for future in self._under_way]
        if waiting:
            # What becomes of it was told to whoever asked for it.
            done, _ = await asyncio.wait(waiting, timeout=patience)
            for future in done:
                with suppress(BaseException):
                    future.exception()
        for _ in range(self._started):
            self._queue.put(None)

    def _submit(self, work: Callable[..., T], *args: object) -> "Future[T]":
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"the threads of {self._name} are closed")
            self._under_way.add(future)
            if self._started < min(self._most, len(self._under_way)):
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        future.add_done_callback(self._forget)
        self._queue.put((future, work, args))
        return future

    def _forget(self, future: "Future[Any]") -> None:
        with self._lock:
            self._under_way.discard(future)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            future, work, args = task
            # Nothing of it may be kept while this thread waits for the next: a payload can be large.
            del task
            if future.set_running_or_notify_cancel():
                try:
                    outcome = work(*args)
                except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                    future.set_exception(error)
                else:
                    future.set_result(outcome)
                    del outcome
            del future, work, args
