"""smtp-inbox as a process: what the DSN parameters of MAIL and RCPT ask travels with each recipient's message (RFC 3461)."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Inbox, run_inbox, take_messages
from tests.stack import Stack

LONGEST_ENVELOPE_ID = "e" * 100
LONGEST_ORIGINAL_RECIPIENT = "rfc822;" + "o" * 493


@pytest.fixture(scope="module")
def amqp(servers: Stack) -> Iterator[str]:
    """A virtual host for these tests."""
    yield servers.rabbitmq.create_vhost("smtp-inbox-dsn")
    servers.rabbitmq.drop_vhost("smtp-inbox-dsn")


@pytest.fixture(scope="module")
def inbox(amqp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """The process with its defaults."""
    with run_inbox(tmp_path_factory.mktemp("inbox"), amqp) as inbox:
        yield inbox


def send(inbox: Inbox, amqp: str, mail: str, *rcpts: str, content: bytes = CONTENT) -> dict[str, Any]:
    """Send a mail with these parameters; ``dsn`` of each recipient's message, None where there is none."""
    with inbox.hello() as client:
        assert client.ask(f"MAIL FROM:<a@example.com>{mail}") == "250 2.1.0 Ok"
        for rcpt in rcpts:
            assert client.ask(f"RCPT TO:{rcpt}") == "250 2.1.5 Ok"
        assert client.ask("DATA").startswith("354 ")
        client.send(content + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")
    return {document["recipient"]: document.get("dsn") for document, _ in take_messages(amqp, "inbox")}


def test_each_recipient_carries_what_was_asked_for_it_and_for_the_mail(inbox: Inbox, amqp: str) -> None:
    asked = send(
        inbox,
        amqp,
        " RET=HDRS ENVID=order+2B7",
        "<b@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Btag@example.net",
        "<c@example.org> notify=never",
        "<d@example.org>",
    )
    common = {"ret": "HDRS", "envid": "order+7"}
    assert asked == {
        "b@example.org": {**common, "notify": ["SUCCESS", "FAILURE"], "orcpt": "rfc822;first+tag@example.net"},
        "c@example.org": {**common, "notify": ["NEVER"]},
        "d@example.org": common,
    }


def test_nothing_asked_is_no_property(inbox: Inbox, amqp: str) -> None:
    assert send(inbox, amqp, "", "<b@example.org>", "<c@example.org> NOTIFY=DELAY") == {
        "b@example.org": None,
        "c@example.org": {"notify": ["DELAY"]},
    }


def test_a_recipient_given_twice_has_what_was_said_last(inbox: Inbox, amqp: str) -> None:
    asked = send(inbox, amqp, "", "<b@example.org> NOTIFY=NEVER", "<b@example.org> NOTIFY=FAILURE ORCPT=rfc822;x@y.example")
    assert asked == {"b@example.org": {"notify": ["FAILURE"], "orcpt": "rfc822;x@y.example"}}


def test_headers_of_the_mail_win_field_by_field(inbox: Inbox, amqp: str) -> None:
    asked = send(
        inbox,
        amqp,
        " RET=FULL ENVID=one",
        "<b@example.org> NOTIFY=SUCCESS ORCPT=rfc822;x@y.example",
        "<c@example.org>",
        content=b"X-MQ-Dsn-Notify: failure\r\nX-MQ-Dsn-Envid: two\r\n" + CONTENT,
    )
    assert asked == {
        "b@example.org": {"ret": "FULL", "envid": "two", "notify": ["FAILURE"], "orcpt": "rfc822;x@y.example"},
        "c@example.org": {"ret": "FULL", "envid": "two", "notify": ["FAILURE"]},
    }


def test_the_longest_commands_fit(inbox: Inbox, amqp: str) -> None:
    # RFC 3461 4: the parameters make the lines longer, whatever the path needs of its own 512 octets.
    path = "b" * 64 + "@" + ".".join(["d" * 60] * 3) + ".org"
    asked = send(
        inbox,
        amqp,
        f" SIZE={len(CONTENT):020} BODY=8BITMIME SMTPUTF8 RET=FULL ENVID={LONGEST_ENVELOPE_ID}",
        f"<{path}> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT={LONGEST_ORIGINAL_RECIPIENT}",
    )
    assert asked == {
        path: {
            "ret": "FULL",
            "envid": LONGEST_ENVELOPE_ID,
            "notify": ["SUCCESS", "FAILURE", "DELAY"],
            "orcpt": LONGEST_ORIGINAL_RECIPIENT,
        }
    }


def test_an_original_recipient_beyond_ascii(inbox: Inbox, amqp: str) -> None:
    plain = {"orcpt": "utf-8;\u7528\u6237@example.net"}
    assert send(
        inbox,
        amqp,
        " SMTPUTF8",
        "<\u7528\u6237@example.org> ORCPT=utf-8;\u7528\u6237@example.net",
        r"<c@example.org> ORCPT=utf-8;\x{7528}\x{6237}@example.net",
    ) == {"\u7528\u6237@example.org": plain, "c@example.org": plain}
    with inbox.hello() as client:
        assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")
        assert client.ask("RCPT TO:<b@example.org> ORCPT=utf-8;\u7528@example.net").startswith("553 5.6.7 ")
        assert client.ask(r"RCPT TO:<b@example.org> ORCPT=utf-8;\x{7528}@example.net").startswith("250 ")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("MAIL FROM:<a@example.com> RET=SOME", "501 5.5.4 RET is FULL or HDRS"),
        ("MAIL FROM:<a@example.com> RET=FULL RET=FULL", "501 5.5.4 Parameter RET given twice"),
        ("MAIL FROM:<a@example.com> ENVID=+zz", "501 5.5.4 ENVID is xtext of at most 100 characters"),
        (f"MAIL FROM:<a@example.com> ENVID={LONGEST_ENVELOPE_ID}x", "501 5.5.4 ENVID is xtext of at most 100 characters"),
        ("RCPT TO:<b@example.org> NOTIFY=NEVER,FAILURE", "501 5.5.4 NOTIFY is NEVER, or SUCCESS, FAILURE, DELAY with commas"),
        ("RCPT TO:<b@example.org> ORCPT=rfc822", "501 5.5.4 ORCPT is type;address as xtext, of at most 500 characters"),
        (
            f"RCPT TO:<b@example.org> ORCPT={LONGEST_ORIGINAL_RECIPIENT}x",
            "501 5.5.4 ORCPT is type;address as xtext, of at most 500 characters",
        ),
    ],
    ids=["ret", "ret twice", "envid", "envid too long", "notify", "orcpt", "orcpt too long"],
)
def test_what_cannot_be_read_is_refused(inbox: Inbox, command: str, reply: str) -> None:
    with inbox.hello() as client:
        if command.startswith("RCPT"):
            client.ask("MAIL FROM:<a@example.com>")
        assert client.ask(command) == reply
        assert client.ask(command.partition(">")[0] + ">").startswith("250 ")


def test_after_helo_there_are_no_parameters(inbox: Inbox) -> None:
    with inbox.connect() as client:
        client.reply()
        assert client.ask("HELO client.example") == "250 mx.example"
        assert client.ask("MAIL FROM:<a@example.com> RET=FULL") == "501 5.5.4 Parameters need EHLO"
        assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")
        assert client.ask("RCPT TO:<b@example.org> NOTIFY=NEVER") == "501 5.5.4 Parameters need EHLO"
