"""smtp-inbox as a process: BDAT (RFC 3030), whose chunks hold anything and are never read as commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Client, Inbox, content_of, run_inbox, take_messages, without_received
from tests.stack import Stack
from tests.support.waiting import wait_until

ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"


@pytest.fixture(scope="module")
def amqp(servers: Stack) -> Iterator[str]:
    """A virtual host for these tests."""
    yield servers.rabbitmq.create_vhost("smtp-inbox-bdat")
    servers.rabbitmq.drop_vhost("smtp-inbox-bdat")


@pytest.fixture(scope="module")
def inbox(amqp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """The process, for mail of up to 1 MB."""
    with run_inbox(tmp_path_factory.mktemp("inbox"), amqp, INBOUND_SMTP_MAX_SIZE="1000000") as inbox:
        yield inbox


def begin(client: Client, *recipients: str) -> Client:
    """Everything up to the first BDAT."""
    assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")
    for recipient in recipients or ("b@example.org",):
        assert client.ask(f"RCPT TO:<{recipient}>").startswith("250 ")
    return client


def chunk(content: bytes, *, last: bool = False) -> bytes:
    """A BDAT command with its chunk."""
    return b"BDAT %d%s\r\n" % (len(content), b" LAST" if last else b"") + content


def take_content(amqp: str) -> bytes:
    """The content of the one mail that was accepted, without our header."""
    ((document, _),) = take_messages(amqp, "inbox")
    return without_received(content_of(document))


@pytest.mark.parametrize(
    "pieces",
    [
        [CONTENT],
        [CONTENT[:7], CONTENT[7:]],
        [CONTENT, b""],
        [b"", CONTENT],
        [b"Subject: x\r", b"\n\r\ntext\r\n"],
        [b"Subject: x\r\n\r\n.\r\n..\r\n", b".\r\nQUIT\r\nMAIL FROM:<evil@example.com>\r\n", b".\r\n"],
        [b"Subject: x\r\n\r\nno line end"],
        [b"Subject: x\r\n\r\n", "\u7528\u6237\xff\xfe\r\n".encode("utf-8")],
        [b""],
        [b"%d\r\n" % number for number in range(500)],
    ],
    ids=[
        "one", "two", "an empty one at the end", "an empty one in front", "in a line end", "dots and commands", "no line end",
        "utf-8", "nothing", "many",
    ],
)  # fmt: skip
def test_the_content_is_what_the_chunks_hold(inbox: Inbox, amqp: str, pieces: list[bytes]) -> None:
    with begin(inbox.hello()) as client:
        for piece in pieces[:-1]:
            client.send(chunk(piece))
            assert client.reply() == f"250 2.0.0 {len(piece)} octets"
        client.send(chunk(pieces[-1], last=True))
        lines = client.reply().split("\n")
        assert client.ask("NOOP") == "250 2.0.0 Ok"
    assert lines[0].startswith("250-2.0.0 ")
    assert lines[0].endswith(" for <b@example.org>")
    assert lines[1:] == ["250 2.0.0 Accepted"]
    assert take_content(amqp) == b"".join(pieces)


def test_a_whole_session_in_one_write_and_octet_by_octet(inbox: Inbox, amqp: str) -> None:
    parts = [CONTENT, b".\r\nDATA\r\n", b"end\r\n"]
    mail = ENVELOPE + chunk(parts[0]) + chunk(parts[1]) + chunk(parts[2], last=True)
    replies = ["250 2.1.0 Ok", "250 2.1.5 Ok", f"250 2.0.0 {len(parts[0])} octets", f"250 2.0.0 {len(parts[1])} octets"]
    for writes in ([mail + b"NOOP\r\n"], [bytes([octet]) for octet in mail + b"NOOP\r\n"]):
        with inbox.hello() as client:
            for write in writes:
                client.send(write)
            assert [client.reply() for _ in replies] == replies
            assert client.reply().startswith("250-2.0.0 ")
            assert client.reply() == "250 2.0.0 Ok"
        assert take_content(amqp) == b"".join(parts)


def test_a_large_mail_goes_to_the_store_like_any_other(inbox: Inbox, amqp: str) -> None:
    content = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 50_000
    with begin(inbox.hello(), "b@example.org", "c@example.org") as client:
        for start in range(0, len(content), 100_000):
            client.send(chunk(content[start : start + 100_000], last=start + 100_000 >= len(content)))
        while (reply := client.reply()).startswith("250 2.0.0 "):
            pass
        assert reply.count("250-2.0.0 ") == 2
    messages = [document for document, _ in take_messages(amqp, "inbox")]
    assert {document["recipient"] for document in messages} == {"b@example.org", "c@example.org"}
    (key,) = {document["key"] for document in messages}
    folder = Path(inbox.environment["STORAGE_URL"].removeprefix("dir://"))
    (path,) = (path for path in folder.rglob("*") if path.is_file() and key.rpartition("/")[2] in path.name)
    assert without_received(path.read_bytes()) == content


def test_headers_and_hops_count_as_with_data(inbox: Inbox, amqp: str) -> None:
    with begin(inbox.hello()) as client:
        client.send(chunk(b"X-MQ-Tag: a\r\n" + CONTENT, last=True))
        assert client.reply().startswith("250-2.0.0 ")
        ((document, _),) = take_messages(amqp, "inbox")
        assert document["tags"] == ["a"]
        assert without_received(content_of(document)) == CONTENT
        begin(client).send(chunk(b"Received: from x by y; date\r\n" * 100 + CONTENT, last=True))
        assert client.reply().startswith("554 5.4.6 ")
        begin(client).send(chunk(CONTENT, last=True))
        assert client.reply().startswith("250-2.0.0 ")
    assert len(take_messages(amqp, "inbox")) == 1


@pytest.mark.parametrize(
    ("before", "reply"),
    [
        ([], "503 5.5.1 MAIL comes first"),
        (["MAIL FROM:<a@example.com>"], "554 5.5.1 No valid recipients"),
        (["MAIL FROM:<a@example.com>", "RCPT TO:<b@@example.org>"], "554 5.5.1 No valid recipients"),
    ],
    ids=["no MAIL", "no RCPT", "every RCPT refused"],
)
@pytest.mark.parametrize("last", [False, True], ids=["more to come", "last"])
def test_a_chunk_in_the_wrong_place_is_not_read_as_commands(
    inbox: Inbox, amqp: str, before: list[str], reply: str, last: bool
) -> None:
    with inbox.hello() as client:
        for command in before:
            client.ask(command)
        client.send(chunk(b"QUIT\r\n" * 50_000, last=last) + b"RSET\r\n")
        assert client.reply() == reply
        assert client.reply() == "250 2.0.0 Ok"
        begin(client).send(chunk(CONTENT, last=True))
        assert client.reply().startswith("250-2.0.0 ")
    assert take_content(amqp) == CONTENT


def test_after_helo_there_is_no_bdat(inbox: Inbox) -> None:
    with inbox.connect() as client:
        client.reply()
        client.ask("HELO client.example")
        begin(client).send(chunk(b"QUIT\r\n"))
        assert client.reply() == "503 5.5.1 BDAT needs EHLO"
        assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_the_first_chunk_fixes_recipients_and_the_command(inbox: Inbox, amqp: str) -> None:
    with begin(inbox.hello()) as client:
        client.send(chunk(CONTENT))
        assert client.reply().startswith("250 ")
        assert client.ask("DATA") == "503 5.5.1 BDAT has begun this mail: RSET"
        assert client.ask("RCPT TO:<c@example.org>") == "503 5.5.1 RCPT comes before BDAT: RSET"
        assert client.ask("MAIL FROM:<c@example.com>") == "503 5.5.1 There is a mail already: RSET"
        client.send(chunk(b"more\r\n", last=True))
        assert client.reply().count("250-2.0.0 ") == 1
    assert take_content(amqp) == CONTENT + b"more\r\n"


@pytest.mark.parametrize("command", ["RSET", "EHLO client.example"])
def test_a_reset_drops_the_chunks(inbox: Inbox, amqp: str, command: str) -> None:
    with begin(inbox.hello()) as client:
        client.send(chunk(b"Subject: dropped\r\n"))
        assert client.reply().startswith("250 ")
        assert client.ask(command).startswith("250")
        client.begin().send(CONTENT + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")
    assert take_content(amqp) == CONTENT


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (b"bare\nLF\r\n", "550 5.5.2 "),
        (b"bare\rCR\r\n", "550 5.5.2 "),
        (b"NUL \0\r\n", "550 5.5.2 "),
        (b"x" * 1_000_001, "552 5.3.4 "),
    ],
    ids=["LF", "CR", "NUL", "too large"],
)
@pytest.mark.parametrize("last", [False, True], ids=["more to come", "last"])
def test_a_refused_chunk_refuses_the_mail(inbox: Inbox, amqp: str, content: bytes, reply: str, last: bool) -> None:
    with begin(inbox.hello()) as client:
        client.send(chunk(CONTENT) + chunk(content, last=last))
        assert client.reply().startswith("250 2.0.0 ")
        refusal = client.reply()
        assert refusal.startswith(reply)
        if not last:
            # On its way already when we refused.
            client.send(chunk(CONTENT) * 30 + chunk(CONTENT, last=True))
            assert {client.reply() for _ in range(31)} == {refusal}
        begin(client).send(chunk(CONTENT, last=True))
        assert client.reply().startswith("250-2.0.0 ")
    assert take_content(amqp) == CONTENT


def test_the_size_is_that_of_all_chunks(inbox: Inbox, amqp: str) -> None:
    half = (b"x" * 998 + b"\r\n") * 500
    with begin(inbox.hello()) as client:
        client.send(chunk(half) + chunk(half, last=True))
        assert client.reply() == "250 2.0.0 500000 octets"
        assert client.reply().startswith("250-2.0.0 ")
        assert len(take_messages(amqp, "inbox")) == 1
        begin(client).send(chunk(half) + chunk(half) + chunk(b"x", last=True))
        assert [client.reply()[:9] for _ in range(3)] == ["250 2.0.0", "250 2.0.0", "552 5.3.4"]
    assert take_messages(amqp, "inbox") == []


@pytest.mark.parametrize(
    "line",
    [
        b"BDAT",
        b"BDAT x",
        b"BDAT -1",
        b"BDAT 6 FIRST",
        b"BDAT 6\0",
        b"BDAT 6 \xff",
        b"BDAT 6" + b" " * 600,
        b"BDAT 6" + b" " * 20_000,
    ],
    ids=["no size", "word", "negative", "another word", "control", "not utf-8", "too long", "much too long"],
)
def test_a_chunk_of_unknown_size_ends_the_connection(inbox: Inbox, amqp: str, line: bytes) -> None:
    with begin(inbox.hello()) as client:
        client.send(line + b"\r\nRSET\r\nNOOP\r\n")
        assert client.reply()[:3] in ("500", "501")
        assert client.reply() == ""
    assert take_messages(amqp, "inbox") == []


def test_chunks_that_lead_nowhere_are_counted(inbox: Inbox) -> None:
    with begin(inbox.hello()) as client:
        client.send(b"BDAT 0\r\n" * 100)
        assert [client.reply() for _ in range(99)] == ["250 2.0.0 0 octets"] * 99  # EHLO was the first
        assert client.reply() == "421 4.7.0 Too many commands without a mail"


def test_chunks_hold_no_memory_once_they_are_dropped(vhost: str, tmp_path: Path) -> None:
    limits = {"INBOUND_SMTP_MAX_SIZE": "1000000", "INBOUND_SMTP_MAX_MEMORY": "1500000"}
    # A header section, which cannot go to the disk before its end.
    half = (b"X: " + b"x" * 995 + b"\r\n") * 700
    with run_inbox(tmp_path, vhost, **limits) as inbox:
        for _ in range(3):
            with begin(inbox.hello()) as client:
                client.send(chunk(half))
                assert client.reply().startswith("250 2.0.0 ")
                begin_again = client.ask("RSET"), begin(client)
                assert begin_again[0] == "250 2.0.0 Ok"
                client.send(chunk(half))
                assert client.reply().startswith("250 2.0.0 ")
            wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
        with begin(inbox.hello()) as one, begin(inbox.hello()) as two, begin(inbox.hello()) as three:
            for client in (one, two):
                client.send(chunk(half))
                assert client.reply().startswith("250 2.0.0 ")
            three.send(chunk(half))
            assert three.reply().startswith("452 4.3.1 ")
            # Still temporary for whoever looks at the last reply alone.
            three.send(chunk(b"", last=True))
            assert three.reply().startswith("452 4.3.1 ")
            one.send(chunk(b"", last=True))
            assert one.reply().startswith("250-2.0.0 ")


def test_a_huge_chunk_is_read_and_thrown_away(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        idle = inbox.peak_memory()
        with begin(inbox.hello()) as client:
            client.send(b"BDAT 100000000 LAST\r\n")
            for _ in range(100):
                client.send(b"x" * 1_000_000)
            assert client.reply().startswith("552 5.3.4 ")
            assert client.ask("NOOP") == "250 2.0.0 Ok"
        assert inbox.peak_memory() - idle < 20e6


def test_a_client_that_leaves_within_or_between_chunks_leaves_nothing(inbox: Inbox, amqp: str) -> None:
    for data in (chunk(CONTENT), b"BDAT 1000 LAST\r\n" + CONTENT):
        with begin(inbox.hello()) as client:
            client.send(data)
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
    assert take_messages(amqp, "inbox") == []


def test_a_process_that_stops_between_chunks_says_so(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox, begin(inbox.hello()) as client:
        client.send(chunk(CONTENT))
        assert client.reply().startswith("250 2.0.0 ")
        assert inbox.stop() == 0
        assert client.reply().startswith("421 4.3.2 ")
        assert client.reply() == ""
    assert take_messages(vhost, "inbox") == []
