"""Refused mail is told, whole or cut, and never at the cost of a reply."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Inbox, Link, content_of, run_inbox, take_messages
from tests.stack import Stack
from tests.support.waiting import wait_until

SETTINGS = {
    "SMTP_RANGE": "192.0.2.0/24",
    "LOCAL_DOMAINS": "local.example",
    "RABBITMQ_LOCAL": "local",
    "RABBITMQ_REFUSED": "refused",
    "REFUSED_MAX_CONTENT": "2000",
    "INBOUND_SMTP_MAX_SIZE": "2000000",
    "INBOUND_SMTP_MAX_HOPS": "3",
}


@pytest.fixture(scope="module")
def amqp(servers: Stack) -> Iterator[str]:
    """A virtual host for the tests that share one process."""
    yield servers.rabbitmq.create_vhost("smtp-inbox-refused")
    servers.rabbitmq.drop_vhost("smtp-inbox-refused")


@pytest.fixture(scope="module")
def inbox(amqp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """All clients are strangers."""
    with run_inbox(tmp_path_factory.mktemp("inbox"), amqp, **SETTINGS) as inbox:
        yield inbox


def take_told(amqp: str) -> dict[str, Any]:
    """The one message in the queue, once it is there."""
    ((document, properties),) = wait_until(lambda: take_messages(amqp, "refused"), within=10)
    assert properties.app_id == "mailwarren"
    return document


def test_a_recipient_that_is_not_local(inbox: Inbox, amqp: str) -> None:
    with inbox.hello() as client:
        client.ask("MAIL FROM:<a@example.com>")
        assert client.ask("RCPT TO:<b@foreign.example>") == "550 5.7.1 No relay for you"

    document = take_told(amqp)
    assert document["reply"] == {"state": "rcptto", "code": 550, "status": "5.7.1", "description": "No relay for you"}
    assert (document["envelope"], document["recipient"]) == ("a@example.com", "b@foreign.example")
    assert (document["connection"]["remote-ip"], document["connection"]["helo"]) == ("127.0.0.1", "client.example")
    assert (document["hostname"], document["channel"]) == ("mx.example", "smtp")
    assert not {"mime", "mime64", "key"} & set(document)


def test_a_mail_announced_too_large(inbox: Inbox, amqp: str) -> None:
    with inbox.hello() as client:
        assert client.ask("MAIL FROM:<a@example.com> SIZE=2000001").startswith("552 5.3.4 ")
    document = take_told(amqp)
    assert (document["reply"]["state"], document["envelope"], document["recipients"]) == ("mailfrom", "a@example.com", [])


@pytest.mark.parametrize(
    ("content", "code", "status", "truncated"),
    [
        (b"Subject: x\r\n\r\nbare \n newline\r\n", 550, "5.5.2", False),
        (b"Subject: x\r\n\r\nnul \0 and \xff\r\n", 550, "5.5.2", False),
        (b"Subject: x\r\n\r\n" + b"long\r\n" * 1000 + b"bare \r return\r\n", 550, "5.5.2", True),
        (b"Subject: x\r\n\r\n" + b"text\r\n" * 340_000, 552, "5.3.4", True),
        (b"Received: by a; x\r\n" * 3 + b"Subject: x\r\n\r\ntext\r\n", 554, "5.4.6", False),
        (b"Received: by a; x\r\n" * 3 + b"Subject: x\r\n\r\n" + b"text\r\n" * 250_000, 554, "5.4.6", True),
    ],
    ids=["bare newline", "nul", "bare return after a while", "too large", "too many hops", "large, too many hops"],
)
def test_a_content(inbox: Inbox, amqp: str, content: bytes, code: int, status: str, truncated: bool) -> None:
    with inbox.hello().begin("b@local.example", "c@local.example") as client:
        client.send(content + b".\r\n")
        assert client.reply().startswith(f"{code} {status} ")

    document = take_told(amqp)
    assert document["reply"]["state"] == "message"
    assert (document["reply"]["code"], document["reply"]["status"]) == (code, status)
    assert document["recipients"] == ["b@local.example", "c@local.example"]
    shown = content_of(document)
    assert shown.startswith(b"Received: from client.example ")
    assert len(shown) <= 2000
    ours, _, _ = shown.partition(content[:14])
    assert content.startswith(shown[len(ours) :])
    assert document["truncated"] is truncated
    assert (document["size"] == len(ours) + len(content)) or truncated
    assert (len(shown) == len(ours) + len(content)) is not truncated
    assert take_messages(amqp, "local") == take_messages(amqp, "inbox") == []


def test_a_chunk(inbox: Inbox, amqp: str) -> None:
    content = b"Subject: x\r\n\r\nbare \n newline\r\n"
    with inbox.hello() as client:
        client.ask("MAIL FROM:<a@example.com>")
        client.ask("RCPT TO:<b@local.example>")
        client.send(b"BDAT %d\r\n" % len(content) + content)
        assert client.reply().startswith("550 5.5.2 ")
    document = take_told(amqp)
    assert content_of(document).endswith(content)


def test_mistakes_of_syntax_and_order_are_not_told(inbox: Inbox, amqp: str) -> None:
    with inbox.hello() as client:
        for command in (
            "NONSENSE",
            "DATA",
            "RCPT TO:<b@foreign.example>",
            "MAIL FROM:<a@b@c>",
            "MAIL FROM:a",
            "MAIL FROM:<> X=1",
        ):
            assert client.ask(command)[0] == "5"
        client.ask("MAIL FROM:<a@example.com>")
        for command in ("RCPT TO:<b@@foreign.example>", "RCPT TO:<>", "DATA", "MAIL FROM:<b@example.com>"):
            assert client.ask(command)[0] == "5"
        # What was published last would be behind what came before.
        assert client.ask("RCPT TO:<last@foreign.example>").startswith("550 5.7.1 ")
    assert take_told(amqp)["recipient"] == "last@foreign.example"


def test_too_large_for_a_local_recipient(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, **SETTINGS, LOCAL_MAX_MESSAGE="65536") as inbox, inbox.hello() as client:
        client.begin("b@local.example").send(CONTENT + b"text\r\n" * 20_000 + b".\r\n")
        assert client.reply().startswith("552 5.3.4 ")
        document = take_told(vhost)
    assert (document["reply"]["code"], document["truncated"], len(content_of(document))) == (552, True, 2000)


def test_nothing_is_told_when_nobody_asked(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, SMTP_RANGE="192.0.2.0/24") as inbox, inbox.hello() as client:
        client.ask("MAIL FROM:<a@example.com>")
        assert client.ask("RCPT TO:<b@foreign.example>").startswith("550 ")
        assert inbox.metric("unconfirmed_messages_dropped_total") == 0


def test_a_broker_that_stands_still_delays_no_reply(vhost: str, tmp_path: Path) -> None:
    """What it cannot take is dropped and counted; accepted mail goes on when it comes back."""
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp, **SETTINGS) as inbox:
        link.freeze()
        began = time.monotonic()
        for _ in range(8):
            with inbox.hello() as client:
                client.ask("MAIL FROM:<a@example.com>")
                for number in range(20):
                    assert client.ask(f"RCPT TO:<b{number}@foreign.example>").startswith("550 5.7.1 ")
        took = time.monotonic() - began
        dropped = inbox.metric("unconfirmed_messages_dropped_total")
        link.thaw()
        with inbox.hello().begin("b@local.example") as client:
            client.send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0 ")
        told: list[Any] = []

        def is_complete() -> bool:
            told.extend(take_messages(vhost, "refused"))
            return len(told) + dropped >= 160

        wait_until(is_complete, within=20)

    assert took < 8
    assert dropped > 0
    assert len(told) == 160 - dropped
