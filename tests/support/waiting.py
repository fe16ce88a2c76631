"""Waiting for a condition instead of sleeping, and free ports."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar, cast, overload

T = TypeVar("T")


class NotInTime(AssertionError):
    """The condition did not come true in time; the text says what was waited for and what was seen last."""


def _describe(condition: Callable[[], object], what: str) -> str:
    if what:
        return what
    try:
        source = " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        source = getattr(condition, "__qualname__", repr(condition))
    return source[:200]


def _failure(condition: Callable[[], object], what: str, within: float, tries: int, last: object) -> NotInTime:
    return NotInTime(f"not within {within:g} s ({tries} tries): {_describe(condition, what)}; last seen: {last!r:.500}")


@overload
async def until(
    condition: Callable[[], Awaitable[T]],
    within: float = ...,
    every: float = ...,
    *,
    what: str = ...,
    tolerating: tuple[type[Exception], ...] = ...,
) -> T: ...
@overload
async def until(
    condition: Callable[[], T],
    within: float = ...,
    every: float = ...,
    *,
    what: str = ...,
    tolerating: tuple[type[Exception], ...] = ...,
) -> T: ...
async def until(
    condition: Callable[[], Awaitable[T] | T],
    within: float = 10.0,
    every: float = 0.05,
    *,
    what: str = "",
    tolerating: tuple[type[Exception], ...] = (),
) -> T:
    """The first truthy value of ``condition`` (a plain or an async function), asked every ``every`` seconds.

    ``what`` names the thing waited for, ``tolerating`` the exceptions that mean "not yet". Raises NotInTime after
    ``within`` seconds; a condition that never returns is cut off then, too.
    """
    tries, last = 0, object()
    end = time.monotonic() + within
    while True:
        tries += 1
        try:
            answer = condition()
            if inspect.isawaitable(answer):
                value = await asyncio.wait_for(cast("Awaitable[T]", answer), max(end - time.monotonic(), every))
            else:
                value = answer
            if value:
                return value
            last = value
        except TimeoutError as error:
            if time.monotonic() < end and not isinstance(error, tolerating):
                raise
            last = error
        except tolerating as error:
            last = error
        if time.monotonic() >= end:
            raise _failure(condition, what, within, tries, last)
        await asyncio.sleep(every)


def wait_until(
    condition: Callable[[], T],
    within: float = 10.0,
    every: float = 0.05,
    *,
    what: str = "",
    tolerating: tuple[type[Exception], ...] = (),
) -> T:
    """``until`` for code without an event loop."""
    tries, last = 0, object()
    end = time.monotonic() + within
    while True:
        tries += 1
        try:
            value = condition()
            if value:
                return value
            last = value
        except tolerating as error:
            last = error
        if time.monotonic() >= end:
            raise _failure(condition, what, within, tries, last)
        time.sleep(every)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """``count`` different TCP ports that were free on ``host`` a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) for _ in range(count)]
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]
