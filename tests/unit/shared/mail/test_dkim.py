"""DKIM signatures hold for others (dkimpy, a verifier written from the RFC, the RFC's own examples), and break when they should."""

import base64
import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import PrivateFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.mail.canonical import Form, SplitContent
from shared.mail.content import end_of_data
from shared.mail.dkim import complete, find_signatures, sign, verify_signature
from shared.mail.signing_keys import parse_key_record, parse_private_key
from shared.mail.tags import empty_signature, parse_tags
from tests.unit.shared.mail.signing_world import (
    ED25519,
    KEYS,
    MAIL,
    NOW,
    RECORDS,
    RSA,
    dkimpy_verifies,
    pem,
    request,
    verify_by_the_book,
)

FORMS = ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]

# RFC 8463 appendix A: keys, and one mail signed with both.
RFC_8463_SEED = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
RFC_8463_RECORDS = {
    b"brisbane": b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    b"test": b"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
    b"iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
    b"DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
    b"Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
}
RFC_8463_MAIL = b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")


def test_we_verify_the_mail_of_rfc_8463() -> None:
    mail = SplitContent(RFC_8463_MAIL)
    found = find_signatures(mail)
    assert [tags[b"s"] for _, tags in found] == [b"brisbane", b"test"]
    for field, tags in found:
        verify_signature(mail, field, tags, parse_key_record(RFC_8463_RECORDS[tags[b"s"]]))


def test_our_ed25519_signature_of_the_mail_of_rfc_8463_is_the_one_in_the_rfc() -> None:
    key = parse_private_key(pem(Ed25519PrivateKey.from_private_bytes(base64.b64decode(RFC_8463_SEED))))
    mail = SplitContent(RFC_8463_MAIL)
    field, tags = find_signatures(mail)[0]
    names = tags[b"h"].replace(b"\r\n", b"").replace(b" ", b"").split(b":")
    made = complete(empty_signature(field.raw), mail.render_header(names, Form.RELAXED), Form.RELAXED, key)
    assert re.sub(rb"\s", b"", made) == re.sub(rb"\s", b"", field.raw)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("selector", KEYS)
@pytest.mark.parametrize(
    "body", [None, b"", b"\r\n", b"no end", b"blank at the end \t", b"\r\n\r\n", b" \r\n\t\r\n", b"\xff\x80\r\n"]
)
def test_signatures_hold(form: str, selector: str, body: bytes | None) -> None:
    content = MAIL if body is None else MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    signed = sign(content, [request(selector, canonicalization=form)], now=NOW)
    # What the peer gets to see: DATA ends every line.
    seen = signed + end_of_data(signed).removesuffix(b".\r\n")
    assert signed.endswith(content)
    assert dkimpy_verifies(seen)
    assert verify_by_the_book(seen)


def test_several_signatures_on_one_mail_all_hold() -> None:
    wanted = [request("r"), request("e", canonicalization="simple"), request("small", canonicalization="relaxed/simple")]
    signed = sign(MAIL, wanted, now=NOW)
    assert [dkimpy_verifies(signed, number) for number in range(3)] == [True] * 3
    assert re.findall(rb"; s=(\w+);", signed) == [b"r", b"e", b"small"]


def test_pkcs1_and_pkcs8_give_the_same_signature() -> None:
    forms = [pem(RSA, PrivateFormat.PKCS8), pem(RSA, PrivateFormat.TraditionalOpenSSL)]
    assert forms[1].startswith("-----BEGIN RSA PRIVATE KEY-----")
    first, second = (parse_private_key(form).sign(bytes(32)) for form in forms)
    assert first == second


def test_the_field_is_well_formed() -> None:
    signed = sign(MAIL, [request(expire=86400, oversign=True)], now=NOW)
    field = SplitContent(signed).fields[0]
    lines = field.raw.split(b"\r\n")
    assert max(map(len, lines)) <= 76
    assert all(line.startswith(b" ") for line in lines[1:])
    assert all(line.strip() and line == line.rstrip() for line in lines)
    tags = parse_tags(field.raw.partition(b":")[2])
    assert list(tags) == [b"v", b"a", b"c", b"d", b"s", b"t", b"x", b"h", b"bh", b"b"]
    assert int(tags[b"t"]) == NOW.timestamp()
    assert int(tags[b"x"]) == NOW.timestamp() + 86400
    assert len(message_from_bytes(signed, policy=policy.default).get_all("DKIM-Signature", [])) == 1
    assert dkimpy_verifies(signed)


