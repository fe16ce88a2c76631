"""smtp-inbox as a process: what it does when something of ours is down, and how it starts and ends."""

import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pika
import pytest

from tests.integration.smtp_inbox_process import CONTENT, Client, Inbox, Link, run_inbox, take_messages
from tests.support.certificates import Kind, make_certificates
from tests.support.waiting import free_ports, wait_until


def test_no_queue_for_the_mail_means_451_and_no_record(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        with closing(pika.BlockingConnection(pika.URLParameters(vhost))) as connection:
            connection.channel().queue_delete("inbox")
        with inbox.hello().begin() as client:
            client.send(CONTENT + b".\r\n")
            assert client.reply() == "451 4.3.0 Cannot take this mail now, try again later"
        assert take_messages(vhost, "records") == []
        assert "no queue is bound" in inbox.log()


def test_a_store_out_of_order_means_451(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        store = tmp_path / "payloads"
        store.rename(tmp_path / "moved")
        store.write_text("no folder")
        with inbox.hello().begin() as client:
            client.send(b"x" * 150_000 + b"\r\n.\r\n")
            assert client.reply() == "451 4.3.0 Cannot take this mail now, try again later"
            client.begin().send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
        assert len(take_messages(vhost, "inbox")) == 1


def test_rabbitmq_gone_means_451_until_it_is_back(vhost: str, tmp_path: Path) -> None:
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp) as inbox:
        busy, other = inbox.hello().begin(), inbox.hello()
        busy.send(CONTENT)
        link.cut()
        inbox.wait_ready(503)
        busy.send(b".\r\n")
        assert busy.reply() == "451 4.3.0 Cannot take this mail now, try again later"
        assert other.ask("MAIL FROM:<a@example.com>") == "451 4.3.0 Cannot take mail now, try again later"
        link.mend()
        inbox.wait_ready()
        for client in (busy, other):
            client.begin().send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.socket.close()
        assert len(take_messages(vhost, "inbox")) == 2


def test_a_connection_lost_before_the_confirm_means_451(vhost: str, tmp_path: Path) -> None:
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp) as inbox, inbox.hello().begin() as client:
        link.freeze()
        client.send(CONTENT + b".\r\n")
        wait_until(lambda: inbox.metric("smtp_incoming_total") == 1)
        link.cut()
        assert client.reply() == "451 4.3.0 Cannot take this mail now, try again later"
        assert inbox.metric("smtp_incoming_stored") == 0


def test_a_silent_rabbitmq_holds_the_mail_in_hand_and_lets_no_other_in(vhost: str, tmp_path: Path) -> None:
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp) as inbox:
        waiting, other = inbox.hello().begin(), inbox.hello()
        link.freeze()
        waiting.send(CONTENT + b".\r\n")

        def is_refused() -> bool:
            reply = other.ask("MAIL FROM:<a@example.com>")
            return reply.startswith("451 4.3.0") or not other.ask("RSET")

        wait_until(is_refused, 14, every=0.5)
        link.thaw()
        assert waiting.reply().startswith("250-2.0.0")
        other.begin().send(CONTENT + b".\r\n")
        assert other.reply().startswith("250-2.0.0")
        for client in (waiting, other):
            client.socket.close()
        assert len(take_messages(vhost, "inbox")) == 2


def test_a_client_that_has_left_is_counted_and_its_mail_is_not_lost(vhost: str, tmp_path: Path) -> None:
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp) as inbox:
        link.freeze()
        with inbox.hello().begin() as client:
            client.send(CONTENT + b".\r\n")
            wait_until(lambda: inbox.metric("smtp_incoming_total") == 1)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
        link.thaw()
        wait_until(lambda: inbox.metric("smtp_inbox_unread_replies_total") == 1)
        assert inbox.metric("smtp_incoming_stored") == 1
        assert len(take_messages(vhost, "inbox")) == 1


