"""TLS towards peers: the context, and what a session says about its cipher and certificate.

The handshake accepts any certificate, and the certificate is checked afterwards: so the result can tell what was wrong with it
also where the policy does not ask, and a policy that does ask refuses before any mail is sent.
"""

import ipaddress
import ssl
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from services.smtp_sender.dane import Dane, find_matches
from shared.trouble import BadSetting
from shared.wire.times import render_time

_NAMES = {
    "common": NameOID.COMMON_NAME,
    "country": NameOID.COUNTRY_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
}
_USAGES = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
]


MALFORMED = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What reading a certificate raises: a peer may show us anything."""


class Tls:
    """The client side of TLS, one for all sessions."""

    def __init__(self, ca_file: str = "") -> None:
        """``ca_file``: a PEM file of authorities to trust besides the system's. Raises BadSetting."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.context = context
        self._ciphers = {cipher["name"]: cipher for cipher in context.get_ciphers()}
        self._trusted = _load_trusted(ca_file)

    def describe(self, connection: Any, host: str, dane: Dane | None = None) -> dict[str, Any]:
        """``cipher`` and ``certificate`` of an encrypted connection (an ``ssl.SSLObject``), as they stand in results.

        Verified for ``host``, or by ``dane`` instead.
        """
        described: dict[str, Any] = {}
        if current := connection.cipher():
            name, version, bits = current
            known: Mapping[str, Any] = self._ciphers.get(name, {})
            described["cipher"] = {
                "name": name,
                "bits": bits,
                "algbits": known.get("alg_bits", bits),
                "version": connection.version() or version,
                "id": int(known.get("id", 0)) & 0xFFFF,
            }
        if chain := _chain(connection):
            try:
                described["certificate"] = describe_certificate(chain, self._trusted, host, dane)
            except MALFORMED as error:
                described["certificate"] = {"verified": False, "result": f"malformed: {str(error)[:200]}"}
        return described


def describe_certificate(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], host: str, dane: Dane | None = None
) -> dict[str, Any]:
    """The first certificate of ``chain`` in the words of a result, verified against ``trusted`` for ``host``, or by ``dane``."""
    leaf = chain[0]
    result = verify(chain, trusted, host) if dane is None else verify_dane(chain, dane)
    return {
        "notbefore": render_time(leaf.not_valid_before_utc),
        "notafter": render_time(leaf.not_valid_after_utc),
        "version": leaf.version.value + 1,
        "verified": result == "ok",
        "result": result,
        "keyusage": _key_usage(leaf),
        "self-signed": leaf.issuer == leaf.subject,
        "subject": _name(leaf.subject),
        "issuer": _name(leaf.issuer),
        "altnames": _alternative_names(leaf),
    }


def verify(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], host: str, *, now: datetime | None = None
) -> str:
    """``ok``, or what is wrong in words: not yet valid, expired, self-signed, another name, no trusted issuer."""
    leaf, moment = chain[0], now or datetime.now(UTC)
    if moment < leaf.not_valid_before_utc:
        return f"not valid before {render_time(leaf.not_valid_before_utc)}"
    if moment > leaf.not_valid_after_utc:
        return f"expired at {render_time(leaf.not_valid_after_utc)}"
    if leaf.issuer == leaf.subject and leaf not in trusted:
        return "self-signed"
    if not trusted:
        return "no certification authorities are known"
    try:
        builder = verification.PolicyBuilder().store(verification.Store(list(trusted))).time(moment)
        builder.build_server_verifier(_subject(host)).verify(leaf, list(chain[1:]))
    except (verification.VerificationError, *MALFORMED) as error:
        if not _names_host(leaf, host):
            return f"issued for {', '.join(_alternative_names(leaf)) or 'no name'}, not for {host}"
        return f"not trusted: {str(error)[:200]}"
    return "ok"


def verify_dane(chain: Sequence[x509.Certificate], dane: Dane, *, now: datetime | None = None) -> str:
    """``ok``, or what is wrong in words, by TLSA records in place of the authorities that we trust (RFC 7672 3.1)."""
    matches = find_matches(chain, dane.records)
    if matches.is_end_entity:
        return "ok"
    results = [verify(chain, (anchor,), name, now=now) for anchor in matches.anchors for name in dane.names]
    return "ok" if "ok" in results else next(iter(results), f"matches no TLSA record of {dane.base}")


def _subject(host: str) -> verification.Subject:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.rstrip("."))


def _names_host(leaf: x509.Certificate, host: str) -> bool:
    wanted = host.rstrip(".").lower()
    wildcard = "*." + wanted.partition(".")[2]
    return any(name.lower() in (wanted, wildcard) for name in _alternative_names(leaf))


def _chain(connection: Any) -> list[x509.Certificate]:
    # Public from Python 3.13 on; 3.11 and 3.12 have it on the inner object only.
    fetch = getattr(connection, "get_unverified_chain", None) or getattr(connection._sslobj, "get_unverified_chain", None)
    raw = fetch() if fetch else [connection.getpeercert(binary_form=True)]
    ders = [item if isinstance(item, bytes) else item.public_bytes(2) for item in raw or [] if item]
    try:
        return [x509.load_der_x509_certificate(der) for der in ders[:10]]
    except MALFORMED:
        return []


def _load_trusted(ca_file: str) -> list[x509.Certificate]:
    paths = ssl.get_default_verify_paths()
    trusted: list[x509.Certificate] = []
    for path in filter(None, (paths.cafile or paths.openssl_cafile, ca_file)):
        try:
            with warnings.catch_warnings():
                # Debian's bundle has old authorities whose serial numbers are not as RFC 5280 wants them.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                trusted += x509.load_pem_x509_certificates(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            if path == ca_file:
                raise BadSetting(f"smtp-ca-file: {path!r}: {error}") from None
    return trusted


def _key_usage(leaf: x509.Certificate) -> list[str]:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, *MALFORMED):
        return []
    return [name for name in _USAGES if getattr(usage, name)]


def _alternative_names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *MALFORMED):
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _name(name: x509.Name) -> Mapping[str, str]:
    found = {word: name.get_attributes_for_oid(oid) for word, oid in _NAMES.items()}
    return {word: str(values[0].value) for word, values in found.items() if values}
