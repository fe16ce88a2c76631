"""smtp-inbox as a process: what was accepted although the client does not know it, and comes again."""

import re
import signal
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pika
import pytest

from tests.integration.smtp_inbox_process import CONTENT, Client, Inbox, Link, run_inbox, take_messages
from tests.support.certificates import Kind, make_certificates
from tests.support.waiting import wait_until

LARGE = CONTENT + b"text of a line\r\n" * 100_000
MAILS = pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])


def ids_of(reply: str) -> dict[str, str]:
    """Recipient → id, as a 250 tells them."""
    return {recipient: ident for ident, recipient in re.findall(r"^250-2\.0\.0 (\S+) for <(\S+)>$", reply, re.MULTILINE)}


def remembered(tmp_path: Path) -> list[Path]:
    """The mails that are remembered."""
    return list((tmp_path / "accepted").iterdir())


@contextmanager
def run_with_room_for_one(tmp_path: Path, vhost: str) -> Iterator[Inbox]:
    """An inbox whose queue takes one message, and refuses a second one."""
    with closing(pika.BlockingConnection(pika.URLParameters(vhost))) as connection:
        channel = connection.channel()
        channel.exchange_declare("x", "direct", durable=True)
        for name, arguments in (("inbox", {"x-max-length": 1, "x-overflow": "reject-publish"}), ("record", {})):
            channel.queue_declare(name, durable=True, arguments=arguments)
            channel.queue_bind(name, "x", name)
    settings = {"RABBITMQ_DECLARE": "false", "RABBITMQ_EXCHANGE": "x", "RABBITMQ_INBOX": "inbox", "RABBITMQ_RECORD": "record"}
    with run_inbox(tmp_path, vhost, **settings) as inbox:
        yield inbox


@MAILS
def test_only_the_recipients_that_were_not_confirmed_are_published_again(vhost: str, tmp_path: Path, content: bytes) -> None:
    with run_with_room_for_one(tmp_path, vhost) as inbox:
        with inbox.hello().begin("b@example.org", "c@example.org") as client:
            client.send(content + b".\r\n")
            assert client.reply() == "451 4.3.0 Cannot take this mail now, try again later"
        ((first, _),) = take_messages(vhost, "inbox")
        assert len(remembered(tmp_path)) == 1

        # Another process of the host, after this one has ended.
        inbox.stop()
        inbox.process = inbox.start()
        inbox.wait_ready()
        with inbox.hello().begin("b@example.org", "c@example.org") as client:
            client.send(content + b".\r\n")
            ids = ids_of(client.reply())
        ((second, _),) = take_messages(vhost, "inbox")
        assert {first["recipient"], second["recipient"]} == {"b@example.org", "c@example.org"}
        assert ids == {first["recipient"]: first["id"], second["recipient"]: second["id"]}
        assert second["recipients-total"] == 2
        assert inbox.metric("accepted_before_repeated_total") == 1
        records = [record for record, _ in take_messages(vhost, "record")]
        assert sorted(record["id"] for record in records) == sorted(ids.values())

        # It was told now: the same once more is another mail.
        assert remembered(tmp_path) == []
        with inbox.hello().begin("b@example.org") as client:
            client.send(content + b".\r\n")
            assert ids_of(client.reply())["b@example.org"] not in ids.values()
        assert len(take_messages(vhost, "inbox")) == 1


def test_another_mail_is_another_mail(vhost: str, tmp_path: Path) -> None:
    with run_with_room_for_one(tmp_path, vhost) as inbox:
        with inbox.hello().begin("b@example.org", "c@example.org") as client:
            client.send(CONTENT + b".\r\n")
            assert client.reply().startswith("451 ")
            take_messages(vhost, "inbox")
            for reverse_path, content in (("a@example.com", CONTENT + b"more\r\n"), ("other@example.com", CONTENT)):
                client.begin("b@example.org", "c@example.org", reverse_path=reverse_path).send(content + b".\r\n")
                assert client.reply().startswith("451 ")
                assert len(take_messages(vhost, "inbox")) == 1
        assert len(remembered(tmp_path)) == 3
        assert inbox.metric("accepted_before_repeated_total") == 0


@pytest.mark.parametrize("lingers", [True, False], ids=["closed", "reset"])
@MAILS
def test_a_client_that_vanishes_and_comes_back_makes_one_mail(vhost: str, tmp_path: Path, content: bytes, lingers: bool) -> None:
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp) as inbox:
        with inbox.hello().begin() as client:
            link.freeze()
            client.send(content + b".\r\n")
            wait_until(lambda: inbox.metric("smtp_incoming_total") == 1)
            if not lingers:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.thaw()
        wait_until(lambda: inbox.metric("smtp_inbox_unread_replies_total") == 1)
        with inbox.hello().begin() as client:
            client.send(content + b".\r\n")
            ids = ids_of(client.reply())
        ((document, _),) = take_messages(vhost, "inbox")
        assert ids == {"b@example.org": document["id"]}
        assert remembered(tmp_path) == []