def test_copies_share_a_port(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        copy = inbox.start(METRICS_ADDR="")
        try:
            wait_until(lambda: inbox.log().count("connected to RabbitMQ") == 2)
            inbox.stop()
            with inbox.hello().begin() as client:
                client.send(CONTENT + b".\r\n")
                assert client.reply().startswith("250-2.0.0")
        finally:
            copy.kill()
            copy.wait()


@pytest.mark.parametrize("scheme", ["relay", "smtps"])
def test_workers_share_a_port_and_the_clients(vhost: str, tmp_path: Path, scheme: str) -> None:
    made = make_certificates(tmp_path / "certificates")
    (port,), metrics = free_ports(1), _free_pair()
    environment = os.environ | {
        "RABBITMQ_ADDRESS": vhost,
        "RABBITMQ_DECLARE": "true",
        "STORAGE_URL": f"dir://{tmp_path}/payloads",
        "ACCEPTED_DIR": f"{tmp_path}/accepted",
        "INBOUND_SMTP_LISTEN": f"{scheme}://127.0.0.1:{port}",
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD)),
        "METRICS_ADDR": f"127.0.0.1:{metrics}",
    }
    command = [sys.executable, "-m", "services.cli", "run", "smtp-inbox", "--workers", "2"]

    def sessions() -> list[float]:
        return [_read_metric(f"http://127.0.0.1:{metrics + worker}/metrics", "smtp_inbox_sessions") for worker in (0, 1)]

    def connect() -> Client:
        client = Client(port)
        if scheme == "smtps":
            client.socket = made.client_context().wrap_socket(client.socket, server_hostname="localhost")
        return client.greet()

    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
    try:
        wait_until(lambda: all(_is_ready(f"http://127.0.0.1:{metrics + worker}") for worker in (0, 1)), 30)
        clients = [connect() for _ in range(40)]  # dealt out by the kernel: all to one is 2 to the power of -40
        assert sum(sessions()) == 40
        assert min(sessions()) > 0
        for client in clients:
            client.begin().send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.socket.close()
        assert len(take_messages(vhost, "inbox")) == 40
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == 0
        with pytest.raises(ConnectionRefusedError):
            Client(port)
    finally:
        parent.kill()
        parent.wait()


def _is_ready(address: str) -> bool:
    try:
        with urlopen(f"{address}/readiness", timeout=5) as answer:  # noqa: S310 - our own http address
            return bool(answer.status == 200)
    except HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def _read_metric(url: str, name: str) -> float:
    with urlopen(url, timeout=5) as answer:  # noqa: S310 - our own http address
        return next(float(line.split()[1]) for line in answer.read().decode().splitlines() if line.split()[0] == name)


def _free_pair() -> int:
    """A port that is free, and the one after it, too."""
    while True:
        (port,) = free_ports(1)
        with socket.socket() as next_one:
            try:
                next_one.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
        return port


def test_sigterm_ends_idle_clients_and_finishes_the_mail_in_hand(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        idle, busy = inbox.hello(), inbox.hello().begin()
        busy.send(CONTENT)
        inbox.process.send_signal(signal.SIGTERM)
        assert idle.reply().startswith("421 4.3.2")
        assert idle.reply() == ""
        with pytest.raises(ConnectionRefusedError):
            inbox.connect()
        idle.socket.close()
        busy.send(b".\r\n")
        assert busy.reply().startswith("250-2.0.0")
        assert busy.reply().startswith("421 4.3.2")
        assert busy.reply() == ""
        busy.socket.close()
        assert inbox.process.wait(10) == 0
        assert len(take_messages(vhost, "inbox")) == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"SMTP_RANGE": "0.0.0.0/0"}, "smtp-inbox: smtp-range: holds an eighth of the Internet or more"),
        ({"INBOUND_SMTP_AUTH": "/no/users"}, "smtp-inbox: inbound-smtp-tls: expected true, because of inbound-smtp-auth"),
        (
            {"INBOUND_SMTP_LISTEN": "submission://127.0.0.1:1"},
            "inbound-smtp-auth: expected a users file or an http(s):// address",
        ),
        ({"INBOUND_SMTP_PROXY_FROM": "0.0.0.0/0"}, "inbound-smtp-proxy-from: holds an eighth of the Internet or more"),
        ({"INBOUND_SMTP_LISTEN": "relay://0.0.0.0:1"}, "smtp-inbox: smtp-range: holds no client beyond loopback"),
        ({"INBOUND_SMTP_LISTEN": "relay://127.0.0.1:1", "INBOUND_SMTP_TLS": "yes"}, "inbound-smtp-tls-public-key: missing"),
        ({"INBOUND_SMTP_LISTEN": "relay://192.0.2.1:1", "SMTP_RANGE": "192.0.2.0/24"}, "cannot listen on 192.0.2.1:1"),
        ({"RABBITMQ_DECLARE": "false"}, "exchange 'mailwarren' is missing"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_one_line(
    vhost: str, tmp_path: Path, settings: dict[str, str], reason: str
) -> None:
    environment = {"RABBITMQ_ADDRESS": vhost, "STORAGE_URL": f"dir://{tmp_path}/payloads", "METRICS_ADDR": "", **settings}
    inbox = Inbox(environment, tmp_path / "log")
    try:
        assert inbox.process.wait(20) == 2
    except subprocess.TimeoutExpired:
        inbox.stop(signal.SIGKILL)
        raise
    lines = [line for line in inbox.log().splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert reason in lines[0]
