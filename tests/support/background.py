"""Servers of this package beside synchronous code: an event loop in a thread that enters async context managers."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds for one server to start, or for all to stop."""


class Background:
    """Use as ``with``; leaving it leaves every context that was entered, newest first."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="background", daemon=True)
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop all servers and the thread."""
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Start a server: ``background.enter(ScriptedMx(folder))``."""
        return asyncio.run_coroutine_threadsafe(self._stack.enter_async_context(context), self._loop).result(PATIENCE)
