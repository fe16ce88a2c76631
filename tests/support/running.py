"""Runs one of these servers as a process: prints where it listens, ends cleanly on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import uvloop


class Listening(Protocol):
    """What a running server must be able to tell."""

    @property
    def addresses(self) -> Sequence[str]:
        """Every ``host:port`` it listens on, with the real port."""


async def _serve(name: str, server: AbstractAsyncContextManager[Listening]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server as running:
        for address in running.addresses:
            print(f"{name} listening on {address}", flush=True)
        await stop.wait()


def run_until_signal(name: str, server: AbstractAsyncContextManager[Listening]) -> None:
    """Serve under uvloop until SIGTERM or SIGINT; one line ``NAME listening on HOST:PORT`` per address once it is up."""
    try:
        uvloop.run(_serve(name, server))
    except OSError as error:
        raise SystemExit(f"{name}: {error}") from None
