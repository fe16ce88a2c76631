"""smtp-inbox as a process behind a proxy: whose address counts, and who is not believed."""

import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Client, content_of, run_inbox, take_messages
from tests.support.certificates import Certificates, Kind, make_certificates
from tests.support.waiting import free_ports, wait_until

LISTED = {"INBOUND_SMTP_PROXY_FROM": "127.0.0.1", "SMTP_RANGE": "192.0.2.0/24,2001:db8::/64"}


def version_1(client: str, port: int = 4000) -> bytes:
    kind, target = ("TCP6", "2001:db8:1::25") if ":" in client else ("TCP4", "198.51.100.25")
    return f"PROXY {kind} {client} {target} {port} 25\r\n".encode()


def version_2(client: str, port: int = 4000) -> bytes:
    family, kind, target = (socket.AF_INET6, 0x21, "2001:db8:1::25") if ":" in client else (socket.AF_INET, 0x11, "198.51.100.25")
    addresses = socket.inet_pton(family, client) + socket.inet_pton(family, target) + struct.pack("!HH", port, 25)
    more = b"\x04\x00\x03abc"  # NOOP
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + bytes([kind]) + struct.pack("!H", len(addresses + more)) + addresses + more


HEADERS = (version_1, version_2)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"


def through(port: int, header: bytes) -> Client:
    """A client whose proxy has sent the header."""
    client = Client(port)
    client.send(header)
    return client


def test_the_clients_address_counts(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, **LISTED) as inbox:
        for header in HEADERS:
            with through(inbox.port, header("203.0.113.7")).greet() as stranger:
                assert stranger.ask("MAIL FROM:<a@example.com>").startswith("250")
                assert stranger.ask("RCPT TO:<b@example.org>").startswith("550 5.7.1")
            for client, shown in (("192.0.2.7", "[192.0.2.7]"), ("2001:db8::7", "[IPv6:2001:db8::7]")):
                with through(inbox.port, header(client)).greet() as smtp:
                    smtp.begin().send(CONTENT + b".\r\n")
                    assert smtp.reply().startswith("250-2.0.0")
                ((document, _),) = take_messages(vhost, "inbox")
                assert document["connection"]["remote-ip"] == client
                assert document["connection"]["remote-port"] == 4000
                assert content_of(document).startswith(f"Received: from client.example ({shown})\r\n".encode())
        for client in ("203.0.113.7", "192.0.2.7", "2001:db8::7"):
            wait_until(lambda client=client: inbox.log().count(f'"client":"{client}"') == 2)  # type: ignore[misc]


def test_limits_are_those_of_the_client_not_of_the_proxy(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, **LISTED, INBOUND_SMTP_MAX_CONNECTIONS_PER_ADDRESS="2") as inbox:
        clients = [through(inbox.port, version_1(f"192.0.2.{last}")).greet() for last in (1, 1, 2, 2)]
        with through(inbox.port, version_2("192.0.2.1")) as more:
            assert more.reply().startswith("421 4.7.0 Too many connections from your address")
        for client in clients:
            assert client.ask("NOOP").startswith("250")
            client.socket.close()


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["LOCAL", "UNKNOWN"])
def test_a_proxy_that_speaks_for_nobody_has_no_rights_of_its_own(vhost: str, tmp_path: Path, header: bytes) -> None:
    """Behind UNKNOWN may stand anybody; what is local is taken all the same."""
    settings = LISTED | {"SMTP_RANGE": "127.0.0.1", "LOCAL_DOMAINS": "local.example", "LOCAL_ROUTED": "true"}
    with run_inbox(tmp_path, vhost, **settings, INBOUND_SMTP_GREETING_DELAY="60") as inbox:
        with through(inbox.port, header).greet() as client:  # at once: checks of a proxy are not kept waiting
            assert client.ask("MAIL FROM:<a@example.com>").startswith("250")
            assert client.ask("RCPT TO:<b@example.org>") == "550 5.7.1 No relay for you"
            assert client.ask("RCPT TO:<b@local.example>").startswith("250")
            assert client.ask("DATA").startswith("354")
            client.send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
        ((document, _),) = take_messages(vhost, "inbox")
        assert document["connection"]["remote-ip"] == "127.0.0.1"
        # Whom it does name has his own rights, were it itself.
        with through(inbox.port, version_1("127.0.0.1")).greet() as client:
            client.begin().send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")


