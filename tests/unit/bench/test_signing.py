"""Whether the mails of (d) are signed, seen on mails that another implementation has signed."""

import tomllib
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest

from tests.bench.publisher import render_content
from tests.bench.signing import SIGNED_SENDER, SigningKey, find_flaws, has_signature
from tests.support.ledger import Ledger, LedgerWriter, Mail, Session

PLAIN = render_content(500, "d.example", SIGNED_SENDER).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def key(folder: Path) -> SigningKey:
    return SigningKey(folder)


def sign(folder: Path, content: bytes) -> bytes:
    (entry,) = tomllib.loads((folder / "dkim.toml").read_text())["key"]
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
    assert set(find_flaws(store(tmp_path / "good", good, good), key).values()) == {0}
    assert find_flaws(store(tmp_path / "bad", good, PLAIN, PLAIN), key) == {
        "mails without a signature": 2,
        "signatures that do not hold": 1,
    }
