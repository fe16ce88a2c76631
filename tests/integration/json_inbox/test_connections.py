"""json-inbox below its requests: how many connections, how large a head, how long a wait, how much memory for bodies."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from uvicorn.server import ServerState

from services.json_inbox import connections
from services.json_inbox.connections import MOST_HEAD, Crowd, HttpProtocol
from shared.loopback import is_loopback
from tests.integration.json_inbox_process import Inbox, run_inbox
from tests.stack import Stack
from tests.support.waiting import free_ports, wait_until

GET = b"GET /liveness HTTP/1.1\r\nHost: localhost\r\n\r\n"


def own_address() -> str:
    """An address of this machine that is not loopback: whoever connects to it comes from it."""
    found = [one.address for many in psutil.net_if_addrs().values() for one in many if one.family == socket.AF_INET]
    return next(address for address in found if not is_loopback(address))


@pytest.fixture(scope="module")
def inbox(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """One process for the whole module, with little room."""
    more = {
        "HTTP_LISTEN": f"0.0.0.0:{free_ports(1)[0]}",
        "HTTP_CLEARTEXT": "true",
        "HTTP_MAX_CONNECTIONS": "12",
        "HTTP_MAX_CONNECTIONS_PER_ADDRESS": "4",
        "HTTP_MAX_MEMORY": "1000000",
    }
    with run_inbox(servers, database_template, tmp_path_factory.mktemp("payloads"), more) as running:
        yield running


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


class Link:
    """A connection to the process."""

    def __init__(self, inbox: Inbox, host: str = "127.0.0.1") -> None:
        port = inbox.http.base_url.port
        assert port is not None
        self.socket = socket.create_connection((host, port), timeout=20)

    def ask(self, request: bytes = GET) -> bytes:
        """The answer; what there is of it when the connection is closed."""
        told = b""
        try:
            self.socket.sendall(request)
            while not is_whole(told) and (piece := self.socket.recv(65536)):
                told += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return told

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def is_admitted(inbox: Inbox, host: str) -> bool:
    with Link(inbox, host) as link:
        return link.ask().startswith(b"HTTP/1.1 200 ")


def test_an_address_has_so_many_connections(inbox: Inbox) -> None:
    far = own_address()
    with ExitStack() as stack:
        links = [stack.enter_context(Link(inbox, far)) for _ in range(4)]
        assert [link.ask()[:12] for link in links] == [b"HTTP/1.1 200"] * 4
        with Link(inbox, far) as fifth:
            told = fifth.socket.recv(65536)
            assert told.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            assert json.loads(told.partition(b"\r\n\r\n")[2])["detail"] == "too many connections from your address"
            assert fifth.socket.recv(1) == b""
        # Others are not concerned, and those that are in stay.
        assert is_admitted(inbox, "127.0.0.1")
        assert [link.ask()[:12] for link in links] == [b"HTTP/1.1 200"] * 4
        links[0].socket.close()
        wait_until(lambda: is_admitted(inbox, far), what="room for another one")


def test_this_machine_may_have_more_but_not_without_end(inbox: Inbox) -> None:
    inbox.http.close()
    with ExitStack() as stack:
        links = [stack.enter_context(Link(inbox)) for _ in range(12)]
        assert [link.ask()[:12] for link in links] == [b"HTTP/1.1 200"] * 12
        assert not is_admitted(inbox, "127.0.0.1")
    wait_until(lambda: is_admitted(inbox, "127.0.0.1"), what="room for another one")


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + b"x" * 100,
        b"GET / HTTP/1.1\r\nX-Long: ",
        b"GET / HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 50,
        b"POST /v1/config HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        b"POST /v1/config HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: ",
    ],
    ids=["address", "header", "headers", "extension of a chunk", "trailer"],
)
def test_a_head_without_end_is_cut_off(inbox: Inbox, start: bytes) -> None:
    before = psutil.Process(inbox.process.pid).memory_info().rss
    more = (b"X-Many: 1\r\n" if b"Many" in start else b"x" * 11) * 10_000
    sent = 0
    with Link(inbox) as link:
        link.socket.sendall(start)
        with suppress(ConnectionResetError, BrokenPipeError):
            while sent < 50_000_000:
                link.socket.sendall(more)
                sent += len(more)
    # What was sent stands in the buffers of the kernel.
    assert sent < 30_000_000
    assert psutil.Process(inbox.process.pid).memory_info().rss - before < 10_000_000
    assert is_admitted(inbox, "127.0.0.1")


def test_a_large_head_and_none_at_all_are_told(inbox: Inbox) -> None:
    with Link(inbox) as link:
        told = link.ask(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * (MOST_HEAD + 1))
        assert told.startswith(b"HTTP/1.1 431 ")
    for text in (
        b"HELO x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"CONNECT x:25 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        with Link(inbox) as link:
            told = link.ask(text)
        head, _, body = told.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 "), text
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == 400
    with Link(inbox) as link:
        assert link.ask(b"GET /liveness HTTP/1.1\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        # One after the other, on the same connection, many in one piece.
        link.socket.sendall(GET * 2000)
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < 2000:
            answers += link.socket.recv(65536)


@pytest.mark.parametrize("path", ["/v1/config", "/v1/suppressions", "/v1/actions"])
def test_bodies_of_all_calls_are_counted(inbox: Inbox, path: str) -> None:
    url = f"http://127.0.0.1:{inbox.http.base_url.port}/v1/suppressions"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with Link(inbox) as link:
        link.socket.sendall(head.encode() + b"[")
        with pytest.raises(httpx.ReadTimeout):
            # Whoever asks waits while all the room is taken; what needs none is answered.
            wait_until(lambda: httpx.post(url, json={"name": "a@example.org"}, timeout=0.5).is_error, what="the room to be taken")
        assert is_admitted(inbox, "127.0.0.1")
        link.socket.sendall(b" " * 999_999)
        assert link.socket.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert httpx.post(url, json={"name": "a@example.org"}).is_success


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The protocol alone, in a hurry, in front of an application that answers at once or after half a second."""
    monkeypatch.setattr(connections, "IDLE", 0.2)

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, timeout_keep_alive=5)
    config.load()
    make = partial(HttpProtocol, config=config, server_state=ServerState(), app_state={}, crowd=Crowd(10, 10))
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
BEGINS: dict[str, tuple[bytes, bytes, bytes]] = {
    "nothing": (b"", b"", b""),
    "half a head": (b"GET / HTT", b"", b"HTTP/1.1 408 "),
    "half a second head": (b"GET / HTTP/1.1\r\n\r\n", b"GET / H", b"HTTP/1.1 408 "),
    "half a head behind a slow request": (b"GET /slow HTTP/1.1\r\n\r\nGET / H", b"", b"HTTP/1.1 408 "),
    "an empty line": (b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b""),
    "half a body that nobody reads": (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"x", b""),
}


@pytest.mark.parametrize("name", BEGINS)
async def test_whoever_says_nothing_more_is_sent_away(port: int, name: str) -> None:
    sent, later, told = BEGINS[name]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    # Less than the five seconds after which uvicorn ends a connection at rest.
    async with asyncio.timeout(4):
        if b"\r\n" in sent:
            assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.write(later)
        last = await reader.read()
    assert last.startswith(told)
    assert bool(last) == bool(told)
    writer.close()


def test_places_are_given_back() -> None:
    crowd = Crowd(5, 2)
    assert [crowd.enter(address) for address in ("192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2")] == [None] * 4
    assert crowd.enter("192.0.2.1") == crowd.enter("2001:db8::3") == "too many connections from your address"
    assert crowd.enter("127.0.0.1") is None
    assert crowd.enter("127.0.0.1") == "too many connections: come again"
    for address in ("192.0.2.1", "127.0.0.1", "2001:db8::1"):
        crowd.leave(address)
    assert crowd.enter("192.0.2.1") is crowd.enter("2001:db8:0:0:9::") is crowd.enter("::1") is None
    assert crowd.enter("::1") == "too many connections: come again"
