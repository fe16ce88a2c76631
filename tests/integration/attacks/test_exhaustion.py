"""Too much of everything: connections, recipients, lines without end, parts in parts. Others are served, memory stays bounded.

9 MB of empty lines and lines without an end in a command, a header and the content: tests/integration/test_smtp_inbox_limits.py.
"""

import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.attacks.targets import ClientFrom, Target
from tests.integration.smtp_inbox_process import CONTENT, Client, run_inbox, take_messages
from tests.support.waiting import wait_until

SOON = 5.0
"""Seconds within which others are served, on a machine that has other things to do."""


def deliver(client: Client) -> float:
    """A mail of somebody else; how long it took."""
    began = time.monotonic()
    with client.greet().begin():
        client.send(CONTENT + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")
    return time.monotonic() - began


def test_300_connections_from_one_address(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox, ExitStack() as stack:
        idle = inbox.peak_memory()
        clients = [stack.enter_context(ClientFrom(inbox.port, "127.0.0.2")) for _ in range(300)]
        greetings = Counter(client.reply() for client in clients)
        assert greetings == {"220 mx.example ESMTP mailwarren": 50, "421 4.7.0 Too many connections from your address": 250}
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 50)
        assert deliver(inbox.connect()) < SOON
        # An idle connection costs at most 256 KB.
        assert inbox.peak_memory() - idle < 50 * 256 * 1024
    assert len(take_messages(vhost, "inbox")) == 1


def test_500_slow_clients(vhost: str, tmp_path: Path) -> None:
    """Some say nothing, some an octet now and then, some begin a mail: each ends by its deadline, and meanwhile others are served."""
    settings = {"INBOUND_SMTP_COMMAND_TIMEOUT": "5", "INBOUND_SMTP_IDLE_TIMEOUT": "5"}
    with run_inbox(tmp_path, vhost, **settings) as inbox, ExitStack() as stack:
        idle = inbox.peak_memory()
        clients = [stack.enter_context(ClientFrom(inbox.port, f"127.0.0.{2 + number // 50}")) for number in range(500)]
        silent, dripping, beginning = clients[:200], clients[200:400], clients[400:]
        for client in clients:
            assert client.reply().startswith("220 ")
        for client in beginning:
            assert client.ask("EHLO client.example").startswith("250-")
            client.begin().send(CONTENT)
        assert inbox.metric("smtp_inbox_sessions") == 500
        began = time.monotonic()
        longest = 0.0
        for octet in b"EHLO":
            for client in dripping:
                client.send(bytes([octet]))
            longest = max(longest, deliver(inbox.connect()))
        assert longest < SOON
        # An octet does not begin the time anew: the deadline is that of the whole line.
        for client in (*silent, *dripping, *beginning):
            assert client.reply() == "421 4.4.2 Timeout, closing the connection"
            assert client.reply() == ""
        assert time.monotonic() - began < 5 + 2 + SOON
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
        assert inbox.peak_memory() - idle < 500 * 256 * 1024


def test_a_flood_of_commands(refusing: Target) -> None:
    """RCPT is the one command that may be repeated without end. Thousands at once are run in turns: nobody waits for all."""
    flood = b"RCPT TO:<b@c.d>\r\n" * 20_000
    with ExitStack() as stack:
        other = stack.enter_context(refusing.inbox.hello())
        clients = [stack.enter_context(refusing.inbox.hello()) for _ in range(10)]
        for client in clients:
            assert client.ask("MAIL FROM:<>").startswith("250 ")
        for client in clients:
            client.send(flood)
        began = time.monotonic()
        for _ in range(3):
            assert other.ask("NOOP") == "250 2.0.0 Ok"
        assert time.monotonic() - began < 2


def test_clients_that_do_not_read(refusing: Target) -> None:
    """What was asked for and is not taken waits with the client: no further command is looked at until it has read."""
    before = refusing.inbox.peak_memory()
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(ClientFrom(refusing.inbox.port, "127.0.0.1", room=4096)).greet()
            assert client.ask("MAIL FROM:<>").startswith("250 ")
            client.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.send(b"RCPT TO:<b@c.d>\r\n" * 2_000_000)
        assert deliver(refusing.inbox.connect()) < SOON
        assert refusing.inbox.peak_memory() - before < 4 * 1024 * 1024
    refusing.take()


def test_5000_recipients(refusing: Target) -> None:
    before = refusing.inbox.peak_memory()
    with refusing.inbox.hello() as client:
        assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")
        client.send(b"".join(b"RCPT TO:<b%d@example.org>\r\n" % number for number in range(5000)))
        replies = [client.reply()[:9] for _ in range(5000)]
        assert replies == ["250 2.1.5"] * 1000 + ["452 4.5.3"] * 4000
        assert client.ask("RSET").startswith("250 ")
        assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")
        client.send(b"RCPT TO:<b@example.org>\r\n" * 5000)
        assert {client.reply() for _ in range(5000)} == {"250 2.1.5 Ok"}
        assert client.ask("DATA").startswith("354 ")
        client.send(CONTENT + b".\r\n")
        assert client.reply().count("250-2.0.0 ") == 1
    assert [document["recipient"] for document in refusing.take()] == ["b@example.org"]
    assert refusing.inbox.peak_memory() - before < 20 * 1024 * 1024


def test_a_login_without_an_end(refusing: Target) -> None:
    before = refusing.inbox.peak_memory()
    with refusing.secure() as client:
        for begin in ("AUTH PLAIN", "AUTH LOGIN"):
            assert client.ask(begin).startswith("334 ")
            for _ in range(30):
                client.send(b"x" * 1_000_000)
            client.send(b"\r\n")
            assert client.reply() == "500 5.5.6 Authentication line too long"
        client.send(b"AUTH PLAIN " + b"x" * 30_000_000 + b"\r\n")
        assert client.reply() == "500 5.5.6 Authentication line too long"
        assert client.ask("NOOP") == "250 2.0.0 Ok"
    assert refusing.inbox.peak_memory() - before < 20 * 1024 * 1024


def nest(depth: int) -> bytes:
    """Multiparts in multiparts."""
    opened = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level) for level in range(depth)
    )
    closed = b"".join(b"--b%d--\r\n" % level for level in reversed(range(depth)))
    return b"Subject: deep\r\n" + opened + b"\r\ndeepest\r\n" + closed


