"""Certificates in the words of a result, and whether they are what they should be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from services.smtp_sender.opening import _sni
from services.smtp_sender.tls import MALFORMED, Tls, describe_certificate, verify
from shared.trouble import BadSetting
from tests.support.certificates import Certificates, Kind, make_certificates

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For mx.example, *.wild.example and 192.0.2.1."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("mx.example", "*.wild.example", "192.0.2.1"))


def load(made: Certificates, kind: Kind) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(made.certificate(kind).read_bytes())


def load_ca(made: Certificates) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(made.ca.read_bytes())


@pytest.mark.parametrize("host", ["mx.example", "MX.example", "mx.example.", "a.wild.example", "192.0.2.1"])
def test_a_good_certificate(made: Certificates, host: str) -> None:
    assert verify(load(made, Kind.GOOD), load_ca(made), host) == "ok"


@pytest.mark.parametrize(
    ("kind", "host", "result"),
    [
        (Kind.GOOD, "other.example", "issued for mx.example, *.wild.example, 192.0.2.1, not for other.example"),
        (Kind.GOOD, "a.b.wild.example", "issued for"),
        (Kind.GOOD, "wild.example", "issued for"),
        (Kind.GOOD, "192.0.2.2", "issued for"),
        (Kind.GOOD, "not a name", "issued for"),
        (Kind.EXPIRED, "mx.example", "expired at 20"),
        (Kind.SELF_SIGNED, "mx.example", "self-signed"),
        (Kind.MISMATCH, "mx.example", "issued for wrong.name.invalid, not for mx.example"),
    ],
)
def test_what_is_wrong_is_said(made: Certificates, kind: Kind, host: str, result: str) -> None:
    assert verify(load(made, kind), load_ca(made), host).startswith(result)


def test_not_yet_valid_and_unknown_issuer(made: Certificates) -> None:
    good = load(made, Kind.GOOD)
    assert verify(good, load_ca(made), "mx.example", now=NOW - timedelta(days=400)).startswith("not valid before 20")
    assert verify(good, load(made, Kind.SELF_SIGNED), "mx.example").startswith("not trusted: ")
    assert verify(good, [], "mx.example") == "no certification authorities are known"


def test_everything_about_a_certificate(made: Certificates) -> None:
    described = describe_certificate(load(made, Kind.GOOD), load_ca(made), "mx.example")
    subject = {"common": "mx.example", "country": "XX", "organization": "Test of a mail pipeline"}
    assert described.pop("notbefore") < described["notafter"]
    assert datetime.strptime(described.pop("notafter"), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) > NOW
    assert described == {
        "version": 3,
        "verified": True,
        "result": "ok",
        "keyusage": ["digital_signature"],
        "self-signed": False,
        "subject": subject,
        "issuer": subject | {"common": "Test CA"},
        "altnames": ["mx.example", "*.wild.example", "192.0.2.1"],
    }
    assert describe_certificate(load(made, Kind.SELF_SIGNED), [], "mx.example")["self-signed"] is True


def odd_certificate(alternative_name: bytes) -> x509.Certificate:
    """A certificate whose subjectAltName is these bytes: what a hostile host may show."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd.example")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(x509.Name([])).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, alternative_name)
    return builder.add_extension(odd, critical=False).sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    "alternative_name", [b"", b"\x30\x02\xa3\x00", b"\x30\x03\x82\x01\xff", b"\xff" * 20, b"\x30\x06\x87\x04\x01\x02\x03"]
)
def test_a_hostile_certificate_is_described_all_the_same(made: Certificates, alternative_name: bytes) -> None:
    described = describe_certificate([odd_certificate(alternative_name)], load_ca(made), "odd.example")
    assert described["verified"] is False
    assert described["altnames"] == []


def test_the_names_of_what_can_go_wrong_are_exceptions() -> None:
    assert all(issubclass(kind, Exception) for kind in MALFORMED)


def test_a_file_of_authorities(made: Certificates, tmp_path: Path) -> None:
    assert Tls(str(made.ca))
    for path, text in (("missing.pem", None), ("empty.pem", "nothing here")):
        file = tmp_path / path
        if text is not None:
            file.write_text(text)
        with pytest.raises(BadSetting, match="smtp-ca-file: "):
            Tls(str(file))


def test_tls_1_2_at_least() -> None:
    assert Tls().context.minimum_version.name == "TLSv1_2"


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",
        "2001:db8::1",
        "[192.0.2.1]",
        "a..b",
        "",
        ".a.example",
        "\\255.example",
        "x" * 64 + ".example",
        "é.example",
        "a b",
    ],
)
def test_what_is_no_server_name(host: str) -> None:
    assert _sni(host) is None


@pytest.mark.parametrize(
    ("host", "name"),
    [("mx.example", "mx.example"), ("mx.example.", "mx.example"), ("_under.score", "_under.score"), ("host", "host")],
)
def test_server_names(host: str, name: str) -> None:
    assert _sni(host) == name
