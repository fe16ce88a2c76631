"""Reports to local recipients go to a queue of their own; what only looks like one stays with the mail."""

from collections.abc import Iterator

import pytest

from tests.integration.smtp_inbox_process import Inbox, content_of, run_inbox, take_messages, without_received
from tests.stack import Stack
from tests.unit.shared.mail.test_reports import OTHERS, REPORTS

LETTERS = {name: content for name, content in OTHERS.items() if name not in ("octets", "no header", "nothing")}
"""Those that SMTP can carry and that still begin as they did behind our Received header."""


@pytest.fixture(scope="module")
def amqp(servers: Stack) -> Iterator[str]:
    """A virtual host for this module."""
    yield servers.rabbitmq.create_vhost("smtp-inbox-reports")
    servers.rabbitmq.drop_vhost("smtp-inbox-reports")


@pytest.fixture(scope="module")
def inbox(amqp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """Both keys are set."""
    settings = {"LOCAL_DOMAINS": "local.example", "RABBITMQ_LOCAL": "local", "RABBITMQ_REPORTS": "reports"}
    with run_inbox(tmp_path_factory.mktemp("inbox"), amqp, **settings) as inbox:
        yield inbox


def send_all(inbox: Inbox, mails: dict[str, bytes], recipient: str) -> None:
    """Each as a mail of its own, the null reverse-path as reports have it."""
    with inbox.hello() as client:
        for content in mails.values():
            client.begin(recipient, reverse_path="").send((b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b"\r\n.\r\n")
            assert client.reply().startswith("250-2.0.0 ")


def contents(amqp: str, queue: str) -> list[bytes]:
    """What lies in the queue, in order."""
    return sorted(without_received(content_of(document)).removesuffix(b"\r\n") for document, _ in take_messages(amqp, queue))


def test_reports_of_every_kind(inbox: Inbox, amqp: str) -> None:
    reports = {name: content for name, (_, content) in REPORTS.items()}
    send_all(inbox, reports, "b@local.example")
    assert contents(amqp, "reports") == sorted(reports.values())
    assert contents(amqp, "local") == contents(amqp, "inbox") == []


def test_mails_that_look_like_reports(inbox: Inbox, amqp: str) -> None:
    send_all(inbox, LETTERS, "b@local.example")
    assert contents(amqp, "local") == sorted(LETTERS.values())
    assert contents(amqp, "reports") == contents(amqp, "inbox") == []


def test_a_report_to_somebody_else_is_mail_like_any_other(inbox: Inbox, amqp: str) -> None:
    _, bounce = REPORTS["postfix bounce"]
    send_all(inbox, {"bounce": bounce}, "b@foreign.example")
    assert contents(amqp, "inbox") == [bounce]
    assert contents(amqp, "reports") == contents(amqp, "local") == []


@pytest.mark.parametrize("name", ["postfix bounce", "dmarc of yahoo"])
def test_a_large_report(inbox: Inbox, amqp: str, name: str) -> None:
    _, content = REPORTS[name]
    large = content + b"0123456789abcdef\r\n" * 80_000
    send_all(inbox, {"large": large}, "b@local.example")
    assert contents(amqp, "reports") == [large]


def test_without_local_other_mail_is_routed(vhost: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"LOCAL_DOMAINS": "local.example", "LOCAL_ROUTED": "true", "RABBITMQ_REPORTS": "reports"}
    _, bounce = REPORTS["postfix bounce"]
    with run_inbox(tmp_path_factory.mktemp("inbox"), vhost, **settings) as inbox:
        send_all(inbox, {"bounce": bounce, "letter": OTHERS["plain"]}, "b@local.example")
    assert contents(vhost, "reports") == [bounce]
    assert contents(vhost, "inbox") == [OTHERS["plain"]]
