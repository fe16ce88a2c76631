"""STARTTLS: what comes in clear, before or behind it, is never taken for what comes under TLS (RFC 3207 6, CVE-2011-0411)."""

import ssl
import threading

import pytest

from tests.integration.attacks.targets import INJECTED, Target, encode_plain
from tests.integration.smtp_inbox_process import Client

CLEAR = {
    "a command": b"RSET\r\n",
    "a greeting": b"EHLO clear.example\r\n",
    "a mail": b"EHLO clear.example\r\n" + INJECTED + b"DATA\r\n",
    "a login": f"AUTH PLAIN {encode_plain('evil', 'evil')}\r\n".encode(),
    "half a command": b"MAIL FROM:<evil@exam",
    "an empty line": b"\r\n",
    "an octet": b"x",
}
ALL = pytest.mark.parametrize("clear", CLEAR.values(), ids=CLEAR)


def say_hello_in_tls(target: Target) -> bytes:
    """The first octets of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = target.made.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    return outgoing.read()


def read_all(client: Client) -> bytes:
    """All that comes until the other side closes."""
    octets = b""
    try:
        while data := client.socket.recv(65536):
            octets += data
    except ConnectionResetError:
        pass
    return octets


@ALL
def test_behind_the_command(refusing: Target, clear: bytes) -> None:
    with refusing.inbox.hello() as client:
        client.send(b"STARTTLS\r\n" + clear)
        assert client.reply() == "554 5.5.0 Input behind a command that must be the last of its group"
        assert client.reply() == ""


@ALL
def test_behind_220_in_one_segment_with_the_handshake(refusing: Target, clear: bytes) -> None:
    with refusing.inbox.hello() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        client.send(clear + say_hello_in_tls(refusing))
        client.socket.shutdown(1)
        answer = read_all(client)
    # At most a fatal alert (RFC 8446 5.1: type 21): no record of a handshake, no reply to a command.
    assert answer[:1] in (b"", b"\x15")
    assert b"250" not in answer


@ALL
def test_behind_the_first_octets_of_the_handshake(refusing: Target, clear: bytes) -> None:
    with refusing.inbox.hello() as client:
        assert client.ask("STARTTLS").startswith("220 ")
        client.send(say_hello_in_tls(refusing) + clear)
        client.socket.shutdown(1)
        answer = read_all(client)
    assert b"250 " not in answer
    assert b"250-" not in answer


def test_whenever_it_comes(refusing: Target) -> None:
    """The clear text races with our 220: it is refused, or the handshake fails on it."""
    for number in range(30):
        with refusing.inbox.hello() as client:
            client.send(b"STARTTLS\r\n")
            timer = threading.Timer(number * 0.0001, client.send, [INJECTED])
            timer.start()
            reply = client.reply()
            timer.join()
            assert reply[:4] in ("220 ", "554 ")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                refusing.made.client_context().wrap_socket(client.socket, server_hostname="localhost")
    assert refusing.take() == []


def test_what_was_said_in_clear_is_forgotten(refusing: Target) -> None:
    with refusing.inbox.hello() as client:
        assert client.ask("MAIL FROM:<clear@example.com>").startswith("250 ")
        assert client.ask("RCPT TO:<b@example.org>").startswith("250 ")
        client.start_tls(refusing.made.client_context())
        assert client.ask("DATA").startswith("503 ")
        assert client.ask("MAIL FROM:<a@example.com>") == "503 5.5.1 EHLO comes first"


def test_a_second_starttls(refusing: Target) -> None:
    with refusing.secure() as client:
        assert client.ask("STARTTLS") == "503 5.5.1 No STARTTLS here and now"
        assert client.ask("NOOP") == "250 2.0.0 Ok"
