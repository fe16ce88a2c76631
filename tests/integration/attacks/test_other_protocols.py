"""HTTP at the SMTP port, SMTP at the HTTP port, TLS where there is none, and requests that two servers would cut in two ways."""

import socket
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.integration.attacks.targets import INJECTED, Target
from tests.integration.json_inbox_process import Inbox as Web
from tests.integration.smtp_inbox_process import CONTENT, TIMEOUT

SMTP = b"EHLO client.example\r\n" + INJECTED
VERBS = ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "get", "Post"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("waits", [True, False], ids=["greeted", "at once"])
def test_http_at_the_smtp_port(refusing: Target, verb: str, waits: bool) -> None:
    """A page that makes a browser send SMTP in the body of a form gets no reply to any of it."""
    with refusing.inbox.connect() as client:
        if waits:
            assert client.reply().startswith("220 ")
        client.send(f"{verb} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n".encode() + SMTP)
        reply = client.reply()
        while reply.startswith("220 "):
            reply = client.reply()
        assert reply == ""
    assert refusing.take() == []


def test_http_2_at_the_smtp_port(refusing: Target) -> None:
    with refusing.inbox.connect() as client:
        assert client.reply().startswith("220 ")
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMTP)
        assert client.reply() == ""


def test_smtp_in_the_headers_of_a_request_with_another_verb(refusing: Target) -> None:
    """Verbs that are none of HTTP's are errors, and each further line is looked at: none of them is content."""
    with refusing.inbox.connect() as client:
        assert client.reply().startswith("220 ")
        client.send(b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [client.reply()[:9] for _ in range(3)] == ["500 5.5.1"] * 3


OCTETS = {
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\0" * 200,
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n" + b"\0\0\1\x14",
    "RDP": bytes.fromhex("030000130ee000000000000100080000000000"),
    "AMQP": b"AMQP\0\0\x09\x01",
    "Postgres": bytes.fromhex("0000000804d2162f"),
    "zeros": b"\0" * 100_000,
    "every octet": bytes(range(256)) * 400,
    "SMTP": SMTP,
}


@pytest.mark.parametrize("octets", OCTETS.values(), ids=OCTETS)
def test_something_else_at_the_smtp_port(refusing: Target, octets: bytes) -> None:
    """Before the greeting: refused at once, if it is there in time; never taken for mail."""
    with refusing.inbox.connect() as client:
        client.send(octets)
        client.socket.shutdown(socket.SHUT_WR)
        replies = list(iter(client.reply, ""))
    assert not [reply for reply in replies if reply.startswith("354")]
    assert refusing.take() == []


@pytest.fixture
def raw(web: Web) -> Iterator[socket.socket]:
    """A connection to the HTTP port."""
    url = urlsplit(str(web.http.base_url))
    with closing(socket.create_connection((url.hostname or "", url.port or 0), TIMEOUT)) as one:
        yield one


def read_all(one: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    octets = b""
    try:
        while data := one.recv(65536):
            octets += data
    except ConnectionResetError:
        pass
    return octets


@pytest.mark.parametrize("octets", OCTETS.values(), ids=OCTETS)
def test_something_else_at_the_http_port(web: Web, raw: socket.socket, octets: bytes) -> None:
    raw.sendall(octets + b"DATA\r\n" + CONTENT + b".\r\n\r\n\r\n")
    raw.shutdown(socket.SHUT_WR)
    answer = read_all(raw)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert web.queues.take("inbox") == []


BODY = b'{"recipient":"b@example.org","envelope":"a@example.com","mime":"x"}'
HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HIDDEN = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67\r\n\r\n" + BODY
CHUNKED = b"0\r\n\r\n" + HIDDEN
REQUESTS = {
    "length and chunks": HEAD + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(CHUNKED) + CHUNKED,
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % len(CHUNKED) + CHUNKED,
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a signed length": HEAD + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "a length in hexadecimal": HEAD + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "a length beyond 64 bits": HEAD + b"Content-Length: 18446744073709551616\r\n\r\n" + HIDDEN,
    "an encoding that is none": HEAD + b"Transfer-Encoding: chunked, cow\r\n\r\n" + CHUNKED,
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED,
    "an encoding behind a tab": HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + CHUNKED,
    "LF alone": HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + HIDDEN,
    "CR alone": HEAD + b"X: y\rContent-Length: 0\r\n\r\n" + HIDDEN,
    "NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a chunk of a negative size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + HIDDEN,
    "a chunk of a huge size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + HIDDEN,
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_no_request_is_smuggled_in(web: Web, raw: socket.socket, request_: bytes) -> None:
    """What is hidden in a body must not be a request of its own for us when it is not for a proxy in front."""
    raw.sendall(request_)
    raw.shutdown(socket.SHUT_WR)
    answer = read_all(raw)
    assert b"HTTP/1.1 202 " not in answer, answer
    assert answer.count(b"HTTP/1.1 ") <= 1, answer
    assert web.queues.take("inbox") == []


def test_a_header_of_an_answer_cannot_be_split(web: Web) -> None:
    for path in (
        "/v1/messages/%0d%0aX-Evil:%201",
        "/v1/config/%0d%0aX-Evil:%201",
        "/%0d%0aX-Evil:%201",
        "/v1/config/x%00y",
        "/v1/pools/x%00y",
        "/v1/suppressions/x%00y",
    ):
        answer = web.http.get(path)
        assert answer.status_code in (400, 404, 405, 422), path
        assert "x-evil" not in answer.headers
        assert answer.headers["content-type"] == "application/problem+json"
