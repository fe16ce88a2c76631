"""Whether the dearest mails of (j) are signed and sealed, seen on mails that another implementation has signed."""

from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest

from services.smtp_sender.signing_file import load_signing_file
from shared.mail.signing import Protocol
from tests.bench.publisher import render_content
from tests.bench.sealing import SealingKey, has_all
from tests.bench.signing import SIGNED_DOMAIN, SIGNED_SENDER

PLAIN = render_content(500, "d.example", SIGNED_SENDER).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def key(folder: Path) -> SealingKey:
    return SealingKey(folder)


@pytest.fixture(scope="module")
def sealed(folder: Path, key: SealingKey) -> bytes:
    selector, domain, pem = b"long", SIGNED_DOMAIN.encode(), (folder / "dkim-long.pem").read_bytes()
    signed: bytes = dkim.sign(PLAIN, selector, domain, pem) + PLAIN
    results = b"Authentication-Results: bench.example; none\r\n" + signed
    seals: list[bytes] = dkim.arc_sign(results, selector, domain, pem, b"bench.example")
    return b"".join(seals) + signed


def test_a_sealed_mail_is_known_at_a_glance_and_holds(key: SealingKey, sealed: bytes) -> None:
    assert has_all(sealed)
    assert key.verifies(sealed)


def test_a_changed_mail_does_not_hold(key: SealingKey, sealed: bytes) -> None:
    assert not key.verifies(sealed.replace(b"XXXX", b"XXXY", 1))


def test_a_mail_that_is_signed_alone_is_not_enough(folder: Path, key: SealingKey) -> None:
    signed = dkim.sign(PLAIN, b"long", SIGNED_DOMAIN.encode(), (folder / "dkim-long.pem").read_bytes()) + PLAIN
    assert not has_all(signed)
    assert not key.verifies(signed)
    assert not has_all(PLAIN)


def test_smtp_sender_can_read_the_file(key: SealingKey) -> None:
    (request,) = load_signing_file(key.file).by_domain[SIGNED_DOMAIN]
    assert set(request.protocols) == {Protocol.DKIM, Protocol.ARC}
