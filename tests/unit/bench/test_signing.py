"""Whether the mails of (d) and (j) are signed and sealed, seen on mails that another implementation has signed."""

import tomllib
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest

from services.smtp_sender.signing_file import load_signing_file
from shared.mail.signing import Protocol
from tests.bench.publisher import render_content
from tests.bench.signing import SIGNED_DOMAIN, SIGNED_SENDER, SigningKey, has_seal, has_signature
from tests.support.ledger import Ledger, LedgerWriter, Mail, Session

PLAIN = render_content(500, "d.example", SIGNED_SENDER).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def key(folder: Path) -> SigningKey:
    return SigningKey(folder)


def sign(folder: Path, content: bytes, name: str = "dkim") -> bytes:
    (entry,) = tomllib.loads((folder / f"{name}.toml").read_text())["key"]
    pem = (folder / entry["key_file"]).read_bytes()
    signature: bytes = dkim.sign(content, entry["selector"].encode(), entry["domain"].encode(), pem)
    return signature + content


def store(folder: Path, *contents: bytes) -> list[Mail]:
    writer = LedgerWriter(folder)
    for content in contents:
        writer.store(content, reverse_path=SIGNED_SENDER, recipients=[("r@d.example", {})], session=Session())
    writer.close()
    return Ledger(folder).mails()


def test_a_signed_mail_is_known_at_a_glance_and_holds(folder: Path, key: SigningKey) -> None:
    signed = sign(folder, PLAIN)
    assert has_signature(signed)
    assert key.verifies(signed)


def test_a_changed_mail_does_not_hold(folder: Path, key: SigningKey) -> None:
    changed = sign(folder, PLAIN).replace(b"XXXX", b"XXXY", 1)
    assert has_signature(changed)
    assert not key.verifies(changed)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        b"Subject: DKIM-Signature: v=1; d=signed.example; b=x\r\n" + PLAIN,
        PLAIN + b"DKIM-Signature: v=1; d=signed.example; b=x\r\n",
        b"DKIM-Signature: v=1; d=elsewhere.example; b=x\r\n" + PLAIN,
        b"DKIM-Signature: v=1; d=signed.example.com; b=x\r\n" + PLAIN,
    ],
)
def test_what_is_no_signature_of_ours(content: bytes, key: SigningKey) -> None:
    assert not has_signature(content)
    assert not key.verifies(content)


def test_flaws_are_counted(folder: Path, key: SigningKey, tmp_path: Path) -> None:
    good = sign(folder, PLAIN)
    assert set(key.find_flaws(store(tmp_path / "good", good, good)).values()) == {0}
    assert key.find_flaws(store(tmp_path / "bad", good, PLAIN, PLAIN)) == {
        "mails without a signature": 2,
        "signatures that do not hold": 1,
    }


@pytest.fixture(scope="module")
def long_key(folder: Path) -> SigningKey:
    return SigningKey(folder, name="long", seals=True)


def seal(folder: Path, signed: bytes) -> bytes:
    results = b"Authentication-Results: bench.example; none\r\n" + signed
    pem = (folder / "long.pem").read_bytes()
    seals: list[bytes] = dkim.arc_sign(results, b"long", SIGNED_DOMAIN.encode(), pem, b"bench.example")
    return b"".join(seals) + signed


def test_a_sealed_mail_is_known_at_a_glance_and_holds_until_it_is_changed(folder: Path, long_key: SigningKey) -> None:
    sealed = seal(folder, sign(folder, PLAIN, "long"))
    changed = sealed.replace(PLAIN[-20:], b"changed" + PLAIN[-20:])
    assert (has_seal(sealed), long_key.verifies(sealed)) == (True, True)
    assert (has_seal(changed), long_key.verifies(changed)) == (True, False)


def test_a_mail_that_is_signed_alone_is_not_sealed(folder: Path, long_key: SigningKey) -> None:
    signed = sign(folder, PLAIN, "long")
    assert (has_seal(signed), long_key.verifies(signed), has_seal(PLAIN)) == (False, False, False)


def test_smtp_sender_can_read_the_file(long_key: SigningKey) -> None:
    (request,) = load_signing_file(long_key.file).by_domain[SIGNED_DOMAIN]
    assert set(request.protocols) == {Protocol.DKIM, Protocol.ARC}
