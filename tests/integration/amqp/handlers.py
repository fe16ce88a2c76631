"""A handler that notes what it gets, and a consumer that runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from shared.amqp.consumer import Consumer
from shared.amqp.frame import Frame
from shared.amqp.settings import BrokerSettings
from shared.wire.publication import Publication, Step
from tests.integration.amqp.running import Running, running

Handle = Callable[[Frame], Awaitable[Step]]
SUCCESS = "success"


class Handler:
    """Notes what it gets, and publishes it to ``key``."""

    def __init__(self, key: str = SUCCESS) -> None:
        self.key = key
        self.frames: list[Frame] = []

    async def __call__(self, frame: Frame) -> Step:
        self.frames.append(frame)
        return Step((Publication(self.key, frame.body),))

    @property
    def bodies(self) -> list[bytes]:
        return [frame.body for frame in self.frames]


def consuming(settings: BrokerSettings, handle: Handle, **changes: Any) -> AbstractAsyncContextManager[Running]:
    given = settings.model_copy(update=changes)
    return running(given, lambda runtime, publisher: Consumer(given, runtime, publisher, handle, home="inbox").run())
