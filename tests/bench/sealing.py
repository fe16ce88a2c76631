"""The key that the dearest mails of (j) are signed and sealed with, and a look at whether they are."""

import base64
from collections.abc import Sequence
from pathlib import Path

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.bench.signing import SIGNED_DOMAIN
from tests.support.ledger import Mail

_SELECTOR = "long"
_BITS = 4096
_FIELDS = (b"dkim-signature:", b"arc-seal:", b"arc-message-signature:")


class SealingKey:
    """An RSA key as long as they are allowed, that signs and seals: three signatures for each mail."""

    def __init__(self, folder: Path) -> None:
        """Makes it, and the file that the setting ``dkim-keys`` takes, in ``folder``."""
        self.file = folder / "dkim-long.toml"
        key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
        (folder / "dkim-long.pem").write_bytes(pem)
        (folder / "dkim-long.pem").chmod(0o600)
        self.file.write_text(
            f'[[key]]\ndomain = "{SIGNED_DOMAIN}"\nselector = "{_SELECTOR}"\nkey_file = "dkim-long.pem"\nprotocols = ["dkim", "arc"]\n'
        )

    def verifies(self, content: bytes) -> bool:
        """Do the signature and the seal of this mail hold? Asked of an implementation that is not ours."""
        cv, _, _ = dkim.arc_verify(content, dnsfunc=self._find_record)
        return cv == dkim.CV_Pass and bool(dkim.verify(content, dnsfunc=self._find_record))

    def find_flaws(self, mails: Sequence[Mail]) -> dict[str, int]:
        """How many mails have not all three signatures; of the first and the last, how many have one that does not hold."""
        return {
            "mails without a signature or a seal": sum(not has_all(mail.content) for mail in mails),
            "signatures or seals that do not hold": sum(not self.verifies(mail.content) for mail in (*mails[:1], *mails[-1:])),
        }

    def _find_record(self, name: bytes | str, timeout: float = 5) -> bytes | None:
        text = name.decode() if isinstance(name, bytes) else name
        return self._record if text.rstrip(".") == f"{_SELECTOR}._domainkey.{SIGNED_DOMAIN}" else None


def has_all(content: bytes) -> bool:
    """A cheap look: a signature, a seal and what belongs to it are in the header, once each."""
    lines = content.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    return all(sum(line.startswith(name) for line in lines) == 1 for name in _FIELDS)
