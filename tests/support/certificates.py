"""A test CA and certificates: good, self-signed, expired, for another name. Made once per folder and names, then reused."""

from __future__ import annotations

import fcntl
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=90)


class Kind(StrEnum):
    """What is wrong with a certificate, if anything."""

    GOOD = "good"
    """Signed by the test CA, valid, for the names asked for."""
    SELF_SIGNED = "self-signed"
    EXPIRED = "expired"
    """Signed by the test CA, expired yesterday."""
    MISMATCH = "mismatch"
    """Signed by the test CA, valid, for ``wrong.name.invalid``."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the certificates for one set of names are."""

    folder: Path
    names: tuple[str, ...]

    @property
    def ca(self) -> Path:
        """The test CA's certificate, PEM."""
        return self.folder / "ca.pem"

    def certificate(self, kind: Kind) -> Path:
        """The certificate, PEM."""
        return self.folder / self._stem / f"{kind}.pem"

    def key(self, kind: Kind) -> Path:
        """Its private key, PEM, unencrypted."""
        return self.folder / self._stem / f"{kind}.key"

    @property
    def _stem(self) -> str:
        digest = hashes.Hash(hashes.SHA256())
        digest.update("\0".join(self.names).encode())
        return digest.finalize().hex()[:16]

    def server_context(self, kind: Kind = Kind.GOOD) -> ssl.SSLContext:
        """For a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate(kind), self.key(kind))
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts the test CA only and checks names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        return context


def make_certificates(folder: Path | str, names: Sequence[str] = ("localhost", "127.0.0.1")) -> Certificates:
    """Every kind of certificate for ``names`` (host names, ``*.example``, IP addresses) in ``folder``.

    What is there already is kept; several processes may ask for the same folder at once.
    """
    if not names:
        raise ValueError("names: expected at least one host name or IP address")
    made = Certificates(Path(folder), tuple(names))
    made.folder.mkdir(parents=True, exist_ok=True)
    with (made.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.ca.exists():
            _make_ca(made)
        if not all(made.certificate(kind).exists() for kind in Kind):
            _make_leaves(made)
    return made


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_bytes(content)
    fresh.replace(path)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test of a mail pipeline"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _make_ca(made: Certificates) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = _name("Test CA")
    certificate = (
        _builder(name, name, key.public_key())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(made.folder / "ca.key", _pem(key))
    _write(made.ca, certificate.public_bytes(serialization.Encoding.PEM))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _make_leaves(made: Certificates) -> None:
    ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
    ca_key = serialization.load_pem_private_key((made.folder / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    made.certificate(Kind.GOOD).parent.mkdir(exist_ok=True)

    def make(kind: Kind, names: Sequence[str], end: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        own = kind is Kind.SELF_SIGNED
        subject = _name(names[0])
        certificate = (
            _builder(subject, subject if own else ca.subject, key.public_key())
            .not_valid_before(end - _LIFE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key() if own else ca_key.public_key()),
                critical=False,
            )
            .sign(key if own else ca_key, hashes.SHA256())
        )
        _write(made.key(kind), _pem(key))
        _write(made.certificate(kind), certificate.public_bytes(serialization.Encoding.PEM))

    end = now + _LIFE - timedelta(days=1)
    make(Kind.GOOD, made.names, end)
    make(Kind.SELF_SIGNED, made.names, end)
    make(Kind.EXPIRED, made.names, now - timedelta(days=1))
    make(Kind.MISMATCH, ["wrong.name.invalid"], end)