def test_a_client_that_has_said_all_but_reads_on_is_no_reason_to_remember(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        with inbox.hello().begin() as client:
            client.send(CONTENT + b".\r\n")
            client.socket.shutdown(socket.SHUT_WR)
            assert client.reply().startswith("250-2.0.0")
            assert client.reply() == ""
        with inbox.hello().begin() as client:
            client.send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.send(b"QUIT\r\n")
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
        assert inbox.metric("smtp_inbox_unread_replies_total") == 0
        assert remembered(tmp_path) == []
        assert len(take_messages(vhost, "inbox")) == 2


def reset(client: Client) -> None:
    """End the connection without a goodbye, as some do on purpose and kernels do for others."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def end_tls(client: Client) -> None:
    """Say goodbye in TLS, but not in SMTP, and wait for the answer."""
    assert isinstance(client.socket, ssl.SSLSocket)
    with suppress(OSError):  # what comes behind the answer is nobody's any more
        client.socket.unwrap()


def quit_and_reset(client: Client) -> None:
    """Say goodbye, and do not wait for the answer."""
    client.send(b"QUIT\r\n")
    reset(client)


@pytest.mark.parametrize(
    ("end", "is_tls"),
    [
        pytest.param(reset, False, id="reset"),
        pytest.param(reset, True, id="reset in TLS"),
        pytest.param(quit_and_reset, False, id="QUIT and reset"),
        pytest.param(end_tls, True, id="end of TLS"),
    ],
)
def test_who_has_read_250_means_another_mail_however_he_leaves(
    vhost: str, tmp_path: Path, end: Callable[[Client], None], is_tls: bool
) -> None:
    made = make_certificates(tmp_path / "certificates")
    settings = {
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD)),
    }
    told: list[str] = []
    with run_inbox(tmp_path, vhost, **settings) as inbox:
        for _ in range(3):
            with inbox.hello() as client:
                if is_tls:
                    client.start_tls(made.client_context())
                    assert client.ask("EHLO client.example").startswith("250-")
                client.begin().send(CONTENT + b".\r\n")
                told += ids_of(client.reply()).values()
                end(client)
            wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
        assert inbox.metric("smtp_inbox_unread_replies_total") == 0
    assert remembered(tmp_path) == []
    assert sorted(document["id"] for document, _ in take_messages(vhost, "inbox")) == sorted(told)
    assert len(told) == 3


def test_who_has_read_250_before_the_process_ended_means_another_mail(vhost: str, tmp_path: Path) -> None:
    """One with his mail in hand when it is asked to stop, one with nothing in hand: both have read all that was said."""
    told: list[str] = []
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp) as inbox:
        for _ in range(2):
            with inbox.hello().begin() as client, inbox.hello().begin(reverse_path="idle@example.com") as idle:
                idle.send(CONTENT + b".\r\n")
                told += ids_of(idle.reply()).values()
                link.freeze()
                client.send(CONTENT + b".\r\n")
                wait_until(lambda: inbox.metric("smtp_incoming_total") == 2)
                inbox.process.send_signal(signal.SIGTERM)
                assert idle.reply() == "421 4.3.2 Going down, come again"
                link.thaw()
                told += ids_of(client.reply()).values()
                assert client.reply() == "421 4.3.2 Going down, come again"
                assert inbox.process.wait(35) == 0
            assert remembered(tmp_path) == []
            inbox.process = inbox.start()
            inbox.wait_ready()
    assert "could read 250" not in inbox.log()
    assert sorted(document["id"] for document, _ in take_messages(vhost, "inbox")) == sorted(told)
    assert len(told) == 4


def test_a_part_of_a_mail_that_was_told_leaves_the_other_part_remembered(vhost: str, tmp_path: Path) -> None:
    """A client that splits its recipients: b is published and not told, then c with the same content comes and is told."""
    with run_with_room_for_one(tmp_path, vhost) as inbox:
        with inbox.hello().begin("b@example.org", "x@example.org") as client:
            client.send(CONTENT + b".\r\n")
            assert client.reply().startswith("451 ")
            ((first, _),) = take_messages(vhost, "inbox")
            untold = first["recipient"]
            other = {"b@example.org": "x@example.org", "x@example.org": "b@example.org"}[untold]
            for recipient in ("c@example.org", other):
                client.begin(recipient).send(CONTENT + b".\r\n")
                assert ids_of(client.reply()).keys() == {recipient}
                ((document, _),) = take_messages(vhost, "inbox")
                assert document["recipient"] == recipient
            # Neither of them came again.
            assert inbox.metric("accepted_before_repeated_total") == 0
            assert "came again" not in inbox.log()

            client.begin(untold, "d@example.org").send(CONTENT + b".\r\n")
            assert ids_of(client.reply())[untold] == first["id"]
            ((document, _),) = take_messages(vhost, "inbox")
            assert document["recipient"] == "d@example.org"
            assert inbox.metric("accepted_before_repeated_total") == 1
            wait_until(lambda: inbox.log().count("came again") == 1, within=10)
        assert remembered(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_is_told_and_refuses_no_mail(vhost: str, tmp_path: Path) -> None:
    (tmp_path / "accepted").write_text("a file, not a folder")
    with run_with_room_for_one(tmp_path, vhost) as inbox:
        assert "accepted-dir cannot be written to" in inbox.log()
        with inbox.hello().begin("b@example.org", "c@example.org") as client:
            client.send(CONTENT + b".\r\n")
            assert client.reply().startswith("451 ")
            take_messages(vhost, "inbox")
            client.begin("b@example.org").send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
        assert "cannot be remembered" in inbox.log()
        assert len(take_messages(vhost, "inbox")) == 1
