"""What a sender asks to be told: parsing of ``dsn``, parameters of MAIL and RCPT."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.dsn import (
    DsnRequest,
    Notify,
    Returned,
    decode_original_recipient,
    decode_xtext,
    encode_original_recipient,
    encode_xtext,
    parse_dsn_request,
    render_mail_parameters,
    render_rcpt_parameters,
)

WORD = re.compile(r"[!-~]+")


@pytest.mark.parametrize("value", [None, {}, {"notify": None, "ret": None, "orcpt": None, "envid": None}])
def test_nothing_is_asked(value: Any) -> None:
    assert parse_dsn_request(value) is None


def test_everything() -> None:
    value = {"notify": "SUCCESS,FAILURE", "ret": "FULL", "orcpt": "rfc822;a+b@x.example", "envid": "id=7 of+9"}
    assert parse_dsn_request(value) == DsnRequest(
        frozenset({Notify.SUCCESS, Notify.FAILURE}), Returned.FULL, "rfc822;a+b@x.example", "id=7 of+9"
    )


@pytest.mark.parametrize(
    ("notify", "expected"),
    [
        ("NEVER", {"NEVER"}),
        ("never", {"NEVER"}),
        ("delay", {"DELAY"}),
        ("SUCCESS, FAILURE ,DELAY", {"SUCCESS", "FAILURE", "DELAY"}),
        (["FAILURE", "DELAY"], {"FAILURE", "DELAY"}),
        (["NEVER"], {"NEVER"}),
        ("FAILURE,FAILURE", {"FAILURE"}),
    ],
)
def test_notify(notify: Any, expected: set[str]) -> None:
    request = parse_dsn_request({"notify": notify})
    assert request is not None
    assert request.notify == frozenset(map(Notify, expected))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("FAILURE", r"^dsn: 'FAILURE': expected an object with notify, ret, orcpt, envid$"),
        ([], r"^dsn: '\[\]': expected an object"),
        ({"notfy": "FAILURE"}, r"^dsn: 'notfy': expected the names notify, ret, orcpt, envid$"),
        ({"notify": ""}, r"^dsn\.notify: '': expected NEVER, or any of SUCCESS, FAILURE, DELAY$"),
        ({"notify": []}, r"^dsn\.notify: '': expected NEVER"),
        ({"notify": "NEVER,FAILURE"}, r"^dsn\.notify: 'NEVER,FAILURE': expected NEVER"),
        ({"notify": ["FAILURE", "NEVER"]}, r"^dsn\.notify: 'FAILURE,NEVER': expected NEVER"),
        ({"notify": "FAILURE\r\n"}, r"^dsn\.notify: 'FAILURE\\r\\n': expected NEVER"),
        ({"notify": 1}, r"^dsn\.notify: '1': expected NEVER"),
        ({"notify": [1]}, r"^dsn\.notify: '\[1\]': expected NEVER"),
        ({"notify": True}, r"^dsn\.notify: 'True': expected NEVER"),
        ({"ret": "BODY"}, r"^dsn\.ret: 'BODY': expected FULL or HDRS$"),
        ({"ret": ["FULL"]}, r"^dsn\.ret: .*: expected FULL or HDRS$"),
        (
            {"orcpt": "a@x.example"},
            r"^dsn\.orcpt: 'a@x\.example': expected rfc822;address, or utf-8;address when it is not ASCII$",
        ),
        ({"orcpt": "rfc822;"}, r"^dsn\.orcpt: 'rfc822;': expected rfc822;address"),
        ({"orcpt": "rfc 822;a@x.example"}, r"^dsn\.orcpt: .*expected rfc822;address"),
        ({"orcpt": "rfc822;ä@x.example"}, r"^dsn\.orcpt: .*utf-8;address when it is not ASCII$"),
        ({"orcpt": "rfc822;a@x\r\nRCPT TO:<b@x>"}, r"^dsn\.orcpt: .*expected rfc822;address"),
        ({"orcpt": "utf-8;ä\u2028@x.example"}, r"^dsn\.orcpt: .*expected rfc822;address"),
        ({"orcpt": "rfc822;" + "a" * 494}, r"^dsn\.orcpt: .*expected at most 500 characters, encoded$"),
        ({"orcpt": "rfc822;" + "+" * 165}, r"^dsn\.orcpt: .*expected at most 500 characters, encoded$"),
        ({"orcpt": 7}, r"^dsn\.orcpt: '7': expected"),
        ({"envid": ""}, r"^dsn\.envid: '': expected printable ASCII text$"),
        ({"envid": "a\tb"}, r"^dsn\.envid: 'a\\tb': expected printable ASCII text$"),
        ({"envid": "ä"}, r"^dsn\.envid: 'ä': expected printable ASCII text$"),
        ({"envid": "x" * 101}, r"^dsn\.envid: .*expected at most 100 characters, encoded$"),
        ({"envid": "=" * 34}, r"^dsn\.envid: .*expected at most 100 characters, encoded$"),
        ({"envid": 12}, r"^dsn\.envid: '12': expected printable ASCII text$"),
    ],
)
def test_refused_with_field_value_and_expectation(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_dsn_request(value)


def test_the_longest_that_fit() -> None:
    assert parse_dsn_request({"orcpt": "rfc822;" + "a" * 493, "envid": "x" * 100})
    assert parse_dsn_request({"orcpt": "rfc822;" + "+" * 164, "envid": "=" * 33})


def test_parameters() -> None:
    request = parse_dsn_request({"notify": "DELAY,SUCCESS", "ret": "HDRS", "orcpt": "rfc822;a+b@x.example", "envid": "a b=c"})
    assert render_mail_parameters(request, is_null=False) == " RET=HDRS ENVID=a+20b+3Dc"
    assert render_rcpt_parameters(request, is_null=False) == " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@x.example"


def test_nothing_asked_nothing_said() -> None:
    assert render_mail_parameters(None, is_null=False) == render_rcpt_parameters(None, is_null=False) == ""
    assert render_mail_parameters(DsnRequest(), is_null=False) == render_rcpt_parameters(DsnRequest(), is_null=False) == ""


def test_the_null_reverse_path_cannot_be_told_anything() -> None:
    request = parse_dsn_request({"notify": "FAILURE", "ret": "FULL", "envid": "x"})
    assert (render_mail_parameters(request, is_null=True), render_rcpt_parameters(request, is_null=True)) == (" ENVID=x", "")
    assert render_rcpt_parameters(parse_dsn_request({"notify": "NEVER"}), is_null=True) == " NOTIFY=NEVER"


@pytest.mark.parametrize(
    ("plain", "encoded"),
    [
        ("rfc822;Anna+list@x.example", "rfc822;Anna+2Blist@x.example"),
        ('rfc822;"a b"@x.example', 'rfc822;"a+20b"@x.example'),
        ("utf-8;grün@straße.example", r"utf-8;gr\x{FC}n@stra\x{DF}e.example"),
        ("utf-8;a+b=c\\d@\u4e2d\U0001f600.example", r"utf-8;a\x{2B}b\x{3D}c\x{5C}d@\x{4E2D}\x{1F600}.example"),
        ("UTF-8;ü@x.example", r"UTF-8;\x{FC}@x.example"),
        ("x400;/c=de", "x400;/c+3Dde"),
    ],
)
def test_original_recipients(plain: str, encoded: str) -> None:
    assert encode_original_recipient(plain) == encoded
    assert decode_original_recipient(encoded) == plain


@pytest.mark.parametrize(
    "parameter",
    [
        "a@x.example", "rfc822;a+b@x", "rfc822;a+0Ab@x", "rfc822;ä@x", "rfc822;a b@x", r"utf-8;\x{D800}@x", r"utf-8;\x{110000}@x",
        r"utf-8;a\b@x", "utf-8;a b@x", "utf-8;a=b@x",
    ],
)  # fmt: skip
def test_what_a_client_may_not_say(parameter: str) -> None:
    with pytest.raises(ValueError, match=r"^expected "):
        decode_original_recipient(parameter)


def test_an_international_address_in_octets_as_postfix_writes_it() -> None:
    assert decode_original_recipient("rfc822;gr+C3+BCn+2Blist@x.example") == "utf-8;grün+list@x.example"
    assert decode_original_recipient("rfc822;gruen+2Blist@x.example") == "rfc822;gruen+list@x.example"


@pytest.mark.parametrize("broken", ["rfc822;gr+C3n@x.example", "rfc822;gr+C2+85n@x.example", "rfc822;gr+c3+bcn@x.example"])
def test_octets_that_are_no_address(broken: str) -> None:
    with pytest.raises(ValueError, match=r"expected|can't decode"):
        decode_original_recipient(broken)


PRINTABLE = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)
WIDE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30)


@given(PRINTABLE)
def test_xtext_round_trip(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text


@given(WIDE)
def test_international_round_trip(text: str) -> None:
    encoded = encode_original_recipient(f"utf-8;{text}")
    assert encoded.isascii()
    assert decode_original_recipient(encoded) == f"utf-8;{text}"


ANYTHING = st.text(max_size=40) | PRINTABLE | WIDE.map("utf-8;".__add__) | PRINTABLE.map("rfc822;".__add__)


@given(st.fixed_dictionaries({}, optional={"orcpt": ANYTHING, "envid": ANYTHING, "ret": ANYTHING, "notify": ANYTHING}))
def test_no_value_gets_out_of_its_parameter(value: dict[str, str]) -> None:
    """Whatever is accepted is one word per parameter."""
    try:
        request = parse_dsn_request(value)
    except ValueError:
        return
    for line in (render_mail_parameters(request, is_null=False), render_rcpt_parameters(request, is_null=False)):
        assert all(WORD.fullmatch(word) and "=" in word for word in line.split(" ")[1:])
        assert line == "" or line.startswith(" ")
    assert len(render_mail_parameters(request, is_null=False).split(" ")) <= 3
