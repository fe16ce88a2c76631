"""smtp-inbox as a process: X-MQ headers set properties of the message and never travel on."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.smtp_inbox_process import Inbox, content_of, run_inbox, take_messages, without_received
from tests.stack import Stack

HEADERS = (
    b"X-MQ-Envelope: bounces@example.com\r\nX-MQ-IP: 192.0.2.1\r\nx-mq-ip:\r\n 192.0.2.2\r\nX-MQ-Tag: spring\r\nX-MQ-Tag: two words\r\n"
    b"X-MQ-MaxAttempts: 3\r\nX-MQ-Retries: 60, 120\r\nX-MQ-KeepMime: 1\r\nX-MQ-Smarthost-Hostname: relay.example\r\n"
    b"X-MQ-Smarthost-Password: hunter2\r\nX-MQ-Dsn-Notify: never\r\nX-MQ-Failure-Queue: mine\r\nX-MQ-Campaign: 42\r\n"
)
PROPERTIES = {
    "envelope": "bounces@example.com",
    "ips": ["192.0.2.1", "192.0.2.2"],
    "tags": ["spring", "two words"],
    "maxattempts": 3,
    "retries": [60, 120],
    "keepmime": True,
    "smarthost": {"hostname": "relay.example", "password": "hunter2"},
    "dsn": {"notify": ["NEVER"]},
    "queues": {"failure": "mine", "success": None, "results": None, "retry": None},
    "campaign": "42",
}


@pytest.fixture(scope="module")
def amqp(servers: Stack) -> Iterator[str]:
    """A virtual host for these tests."""
    yield servers.rabbitmq.create_vhost("smtp-inbox-mq")
    servers.rabbitmq.drop_vhost("smtp-inbox-mq")


@pytest.fixture(scope="module")
def inbox(amqp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """The process, with a store for all but the smallest mail."""
    with run_inbox(tmp_path_factory.mktemp("inbox"), amqp, STORAGE_THRESHOLD="1000") as inbox:
        yield inbox


@pytest.mark.parametrize("size", [10, 5000], ids=["in the message", "in the store"])
def test_headers_become_properties_of_every_recipient(inbox: Inbox, amqp: str, size: int) -> None:
    rest = b"Subject:  x \r\n\ty\r\n", b"X-Other: 1\r\n\r\nX-MQ-Tag: in the body\r\n" + b"z" * size + b"\r\n"
    with inbox.hello().begin("b@example.org", "c@example.org") as client:
        client.send(HEADERS.join(rest) + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")

    messages = [document for document, _ in take_messages(amqp, "inbox")]
    assert sorted(document["recipient"] for document in messages) == ["b@example.org", "c@example.org"]
    for document in messages:
        assert {name: document.get(name) for name in PROPERTIES} == PROPERTIES
        assert document["return-path"] == "bounces@example.com"
        assert not [name for name in document["extracted"]["headers"] if name.startswith("x-mq-")]
        if "key" in document:
            folder = Path(inbox.environment["STORAGE_URL"].removeprefix("dir://"))
            (path,) = (path for path in folder.rglob("*") if path.is_file() and document["transaction"] in path.name)
            content = path.read_bytes()
        else:
            content = content_of(document)
        assert without_received(content) == b"".join(rest)
        assert (document["size"], document["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert ("key" in messages[0]) == (size > 1000)
    assert "hunter2" not in inbox.log()


def test_without_such_headers_the_envelope_and_the_defaults_hold(inbox: Inbox, amqp: str) -> None:
    with inbox.hello().begin() as client:
        client.send(b"Subject: x\r\n\r\nx-mq-tag: in the body\r\n.\r\n")
        assert client.reply().startswith("250-2.0.0 ")
    [(document, _)] = take_messages(amqp, "inbox")
    assert document["envelope"] == "a@example.com"
    assert not set(PROPERTIES) - {"envelope"} & set(document)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"X-MQ-MaxAttempts: many", "X-MQ-MaxAttempts: 'many': expected a whole number from 0 to 2147483647"),
        (b"X-MQ-Smarthost-Password: hunter2", "X-MQ-Smarthost-Password: expected X-MQ-Smarthost-Hostname with it"),
        (b"X-MQ-Recipient: c@example.org", "X-MQ-Recipient: not a header that sets a property"),
        (b"X-MQ-Key: v1/somebody/elses", "X-MQ-Key: not a header that sets a property"),
        (b"X-MQ-Results: []", "X-MQ-Results: not a header that sets a property"),
        (b"X-MQ-Tag: \xff", "X-MQ-Tag: expected UTF-8"),
        (b"junk\r\nX-MQ-Tag: x", "X-MQ-...: expected it among the headers, with a colon, not behind a line that is no header"),
    ],
)
def test_what_cannot_be_honoured_is_refused_and_the_next_mail_is_taken(
    inbox: Inbox, amqp: str, header: bytes, reason: str
) -> None:
    with inbox.hello().begin() as client:
        client.send(b"Subject: x\r\n" + header + b"\r\n\r\nbody\r\n.\r\n")
        assert client.reply() == f"550 5.5.2 {reason}"
        assert take_messages(amqp, "inbox") == []
        client.begin().send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        assert client.reply().startswith("250-2.0.0 ")
    assert len(take_messages(amqp, "inbox")) == 1
    assert "hunter2" not in inbox.log()
