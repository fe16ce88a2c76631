"""Work that is cut off, on connections as an S3 gets them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from shared.storage.errand import Errand
from shared.storage.s3_http import open_pool
from shared.storage.threads import Threads
from shared.trouble import Unavailable
from tests.support.certificates import make_certificates

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


class SilentServer:
    """Begins every answer and never goes on, until the client hangs up."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.answering, self.left = threading.Event(), threading.Event()
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.connections += 1
                with closing(self._context.wrap_socket(peer, server_side=True) if self._context else peer) as peer:
                    peer.recv(65536)
                    peer.sendall(HEAD)
                    self.answering.set()
                    with suppress(OSError):
                        peer.recv(1)
                    self.left.set()


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, SilentServer]]:
    certificates = make_certificates(tmp_path)
    monkeypatch.setattr("certifi.where", lambda: str(certificates.ca))
    with closing(SilentServer(certificates.server_context() if request.param == "https" else None)) as server:
        yield f"{request.param}://127.0.0.1:{server.port}/", server


async def test_what_waits_for_an_answer_ends_at_once_and_is_not_tried_again(server: tuple[str, SilentServer]) -> None:
    url, peer = server
    threads, errand, pool = Threads(1, "t"), Errand(), open_pool(1, timedelta(minutes=5))
    request = asyncio.ensure_future(threads.run(errand.run, pool.request, "GET", url))
    assert await asyncio.to_thread(peer.answering.wait, 10)
    errand.cut_off()
    with pytest.raises(Unavailable, match="cut off"):
        await asyncio.wait_for(request, 10)
    assert await asyncio.to_thread(peer.left.wait, 10)
    assert peer.connections == 1
    await threads.close()


async def test_what_was_cut_off_before_its_first_request_makes_none(server: tuple[str, SilentServer]) -> None:
    url, peer = server
    errand, pool = Errand(), open_pool(1, timedelta(minutes=5))
    errand.cut_off()
    with pytest.raises(Unavailable, match="cut off"):
        await asyncio.to_thread(errand.run, pool.request, "GET", url)
    assert peer.connections == 0


async def test_what_has_ended_cannot_be_cut_off() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        errand = Errand()
        errand.run(errand.use, ours)
        errand.cut_off()
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
