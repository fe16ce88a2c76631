"""smtp-inbox as a real process for its tests, a raw SMTP client that can misbehave, and a look into the queues."""

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika

from tests.support.queues import unbundle
from tests.support.waiting import free_ports, wait_until

ROOT = Path(__file__).parents[2]
TIMEOUT = 15
CONTENT = b"From: a@example.com\r\nSubject: hello\r\n\r\ntext\r\n"


class Client:
    """A raw SMTP client: sends octets, reads replies."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._buffer = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        self.socket.sendall(data)

    def reply(self) -> str:
        """The next reply, its lines joined by newlines; "" when the connection was closed."""
        lines = []
        while True:
            while b"\r\n" not in self._buffer:
                try:
                    data = self.socket.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return ""
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    def ask(self, command: str) -> str:
        """One command and its reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def greet(self) -> "Client":
        """Read the greeting, say EHLO."""
        assert self.reply().startswith("220 ")
        assert self.ask("EHLO client.example").startswith("250-")
        return self

    def begin(self, *recipients: str, reverse_path: str = "a@example.com") -> "Client":
        """Everything up to 354."""
        assert self.ask(f"MAIL FROM:<{reverse_path}>").startswith("250 ")
        for recipient in recipients or ("b@example.org",):
            assert self.ask(f"RCPT TO:<{recipient}>").startswith("250 ")
        assert self.ask("DATA").startswith("354 ")
        return self

    def start_tls(self, context: ssl.SSLContext) -> None:
        """STARTTLS and the handshake."""
        assert self.ask("STARTTLS").startswith("220 ")
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")


class Inbox:
    """The process."""

    def __init__(self, settings: dict[str, str], log: Path) -> None:
        self.port, metrics = free_ports(2)
        self.metrics = f"http://127.0.0.1:{metrics}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("INBOUND_", "RABBITMQ_"))}
        self.environment = environment | {
            "INBOUND_SMTP_LISTEN": f"relay://127.0.0.1:{self.port}",
            "INBOUND_SMTP_PUBLIC_HOSTNAME": "mx.example",
            "METRICS_ADDR": f"127.0.0.1:{metrics}",
            "RABBITMQ_DECLARE": "true",
            "ACCEPTED_DIR": f"{log.parent}/accepted",
            **settings,
        }
        self._log = log
        self.process = self.start()

    def start(self, **settings: str) -> "subprocess.Popen[bytes]":
        """Start a process with these settings (the first one, or a further copy)."""
        with self._log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "services.smtp_inbox"], cwd=ROOT, env=self.environment | settings, stderr=file
            )

    def fetch(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the process."""
        try:
            with urllib.request.urlopen(self.metrics + path, timeout=TIMEOUT) as answer:  # noqa: S310 - our own http address
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        _, page = self.fetch("/metrics")
        return float(next(line.split()[1] for line in page.splitlines() if line.split()[0] == name))

    def wait_ready(self, status: int = 200) -> None:
        """Wait until /readiness answers so."""
        wait_until(lambda: self.fetch("/readiness")[0] == status, 30, what=f"/readiness: {status}", tolerating=(OSError,))

    def peak_memory(self) -> int:
        """Bytes of resident memory at most, so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024

    def log(self) -> str:
        """What the process has logged."""
        return self._log.read_text()

    def connect(self) -> Client:
        """A client that has not yet read the greeting."""
        return Client(self.port)

    def hello(self) -> Client:
        """A client that has said EHLO."""
        return self.connect().greet()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the process; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(35)


class Link:
    """A TCP connection to the broker that can be cut and frozen."""

    def __init__(self, amqp: str) -> None:
        url = urlsplit(amqp)
        assert url.hostname is not None
        assert url.port is not None
        self._broker = (url.hostname, url.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        port = self._server.getsockname()[1]
        self.amqp = urlunsplit(url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{port}"))
        self._ends: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._is_up = True
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.thaw()
        self.cut()
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
        for end in (self._server, *self._ends):
            end.close()

    def cut(self) -> None:
        """End all connections, refuse new ones."""
        self._is_up = False
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let new connections through."""
        self._is_up = True

    def freeze(self) -> None:
        """Pass nothing on, in both directions; connections stay."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on again, what has waited first."""
        self._flows.set()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if not self._is_up:
                client.close()
                continue
            broker = socket.create_connection(self._broker)
            self._ends += [client, broker]
            for source, target in ((client, broker), (broker, client)):
                self._start(self._pump, source, target)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def run_inbox(folder: Path, amqp: str, **settings: str) -> Iterator[Inbox]:
    """A process that is ready."""
    inbox = Inbox({"RABBITMQ_ADDRESS": amqp, "STORAGE_URL": f"dir://{folder}/payloads", **settings}, folder / "log")
    try:
        inbox.wait_ready()
        yield inbox
    finally:
        inbox.stop(signal.SIGKILL)


def content_of(document: dict[str, Any]) -> bytes:
    """The content that rides in a message."""
    return base64.b64decode(document["mime64"]) if "mime64" in document else document["mime"].encode()


def without_received(content: bytes) -> bytes:
    """The content without the one header that was prepended."""
    assert content.startswith(b"Received: from client.example ([127.0.0.1])\r\n\tby mx.example with ESMTP")
    end = content.index(b"\r\n")
    while content[end + 2 : end + 3] in (b" ", b"\t"):
        end = content.index(b"\r\n", end + 2)
    return content[end + 2 :]


def take_messages(amqp: str, queue: str) -> list[tuple[dict[str, Any], Any]]:
    """All messages of the queue, records one by one, taken out: (JSON, AMQP properties)."""
    messages: list[tuple[dict[str, Any], Any]] = []
    with closing(pika.BlockingConnection(pika.URLParameters(amqp))) as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return messages
            messages.extend((json.loads(one), properties) for one in unbundle(body))
