"""The trace header."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.headers import parse_header_section
from shared.mail.received import count_received, name_protocol, render_received

NOW = datetime(2026, 11, 23, 4, 32, tzinfo=UTC)


def test_everything_known() -> None:
    assert render_received(
        helo="mail.example.org",
        remote_ip="192.0.2.1",
        remote_name="out.example.org",
        by="mx.example.com",
        protocol="ESMTPS",
        ident="3f2a-1",
        recipient="joe@example.com",
        now=NOW,
    ) == (
        b"Received: from mail.example.org (out.example.org [192.0.2.1])\r\n"
        b"\tby mx.example.com with ESMTPS id 3f2a-1\r\n"
        b"\tfor <joe@example.com>;\r\n"
        b"\tMon, 23 Nov 2026 04:32:00 +0000\r\n"
    )


def test_as_little_as_possible() -> None:
    assert render_received(helo="", remote_ip="2001:db8::1", by="mx.example.com", now=NOW) == (
        b"Received: from unknown ([IPv6:2001:db8::1])\r\n\tby mx.example.com with ESMTP;\r\n\tMon, 23 Nov 2026 04:32:00 +0000\r\n"
    )


def test_over_http_nobody_says_helo() -> None:
    assert render_received(helo=None, remote_ip="192.0.2.1", by="mx.example.com", protocol="HTTP", now=NOW) == (
        b"Received: from [192.0.2.1] ([192.0.2.1])\r\n\tby mx.example.com with HTTP;\r\n\tMon, 23 Nov 2026 04:32:00 +0000\r\n"
    )
    assert render_received(helo=None, remote_ip="", by="mx.example.com", protocol="HTTP", now=NOW).startswith(
        b"Received: by mx.example.com"
    )


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"extended": False, "secure": True}, "SMTP"),
        ({}, "ESMTP"),
        ({"secure": True}, "ESMTPS"),
        ({"authenticated": True}, "ESMTPA"),
        ({"secure": True, "authenticated": True}, "ESMTPSA"),
        ({"utf8": True}, "UTF8SMTP"),
        ({"utf8": True, "secure": True, "authenticated": True}, "UTF8SMTPSA"),
    ],
)
def test_protocols(options: dict[str, bool], word: str) -> None:
    assert name_protocol(**options) == word


def test_utf8_only_where_the_protocol_says_so() -> None:
    utf8 = render_received(helo="bücher.example", remote_ip="::1", by="mx", protocol="UTF8SMTP", recipient="jörg@x.de", now=NOW)
    plain = render_received(helo="bücher.example", remote_ip="::1", by="mx", recipient="jörg@x.de", now=NOW)
    assert "from bücher.example" in utf8.decode()
    assert "for <jörg@x.de>" in utf8.decode()
    assert b"from b?cher.example" in plain
    assert b"for" not in plain


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=40), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_client_cannot_write_headers(helo: str, ident: str, name: str, utf8: bool) -> None:
    protocol = name_protocol(utf8=utf8)
    line = render_received(helo=helo, remote_ip="192.0.2.1", by="mx", ident=ident, remote_name=name, protocol=protocol, now=NOW)
    fields = parse_header_section(line + b"\r\n")
    assert [name for name, _ in fields] == ["Received"]
    assert line.count(b"\r\n") == line.count(b"\n") == line.count(b"\r") == 3
    assert fields[0][1].endswith(";\tMon, 23 Nov 2026 04:32:00 +0000")
    assert fields[0][1].count("(") == fields[0][1].count(")") == 1
    assert utf8 or line.isascii()


def test_count_of_hops() -> None:
    hop = render_received(helo="a", remote_ip="192.0.2.1", by="b", now=NOW)
    content = (
        hop + b"received : x\nRECEIVED:y\r\nX-Received: no\r\nSubject: z\r\n received: folded\r\n\r\nReceived: in the body\r\n"
    )
    assert count_received(content) == 3
    assert count_received(b"") == 0
