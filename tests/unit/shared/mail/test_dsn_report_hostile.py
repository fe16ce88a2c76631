"""The same report is the same bytes, and nothing hostile changes its structure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.dsn_report import Action, render_report
from tests.unit.shared.mail.reports import ORIGINAL, REPORT, check_lines, read, read_fields, third


def test_the_same_again() -> None:
    assert render_report(REPORT, ORIGINAL) == render_report(REPORT, ORIGINAL)


def test_a_mail_cannot_end_its_part() -> None:
    first = render_report(replace(REPORT, returns_all=True), ORIGINAL)
    boundary = re.search(rb'boundary="([^"]+)"', first)
    assert boundary is not None
    hostile = ORIGINAL + b"--" + boundary[1] + b"--\r\n--" + boundary[1] + b"\r\nContent-Type: message/delivery-status\r\n\r\n"
    mime = render_report(replace(REPORT, returns_all=True), hostile)
    assert [part.get_content_type() for part in read(mime).iter_parts()][2:] == ["message/rfc822"]
    assert hostile in mime


@pytest.mark.parametrize(
    "ident", ["<a@b>\r\nX: y", "no brackets", "<a b@c>", "<a@b> <c@d>", "<" + "a" * 300 + "@b>", "<a@b", "<ä@b>"]
)
def test_odd_message_ids_are_not_referred_to(ident: str) -> None:
    message = read(render_report(REPORT, f"Message-ID: {ident}\r\nFrom: x\r\n\r\n".encode()))
    assert ("In-Reply-To" in message) == (ident == "<a@b>\r\nX: y")
    assert "X" not in message


HOSTILE = st.text(max_size=60) | st.sampled_from(
    [
        "a\r\nStatus: 2.0.0",
        "x\r\n\r\n--b",
        "\0",
        "\x1b[31m",
        "\u2028Action: relayed",
        "a" * 3000,
        "\ud800",
        "é" * 900,
        "=?utf-8?q?x?=",
    ]
)
ADDRESSES = st.sampled_from(["to@b.example", "grün@b.example", '"a b;c=d"@b.example', "", "x" * 900, "a@b\r\nBcc: c@d"]) | HOSTILE


@settings(max_examples=200)
@given(
    hostname=HOSTILE,
    recipient=ADDRESSES,
    description=HOSTILE,
    status=HOSTILE,
    remote_name=HOSTILE,
    remote_ip=HOSTILE,
    action=st.sampled_from(Action),
    is_quoted=st.booleans(),
    returns_all=st.booleans(),
    is_sealed=st.booleans(),
    content=st.none() | st.binary(max_size=300) | st.binary(max_size=100).map(ORIGINAL.__add__),
)
def test_nothing_hostile_changes_the_structure(content: bytes | None, **given: Any) -> None:
    report = replace(REPORT, **given)
    mime = render_report(report, content)
    check_lines(mime)
    message = read(mime)
    assert set(message.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding",
    }  # fmt: skip
    parts = [part.get_content_type() for part in message.iter_parts()]
    assert parts[:2] == ["text/plain", "message/delivery-status"]
    assert parts[2:] in ([], ["text/rfc822-headers"], ["message/rfc822"])
    fields = read_fields(mime)
    assert fields["Action"] == report.action
    assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", fields["Status"])
    assert set(fields) <= {
        "Reporting-MTA", "Arrival-Date", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date",
    }  # fmt: skip
    if "message/rfc822" not in parts:
        assert mime.isascii()


@given(st.lists(st.binary(max_size=80).map(lambda line: b"X: " + line.replace(b"\r", b"").replace(b"\n", b"")), max_size=5))
def test_whatever_octets_a_header_has_they_come_back(lines: list[bytes]) -> None:
    section = b"".join(line + b"\r\n" for line in lines)
    part = third(REPORT, section + b"\r\nbody\r\n")
    if part is None:
        assert not lines
        return
    assert part.get_payload(decode=True) == section