def signed_names(signed: bytes) -> list[bytes]:
    tags = parse_tags(SplitContent(signed).fields[0].raw.partition(b":")[2])
    return re.sub(rb"\s", b"", tags[b"h"]).split(b":")


def test_which_headers_are_signed() -> None:
    usual = [b"from", b"from", b"to", b"subject", b"date", b"message-id"]
    assert signed_names(sign(MAIL, [request()], now=NOW)) == usual
    assert signed_names(sign(MAIL, [request(oversign=False)], now=NOW)) == usual[1:]
    assert signed_names(sign(MAIL, [request(headers=["X-Raw", "X-Missing"])], now=NOW)) == [*usual, b"x-raw"]
    assert signed_names(sign(MAIL, [request(oversign=["Subject", "X-Missing"])], now=NOW)) == [
        *(b"from", b"from", b"to", b"subject", b"subject", b"date", b"message-id", b"x-missing")
    ]
    twice = b"To: first@example.net\r\n" + MAIL
    assert signed_names(sign(twice, [request()], now=NOW)).count(b"to") == 2
    assert dkimpy_verifies(sign(twice, [request()], now=NOW))


def test_a_mail_without_from_still_names_it() -> None:
    for oversign in (True, False, None):
        signed = sign(b"To: a@example.org\r\n\r\nhi\r\n", [request(oversign=oversign)], now=NOW)
        assert signed_names(signed)[0] == b"from"
        assert dkimpy_verifies(signed)
        assert not dkimpy_verifies(signed.replace(b"\r\nTo:", b"\r\nFrom: x@example.com\r\nTo:"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"friend", b"fiend"),
        (b"Subject:   odd", b"Subject: old"),
        (b"<1@example.com>", b"<2@example.com>"),
        (b"bh=", b"bh=A"),
        (b"t=1", b"t=2"),
        (b"\r\nTo: Joe", b"\r\nFrom: second@example.com\r\nTo: Joe"),
        (b"\r\nDate:", b"\r\nSubject: second\r\nDate:"),
        (b"\xe4\xff\r\n", b"\xe4\xff\r\nmore\r\n"),
        (b"Hello  there", b"Hellothere"),
    ],
)
@pytest.mark.parametrize("selector", ["r", "e"])
def test_tampering_is_noticed(selector: str, old: bytes, new: bytes) -> None:
    signed = sign(MAIL, [request(selector, oversign=["subject"])], now=NOW)
    assert old in signed
    changed = signed.replace(old, new, 1)
    assert not dkimpy_verifies(changed)
    mail = SplitContent(changed)
    field, tags = find_signatures(mail)[0]
    with pytest.raises(ValueError, match=r"\w"):
        verify_signature(mail, field, tags, parse_key_record(RECORDS[f"{selector}._domainkey.example.com"]))


def test_what_relaxed_forgives_simple_does_not() -> None:
    refolded = MAIL.replace(b",\r\n\tbob", b", bob").replace(b"Hello  there,\t", b"Hello there, ")
    for form, holds in (("relaxed/relaxed", True), ("simple/simple", False)):
        field = sign(MAIL, [request(canonicalization=form)], now=NOW).removesuffix(MAIL)
        assert dkimpy_verifies(field + refolded) is holds


def test_mail_that_is_signed_already_is_not_signed_twice() -> None:
    once = sign(MAIL, [request("r")], now=NOW)
    assert sign(once, [request("r")], now=NOW + timedelta(hours=1)) is once
    both = sign(once, [request("r"), request("e")], now=NOW)
    assert both.endswith(once)
    assert both.count(b"DKIM-Signature:") == 2
    assert sign(both, [request("e"), request("r")], now=NOW) is both


