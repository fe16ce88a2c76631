"""The way in of connections that have something to do before they can talk: a PROXY header, a TLS handshake, or both in this order.

Each is counted from its first moment: what waits in a handshake is bounded like what talks.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from functools import partial

from services.smtp_inbox.connection import HANDSHAKE_TIMEOUT
from services.smtp_inbox.conversation import Conversation
from services.smtp_inbox.door import Door
from services.smtp_inbox.proxy import BadHeader, Remote, read_header
from services.smtp_inbox.relay import normalize_address
from services.smtp_inbox.settings import Listener
from shared.log import get_logger

log = get_logger()

BACKLOG = 512
TROUBLE_PAUSE = 1.0
"""Seconds to wait when the system has no more sockets for us."""


async def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on all addresses of the host, which copies of the process may share. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=True)
            sockets.append(one)
            one.setblocking(False)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


class Arrivals:
    """Accepts on the sockets of one listener, and lets conversations begin."""

    def __init__(self, door: Door, listener: Listener, sockets: Sequence[socket.socket]) -> None:
        self.sockets = sockets
        self._door = door
        self._listener = listener
        self._tls: ssl.SSLContext | None = door.tls if listener.is_tls else None
        self._loop = asyncio.get_running_loop()
        self._waiting: Counter[str] = Counter()
        """Connections per address that are not yet conversations."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.ensure_future(self._accept(one)) for one in sockets]

    def close(self) -> None:
        """Accept no more, and give up those that have not begun to talk."""
        for task in (*self._accepting, *self._tasks):
            task.cancel()
        for one in self.sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connected, address = await self._loop.sock_accept(listening)
            except OSError as error:
                log.error("cannot accept connections", reason=error.strerror or str(error))
                await asyncio.sleep(TROUBLE_PAUSE)
                continue
            if len(self._tasks) >= self._door.settings.inbound_smtp_max_connections:
                connected.close()
                continue
            # Nothing else is done here: what fails for one connection must not end the loop.
            task = asyncio.ensure_future(self._welcome(connected, address))
            self._tasks.add(task)
            task.add_done_callback(partial(self._forget, connected))

    def _forget(self, connected: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            connected.close()
        elif (error := task.exception()) is not None:
            connected.close()
            log.error("a connection was not let in", reason=repr(error))

    async def _welcome(self, connected: socket.socket, address: tuple[str, int]) -> None:
        remote = peer = Remote(str(normalize_address(address[0])), address[1])
        try:
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if peer.ip in self._door.proxies:
                remote = await read_header(connected) or peer._replace(is_proxy=True)
                remote = remote._replace(ip=str(normalize_address(remote.ip)))
            if self._tls is None:
                await self._begin(connected, remote)
                return
            if not self._has_room(remote.ip):
                log.warning("too many connections, closed before the handshake", client=remote.ip)
                connected.close()
                return
            self._waiting[remote.ip] += 1
            try:
                await self._begin(connected, remote)
            finally:
                self._waiting[remote.ip] -= 1
                if not self._waiting[remote.ip]:
                    del self._waiting[remote.ip]
        except BadHeader as error:
            connected.close()
            log.warning("no PROXY header, connection closed", client=peer.ip, reason=str(error))
        except OSError as error:  # ssl.SSLError and the handshake's TimeoutError are
            connected.close()
            log.info("connection lost before it began to talk", client=remote.ip, reason=str(error) or type(error).__name__)

    async def _begin(self, connected: socket.socket, remote: Remote) -> None:
        factory = partial(Conversation, self._door, self._loop, self._listener, remote)
        if self._tls is None:
            await self._loop.connect_accepted_socket(factory, connected)
        else:
            await self._loop.connect_accepted_socket(factory, connected, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT)

    def _has_room(self, client: str) -> bool:
        settings, peer = self._door.settings, self._door.peers.get(client)
        talking = peer.connections if peer else 0
        return (
            len(self._door.present) + self._waiting.total() < settings.inbound_smtp_max_connections
            and talking + self._waiting[client] < settings.inbound_smtp_max_connections_per_address
        )
