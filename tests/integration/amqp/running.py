"""A consumer of ours in a task of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.process import Runtime
from tests.support.queues import Queues
from tests.support.waiting import until


class Running:
    """A running consumer; ``stop`` is what SIGTERM does."""

    def __init__(self, runtime: Runtime, task: asyncio.Task[None]) -> None:
        self.runtime = runtime
        self.task = task

    async def ready(self) -> None:
        """Wait until it consumes."""
        await until(lambda: self.runtime.ready or self.task.done(), within=10)
        assert not self.task.done(), self.task

    async def stop(self) -> None:
        """Ask it to stop and wait until it has."""
        self.runtime.stopping.set()
        await asyncio.wait_for(self.task, 20)

    async def end(self) -> BaseException | None:
        """What it ended with, by itself."""
        await asyncio.wait({self.task}, timeout=20)
        assert self.task.done()
        return self.task.exception()


Make = Callable[[Runtime, Publisher], Coroutine[Any, Any, None]]


@asynccontextmanager
async def running(settings: BrokerSettings, make: Make) -> AsyncIterator[Running]:
    """Run ``make(runtime, publisher)``, which is a consumer's ``run()``; afterwards it is gone, however it ended."""
    runtime = Runtime("test")
    publisher = await Publisher.open(settings, name="test", patience=5)
    one = Running(runtime, asyncio.ensure_future(make(runtime, publisher)))
    try:
        await one.ready()
        yield one
    finally:
        runtime.stopping.set()
        await asyncio.wait({one.task}, timeout=20)
        one.task.cancel()
        await asyncio.wait({one.task}, timeout=5)
        with suppress(asyncio.CancelledError):
            one.task.exception()
        await publisher.close()


async def deliver_in_vain(queues: Queues, queue: str, times: int) -> None:
    """Let everything in ``queue`` be delivered and never acked: ``x-delivery-count`` grows by ``times``."""
    for _ in range(times):

        async def take(channel: Any) -> None:
            while (await channel.basic_get(queue)).body:
                pass

        await queues.run_now(take)


async def empty(queues: Queues, queue: str) -> bool:
    """Nothing is ready in the queue."""
    return await queues.count_now(queue) == 0


async def holds(queues: Queues, queue: str, count: int) -> bool:
    """So many messages are ready in the queue."""
    return await queues.count_now(queue) == count
