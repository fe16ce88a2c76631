"""SMTP smuggling: whatever some server somewhere takes for the end of the content, one mail stays one mail, with one envelope."""

from collections.abc import Callable

import pytest

from shared.mail.content import end_of_data, has_bare_newlines, stuff_dots
from tests.integration.attacks.targets import INJECTED, Target
from tests.integration.smtp_inbox_process import CONTENT, Client, content_of, without_received

SEQUENCES = {
    "LF.LF": b"\n.\n",
    "CR.CR": b"\r.\r",
    "LF.CR": b"\n.\r",
    "CR.LF": b"\r.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF NUL . CRLF": b"\r\n\0.\r\n",
    "CRLF . NUL CRLF": b"\r\n.\0\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n",
    "LFCR.LFCR": b"\n\r.\n\r",
}
SMUGGLED = INJECTED + b"DATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n"
ALL = pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)


def send_by_data(client: Client, before: bytes, behind: bytes) -> str:
    """The content in two segments, cut inside of the sequence; then its true end."""
    client.begin()
    client.send(before)
    client.send(behind + b".\r\n")
    return client.reply()


def send_by_bdat(client: Client, before: bytes, behind: bytes) -> str:
    """The content as two chunks, cut inside of the sequence."""
    for command in ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"):
        assert client.ask(command).startswith("250 ")
    client.send(b"BDAT %d\r\n" % len(before) + before + b"BDAT %d LAST\r\n" % len(behind) + behind)
    replies = [client.reply(), client.reply()]
    return replies[1]


Send = Callable[[Client, bytes, bytes], str]
WAYS = pytest.mark.parametrize("send", [send_by_data, send_by_bdat], ids=["DATA", "BDAT"])


def normalize_slowly(content: bytes) -> bytes:
    """Octet by octet: a CR or LF alone becomes CRLF."""
    out, place = b"", 0
    while place < len(content):
        if content[place : place + 2] == b"\r\n":
            out, place = out + b"\r\n", place + 2
        else:
            octet = content[place : place + 1]
            out, place = out + (b"\r\n" if octet in b"\r\n" else octet), place + 1
    return out


def unstuff_slowly(content: bytes) -> bytes:
    """Line by line, where only CRLF ends a line: a dot that begins one goes."""
    return b"\r\n".join(line.removeprefix(b".") for line in content.split(b"\r\n"))


@WAYS
@ALL
def test_refused(refusing: Target, send: Send, sequence: bytes) -> None:
    with refusing.inbox.hello() as client:
        reply = send(client, CONTENT + b"text" + sequence[:1], sequence[1:] + SMUGGLED)
        assert reply.startswith("550 5.5.2 ")
        # Reply for reply: nothing of the content was taken for a command.
        assert client.ask("VRFY a@example.com").startswith("252 ")
    assert refusing.take() == []


@WAYS
@ALL
def test_normalized(normalizing: Target, send: Send, sequence: bytes) -> None:
    content = CONTENT + b"text" + sequence + SMUGGLED
    with normalizing.inbox.hello() as client:
        reply = send(client, CONTENT + b"text" + sequence[:1], sequence[1:] + SMUGGLED)
        assert client.ask("VRFY a@example.com").startswith("252 ")
    if b"\0" in sequence:
        assert reply.startswith("550 5.5.2 ")
        assert normalizing.take() == []
        return
    assert reply.startswith("250-2.0.0 ")
    (document,) = normalizing.take()
    assert (document["envelope"], document["recipient"]) == ("a@example.com", "b@example.org")
    arrived = without_received(content_of(document))
    assert arrived == normalize_slowly(unstuff_slowly(content) if send is send_by_data else content)
    assert not has_bare_newlines(arrived)
    # And it does not leave as two mails either.
    leaves = b"\r\n" + stuff_dots(arrived) + end_of_data(arrived)
    assert leaves.index(b"\r\n.\r\n") == len(leaves) - 5


def test_an_end_inside_of_a_chunk_is_content(refusing: Target) -> None:
    content = CONTENT + b"text\r\n.\r\n" + SMUGGLED
    with refusing.inbox.hello() as client:
        assert send_by_bdat(client, content[:-100], content[-100:]).startswith("250-2.0.0 ")
        assert client.ask("NOOP") == "250 2.0.0 Ok"
    assert refusing.take_content() == content


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_an_end_in_pieces_is_one_end(refusing: Target, size: int) -> None:
    """However the network cuts it, content ends at the same octet: what comes behind is the next command."""
    stream = CONTENT + b"text\r\n..\r\n...\r\n.\r\nVRFY a@example.com\r\n"
    with refusing.inbox.hello() as client:
        client.begin()
        for start in range(0, len(stream), size):
            client.send(stream[start : start + size])
        assert client.reply().startswith("250-2.0.0 ")
        assert client.reply().startswith("252 ")
    assert refusing.take_content() == CONTENT + b"text\r\n.\r\n..\r\n"