def test_a_listed_peer_without_a_header_hears_nothing(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, **LISTED) as inbox:
        for octets in (
            b"EHLO client.example\r\n",
            b"PROXY TCP4 192.0.2.1\r\n",
            version_1("192.0.2.1").replace(b"\r", b""),
            b"PROXY UNKNOWN " + b"x" * 100_000,
            version_2("192.0.2.1").replace(b"QUIT", b"QUIZ"),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with through(inbox.port, octets) as client:
                assert client.reply() == ""
        began = time.monotonic()
        with inbox.connect() as silent, through(inbox.port, version_1("192.0.2.1")).greet() as other:
            assert silent.reply() == ""
            assert 4 < time.monotonic() - began < 10
            assert other.ask("NOOP").startswith("250")
        assert inbox.log().count("no PROXY header, connection closed") == 7


@pytest.mark.parametrize("listed", ["", "198.51.100.1"])
def test_an_unlisted_peer_is_never_believed(vhost: str, tmp_path: Path, listed: str) -> None:
    """Nor may its clients do what it could: a proxy on this host that nobody has listed is no open relay."""
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_PROXY_FROM=listed, SMTP_RANGE="127.0.0.0/8,192.0.2.0/24") as inbox:
        for header in HEADERS:
            with through(inbox.port, header("192.0.2.1") + b"EHLO client.example\r\n") as client:
                # It may be greeted first: that depends on who is quicker.
                first = client.reply()[:3]
                assert first in ("500", "554") or (first == "220" and client.reply()[:3] == "500")
                _read_to_end(client)
            with inbox.hello() as client:  # later than its first line
                client.send(header("192.0.2.1"))
                _read_to_end(client)
        assert inbox.stop() == 0
        assert "192.0.2.1" not in inbox.log()


def _read_to_end(client: Client) -> None:
    while reply := client.reply():
        assert reply[:3] in ("500", "554")


def _tls(made: Certificates, port: int) -> dict[str, str]:
    return {
        "INBOUND_SMTP_LISTEN": f"smtps://127.0.0.1:{port}",
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD)),
        **LISTED,
    }


def test_the_header_comes_before_tls_in_one_segment_with_it(vhost: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    (port,) = free_ports(1)
    with run_inbox(tmp_path, vhost, **_tls(made, port)) as inbox:
        for header in HEADERS:
            with _Memory(port, made.client_context(), header("192.0.2.9")) as client:
                client.greet().begin().send(CONTENT + b".\r\n")
                assert client.reply().startswith("250-2.0.0")
            ((document, _),) = take_messages(vhost, "inbox")
            assert (document["connection"]["remote-ip"], document["connection"]["secure"]) == ("192.0.2.9", True)
        with Client(port) as direct, pytest.raises(OSError):  # noqa: PT011 - reset or closed in the handshake
            made.client_context().wrap_socket(direct.socket, server_hostname="localhost")
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)


class _Memory(Client):
    """A TLS client over memory: what it sends first can be put behind a header in the same segment."""

    def __init__(self, port: int, context: ssl.SSLContext, header: bytes) -> None:
        super().__init__(port)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.socket.sendall(header + self._out.read())
                header = b""
                self._in.write(self.socket.recv(65536))
        self.socket.sendall(self._out.read())

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self.socket.sendall(self._out.read())

    def reply(self) -> str:
        while True:
            try:
                self._buffer += self._tls.read()
            except ssl.SSLWantReadError:
                self._in.write(self.socket.recv(65536))
                continue
            lines = self._buffer.split(b"\r\n")
            if lines[-1] == b"" and len(lines) > 1 and lines[-2][3:4] != b"-":
                self._buffer = b""
                return b"\n".join(lines[:-1]).decode()


def test_swaks(vhost: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    smtps, relay = free_ports(2)
    settings = _tls(made, smtps)
    settings["INBOUND_SMTP_LISTEN"] += f",relay://127.0.0.1:{relay}"
    with run_inbox(tmp_path, vhost, **settings):
        for version in ("1", "2"):
            for port, more in ((relay, []), (relay, ["--tls"]), (smtps, ["--tls-on-connect"])):
                done = _swaks(port, version, *more)
                assert done.returncode == 0, done.stdout
                ((document, _),) = take_messages(vhost, "inbox")
                assert (document["connection"]["remote-ip"], document["connection"]["remote-port"]) == ("192.0.2.55", 4321)


def _swaks(port: int, version: str, *more: str) -> "subprocess.CompletedProcess[str]":
    family = "TCP4" if version == "1" else "AF_INET"
    proxy = ["--proxy-version", version, "--proxy-family", family, "--proxy-source", "192.0.2.55", "--proxy-source-port", "4321"]
    proxy += ["--proxy-dest", "198.51.100.25", "--proxy-dest-port", "25"]
    command = ["swaks", "--server", f"127.0.0.1:{port}", "--from", "a@example.com", "--to", "b@example.org", *proxy, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
