"""The keys that mails of (d) and (j) are signed or sealed with, and a look at whether they are."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.ledger import Mail

SIGNED_DOMAIN = "signed.example"
SIGNED_SENDER = f"news@{SIGNED_DOMAIN}"
_SIGNATURE = re.compile(rb"^DKIM-Signature:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", re.IGNORECASE | re.MULTILINE)
_SEALED = (b"dkim-signature:", b"arc-seal:", b"arc-message-signature:")
_DOMAIN = re.compile(rb"[;\s]d=" + re.escape(SIGNED_DOMAIN).encode() + rb"[;\s]")


class SigningKey:
    """An RSA key in a folder, with the file that the setting ``dkim-keys`` takes."""

    def __init__(self, folder: Path, *, name: str = "dkim", bits: int = 2048, seals: bool = False) -> None:
        """Makes both, called ``name``. ``seals``: an ARC set as well, three signatures for each mail."""
        self.file = folder / f"{name}.toml"
        """For ``dkim-keys``."""
        self._selector, self._seals = name, seals
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
        (folder / f"{name}.pem").write_bytes(pem)
        (folder / f"{name}.pem").chmod(0o600)
        protocols = '["dkim", "arc"]' if seals else '["dkim"]'
        self.file.write_text(
            f'[[key]]\ndomain = "{SIGNED_DOMAIN}"\nselector = "{name}"\nkey_file = "{name}.pem"\nprotocols = {protocols}\n'
        )

    def verifies(self, content: bytes) -> bool:
        """Do the first signature of this mail, and its seal, hold with our key? Asked of an implementation that is not ours."""
        if self._seals and dkim.arc_verify(content, dnsfunc=self._find_record)[0] != dkim.CV_Pass:
            return False
        return bool(dkim.verify(content, dnsfunc=self._find_record))

    def find_flaws(self, mails: Sequence[Mail]) -> dict[str, int]:
        """How many mails have no signature (or no seal); of the first and the last, how many have one that does not hold."""
        is_complete = has_seal if self._seals else has_signature
        return {
            "mails without a signature": sum(not is_complete(mail.content) for mail in mails),
            "signatures that do not hold": sum(not self.verifies(mail.content) for mail in (*mails[:1], *mails[-1:])),
        }

    def _find_record(self, name: bytes | str, timeout: float = 5) -> bytes | None:
        text = name.decode() if isinstance(name, bytes) else name
        return self._record if text.rstrip(".") == f"{self._selector}._domainkey.{SIGNED_DOMAIN}" else None


def has_signature(content: bytes) -> bool:
    """A cheap look: a DKIM-Signature of our domain is in the header."""
    header = content.partition(b"\r\n\r\n")[0]
    return any(_DOMAIN.search(field) for field in _SIGNATURE.findall(header))


def has_seal(content: bytes) -> bool:
    """A cheap look: a signature, a seal and what belongs to it are in the header, once each."""
    lines = content.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    return all(sum(line.startswith(name) for line in lines) == 1 for name in _SEALED)
