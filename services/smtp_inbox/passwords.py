"""Hashes of passwords: made, read and compared. Pure, and slow on purpose: never in the event loop.

Two forms: ``$scrypt$ln=14,r=8,p=5$SALT$HASH`` (RFC 7914 in the form of a PHC string, which passlib writes too) and bcrypt's
``$2b$12$…`` (``$2y$`` as ``htpasswd -B`` writes it).
"""

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from enum import StrEnum

import bcrypt

SCRYPT_COST = (14, 8, 5)
"""ln, r, p: 16 MB and a fifth of a second (one of the choices of OWASP's password storage cheat sheet)."""
BCRYPT_COST = 12
MAX_BCRYPT = 72
"""Octets of a password that bcrypt can tell apart."""
_MAX_MEMORY = 128 * 1024 * 1024
_MAX_SCRYPT_WORK = 1 << 22
"""N x r x p at most: a few seconds."""
_MAX_BCRYPT_COST = 15
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{6,86})\$([A-Za-z0-9+/]{22,86})")
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")


class Scheme(StrEnum):
    """How a password is hashed."""

    SCRYPT = "scrypt"
    BCRYPT = "bcrypt"


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A hash that can be compared with."""

    scheme: Scheme
    text: str
    """As it stands in a users file."""

    def verify(self, password: str) -> bool:
        """Whether it is the hash of this password; takes as long either way."""
        secret = password.encode()
        if self.scheme is Scheme.BCRYPT:
            # What is too long is compared all the same, for the time it takes.
            return bcrypt.checkpw(secret[:MAX_BCRYPT], self.text.encode()) and len(secret) <= MAX_BCRYPT
        ln, r, p, salt, expected = _read_scrypt(self.text)
        return hmac.compare_digest(_scrypt(secret, salt, (ln, r, p), len(expected)), expected)


def parse_hash(text: str) -> PasswordHash:
    """A hash as it stands in a users file. Raises ValueError, which never shows it."""
    if match := _BCRYPT.fullmatch(text):
        if not 4 <= int(match[1]) <= _MAX_BCRYPT_COST:
            raise ValueError(f"bcrypt: expected a cost from 4 to {_MAX_BCRYPT_COST}")
        return PasswordHash(Scheme.BCRYPT, text)
    if _SCRYPT.fullmatch(text):
        _read_scrypt(text)
        return PasswordHash(Scheme.SCRYPT, text)
    raise ValueError("expected a hash: $scrypt$ln=14,r=8,p=5$… or $2b$12$… ('mailwarren users add' writes them)")


def hash_password(password: str, scheme: Scheme = Scheme.SCRYPT) -> PasswordHash:
    """A new hash with a salt of its own. Raises ValueError when the scheme cannot hash this password."""
    secret = password.encode()
    if scheme is Scheme.BCRYPT:
        if len(secret) > MAX_BCRYPT:
            raise ValueError(f"bcrypt takes no password of more than {MAX_BCRYPT} octets; scrypt does")
        return PasswordHash(scheme, bcrypt.hashpw(secret, bcrypt.gensalt(BCRYPT_COST)).decode())
    salt = os.urandom(16)
    return _render_scrypt(salt, _scrypt(secret, salt, SCRYPT_COST, 32))


def make_unknown_hash() -> PasswordHash:
    """A hash of no password that anybody knows, which takes as long to compare with as those that we make."""
    return _render_scrypt(os.urandom(16), os.urandom(32))


def _render_scrypt(salt: bytes, digest: bytes) -> PasswordHash:
    ln, r, p = SCRYPT_COST
    return PasswordHash(Scheme.SCRYPT, f"$scrypt$ln={ln},r={r},p={p}${_encode(salt)}${_encode(digest)}")


def _scrypt(secret: bytes, salt: bytes, cost: tuple[int, int, int], length: int) -> bytes:
    ln, r, p = cost
    return hashlib.scrypt(secret, salt=salt, n=1 << ln, r=r, p=p, dklen=length, maxmem=2 * _MAX_MEMORY)


def _read_scrypt(text: str) -> tuple[int, int, int, bytes, bytes]:
    match = _SCRYPT.fullmatch(text)
    if match is None:
        raise ValueError("not a scrypt hash")
    ln, r, p = int(match[1]), int(match[2]), int(match[3])
    is_small = 1 <= ln <= 20 and r >= 1 and p >= 1 and 128 * r << ln <= _MAX_MEMORY and r * p << ln <= _MAX_SCRYPT_WORK
    if not is_small:
        raise ValueError("scrypt: expected ln, r and p that need at most 128 MB and a few seconds, such as ln=14,r=8,p=5")
    return ln, r, p, _decode(match[4]), _decode(match[5])


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
