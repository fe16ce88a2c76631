"""TLSA records: which can be used, and which certificates they accept."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.smtp_sender.dane import Dane, Found, Tlsa, decide_requirement
from services.smtp_sender.tls import describe_certificate, verify_dane
from tests.support.certificates import Certificates, Kind, make_certificates

SHA256, SHA512 = b"\1" * 32, b"\2" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For mx.example and *.wild.example."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("mx.example", "*.wild.example"))


def load(made: Certificates, kind: Kind | None) -> x509.Certificate:
    """A certificate; None: the authority's."""
    path = made.ca if kind is None else made.certificate(kind)
    return x509.load_pem_x509_certificate(path.read_bytes())


def record(certificate: x509.Certificate, usage: int, selector: int, matching: int) -> Tlsa:
    """The record that means this certificate."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    meant = key if selector else certificate.public_bytes(Encoding.DER)
    data = {0: meant, 1: hashlib.sha256(meant).digest(), 2: hashlib.sha512(meant).digest()}[matching]
    return Tlsa(usage, selector, matching, data)


@pytest.mark.parametrize(
    ("tlsa", "is_usable"),
    [
        (Tlsa(3, 1, 1, SHA256), True),
        (Tlsa(3, 0, 2, SHA512), True),
        (Tlsa(2, 0, 1, SHA256), True),
        (Tlsa(2, 1, 0, b"key"), True),
        (Tlsa(0, 0, 1, SHA256), False),
        (Tlsa(1, 1, 1, SHA256), False),
        (Tlsa(4, 1, 1, SHA256), False),
        (Tlsa(255, 1, 1, SHA256), False),
        (Tlsa(3, 2, 1, SHA256), False),
        (Tlsa(3, 1, 3, SHA256), False),
        (Tlsa(3, 1, 1, SHA256[1:]), False),
        (Tlsa(3, 1, 2, SHA256), False),
        (Tlsa(3, 1, 0, b""), False),
        (Tlsa(3, 1, 1, b""), False),
    ],
)
def test_which_records_can_be_used(tlsa: Tlsa, is_usable: bool) -> None:
    assert tlsa.is_usable is is_usable
    requirement = decide_requirement(Found("mx.example", (tlsa,)), "mx.example", "x.example")
    assert (requirement is not None) is is_usable


def test_the_requirement() -> None:
    weak, strong, other = Tlsa(3, 1, 1, SHA256), Tlsa(3, 1, 2, SHA512), Tlsa(3, 0, 1, SHA256)
    found = Found("real.example", (weak, Tlsa(0, 0, 1, SHA256), strong, other, other))
    assert decide_requirement(found, "mx.example", "x.example") == Dane("real.example", (other, strong))
    assert decide_requirement(Found("real.example", (other, weak, strong)), "m", "x") == Dane("real.example", (other, strong))
    anchor = Tlsa(2, 0, 1, SHA256)
    named = decide_requirement(Found("real.example", (weak, anchor)), "mx.example", "x.example")
    assert named == Dane("real.example", (anchor, weak), ("real.example", "mx.example", "x.example"))


@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("kind", list(Kind))
def test_an_end_entity_is_asked_nothing_else(made: Certificates, kind: Kind, selector: int, matching: int) -> None:
    """RFC 7672 3.1.1: no date, no name, no authority."""
    leaf = load(made, kind)
    assert verify_dane([leaf], Dane("other.example", (record(leaf, 3, selector, matching),))) == "ok"
    another = load(made, Kind.GOOD if kind is not Kind.GOOD else Kind.MISMATCH)
    result = verify_dane([leaf], Dane("other.example", (record(another, 3, selector, matching),)))
    assert result == "matches no TLSA record of other.example"


@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
def test_an_authority(made: Certificates, selector: int, matching: int) -> None:
    ca = load(made, None)
    for name, names in (("mx.example", ("mx.example",)), ("a.wild.example", ("other.example", "a.wild.example"))):
        dane = Dane(name, (record(ca, 2, selector, matching),), names)
        assert verify_dane([load(made, Kind.GOOD), ca], dane) == "ok"
    dane = Dane("mx.example", (record(ca, 2, selector, matching),), ("mx.example",))
    assert verify_dane([load(made, Kind.EXPIRED), ca], dane).startswith("expired at")
    assert verify_dane([load(made, Kind.MISMATCH), ca], dane).startswith("issued for wrong.name.invalid")
    assert verify_dane([load(made, Kind.SELF_SIGNED), ca], dane) == "self-signed"
    later = datetime.now(UTC) + timedelta(days=400)
    assert verify_dane([load(made, Kind.GOOD), ca], dane, now=later).startswith("expired at")


def test_an_authority_that_the_host_does_not_show(made: Certificates) -> None:
    """Its whole certificate may stand in the record (RFC 7672 3.1.2); a digest of what is not there proves nothing."""
    ca, good = load(made, None), load(made, Kind.GOOD)
    assert verify_dane([good], Dane("mx.example", (record(ca, 2, 0, 0),), ("mx.example",))) == "ok"
    for one in (record(ca, 2, 0, 1), record(ca, 2, 1, 0), Tlsa(2, 0, 0, b"no certificate")):
        assert verify_dane([good], Dane("mx.example", (one,), ("mx.example",))) == "matches no TLSA record of mx.example"


def test_an_authority_proves_only_what_it_signed(made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever shows a published authority beside a certificate of his own has proven nothing."""
    others = make_certificates(tmp_path_factory.mktemp("others"), ("mx.example",))
    ca = load(made, None)
    result = verify_dane([load(others, Kind.GOOD), ca], Dane("mx.example", (record(ca, 2, 0, 1),), ("mx.example",)))
    assert result.startswith("not trusted")
    leaf = load(made, Kind.GOOD)
    result = verify_dane([leaf, ca], Dane("mx.example", (record(leaf, 2, 0, 1),), ("mx.example",)))
    assert result == "matches no TLSA record of mx.example"


def test_any_record_is_enough(made: Certificates) -> None:
    leaf = load(made, Kind.EXPIRED)
    records = (Tlsa(3, 1, 1, SHA256), record(load(made, None), 2, 0, 1), record(leaf, 3, 1, 1))
    assert verify_dane([leaf], Dane("mx.example", records, ("mx.example",))) == "ok"


def test_it_is_told_in_results(made: Certificates) -> None:
    leaf = load(made, Kind.SELF_SIGNED)
    told = describe_certificate([leaf], [], "mx.example", Dane("mx.example", (record(leaf, 3, 1, 1),)))
    assert (told["verified"], told["result"], told["self-signed"]) == (True, "ok", True)
    told = describe_certificate([leaf], [leaf], "mx.example", Dane("mx.example", (Tlsa(3, 1, 1, SHA256),)))
    assert (told["verified"], told["result"]) == (False, "matches no TLSA record of mx.example")
