"""What seal-sender's client makes of services that misbehave, and of TLS."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from services.seal_sender.client import Ending, Misconfigured, SealClient
from services.seal_sender.settings import ServiceSettings
from shared.settings import load
from shared.wire.result import Result, State
from tests.support.certificates import Kind, make_certificates

MIME = "From: a@example.org\r\nSubject: secret\r\n\r\nhi\r\n"


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _offer(answer: Answer, context: ssl.SSLContext | None = None, options: Mapping[str, str] | None = None) -> Ending:
    """What the client tells of one mail to a service that behaves as ``answer`` says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
        port = server.sockets[0].getsockname()[1]
        scheme = "https" if context else "http"
        given = {"outbound-seal-addr": f"{scheme}://localhost:{port}", "outbound-seal-timeout": "1", **(options or {})}
        client = SealClient(load(ServiceSettings, options=given).settings)
        stack.push_async_callback(client.close)
        return await client.send(MIME.encode(), envelope="", recipient="ä@example.org", ident="id-1")


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(MIME))
    return head


def _saying(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        writer.write(text)
        await writer.drain()

    return answer


FINE = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{"id": "s1"}'


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (b"", Result.LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{", Result.INVALID),
        (b"220 mx.example ESMTP\r\n\r\n", Result.INVALID),
        (b"220 mx.example ESMTP\r\n", Result.LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Result.INVALID),
        (b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Result.ERROR),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000, Result.INVALID),
        (FINE, Result.ACCEPTED),
    ],
)
async def test_answers_that_are_none(text: bytes, result: Result) -> None:
    ending = await _offer(_saying(text))
    assert (ending.state, ending.result) == (State.MESSAGE, result)


async def test_an_answer_that_drips_ends_in_time() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b" ")
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)

    ending = await _offer(answer, options={"outbound-seal-connect-timeout": "0.2"})
    assert (ending.state, ending.result) == (State.MESSAGE, Result.TIMEOUT)


async def test_what_is_asked_of_the_service() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await _read_request(reader))
        writer.write(FINE)
        await writer.drain()

    options = {"outbound-seal-token": "t0ken", "outbound-seal-callback": "https://us.example/seal"}
    ending = await _offer(answer, options=options)
    assert (ending.code, ending.status, ending.description) == (250, "2.0.0", "sealed as s1")
    line, _, rest = asked[0].partition(b"\r\n")
    assert line == b"POST /v1/seal HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (one.partition(b": ") for one in rest.split(b"\r\n"))}
    assert headers[b"content-type"] == b"message/rfc822"
    assert headers[b"authorization"] == b"Bearer t0ken"
    assert headers[b"x-seal-recipient"] == "ä@example.org".encode()
    assert headers[b"x-seal-envelope"] == b""
    assert headers[b"x-seal-callback"] == b"https://us.example/seal"
    assert headers[b"idempotency-key"] == b"id-1"


async def test_a_certificate_that_does_not_match_is_a_failed_connection(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    for kind in (Kind.SELF_SIGNED, Kind.EXPIRED, Kind.MISMATCH):
        ending = await _offer(_saying(FINE), made.server_context(kind), {"outbound-seal-ca-file": str(made.ca)})
        assert (ending.state, ending.result) == (State.CONNECT, Result.ERROR)
        assert ending.description is not None
        assert "certificate" in ending.description


async def test_both_sides_show_a_certificate(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = made.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(made.ca)
    trusting = {"outbound-seal-ca-file": str(made.ca)}
    showing = {
        "outbound-seal-certificate": str(made.certificate(Kind.GOOD)),
        "outbound-seal-key": str(made.key(Kind.GOOD)),
    }
    ending = await _offer(_saying(FINE), context, trusting | showing)
    assert ending.result is Result.ACCEPTED
    assert ending.cipher is not None
    assert ending.cipher["version"].startswith("TLSv1.")
    assert ending.cipher["algbits"] >= 128
    assert (await _offer(_saying(FINE), context, trusting)).result is not Result.ACCEPTED


async def test_a_401_is_no_ending() -> None:
    with pytest.raises(Misconfigured):
        await _offer(_saying(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"))
