"""The property ``dkim``: what is taken, and what each refusal says. Never a word of the key."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from shared.mail.canonical import Canonicalization, Form
from shared.mail.signing import MOST_REQUESTS, SINGLE, Protocol, parse_signing
from shared.mail.signing_keys import Algorithm, parse_key_record
from tests.unit.shared.mail.signing_world import ED25519, RSA, pem, record

GOOD = {"domain": "example.com", "selector": "s1", "key": pem(ED25519)}


def test_the_least_that_is_needed() -> None:
    (one,) = parse_signing(GOOD)
    assert (one.domain, one.selector, one.key.algorithm) == ("example.com", "s1", Algorithm.ED25519_SHA256)
    assert one.canonicalization == Canonicalization(Form.RELAXED, Form.RELAXED)
    assert one.oversign == {b"from"}
    assert one.protocols == {Protocol.DKIM}
    assert (one.headers, one.expire) == ((), None)


def test_all_there_is() -> None:
    (one,) = parse_signing(
        [
            {
                "domain": "Bücher.Example",
                "selector": "2026.q4_a",
                "key": pem(RSA),
                "headers": ["X-Campaign", "x-campaign", "Feedback-ID"],
                "expire": "2030-01-02 03:04:05",
                "canonicalization": "simple",
                "oversign": ["Subject"],
                "protocols": ["dkim", "arc"],
                "unknown": 1,
            }
        ]
    )
    assert one.domain == "xn--bcher-kva.example"
    assert one.key.algorithm is Algorithm.RSA_SHA256
    assert one.headers == (b"x-campaign", b"feedback-id")
    assert one.expire == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert one.canonicalization == Canonicalization(Form.SIMPLE, Form.SIMPLE)
    assert one.oversign == {b"from", b"subject"}
    assert one.protocols == {Protocol.DKIM, Protocol.ARC}


@pytest.mark.parametrize(
    ("more", "attribute", "value"),
    [
        ({"expire": 3600}, "expire", timedelta(hours=1)),
        ({"oversign": True}, "oversign", SINGLE),
        ({"oversign": False}, "oversign", frozenset()),
        ({"oversign": "To"}, "oversign", {b"from", b"to"}),
        ({"protocols": "arc"}, "protocols", {Protocol.ARC}),
        ({"headers": "X-A"}, "headers", (b"x-a",)),
        ({"headers": []}, "headers", ()),
        ({"canonicalization": "relaxed"}, "canonicalization", Canonicalization(Form.RELAXED, Form.SIMPLE)),
    ],
)
def test_other_spellings(more: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(parse_signing(GOOD | more)[0], attribute) == value


def test_none_and_the_empty_list_ask_for_nothing() -> None:
    assert parse_signing(None) == ()
    assert parse_signing([]) == ()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("x", "dkim: expected an object"),
        (7, "dkim: expected an object"),
        (["x"], "dkim: expected an object"),
        ([GOOD] * (MOST_REQUESTS + 1), "dkim: 11 keys: expected at most 10"),
        ([GOOD, GOOD | {"selector": None}], r"dkim\[1\]\.selector: missing: expected the name of the key"),
        ({}, "dkim.domain: missing: expected a domain name"),
        (GOOD | {"domain": "a b"}, "dkim.domain: the domain may hold letters"),
        (GOOD | {"domain": "[192.0.2.1]"}, "dkim.domain: .* expected a domain name"),
        (GOOD | {"domain": ["x"]}, "dkim.domain: .* expected a domain name"),
        (GOOD | {"selector": ""}, "dkim.selector: ''"),
        (GOOD | {"selector": "a;b"}, "dkim.selector: 'a;b'"),
        (GOOD | {"selector": "a..b"}, "dkim.selector"),
        (GOOD | {"selector": "a\r\nX: y"}, "dkim.selector"),
        (GOOD | {"selector": "ä"}, "dkim.selector"),
        (GOOD | {"headers": "a b"}, "dkim.headers: 'a b'"),
        (GOOD | {"headers": [1]}, "dkim.headers"),
        (GOOD | {"headers": ["x:y"]}, "dkim.headers"),
        (GOOD | {"headers": ["x;y"]}, "dkim.headers"),
        (GOOD | {"headers": ["x"] * 101}, "dkim.headers: .* at most 100"),
        (GOOD | {"headers": {"x": 1}}, "dkim.headers"),
        (GOOD | {"headers": ["Received"]}, "dkim.headers: received is changed on the way"),
        (GOOD | {"oversign": ["Return-Path"]}, "dkim.oversign: return-path is changed on the way"),
        (GOOD | {"oversign": 1}, "dkim.oversign: '1'"),
        (GOOD | {"expire": "tomorrow"}, "dkim.expire: 'tomorrow': expected UTC time"),
        (GOOD | {"expire": "2030-02-30 00:00:00"}, "dkim.expire"),
        (GOOD | {"expire": 0}, "dkim.expire: '0'"),
        (GOOD | {"expire": -1}, "dkim.expire"),
        (GOOD | {"expire": True}, "dkim.expire"),
        (GOOD | {"expire": 1.5}, "dkim.expire"),
        (GOOD | {"expire": 10**12}, "dkim.expire"),
        (GOOD | {"canonicalization": "strict"}, "dkim.canonicalization: 'strict': expected simple or relaxed"),
        (GOOD | {"canonicalization": 1}, "dkim.canonicalization"),
        (GOOD | {"protocols": "spf"}, "dkim.protocols: 'spf': expected dkim or arc"),
        (GOOD | {"protocols": []}, "dkim.protocols"),
        (GOOD | {"protocols": ["dkim", 1]}, "dkim.protocols"),
    ],
)
def test_refusals_name_the_property(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + sentence):
        parse_signing(value)


def encrypted() -> str:
    return RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()


def encrypted_the_old_way() -> str:
    return RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")).decode()


def of_type(key: Any) -> str:
    text: str = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return text


# Of 512 bits: too short to be made nowadays.
TINY = """-----BEGIN RSA PRIVATE KEY-----
MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu
KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQJAIJLixBy2qpFoS4DSmoEm
o3qGy0t6z09AIJtH+5OeRV1be+N4cDYJKffGzDa88vQENZiRm0GRq6a+HPGQMd2k
TQIhAKMSvzIBnni7ot/OSie2TmJLY4SwTQAevXysE2RbFDYdAiEBCUEaRQnMnbp7
9mxDXDf6AU0cN/RPBjb9qSHDcWZHGzUCIG2Es59z8ugGrDY+pxLQnwfotadxd+Uy
v/Ow5T0q5gIJAiEAyS4RaI9YG8EWx/2w0T67ZUVAw8eOMB6BIUg0Xcu+3okCIBOs
/5OiPgoTdSy7bcF9IGpSE8ZgGKzgYQVZeN97YE00
-----END RSA PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (None, "expected a private key in PEM form"),
        ("", "expected a private key in PEM form"),
        (5, "expected a private key in PEM form"),
        ("garbage", "no private key can be read"),
        ("-----BEGIN RSA PRIVATE KEY-----\n.....", "no private key can be read"),
        (pem(RSA)[:600], "no private key can be read"),
        (pem(RSA).replace("A", "B", 40), "no private key can be read"),
        ("ä" + pem(RSA), "expected a private key in PEM form, ASCII"),
        ("x" * 16385, "at most 16384 octets"),
        (encrypted(), "the private key is encrypted"),
        (encrypted_the_old_way(), "the private key is encrypted"),
        (of_type(ec.generate_private_key(ec.SECP256R1())), "a key of a type that DKIM does not have"),
        (of_type(ed448.Ed448PrivateKey.generate()), "a key of a type that DKIM does not have"),
        (TINY, "an RSA key of 512 bits; expected 1024 to 4096"),
    ],
)
def test_bad_keys_are_told_without_a_word_of_them(key: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^dkim.key: .*{sentence}") as caught:
        parse_signing(GOOD | {"key": key})
    assert caught.value.__cause__ is None
    assert "BEGIN" not in str(caught.value)
    if isinstance(key, str) and len(key) > 100:
        assert not any(line in str(caught.value) for line in key.splitlines() if len(line) > 10)


def in_record(key: rsa.RSAPublicKey) -> bytes:
    return b"p=" + base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "revoked"),
        (b"v=DKIM1; p=", "revoked"),
        (b"v=DKIM2; p=AAAA", "another version"),
        (b"p=AAAA; v=DKIM1", "another version"),
        (b"h=sha1; p=AAAA", "SHA-256"),
        (b"s=tlsrpt; p=AAAA", "not for mail"),
        (b"k=dsa; p=AAAA", "unknown type"),
        (b"p=!!!!", "not base64"),
        (b"p=AAAA", "no public key"),
        (b"k=ed25519; p=AAAA", "32 bytes"),
        (b"nonsense", "not a list of tags"),
        (b"p=AAAA; p=AAAA", "twice"),
        pytest.param(b"k=rsa; p=" + record(ED25519).partition(b"p=")[2], "no public key", id="another kind of key"),
        (in_record(rsa.RSAPublicNumbers(65537, 2**4103 + 1).public_key()), "4104 bits"),
    ],
)
def test_key_records_that_cannot_be_used(text: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_key_record(text)


def test_key_records_that_can() -> None:
    pkcs1 = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    for text in (record(RSA), b"h=sha1:sha256; s=*:x; n=note;" + record(RSA)[9:], b"p= " + base64.b64encode(pkcs1)):
        assert parse_key_record(text).algorithm is Algorithm.RSA_SHA256


def test_an_expired_request_is_over_at_its_very_second() -> None:
    (one,) = parse_signing(GOOD | {"expire": "2030-01-01 00:00:00"})
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert one.is_over(moment)
    assert not one.is_over(moment - timedelta(seconds=1))
    assert one.expires_at(moment) == moment
    (lasting,) = parse_signing(GOOD | {"expire": 1})
    assert not lasting.is_over(moment)
    assert lasting.expires_at(moment) == moment + timedelta(seconds=1)
