"""MTA-STS: what is a record, what is a policy, and which hosts it names."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.smtp_sender.mta_sts import LONGEST_AGE, MOST_PATTERNS, InvalidPolicy, Mode, StsPolicy, parse_policy, parse_record

GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mail.example\r\nmx: *.example.net\r\nmax_age: 86400\r\n"


@pytest.mark.parametrize(
    ("texts", "record_id"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1; id=1"], "1"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 ; id = 1 ; new=thing;"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=7;"], "7"),
        ([], None),
        ([b"v=spf1 -all"], None),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=1;"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1; id=;"], None),
        ([b"v=STSv1; id=1; id=2;"], None),
        ([b"v=STSv1; id=a-b;"], None),
        ([b"v=STSv1; id=" + b"1" * 33], None),
        ([b"v=STSv2; id=1;"], None),
        ([b"v=STSv10; id=1;"], None),
        ([b"V=STSv1; id=1;"], None),
        ([b" v=STSv1; id=1;"], None),
        ([b"v=STSv1; id=1; x=\xff"], None),
    ],
)
def test_the_record(texts: list[bytes], record_id: str | None) -> None:
    assert parse_record(texts) == record_id


def test_a_policy() -> None:
    expected = StsPolicy(Mode.ENFORCE, timedelta(days=1), ("mail.example", "*.example.net"))
    assert parse_policy(GOOD.encode()) == expected
    assert parse_policy(GOOD.replace("\r\n", "\n").encode()) == expected
    assert parse_policy(GOOD.strip().encode()) == expected
    assert parse_policy(GOOD.replace("mail.example", "MAIL.Example").encode()) == expected


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("version:STSv1\nmode:none\nmax_age:0\n", StsPolicy(Mode.NONE, timedelta(0), ())),
        ("mx: a.b\nmax_age: 9999999999\nmode: testing \nversion: STSv1", StsPolicy(Mode.TESTING, LONGEST_AGE, ("a.b",))),
        (
            "version: STSv1\nmode: enforce\nmode: none\nmx: a.b\nmax_age: 1\nmax_age: 2\nnew_field: = things : more\n\n",
            StsPolicy(Mode.ENFORCE, timedelta(seconds=1), ("a.b",)),
        ),
    ],
)
def test_odd_policies(text: str, policy: StsPolicy) -> None:
    assert parse_policy(text.encode()) == policy


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("version: STSv1", "version: STSv2", "version"),
        ("version: STSv1\r\n", "", "version"),
        ("version: STSv1\r\n", "version: STSv2\r\nversion: STSv1\r\n", "version"),
        ("version", "Version", "version"),
        ("mode: enforce", "mode: Enforce", "mode"),
        ("mode: enforce\r\n", "", "mode"),
        ("max_age: 86400", "max_age: -1", "max_age"),
        ("max_age: 86400", "max_age: 1 day", "max_age"),
        ("max_age: 86400", "max_age: 12345678901", "max_age"),
        ("max_age: 86400", "max_age: ٣", "max_age"),
        ("max_age: 86400\r\n", "", "max_age"),
        ("mx: mail.example\r\nmx: *.example.net\r\n", "", "mx: there is none"),
        ("*.example.net", "*", "no name"),
        ("*.example.net", "*.*.example.net", "no name"),
        ("*.example.net", "mail.*.example", "no name"),
        ("*.example.net", "m*.example", "no name"),
        ("*.example.net", ".example.net", "no name"),
        ("*.example.net", "a..b", "no name"),
        ("*.example.net", "münchen.example", "no name"),
        ("*.example.net", "a b", "no name"),
        ("*.example.net", "x" * 64 + ".example", "no name"),
        ("*.example.net", "", "no name"),
        ("mx: *.example.net", "\r\n".join(["mx: a.example"] * MOST_PATTERNS), "more than"),
        ("mode: enforce", "mode enforce", "no field"),
        ("mode: enforce", "<html>", "no field"),
        ("mode: enforce", "mode: enforce\rmode: none", "mode"),
    ],
)
def test_what_is_no_policy(old: str, new: str, why: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidPolicy, match=why):
        parse_policy(GOOD.replace(old, new).encode())


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(InvalidPolicy, match="UTF-8"):
        parse_policy(b"\xff\xfe" + GOOD.encode())
    with pytest.raises(InvalidPolicy):
        parse_policy(b"")


@pytest.mark.parametrize(
    ("host", "is_named"),
    [
        ("mail.example", True),
        ("Mail.Example.", True),
        ("a.example.net", True),
        ("A.EXAMPLE.NET", True),
        ("example.net", False),
        ("a.b.example.net", False),
        ("mail.example.evil", False),
        ("evilmail.example", False),
        ("example", False),
        ("", False),
        ("127.0.0.1", False),
    ],
)
def test_which_hosts_are_named(host: str, is_named: bool) -> None:
    assert parse_policy(GOOD.encode()).names(host) is is_named
