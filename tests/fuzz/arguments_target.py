"""The arguments of commands: read as they stand, or refused with a reply of one line."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from services.smtp_inbox.arguments import Refusal, parse_chunk, parse_helo, parse_mail, parse_rcpt
from services.smtp_inbox.authenticating import decode, parse_plain
from services.smtp_inbox.refused import Refused, find_path, render_refused
from shared.mail.dsn import parse_dsn_request
from shared.wire.document import parse_document
from shared.wire.times import parse_time

SEEDS = [
    b"FROM:<a@example.com> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb AUTH=<>",
    b"TO:<b@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+40c@example.org",
    "TO:<用户@example.org> ORCPT=utf-8;\\x{7528}".encode(),
    b"from: <>",
    b"client.example",
    b"[IPv6:::1]",
    b"100 LAST",
    b"AGFwcABzZWNyZXQ=",
    b"\0app\0secret",
]
WORDS = [
    b" SIZE=", b" BODY=", b" RET=", b" ENVID=", b" AUTH=", b" NOTIFY=", b" ORCPT=", b" SMTPUTF8", b"NEVER", b",", b";", b"+0A", b"+00",
    b"\\x{A}", b"\\x{10ffff}", b"utf-8;", b"rfc822;", b"<", b">", b"FROM:", b"TO:", b"=", b"\0", b"\xc2\x9b", b"99999999999999999999",
]  # fmt: skip
NOW = parse_time("2026-11-23 12:00:00")


def run(data: bytes) -> None:
    """Raises when something is found."""
    text = data.decode("utf-8", "replace")
    for extended in (True, False):
        for smtputf8 in (True, False):
            rcpt = _refused(lambda: parse_rcpt(text, extended=extended, smtputf8=smtputf8))  # noqa: B023 - called at once
            if rcpt is not None:
                assert f"<{rcpt.recipient}>" in text
                assert smtputf8 or rcpt.recipient.isascii()
                parse_dsn_request(dict(rcpt.dsn) or None)
        mail = _refused(lambda: parse_mail(text, extended=extended, max_size=1000, has_auth=True))  # noqa: B023 - called at once
        if mail is not None:
            assert f"<{mail.reverse_path}>" in text
            assert mail.smtputf8 or mail.reverse_path.isascii()
            assert 0 <= mail.size <= 1000
            parse_dsn_request(dict(mail.dsn) or None)
    name = _refused(lambda: parse_helo(text))
    assert name is None or (name.isascii() and name.isprintable() and not set(name) & set(" ()<>;\\"))
    chunk = _refused(lambda: parse_chunk(text))
    assert chunk is None or 0 <= chunk.size < 10**20
    _refused(lambda: decode(data))
    with suppress(ValueError):
        parse_plain(data)
    refused = Refused("550 5.7.1 No relay for you", "rcptto", find_path(text), [text], data, 0)
    parse_document(render_refused(refused, {}, "mx.example", limit=len(data) // 2, now=NOW))


def _refused(parse: Callable[[], Any]) -> Any:
    """What was read; None when it was refused with a reply that is one line of ASCII."""
    try:
        return parse()
    except Refusal as refusal:
        reply = str(refusal)
    assert reply[:1] == "5", reply
    assert reply[3:4] == " ", reply
    assert reply.isascii(), reply
    assert reply.isprintable(), ascii(reply)
    return None