def test_a_signature_of_ours_that_no_longer_holds_does_not_count() -> None:
    broken = sign(MAIL, [request("r")], now=NOW).replace(b"friend", b"fiend")
    again = sign(broken, [request("r")], now=NOW)
    assert again.count(b"DKIM-Signature:") == 2
    assert dkimpy_verifies(again)
    forged = b"DKIM-Signature: d=example.com; s=r; b=; a\r\nDKIM-Signature: v=1; d=example.com; s=r\r\n" + MAIL
    assert dkimpy_verifies(sign(forged, [request("r")], now=NOW))


def test_expiry() -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    wanted = request(expire="2030-01-02 03:04:05")
    assert b"x=%d;" % moment.timestamp() in sign(MAIL, [wanted], now=NOW)
    assert sign(MAIL, [wanted], now=moment) is MAIL
    assert sign(MAIL, [wanted], now=moment + timedelta(seconds=0.5)) is MAIL
    assert sign(MAIL, [wanted], now=moment - timedelta(seconds=1)) is not MAIL


def test_only_requests_for_dkim_sign() -> None:
    assert sign(MAIL, [request(protocols="arc")], now=NOW) is MAIL
    assert sign(MAIL, [], now=NOW) is MAIL


TEXT = st.text(alphabet=st.sampled_from(" \t\r\n.aB:;=\x0b\x0c\x80\xff"), max_size=60).map(lambda text: text.encode("latin-1"))
OCTETS = st.one_of(TEXT, st.binary(max_size=60).map(lambda octets: octets.replace(b"\0", b"")))
BODIES = st.lists(OCTETS, max_size=6).map(b"\r\n".join)
WORDS = OCTETS.map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b""))
VALUES = st.lists(WORDS, min_size=1, max_size=4).map(lambda lines: b"\r\n ".join(lines))
NAMES = st.sampled_from([b"From", b"fROM ", b"To", b"TO\t", b"Subject", b"Date", b"X-A", b"Message-ID", b"List-Id", b"Junk junk"])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(lambda fields: b"".join(b"%s:%s\r\n" % field for field in fields))
REQUESTS = st.builds(
    lambda selector, form, oversign: request(selector, canonicalization=form, oversign=oversign, headers=["x-a"]),
    st.sampled_from(["r", "e"]),
    st.sampled_from(FORMS),
    st.sampled_from([None, True, False, ["to", "x-a"]]),
)


@settings(max_examples=300, deadline=None)
@given(header=HEADERS, body=st.one_of(st.none(), BODIES), wanted=REQUESTS)
@example(header=b"", body=None, wanted=request())
@example(header=b"From: a\r\n", body=None, wanted=request())
def test_arbitrary_octets_are_signed_right(header: bytes, body: bytes | None, wanted: object) -> None:
    content = header if body is None else header + b"\r\n" + body
    signed = sign(content, [wanted], now=NOW)  # type: ignore[list-item]
    assert signed.endswith(content)
    seen = signed + end_of_data(signed).removesuffix(b".\r\n")
    assert verify_by_the_book(seen)


PRINTABLE = st.text(alphabet=st.sampled_from(" \taB.,:;=-\xe4\xff"), max_size=40).map(lambda text: text.encode("latin-1"))
USUAL_HEADERS = st.lists(
    st.tuples(st.sampled_from([b"From", b"To", b"Subject", b"date", b"X-A"]), st.lists(PRINTABLE, min_size=1, max_size=3)),
    max_size=6,
).map(lambda fields: b"".join(b"%s: %s\r\n" % (name, b"\r\n ".join(lines)) for name, lines in fields))
USUAL_BODIES = st.lists(PRINTABLE, max_size=6).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


@settings(max_examples=150, deadline=None)
@given(header=USUAL_HEADERS, body=USUAL_BODIES, wanted=REQUESTS)
def test_dkimpy_agrees_on_all_that_it_can_read(header: bytes, body: bytes, wanted: object) -> None:
    # dkimpy takes VT and FF for white space, a bare LF for the end of a line and wants the colon after the name: not here.
    assert dkimpy_verifies(sign(header + b"\r\n" + body, [wanted], now=NOW))  # type: ignore[list-item]


def test_keys_are_nowhere_to_be_read() -> None:
    wanted = request("e")
    for text in (repr(wanted), repr(wanted.key), str(wanted)):
        assert pem(ED25519).splitlines()[1] not in text
        assert "Ed25519PrivateKey" not in text
