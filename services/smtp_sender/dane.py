"""DANE for SMTP (RFC 7672, 6698, 7671): TLSA records, which of them can be used, and which certificates they mean. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TRUST_ANCHOR, END_ENTITY = 2, 3
"""Certificate usages DANE-TA(2) and DANE-EE(3); the PKIX ones, 0 and 1, cannot be used for SMTP (RFC 7672 3.1.3)."""
_CERTIFICATE, _KEY = 0, 1
_FULL, _SHA256, _SHA512 = 0, 1, 2
_DIGESTS = {_SHA256: hashlib.sha256, _SHA512: hashlib.sha512}
_LENGTHS = {_SHA256: 32, _SHA512: 64}


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record (RFC 6698 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def is_usable(self) -> bool:
        """Do we know what every field means (RFC 7672 2.1.1, 3.1)?"""
        is_known = self.usage in (TRUST_ANCHOR, END_ENTITY) and self.selector in (_CERTIFICATE, _KEY)
        if self.matching == _FULL:
            return is_known and bool(self.data)
        return is_known and len(self.data) == _LENGTHS.get(self.matching)

    def matches(self, certificate: x509.Certificate) -> bool:
        """Does the record mean this certificate or its key?"""
        try:
            if self.selector == _CERTIFICATE:
                meant = certificate.public_bytes(Encoding.DER)
            else:
                meant = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return False
        return self.data == (_DIGESTS[self.matching](meant).digest() if self.matching in _DIGESTS else meant)


@dataclass(frozen=True, slots=True)
class Found:
    """The TLSA records of a host, validated by the resolver; at least one."""

    base: str
    """The TLSA base domain: the host's name, or the one behind its CNAMEs (RFC 7672 2.2.3)."""
    records: tuple[Tlsa, ...]


@dataclass(frozen=True, slots=True)
class Dane:
    """What the certificate of a host must match."""

    base: str
    """Said in SNI (RFC 7672 8.1)."""
    records: tuple[Tlsa, ...]
    """Usable ones; at least one."""
    names: tuple[str, ...] = ()
    """With a trust anchor, the certificate must be for one of them (RFC 7672 3.2.2); an end entity's name does not matter."""


@dataclass(frozen=True, slots=True)
class Matches:
    """What the records say about a chain."""

    is_end_entity: bool
    """The host's own certificate or key is named: nothing else is asked of it, no date and no name (RFC 7672 3.1.1)."""
    anchors: tuple[x509.Certificate, ...]
    """Authorities named, to which the host's certificate must lead."""


def decide_requirement(found: Found, host: str, domain: str) -> Dane | None:
    """What to ask of ``host``, a next hop for ``domain``. None: nothing can be used, so TLS is needed but cannot be verified."""
    usable = [record for record in found.records if record.is_usable]
    # RFC 7671 9: whoever publishes a strong digest is not to be judged by the weak one beside it.
    strongest: dict[tuple[int, int], int] = {}
    for record in usable:
        key = record.usage, record.selector
        strongest[key] = max(strongest.get(key, _FULL), record.matching)
    kept = {record for record in usable if record.matching in (_FULL, strongest[record.usage, record.selector])}
    if not kept:
        return None
    records = tuple(sorted(kept, key=lambda record: (record.usage, record.selector, record.matching, record.data)))
    # Sessions to equal requirements are shared, so the domain is named only where it matters.
    is_named = any(record.usage == TRUST_ANCHOR for record in records)
    return Dane(found.base, records, tuple(dict.fromkeys((found.base, host, domain))) if is_named else ())


def find_matches(chain: Sequence[x509.Certificate], records: Sequence[Tlsa]) -> Matches:
    """What ``records`` say about a chain as the host showed it, its own certificate first."""
    anchors = [
        certificate
        for record in records
        if record.usage == TRUST_ANCHOR
        for certificate in (*chain[1:], *_enclosed(record))
        if record.matches(certificate)
    ]
    is_end_entity = any(record.usage == END_ENTITY and record.matches(chain[0]) for record in records)
    return Matches(is_end_entity, tuple(anchors))


def _enclosed(record: Tlsa) -> list[x509.Certificate]:
    """A record may hold the authority's whole certificate, which the host then need not show (RFC 7672 3.1.2)."""
    if (record.selector, record.matching) != (_CERTIFICATE, _FULL):
        return []
    try:
        return [x509.load_der_x509_certificate(record.data)]
    except (ValueError, TypeError):
        return []
