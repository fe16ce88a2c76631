"""Keys that sign and verify: RSA with SHA-256 (RFC 6376, 8301) and Ed25519 (RFC 8463).

What is signed is always a SHA-256 digest. No text of a key is ever in a message of an exception, nor in a repr.
"""

import base64
import binascii
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

from shared.mail.tags import parse_tags, remove_folding

MAX_PEM = 16 * 1024
"""Octets of a key's PEM text."""
LEAST_BITS = 1024
"""Bits of an RSA key; 2048 are recommended (RFC 8301 3.2)."""
MOST_BITS = 4096
"""Beyond these a verifier need not follow (RFC 8301 3.2), and a signature costs more than a millisecond."""

_DIGEST = Prehashed(hashes.SHA256())
_PADDING = PKCS1v15()


class Algorithm(StrEnum):
    """``a=``."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """Verifies."""

    algorithm: Algorithm
    _key: RSAPublicKey | Ed25519PublicKey = field(repr=False)

    def verify(self, digest: bytes, signature: bytes) -> bool:
        """The signature over this SHA-256 digest was made with our private half."""
        try:
            if isinstance(self._key, RSAPublicKey):
                self._key.verify(signature, digest, _PADDING, _DIGEST)
            else:
                self._key.verify(signature, digest)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, eq=False)
class PrivateKey:
    """Signs."""

    algorithm: Algorithm
    public: PublicKey = field(repr=False)
    _key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    def sign(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(digest, _PADDING, _DIGEST)
        return self._key.sign(digest)


@lru_cache(maxsize=4096)
def parse_private_key(pem: str, *, is_trusted: bool = False) -> PrivateKey:
    """A key from PEM (PKCS#1 or PKCS#8), parsed once: the proof that an RSA key of 2048 bits is sound takes 40 ms.

    ``is_trusted``: the key is the operator's, so that one signature made and verified is proof enough. Raises ValueError.
    """
    if not pem.isascii() or len(pem) > MAX_PEM:
        raise ValueError(f"expected a private key in PEM form, ASCII, at most {MAX_PEM} octets")
    key = _load(pem.encode("ascii"), is_checked=False)
    if isinstance(key, RSAPrivateKey):
        _check_bits(key.key_size)
        if not is_trusted:
            key = _load(pem.encode("ascii"), is_checked=True)
    if isinstance(key, Ed25519PrivateKey):
        algorithm = Algorithm.ED25519_SHA256
    elif isinstance(key, RSAPrivateKey):
        algorithm = Algorithm.RSA_SHA256
    else:
        raise ValueError("a key of a type that DKIM does not have; expected RSA or Ed25519")
    parsed = PrivateKey(algorithm, PublicKey(algorithm, key.public_key()), key)
    _prove(parsed)
    return parsed


@lru_cache(maxsize=1024)
def parse_key_record(record: bytes) -> PublicKey:
    """The key in a TXT record ``SELECTOR._domainkey.DOMAIN`` (RFC 6376 3.6.1, RFC 8463 4). Raises ValueError."""
    tags = parse_tags(record)
    if tags.get(b"v", b"DKIM1") != b"DKIM1" or (b"v" in tags and next(iter(tags)) != b"v"):
        raise ValueError("the key record is of another version")
    if b"sha256" not in remove_folding(tags.get(b"h", b"sha256")).split(b":"):
        raise ValueError("the key record does not allow SHA-256")
    if not {b"*", b"email"} & set(remove_folding(tags.get(b"s", b"*")).split(b":")):
        raise ValueError("the key record is not for mail")
    encoded = remove_folding(tags.get(b"p", b""))
    if not encoded:
        raise ValueError("the key is revoked")
    try:
        octets = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("the key record's p= is not base64") from None
    kind = tags.get(b"k", b"rsa")
    if kind == b"ed25519":
        return PublicKey(Algorithm.ED25519_SHA256, Ed25519PublicKey.from_public_bytes(octets))
    if kind != b"rsa":
        raise ValueError("the key record has an unknown type of key")
    return PublicKey(Algorithm.RSA_SHA256, _load_rsa(octets))


def _load(pem: bytes, *, is_checked: bool) -> object:
    try:
        return load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=not is_checked)
    except TypeError:
        raise ValueError("the private key is encrypted; expected one without a password") from None
    except UnsupportedAlgorithm:
        raise ValueError("a key of a type that DKIM does not have; expected RSA or Ed25519") from None
    except ValueError:
        raise ValueError("no private key can be read; expected PEM, PKCS#1 or PKCS#8, unbroken") from None


def _load_rsa(der: bytes) -> RSAPublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the key record's p= is no public key") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("the key record's p= is no RSA key")
    _check_bits(key.key_size)
    return key


def _check_bits(bits: int) -> None:
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"an RSA key of {bits} bits; expected {LEAST_BITS} to {MOST_BITS}, 2048 are recommended")


def _prove(key: PrivateKey) -> None:
    digest = bytes(32)
    try:
        is_sound = key.public.verify(digest, key.sign(digest))
    except ValueError:
        is_sound = False
    if not is_sound:
        raise ValueError("the private key is broken: what it signs cannot be verified")
