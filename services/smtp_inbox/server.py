"""Listening, watching the clock, and the end: stop listening, 421 to idle clients, finish the mails in hand."""

import asyncio
from functools import partial
from time import monotonic
from typing import Protocol

from services.smtp_inbox.arriving import BACKLOG, Arrivals, open_sockets
from services.smtp_inbox.conversation import Conversation
from services.smtp_inbox.door import Door
from services.smtp_inbox.settings import Listener, parse_listeners
from shared.log import get_logger
from shared.process import Runtime
from shared.trouble import BadSetting

log = get_logger()

TICK = 1.0
"""Seconds between two looks at the clocks of all connections."""


class Listening(Protocol):
    """What accepts connections."""

    def close(self) -> None:
        """Accept no more."""


class Server:
    """The listeners and their conversations."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._servers: list[Listening] = []

    async def listen(self, listener: Listener) -> str:
        """Listen on an address; returns it with the real port. Raises BadSetting."""
        loop = asyncio.get_running_loop()
        try:
            # All copies of the process share the port; the kernel deals connections out. Another user's process cannot join.
            sockets = await open_sockets(listener.host, listener.port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadSetting(f"inbound-smtp-listen: cannot listen on {listener.host}:{listener.port}: {reason}") from None
        addresses = ", ".join(f"{host}:{port}" for host, port, *_ in (one.getsockname() for one in sockets))
        if listener.is_tls or self.door.proxies:
            self._servers.append(Arrivals(self.door, listener, sockets))
            return addresses
        for one in sockets:
            self._servers.append(
                await loop.create_server(lambda: Conversation(self.door, loop, listener), sock=one, backlog=BACKLOG)
            )
        return addresses

    async def watch_clock(self) -> None:
        """End connections whose clients keep us waiting. Runs until cancelled."""
        min_rate = self.door.settings.inbound_smtp_min_rate
        while True:
            await asyncio.sleep(TICK)
            now = monotonic()
            for conversation in tuple(self.door.present):
                conversation.check_clock(now, min_rate)

    async def drain(self, timeout: float) -> None:
        """Stop listening, say goodbye, wait for the mails in hand; end what is left after ``timeout`` seconds."""
        for server in self._servers:
            server.close()
        for conversation in tuple(self.door.present):
            conversation.stop()
        if self.door.tasks:
            _, unfinished = await asyncio.wait(tuple(self.door.tasks), timeout=timeout)
            if unfinished:
                log.warning("stopped with mails in hand: their clients got no 250 and keep them", conversations=len(unfinished))
        for conversation in tuple(self.door.present):
            conversation.transport.close()
        # One turn of the loop writes the last replies.
        await asyncio.sleep(0.05)
        for conversation in tuple(self.door.present):
            conversation.abort()


async def serve_smtp(server: Server, runtime: Runtime) -> None:
    """Listen until the process is asked to stop, then finish what is in hand. Raises BadSetting."""
    settings = server.door.settings
    tasks = []
    try:
        for listener in parse_listeners(settings):
            address = await server.listen(listener)
            log.info("listening", address=address, tls=listener.is_tls, auth=listener.needs_auth)
        for work in (server.watch_clock(), server.door.publisher.run(runtime), server.door.local.follow()):
            task = asyncio.ensure_future(work)
            task.add_done_callback(partial(_report, runtime))
            tasks.append(task)
        await runtime.run_until_stopping()
    finally:
        await server.drain(settings.drain_timeout.total_seconds())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(runtime: Runtime, task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)
