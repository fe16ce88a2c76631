"""A report, and two independent readers of it: the standard library's parser and flufl.bounce."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage, Message, MIMEPart

from flufl.bounce import all_failures

from shared.mail.dsn_report import Action, Report, render_report

ORIGINAL = (
    b"Received: from a.example by me.example; Sun, 01 Mar 2026 11:59:00 +0000\r\nFrom: Anna <r@a.example>\r\nTo: to@b.example\r\n"
    b"Subject: About the\r\n offer\r\nMessage-ID: <first.1@a.example>\r\n\r\nhello\r\n.\r\n--x\r\n"
)
REPORT = Report(
    ident="6a0f3a0e-6f0c-5b6e-9d3e-000000000001",
    action=Action.FAILED,
    hostname="me.example",
    time=datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC),
    arrival=datetime(2026, 3, 1, 11, 59, 0, tzinfo=UTC),
    reverse_path="r@a.example",
    recipient="to@b.example",
    code=550,
    status="5.1.1",
    description="5.1.1 No such user here",
    is_quoted=True,
    remote_name="mx.b.example",
    remote_ip="192.0.2.1",
)


def read(mime: bytes) -> EmailMessage:
    """The report as the standard library reads it, without a single defect."""
    message = message_from_bytes(mime, policy=policy.default)
    assert isinstance(message, EmailMessage)
    for part in (message, *message.iter_parts()):
        # What is wrong with a mail that comes back whole was wrong before.
        assert not part.defects, (part.get_content_type(), part.defects)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    return message


def read_blocks(mime: bytes) -> list[Message]:
    """The blocks of message/delivery-status."""
    part = list(read(mime).iter_parts())[1]
    assert part.get_content_type() == "message/delivery-status"
    blocks = part.get_payload()
    assert isinstance(blocks, list)
    return [block for block in blocks if isinstance(block, Message)]


def read_fields(mime: bytes) -> dict[str, str]:
    """All fields of message/delivery-status, unfolded; each once."""
    pairs = [(name, re.sub(r"\r?\n", "", str(value))) for block in read_blocks(mime) for name, value in block.items()]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def check_lines(mime: bytes) -> None:
    """CRLF only, no line too long for SMTP."""
    lines = mime.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 998 and b"\r" not in line and b"\n" not in line and b"\0" not in line for line in lines)


def told(mime: bytes) -> tuple[list[bytes], list[bytes]]:
    """The recipients that flufl.bounce finds: still tried, and failed."""
    temporary, permanent = all_failures(message_from_bytes(mime))
    return sorted(temporary), sorted(permanent)


def third(report: Report, content: bytes | None) -> MIMEPart | None:
    """The third part."""
    mime = render_report(report, content)
    check_lines(mime)
    parts = list(read(mime).iter_parts())
    assert len(parts) in (2, 3)
    return parts[2] if len(parts) == 3 else None
