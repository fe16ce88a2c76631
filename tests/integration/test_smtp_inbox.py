"""smtp-inbox as a process, with a real RabbitMQ and a real message store: what it accepts, refuses, and survives."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Inbox, content_of, run_inbox, take_messages, without_received
from tests.stack import Stack
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def amqp(servers: Stack) -> Iterator[str]:
    """A virtual host for the tests that only use the default inbox."""
    yield servers.rabbitmq.create_vhost("smtp-inbox")
    servers.rabbitmq.drop_vhost("smtp-inbox")


@pytest.fixture(scope="module")
def inbox(amqp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """The process with its defaults, shared by the tests that leave it as it was."""
    with run_inbox(tmp_path_factory.mktemp("inbox"), amqp) as inbox:
        yield inbox


def test_a_mail_becomes_one_message_per_recipient_with_the_ids_of_the_reply(inbox: Inbox, amqp: str) -> None:
    with inbox.hello().begin("b@example.org", "C@example.org") as client:
        client.send(CONTENT + b".\r\n")
        lines = client.reply().split("\n")
        assert client.ask("QUIT") == "221 2.0.0 Bye"
        assert client.reply() == ""

    # Recipients are published side by side: their order in the queue is not promised, that of the reply is RCPT's.
    asked = ["b@example.org", "C@example.org"]
    messages = sorted(take_messages(amqp, "inbox"), key=lambda pair: asked.index(pair[0]["recipient"]))
    records = sorted(take_messages(amqp, "records"), key=lambda pair: asked.index(pair[0]["recipient"]))
    assert [document["recipient"] for document, _ in messages] == asked
    assert lines == [f"250-2.0.0 {document['id']} for <{document['recipient']}>" for document, _ in messages] + [
        "250 2.0.0 Accepted"
    ]
    for document, properties in messages:
        content = content_of(document)
        assert without_received(content) == CONTENT
        assert document["envelope"] == "a@example.com"
        assert document["recipients-total"] == 2
        assert document["channel"] == "smtp"
        assert document["hostname"] == "mx.example"
        assert document["sha256"] == hashlib.sha256(content).hexdigest()
        assert document["size"] == len(content)
        assert f"id {document['transaction']}".encode() in content
        connection = document["connection"]
        assert connection["remote-ip"] == connection["local-ip"] == "127.0.0.1"
        assert (connection["local-port"], connection["secure"], connection["helo"]) == (inbox.port, False, "client.example")
        assert (properties.app_id, properties.delivery_mode) == ("mailwarren", 2)
    assert len({document["transaction"] for document, _ in messages}) == 1
    assert {document["id"] for document, _ in records} == {document["id"] for document, _ in messages}
    for document, properties in records:
        assert properties.headers["event"] == "accepted"
        assert "mime" not in document


def test_the_null_reverse_path_and_a_recipient_given_twice(inbox: Inbox, amqp: str) -> None:
    with inbox.hello().begin("b@example.org", "b@example.org", reverse_path="") as client:
        client.send(CONTENT + b".\r\n")
        assert client.reply().count("250-2.0.0") == 1

    ((document, _),) = take_messages(amqp, "inbox")
    assert document["envelope"] == ""
    assert b"for <b@example.org>;" in content_of(document)


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n",
        b"",
        b".\r\n..\r\n...\r\n",
        b"Subject: x\r\n\r\n" + bytes(set(range(256)) - {0, 10, 13}) + b"\r\n",
        b"Subject: x\r\n\r\n" + b"long " * 5000 + b"\r\n",
        "Subject: gr\u00fc\u00dfe\r\n\r\n\u7528\u6237\r\n".encode(),
        b"\r\n" * 10_000,
    ],
    ids=["empty line", "nothing", "dots", "every octet but NUL", "a long line", "utf-8", "empty lines"],
)
def test_content_arrives_octet_by_octet(inbox: Inbox, amqp: str, content: bytes) -> None:
    with inbox.hello().begin() as client:
        client.send((b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")

    ((document, _),) = take_messages(amqp, "inbox")
    assert without_received(content_of(document)) == content


def test_a_large_mail_goes_to_the_store(inbox: Inbox, amqp: str) -> None:
    content = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 20_000
    with inbox.hello().begin() as client:
        client.send(content + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")

    ((document, _),) = take_messages(amqp, "inbox")
    assert "mime" not in document
    assert document["key"].endswith(document["transaction"])
    folder = Path(inbox.environment["STORAGE_URL"].removeprefix("dir://"))
    (path,) = (path for path in folder.rglob("*") if path.is_file() and document["transaction"] in path.name)
    assert without_received(path.read_bytes()) == content


@pytest.mark.parametrize(
    "sequence", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n"], ids=repr
)
def test_no_mail_is_smuggled_in(inbox: Inbox, amqp: str, sequence: bytes) -> None:
    smuggled = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nsmuggled\r\n.\r\n"
    with inbox.hello().begin() as client:
        client.send(CONTENT + b"text" + sequence + smuggled)
        reply = client.reply()
        assert client.ask("NOOP") == "250 2.0.0 Ok"

    assert reply.startswith("550 5.5.2 ")
    assert take_messages(amqp, "inbox") == []


@pytest.mark.parametrize("command", ["EHLO client.example", "HELO client.example", "STARTTLS", "DATA"])
def test_input_behind_a_command_that_must_be_the_last_of_its_group(inbox: Inbox, command: str) -> None:
    with inbox.hello() as client:
        client.send(f"{command}\r\nMAIL FROM:<injected@example.com>\r\n".encode())
        assert client.reply().startswith("554 5.5.0 ")
        assert client.reply() == ""


def test_content_before_354_closes_the_connection(inbox: Inbox, amqp: str) -> None:
    with inbox.hello() as client:
        client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + CONTENT + b".\r\n")
        assert [client.reply()[:9] for _ in range(4)] == ["250 2.1.0", "250 2.1.5", "554 5.5.0", ""]
    assert take_messages(amqp, "inbox") == []


def test_pipelined_commands_and_a_second_mail_behind_the_dot(inbox: Inbox, amqp: str) -> None:
    group = b"RSET\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<nonsense>\r\nDATA\r\n"
    with inbox.hello() as client:
        client.send(group)
        assert [client.reply()[:3] for _ in range(5)] == ["250", "250", "250", "553", "354"]
        client.send(CONTENT + b".\r\n" + group)
        assert [client.reply()[:3] for _ in range(6)] == ["250", "250", "250", "250", "553", "354"]
        client.send(CONTENT + b".\r\nQUIT\r\n")
        assert [client.reply()[:3] for _ in range(3)] == ["250", "221", ""]
    assert len(take_messages(amqp, "inbox")) == 2


def test_a_client_that_closes_its_side_after_the_dot_still_gets_its_reply(inbox: Inbox, amqp: str) -> None:
    with inbox.hello().begin() as client:
        client.send(CONTENT + b".\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply().startswith("250-2.0.0 ")
        assert client.reply() == ""
    assert len(take_messages(amqp, "inbox")) == 1


def test_a_client_that_leaves_in_the_middle_leaves_nothing(inbox: Inbox, amqp: str) -> None:
    with inbox.hello().begin() as client:
        client.send(CONTENT)
    wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
    assert take_messages(amqp, "inbox") == []


@pytest.mark.parametrize(
    ("commands", "reply"),
    [
        (["MAIL FROM:<a@example.com> SIZE=20971521"], "552 5.3.4"),
        (["MAIL FROM:<a@example.com> RET=FULL"], "250 2.1.0"),
        (["MAIL FROM:<a@example.com> HOLDFOR=60"], "555 5.5.4"),
        (["MAIL FROM:<a@example.com> BODY=BINARYMIME"], "501 5.5.4"),
        (["MAIL FROM:<j\u00f6rg@example.com>"], "553 5.6.7"),
        (["MAIL FROM:<j\u00f6rg@example.com> SMTPUTF8"], "250 2.1.0"),
        (["MAIL FROM:<a@b\u00fccher.example>"], "553 5.6.7"),
        (["MAIL FROM:<a@xn--bcher-kva.example>"], "250 2.1.0"),
        (["MAIL FROM:<a@example.com>", "RCPT TO:<\u7528\u6237@example.org>"], "553 5.6.7"),
        (["MAIL FROM:<a@example.com> SMTPUTF8", "RCPT TO:<\u7528\u6237@example.org>"], "250 2.1.5"),
        (["MAIL FROM:<a@b@c>"], "553 5.1.7"),
        (["RCPT TO:<b@example.org>"], "503 5.5.1"),
        (["DATA"], "503 5.5.1"),
        (["MAIL FROM:<a@example.com>", "DATA"], "554 5.5.1"),
        (["MAIL FROM:<a@example.com>", "MAIL FROM:<a@example.com>"], "503 5.5.1"),
        (["MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org> NOTIFY=NEVER"], "250 2.1.5"),
        (["MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org> RRVS=x"], "555 5.5.4"),
        (["MAIL FROM:<a@example.com>", "RSET now"], "501 5.5.4"),
        (["STARTTLS"], "503 5.5.1"),
        (["AUTH PLAIN AGEAYg=="], "502 5.5.1"),
        (["EXPN staff"], "502 5.5.1"),
        (["ETRN example.org"], "502 5.5.1"),
        (["XCLIENT ADDR=127.0.0.1"], "502 5.5.1"),
        (["BDAT 0 LAST"], "503 5.5.1"),
        (["FOO"], "500 5.5.1"),
        ([""], "500 5.5.1"),
        (["NOOP \0"], "500 5.5.2"),
        (["NOOP a\rb"], "500 5.5.2"),
        (["NOOP " + "x" * 506], "500 5.5.2"),
        (["NOOP " + "x" * 505], "250 2.0.0"),
        (["MAIL FROM:<a@example.com>", "RCPT TO:<" + "x" * 600 + "@example.org>"], "501 5.1.3"),
        (["RCPT TO:<" + "x" * 1200 + "@example.org>"], "500 5.5.2"),
        (["VRFY b@example.org"], "252 2.5.0"),
        (["VRFY \u7528\u6237@example.org SMTPUTF8"], "252 2.5.0"),
        (["VRFY"], "501 5.5.4"),
        (["HELP"], "214 2.0.0"),
        (["RSET"], "250 2.0.0"),
    ],
)
def test_the_reply_to_a_command(inbox: Inbox, commands: list[str], reply: str) -> None:
    with inbox.hello() as client:
        replies = [client.ask(command) for command in commands]
        assert replies[-1].startswith(reply)
        assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_mail_needs_a_greeting(inbox: Inbox) -> None:
    with inbox.connect() as client:
        assert client.reply() == "220 mx.example ESMTP mailwarren"
        assert client.ask("MAIL FROM:<a@example.com>").startswith("503 5.5.1")
        assert client.ask("HELO client.example") == "250 mx.example"
        assert client.ask("MAIL FROM:<a@example.com> SIZE=1").startswith("501 5.5.4")
        assert client.ask("MAIL FROM:<a@example.com>") == "250 2.1.0 Ok"


def test_only_what_is_built_is_offered(inbox: Inbox) -> None:
    with inbox.connect() as client:
        client.reply()
        offers = [line[4:] for line in client.ask("EHLO client.example").split("\n")]
    assert offers == [
        "mx.example",
        "PIPELINING",
        "SIZE 20971520",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "CHUNKING",
    ]


@pytest.mark.parametrize(("parameter", "protocol"), [("", b"ESMTP"), (" BODY=8BITMIME", b"ESMTP"), (" SMTPUTF8", b"UTF8SMTP")])
def test_headers_beyond_ascii_stay_and_our_own_says_whether_smtputf8_was_asked(
    inbox: Inbox, amqp: str, parameter: str, protocol: bytes
) -> None:
    # Many write raw UTF-8 headers without SMTPUTF8. They are content: to refuse them would lose mail that others take.
    content = "Subject: gr\u00fc\u00dfe\r\n\r\n\u7528\u6237\r\n".encode()
    with inbox.hello() as client:
        assert client.ask(f"MAIL FROM:<a@example.com>{parameter}").startswith("250 ")
        client.ask("RCPT TO:<b@example.org>")
        client.ask("DATA")
        client.send(content + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")
    ((document, _),) = take_messages(amqp, "inbox")
    received = content_of(document).removesuffix(content)
    assert b" with " + protocol + b" id " in received
    assert received.startswith(b"Received: ")


def test_the_ids_of_recipients_beyond_ascii_are_told_in_utf_8(inbox: Inbox, amqp: str) -> None:
    with inbox.hello() as client:
        client.ask("MAIL FROM:<j\u00f6rg@b\u00fccher.example> SMTPUTF8")
        client.ask("RCPT TO:<\u7528\u6237@example.org>")
        client.ask("DATA")
        client.send(CONTENT + b".\r\n")
        lines = client.reply().split("\n")
    ((document, _),) = take_messages(amqp, "inbox")
    assert (document["envelope"], document["recipient"]) == ("j\u00f6rg@b\u00fccher.example", "\u7528\u6237@example.org")
    assert lines == [f"250-2.0.0 {document['id']} for <\u7528\u6237@example.org>", "250 2.0.0 Accepted"]


def test_a_line_that_ends_in_lf_alone_is_refused(inbox: Inbox) -> None:
    with inbox.hello() as client:
        client.send(b"NOOP\n")
        assert client.reply().startswith("500 5.5.2")


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST /x HTTP/1.1", "CONNECT a:25 HTTP/1.1"])
def test_http_is_dropped_without_a_word(inbox: Inbox, line: str) -> None:
    with inbox.connect() as client:
        client.reply()
        client.send(line.encode() + b"\r\nHost: x\r\n\r\nEHLO x\r\n")
        assert client.reply() == ""


def test_too_many_errors_and_too_much_junk(inbox: Inbox) -> None:
    with inbox.hello() as client:
        replies = [client.ask("FOO")[:9] for _ in range(21)]
        assert replies == ["500 5.5.1"] * 21
        assert client.reply().startswith("421 4.7.0")
    with inbox.hello() as client:
        replies = [client.ask("NOOP")[:9] for _ in range(100)]  # the 101st, EHLO was one
        assert replies == ["250 2.0.0"] * 99 + ["421 4.7.0"]
        assert client.reply() == ""


def test_a_mail_that_runs_in_a_circle(inbox: Inbox, amqp: str) -> None:
    for hops, reply in ((99, "250-2.0.0"), (100, "554 5.4.6"), (250, "554 5.4.6")):
        with inbox.hello().begin() as client:
            client.send(b"Received: from x by y; date\r\n" * hops + CONTENT + b".\r\n")
            assert client.reply().startswith(reply)
    assert len(take_messages(amqp, "inbox")) == 1


def test_a_mail_beyond_the_size_is_refused_after_its_end(inbox: Inbox, amqp: str) -> None:
    with inbox.hello().begin() as client:
        for _ in range(21):
            client.send(b"x" * 78 + b"\r\n" + (b"y" * 998 + b"\r\n") * 1024)
        client.send(b".\r\n")
        assert client.reply().startswith("552 5.3.4")
        client.begin().send(CONTENT + b".\r\n")
        assert client.reply().startswith("250-2.0.0")
    assert len(take_messages(amqp, "inbox")) == 1


def test_the_metrics_have_mxengines_names(inbox: Inbox, amqp: str) -> None:
    before = inbox.metric("smtp_incoming_total"), inbox.metric("smtp_incoming_stored")
    for content in (CONTENT, b"bare\nnewline\r\n"):
        with inbox.hello().begin() as client:
            client.send(content + b".\r\n")
            client.reply()
    take_messages(amqp, "inbox")

    assert (inbox.metric("smtp_incoming_total"), inbox.metric("smtp_incoming_stored")) == (before[0] + 2, before[1] + 1)
    assert inbox.metric("smtp_incoming_duration_seconds_count") >= 1
    names = {line.split()[0] for line in inbox.fetch("/metrics")[1].splitlines() if line.startswith("smtp_incoming")}
    assert "smtp_incoming_stored_total" not in names
    assert not [name for name in names if name.endswith("_created")]