DEEP = {
    "1,000 multiparts": nest(1000),
    "50,000 multiparts": nest(50_000),
    "1,000 mails in mails": b"Content-Type: message/rfc822\r\n\r\n" * 1000 + b"text\r\n",
    "a boundary of 100 KB": b'Content-Type: multipart/mixed; boundary="' + b"x" * 100_000 + b'"\r\n\r\n',
    "100,000 header fields": b"X-A: b\r\n" * 100_000 + b"\r\ntext\r\n",
    "100,000 addresses": b"To: " + b"b@example.org,\r\n " * 100_000 + b"c@example.org\r\n\r\ntext\r\n",
    "comments in comments": b"To: " + b"(" * 20_000 + b")" * 20_000 + b" b@example.org\r\n\r\ntext\r\n",
    "half open comments": b"To: " + b"(" * 100_000 + b"\r\n\r\ntext\r\n",
    "quotes": b"To: " + b'"\\' * 100_000 + b"\r\n\r\ntext\r\n",
    "groups": b"To: " + b"a:" * 50_000 + b"\r\n\r\ntext\r\n",
    "encoded words": b"Subject: " + b"=?utf-8?q?a?=\r\n " * 50_000 + b"\r\n\r\ntext\r\n",
    "half encoded words": b"Subject: " + b"=?" * 200_000 + b"\r\n\r\ntext\r\n",
    "folds": b"Subject: a" + b"\r\n " * 200_000 + b"\r\n\r\ntext\r\n",
    "a report of 100,000 fields": b'Content-Type: multipart/report; boundary="x"\r\n\r\n--x\r\n\r\n'
    + b"--x\r\nContent-Type: message/delivery-status\r\n\r\n"
    + b"Final-Recipient: rfc822; b@example.org\r\n" * 100_000
    + b"--x--\r\n",
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_content_that_costs_time(refusing: Target, content: bytes) -> None:
    """Taken as it is, or refused; while it is looked at, nobody waits for long."""
    with refusing.inbox.hello().begin() as client, refusing.inbox.hello() as other:
        began = time.monotonic()
        client.send(content + b".\r\n")
        assert client.reply().startswith(("250-2.0.0 ", "552 5.3.4 "))
        assert other.ask("NOOP") == "250 2.0.0 Ok"
        assert time.monotonic() - began < SOON
    refusing.take()
