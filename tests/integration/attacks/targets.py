"""What is attacked, and with what: an smtp-inbox that would rather not give up, clients of any loopback address."""

import base64
import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.smtp_inbox_process import TIMEOUT, Client, Inbox, content_of, run_inbox, take_messages, without_received
from tests.support.certificates import Certificates, Kind, make_certificates

PASSWORD = "correct-horse-battery"
PATIENT = {"INBOUND_SMTP_MAX_ERRORS": "1000000", "INBOUND_SMTP_MAX_JUNK": "1000000"}
"""So that many attacks fit into one connection."""
INJECTED = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\n"
"""Commands that must never be run."""


class ClientFrom(Client):
    """A client of another loopback address."""

    def __init__(self, port: int, address: str, *, room: int = 0) -> None:
        """``room``: octets of replies that its system takes for it before it must read; 0: many."""
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT)
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.bind((address, 0))
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""


def encode_plain(name: str, password: str) -> str:
    """The initial response of AUTH PLAIN."""
    return base64.b64encode(f"\0{name}\0{password}".encode()).decode()


def write_users(path: Path) -> Path:
    """A users file with one user, ``app``, whose hash costs nothing."""
    digest = hashlib.scrypt(PASSWORD.encode(), salt=b"salt" * 4, n=2, r=1, p=1)
    salt, text = (base64.b64encode(octets).decode().rstrip("=") for octets in (b"salt" * 4, digest))
    path.touch(0o600)
    path.write_text(f"app:$scrypt$ln=1,r=1,p=1${salt}${text}\n")
    return path


def settings_with_auth(folder: Path) -> tuple[dict[str, str], Certificates]:
    """TLS, and AUTH that is not slowed down."""
    made = make_certificates(folder / "certificates")
    settings = {
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD)),
        "INBOUND_SMTP_AUTH": str(write_users(folder / "users")),
        "INBOUND_SMTP_AUTH_DELAY": "0",
        "INBOUND_SMTP_AUTH_MAX_FAILURES": "1000000",
        "INBOUND_SMTP_AUTH_MAX_FAILURES_PER_USER": "1000000",
    }
    return settings, made


class Target:
    """A process that takes mail for everybody from loopback, offers TLS and AUTH, and logs all it can."""

    def __init__(self, inbox: Inbox, amqp: str, made: Certificates) -> None:
        self.inbox = inbox
        self.amqp = amqp
        self.made = made

    def secure(self) -> Client:
        """A client under TLS that has said EHLO."""
        client = self.inbox.hello()
        client.start_tls(self.made.client_context())
        assert "250-AUTH PLAIN LOGIN" in client.ask("EHLO client.example")
        return client

    def take(self) -> list[dict[str, Any]]:
        """The mails that arrived, taken out of the queue."""
        return [document for document, _ in take_messages(self.amqp, "inbox")]

    def take_content(self) -> bytes:
        """The content of the one mail that arrived, as it was sent."""
        (document,) = self.take()
        return without_received(content_of(document))


@contextmanager
def open_target(folder: Path, amqp: str, **settings: str) -> Iterator[Target]:
    """A target that is ready."""
    with_auth, made = settings_with_auth(folder)
    with run_inbox(folder, amqp, LOG_LEVEL="debug", **PATIENT, **with_auth, **settings) as inbox:
        yield Target(inbox, amqp, made)
