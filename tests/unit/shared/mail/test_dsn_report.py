"""The report, read with two independent readers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from shared.mail.dsn import DsnRequest, parse_dsn_request
from shared.mail.dsn_report import MOST_RETURNED, Action, render_report
from tests.unit.shared.mail.reports import ORIGINAL, REPORT, check_lines, read, read_blocks, read_fields, third, told


def test_a_failure() -> None:
    request = parse_dsn_request({"orcpt": "rfc822;first@b.example", "envid": "q 7"})
    mime = render_report(replace(REPORT, request=request), ORIGINAL)
    check_lines(mime)
    assert mime.isascii()
    message = read(mime)
    assert dict(message.items()) == {
        "From": "Mail Delivery System <MAILER-DAEMON@me.example>",
        "To": "r@a.example",
        "Subject": "Undelivered mail: it could not be delivered",
        "Date": "Sun, 01 Mar 2026 12:00:00 +0000",
        "Message-ID": "<6a0f3a0e-6f0c-5b6e-9d3e-000000000001@me.example>",
        "In-Reply-To": "<first.1@a.example>",
        "References": "<first.1@a.example>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Type": message["Content-Type"],
        "Content-Transfer-Encoding": "7bit",
    }
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    about_mail, about_recipient = read_blocks(mime)
    assert dict(about_mail.items()) == {
        "Reporting-MTA": "dns; me.example",
        "Original-Envelope-Id": "q 7",
        "Arrival-Date": "Sun, 01 Mar 2026 11:59:00 +0000",
    }
    assert dict(about_recipient.items()) == {
        "Original-Recipient": "rfc822; first@b.example",
        "Final-Recipient": "rfc822; to@b.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.b.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
        "Last-Attempt-Date": "Sun, 01 Mar 2026 12:00:00 +0000",
    }
    assert told(mime) == ([], [b"first@b.example"])


def test_words_for_people() -> None:
    text = str(next(read(render_report(REPORT, ORIGINAL)).iter_parts()).get_content())
    assert "This is the mail system at me.example." in text
    assert "<to@b.example>" in text
    assert "The host mx.b.example [192.0.2.1] answered:" in text
    assert "550 5.1.1 No such user here" in text
    assert "Please check the address for mistakes." in text


@pytest.mark.parametrize("status", ["5.1.1", "5.2.2", "5.3.4", "5.4.7", "4.4.1", "5.6.3", "5.7.1", "5.0.0"])
def test_every_failure_has_advice(status: str) -> None:
    text = str(next(read(render_report(replace(REPORT, status=status), None)).iter_parts()).get_content())
    assert " ".join(text.split()).count("lease ") == 1


def test_a_delay() -> None:
    until = datetime(2026, 3, 2, 11, 59, 0, tzinfo=UTC)
    late = replace(REPORT, action=Action.DELAYED, code=451, status="4.7.1", description="4.7.1 Later", retry_until=until)
    mime = render_report(late, ORIGINAL)
    fields = read_fields(mime)
    assert (fields["Action"], fields["Status"], fields["Will-Retry-Until"]) == (
        "delayed",
        "4.7.1",
        "Mon, 02 Mar 2026 11:59:00 +0000",
    )
    assert told(mime) == ([b"to@b.example"], [])
    assert "You need not do anything" in mime.decode()


def test_handed_on() -> None:
    mime = render_report(replace(REPORT, action=Action.RELAYED, code=250, status="2.0.0", description="2.0.0 Ok"), ORIGINAL)
    fields = read_fields(mime)
    assert (fields["Action"], fields["Status"]) == ("relayed", "2.0.0")
    assert told(mime) == ([], [])


@pytest.mark.parametrize(
    ("action", "status", "expected"),
    [
        (Action.FAILED, "5.1.1", "5.1.1"),
        (Action.FAILED, "4.4.1", "4.4.1"),
        (Action.FAILED, "2.0.0", "5.0.0"),
        (Action.FAILED, None, "5.0.0"),
        (Action.FAILED, "5.1.1\r\nX: y", "5.0.0"),
        (Action.DELAYED, "5.7.1", "4.7.1"),
        (Action.DELAYED, None, "4.0.0"),
        (Action.RELAYED, None, "2.0.0"),
    ],
)
def test_the_class_of_the_status_is_that_of_the_action(action: Action, status: str | None, expected: str) -> None:
    assert read_fields(render_report(replace(REPORT, action=action, status=status), None))["Status"] == expected


def test_our_own_words_are_not_told_as_the_peers() -> None:
    ours = replace(REPORT, is_quoted=False, remote_name=None, remote_ip=None, description="Delivery time expired", status="5.4.7")
    mime = render_report(ours, ORIGINAL)
    fields = read_fields(mime)
    assert fields["Diagnostic-Code"] == "x-mailwarren; Delivery time expired"
    assert "Remote-MTA" not in fields
    assert b"answered:" not in mime
    assert b"The reason:" in mime


def test_an_address_without_a_name() -> None:
    assert read_fields(render_report(replace(REPORT, remote_name=None), None))["Remote-MTA"] == "dns; [192.0.2.1]"


# --- what comes back of the mail


def test_the_header_only() -> None:
    part = third(REPORT, ORIGINAL)
    assert part is not None
    assert part.get_payload() == ORIGINAL.partition(b"\r\n\r\n")[0].decode() + "\r\n"


def test_the_whole_mail() -> None:
    mime = render_report(replace(REPORT, returns_all=True), ORIGINAL)
    part = list(read(mime).iter_parts())[2]
    assert part.get_content_type() == "message/rfc822"
    assert ORIGINAL in mime
    inner = part.get_content()
    assert inner["Subject"] == "About the offer"
    assert inner.get_payload() == "hello\r\n.\r\n--x\r\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (ORIGINAL, "message/rfc822"),
        (ORIGINAL + b"gr\xc3\xbcn\r\n", "message/rfc822"),
        (ORIGINAL + b"gr\xfcn\r\n", "message/rfc822"),
        (ORIGINAL + b"x" * (MOST_RETURNED - len(ORIGINAL) - 2 + 3), "text/rfc822-headers"),
        (ORIGINAL + b"nul \0\r\n", "text/rfc822-headers"),
        (ORIGINAL + b"x" * 999 + b"\r\n", "text/rfc822-headers"),
        (ORIGINAL + b"bare\nnewline\r\n", "text/rfc822-headers"),
        (b"Subject: gr\xc3\xbcn\r\n\r\nhello\r\n", "text/rfc822-headers"),
    ],
)
def test_what_can_be_returned_whole(content: bytes, kind: str) -> None:
    part = third(replace(REPORT, returns_all=True), content)
    assert part is not None
    assert part.get_content_type() == kind


def test_eight_bits_are_declared_and_unchanged() -> None:
    content = ORIGINAL + b"gr\xfcn \xff\r\n"
    mime = render_report(replace(REPORT, returns_all=True), content)
    assert content in mime
    message = read(mime)
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert list(message.iter_parts())[2]["Content-Transfer-Encoding"] == "8bit"


@pytest.mark.parametrize(
    ("header", "charset"),
    [(b"Subject: gr\xc3\xbcn\r\n", "utf-8"), (b"Subject: gr\xfcn\r\n", "iso-8859-1"), (b"X: " + b"y" * 5000 + b"\r\n", "utf-8")],
)
def test_header_sections_in_eight_bits_or_with_long_lines_are_encoded(header: bytes, charset: str) -> None:
    mime = render_report(REPORT, header + b"\r\nhello\r\n")
    assert mime.isascii()
    check_lines(mime)
    part = list(read(mime).iter_parts())[2]
    assert (part["Content-Transfer-Encoding"], part.get_content_charset()) == ("quoted-printable", charset)
    assert part.get_payload(decode=True) == header


@pytest.mark.parametrize("content", [None, b"", b"\r\nno header\r\n", b"no header at all, only text", b" continued: x\r\n"])
def test_without_a_header_there_are_two_parts(content: bytes | None) -> None:
    assert third(REPORT, content) is None


def test_text_without_an_empty_line_is_no_header() -> None:
    part = third(REPORT, b"Subject: x\r\nthis is the body: already\r\nsecret\r\n")
    assert part is not None
    assert part.get_payload() == "Subject: x\r\n"


def test_a_huge_header_section_is_cut_at_a_line() -> None:
    part = third(REPORT, b"X: 0123456789\r\n" * 10_000 + b"\r\n")
    assert part is not None
    body = str(part.get_payload())
    assert 60_000 < len(body) <= 65_536
    assert body.endswith("X: 0123456789\r\n")


@pytest.mark.parametrize("name", ["Subject", "SUBJECT", "Subject ", "Thread-Topic", "Keywords", "Comments"])
def test_of_sealed_mail_nothing_comes_back_that_says_what_it_is_about(name: str) -> None:
    content = b"From: r@a.example\r\n" + name.encode() + b": secret\r\n\tsecret too\r\nTo: to@b.example\r\n\r\nsecret\r\n"
    mime = render_report(replace(REPORT, is_sealed=True, returns_all=True), content)
    assert b"secret" not in mime
    assert b"From: r@a.example\r\nTo: to@b.example\r\n" in mime


# --- addresses that are not ASCII


def test_a_recipient_that_is_not_ascii_stays_seven_bit() -> None:
    request = DsnRequest(original_recipient="utf-8;grün@b.example")
    mime = render_report(replace(REPORT, recipient="grün@straße.example", request=request), ORIGINAL)
    assert mime.isascii()
    fields = read_fields(mime)
    assert fields["Final-Recipient"] == r"utf-8; gr\x{FC}n@stra\x{DF}e.example"
    assert fields["Original-Recipient"] == r"utf-8; gr\x{FC}n@b.example"
    assert "<grün@straße.example>" in str(next(read(mime).iter_parts()).get_content())


def test_a_sender_that_is_not_ascii_gets_the_global_types() -> None:
    report = replace(REPORT, reverse_path="jürgen@a.example", recipient="grün@b.example", returns_all=True, description="nö")
    content = "Subject: grün\r\n\r\nhällo\r\n".encode()
    mime = render_report(report, content)
    check_lines(mime)
    message = message_from_bytes(mime, policy=policy.SMTPUTF8)
    assert "jürgen@a.example" in mime.decode()
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global",
    ]
    assert "Final-Recipient: utf-8; grün@b.example\r\n".encode() in mime
    assert "Diagnostic-Code: smtp; 550 nö\r\n".encode() in mime
    assert content in mime
    assert b"message/global-headers" in render_report(replace(report, returns_all=False), content)
    plain = render_report(replace(report, returns_all=False), b"X: " + b"y" * 5000 + b"\r\n\r\n")
    assert b"text/rfc822-headers" in plain
    check_lines(plain)


def test_the_peers_words_in_other_scripts() -> None:
    mime = render_report(replace(REPORT, description="5.1.1 用户不存在"), None)
    assert mime.isascii()
    assert read_fields(mime)["Diagnostic-Code"] == r"smtp; 550 5.1.1 \x{7528}\x{6237}\x{4E0D}\x{5B58}\x{5728}"
    assert "用户不存在" in str(next(read(mime).iter_parts()).get_content())
