"""These tests run on uvloop, as the process does: its errors and transports differ from asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every coroutine test below this folder gets uvloop."""
    return {"uvloop": uvloop.new_event_loop}
