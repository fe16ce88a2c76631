"""The key that the mails of (d) are signed with, and a look at whether they are."""

import base64
import re
from collections.abc import Iterable
from pathlib import Path

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.ledger import Mail

SIGNED_DOMAIN = "signed.example"
SIGNED_SENDER = f"news@{SIGNED_DOMAIN}"
_SELECTOR = "bench"
_BITS = 2048
_SIGNATURE = re.compile(rb"^DKIM-Signature:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", re.IGNORECASE | re.MULTILINE)
_DOMAIN = re.compile(rb"[;\s]d=" + re.escape(SIGNED_DOMAIN).encode() + rb"[;\s]")


class SigningKey:
    """An RSA key in a folder, with the file that the setting ``dkim-keys`` takes."""

    def __init__(self, folder: Path) -> None:
        """Makes both. ``folder``: there must be nothing of these names in it."""
        self.file = folder / "dkim.toml"
        """For ``dkim-keys``."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
        (folder / "dkim.pem").write_bytes(pem)
        (folder / "dkim.pem").chmod(0o600)
        self.file.write_text(f'[[key]]\ndomain = "{SIGNED_DOMAIN}"\nselector = "{_SELECTOR}"\nkey_file = "dkim.pem"\n')

    def verifies(self, content: bytes) -> bool:
        """Is the first signature of this mail one with our key that holds? Asked of an implementation that is not ours."""

        def find_record(name: bytes | str, timeout: float = 5) -> bytes | None:
            text = name.decode() if isinstance(name, bytes) else name
            return self._record if text.rstrip(".") == f"{_SELECTOR}._domainkey.{SIGNED_DOMAIN}" else None

        return bool(dkim.verify(content, dnsfunc=find_record))


def has_signature(content: bytes) -> bool:
    """A cheap look: a DKIM-Signature of our domain is in the header."""
    header = content.partition(b"\r\n\r\n")[0]
    return any(_DOMAIN.search(field) for field in _SIGNATURE.findall(header))


def find_flaws(mails: Iterable[Mail], key: SigningKey) -> dict[str, int]:
    """How many mails have no signature; of the first and the last, how many have one that does not hold."""
    mails = list(mails)
    return {
        "mails without a signature": sum(not has_signature(mail.content) for mail in mails),
        "signatures that do not hold": sum(not key.verifies(mail.content) for mail in (*mails[:1], *mails[-1:])),
    }
