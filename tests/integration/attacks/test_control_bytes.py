"""Control characters, half characters and line ends of other kinds, in the argument of every command."""

import pytest

from tests.integration.attacks.targets import INJECTED, Target, encode_plain
from tests.integration.smtp_inbox_process import CONTENT, content_of

CONTROL = [bytes([octet]) for octet in (*range(0x20), 0x7F) if octet != 0x0A]
WIDE = ["\u0080", "\u0085", "\u009b", "\u009f", "\u2028", "\u2029", "\ufdd0", "\uffff"]
NOT_UTF8 = [b"\xff", b"\x80", b"\xc0\x8a", b"\xe0\x80\x8d", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc3"]
"""Among them LF and CR in more octets than they need, and half of a surrogate pair."""

MAIL, RCPT = "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"
ARGUMENTS = {
    "EHLO": "EHLO cli|ent.example",
    "HELO": "HELO cli|ent.example",
    "MAIL local part": "MAIL FROM:<a|b@example.com>",
    "MAIL quoted": 'MAIL FROM:<"a|b"@example.com>',
    "MAIL quoted pair": 'MAIL FROM:<"a\\|b"@example.com>',
    "MAIL domain": "MAIL FROM:<a@exam|ple.com>",
    "MAIL literal": "MAIL FROM:<a@[192.0.2.1|]>",
    "MAIL behind": MAIL + "|",
    "MAIL SIZE": MAIL + " SIZE=10|0",
    "MAIL BODY": MAIL + " BODY=8BIT|MIME",
    "MAIL RET": MAIL + " RET=FU|LL",
    "MAIL ENVID": MAIL + " ENVID=a|b",
    "MAIL AUTH": MAIL + " AUTH=a|b",
    "MAIL SMTPUTF8": MAIL + " SMTPUTF8|",
    "RCPT local part": "RCPT TO:<a|b@example.org>",
    "RCPT quoted": 'RCPT TO:<"a|b"@example.org>',
    "RCPT domain": "RCPT TO:<b@exam|ple.org>",
    "RCPT behind": RCPT + "|",
    "RCPT NOTIFY": RCPT + " NOTIFY=NEV|ER",
    "RCPT ORCPT": RCPT + " ORCPT=rfc822;a|b@example.org",
    "DATA": "DATA|",
    "RSET": "RSET|",
    "QUIT": "QUIT|",
    "STARTTLS": "STARTTLS|",
    "AUTH": "AUTH PL|AIN",
    "AUTH response": f"AUTH PLAIN {encode_plain('app', 'x')}|",
    "verb": "NO|OP",
    "NOOP": "NOOP a|b",
    "VRFY": "VRFY a|b",
    "HELP": "HELP a|b",
}
IGNORED = ("NOOP", "VRFY", "HELP", "MAIL AUTH")
"""What they say is thrown away: what is UTF-8 and no control character of ASCII may stand there."""
ENVELOPE = {"MAIL": [], "RCPT": [MAIL + " SMTPUTF8"], "DATA": [MAIL, RCPT]}
EACH = pytest.mark.parametrize("name", ARGUMENTS)


@EACH
def test_they_are_refused_and_the_connection_is_in_step(refusing: Target, name: str) -> None:
    template = ARGUMENTS[name].encode()
    wide = [text.encode() for text in WIDE] if name not in IGNORED else []
    with refusing.inbox.hello() as client:
        for octets in (*CONTROL, *NOT_UTF8, *wide):
            for command in ("RSET", *ENVELOPE.get(name.split()[0], [])):
                assert client.ask(command).startswith("250 ")
            client.send(template.replace(b"|", octets) + b"\r\n")
            reply = client.reply()
            assert reply[:3] in ("500", "501", "502", "504", "538", "553", "555"), (octets, reply)
            assert reply.isascii(), (octets, reply)
            assert reply.isprintable(), (octets, reply)
        assert client.ask("VRFY a@example.com").startswith("252 ")
    assert refusing.take() == []


@EACH
def test_a_line_that_ends_in_lf_ends_the_connection(refusing: Target, name: str) -> None:
    """What stands behind it may have been meant as a part of the argument: it is never run as a command."""
    template = ARGUMENTS[name].encode()
    with refusing.inbox.hello() as client:
        for command in ENVELOPE.get(name.split()[0], []):
            assert client.ask(command).startswith("250 ")
        client.send(template.replace(b"|", b"\n" + INJECTED) + b"\r\n")
        assert client.reply().startswith("500 5.5.2 ")
        assert client.reply() == ""


@pytest.mark.parametrize("behind", [b"", b"\r"], ids=["LF", "CRLF"])
def test_a_line_that_is_too_long_is_one_line(refusing: Target, behind: bytes) -> None:
    with refusing.inbox.hello() as client:
        client.send(b"NOOP " + b"x" * 300_000)
        client.send(b"x" * 300_000 + behind + b"\nVRFY a@example.com\r\n")
        assert client.reply().startswith("500 5.5.2 ")
        assert client.reply()[:4] == ("252 " if behind else "")


def test_a_response_to_a_challenge(refusing: Target) -> None:
    with refusing.secure() as client:
        for octets in (*CONTROL, *NOT_UTF8):
            assert client.ask("AUTH PLAIN").startswith("334 ")
            client.send(encode_plain("app", "x").encode() + octets + b"\r\n")
            assert client.reply() == "501 5.5.2 Not base64"
        assert client.ask("AUTH PLAIN").startswith("334 ")
        client.send(encode_plain("app", "x").encode() + b"\n" + INJECTED)
        assert client.reply().startswith("501 5.5.2 ")
        assert client.reply() == ""


def test_chunks(refusing: Target) -> None:
    """Where a chunk ends is not known then: its content must not be read as commands."""
    for octets in (*CONTROL, *NOT_UTF8, b"\n", b" LAST LAST", b" \xc2\xa0LAST", "\u0664".encode()):
        with refusing.inbox.hello() as client:
            assert client.ask(MAIL).startswith("250 ")
            assert client.ask(RCPT).startswith("250 ")
            client.send(b"BDAT %d" % len(INJECTED) + octets + b"\r\n" + INJECTED)
            assert client.reply()[:3] in ("500", "501"), octets
            assert client.reply() == "", octets
    assert refusing.take() == []


def test_what_may_be_in_a_header_section_is_not_in_ours(refusing: Target) -> None:
    """Names that are allowed stand in Received as they are, or as ``?``: they cannot end it or begin a comment."""
    with refusing.inbox.connect() as client:
        client.reply()
        assert client.ask("EHLO [127.0.0.1]").startswith("250-")
        assert client.ask('MAIL FROM:<"a)(b;\\"c"@example.com>').startswith("250 ")
        assert client.ask('RCPT TO:<"x>;\\\\ by evil"@example.org>').startswith("250 ")
        assert client.ask("DATA").startswith("354 ")
        client.send(CONTENT + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")
    (document,) = refusing.take()
    assert document["recipient"] == '"x>;\\\\ by evil"@example.org'
    content = content_of(document)
    assert content.endswith(CONTENT)
    received = content.removesuffix(CONTENT)
    assert received.startswith(b"Received: from [127.0.0.1] ([127.0.0.1])\r\n\tby mx.example with ESMTP id ")
    assert received.count(b"\r\n") == received.count(b"\r\n\t") + 1
