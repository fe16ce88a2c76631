"""Which keys sign a mail, where they come from, and what happens when their file changes."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from structlog.testing import capture_logs

import services.smtp_sender.signing
from services.smtp_sender.signing import BIG, LOOK_INTERVAL, Signer
from shared.log import get_logger
from shared.mail.arc import ChainStatus
from shared.mail.arc_chain import validate_chain
from shared.mail.signing import SigningRequest
from shared.trouble import BadSetting
from tests.unit.shared.mail.signing_world import (
    ED25519,
    MAIL,
    NOW,
    OTHER_RSA,
    RSA,
    dkimpy_verifies,
    fetch_txt,
    pem,
    request,
)


@pytest.fixture(autouse=True)
def new_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that another test has used keeps what that one had configured, and nothing can be captured."""
    monkeypatch.setattr(services.smtp_sender.signing, "log", get_logger())


ID = "mx.example.com"


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, *entries: dict[str, Any]) -> Path:
    """A file of keys; every value is a text, a list of texts or a number, which TOML spells as Python does."""
    path.write_text(
        "\n".join("[[key]]\n" + "".join(f"{name} = {value!r}\n" for name, value in entry.items()) for entry in entries)
    )
    return path


def entry(domain: str = "example.com", selector: str = "r", key: str = "r.pem", **more: Any) -> dict[str, Any]:
    return {"domain": domain, "selector": selector, "key_file": key, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "r.pem").write_text(pem(RSA))
    (tmp_path / "e.pem").write_text(pem(ED25519))
    (tmp_path / "small.pem").write_text(pem(OTHER_RSA))
    return tmp_path


def chosen(
    signer: Signer, author: str | None = "example.com", reverse_path: str | None = None, *requests: SigningRequest
) -> list[str]:
    keys = signer.choose(author_domain=author, reverse_path_domain=reverse_path, requests=requests)
    return [f"{one.selector}.{one.domain}" for one in keys]


def test_without_keys_a_mail_is_not_touched() -> None:
    signer = Signer("", ID)
    assert signer.sign(MAIL, author_domain="example.com", reverse_path_domain=None, requests=(), now=NOW) is MAIL


def test_a_mail_is_signed_with_every_key_of_its_author(folder: Path) -> None:
    path = write(folder / "keys.toml", entry(), entry(selector="e", key="e.pem", canonicalization="simple/relaxed"))
    signer = Signer(str(path), ID)
    signed = signer.sign(MAIL, author_domain="example.com", reverse_path_domain=None, requests=(), now=NOW)
    assert dkimpy_verifies(signed, 0)
    assert dkimpy_verifies(signed, 1)
    assert signed.count(b"DKIM-Signature:") == 2


@pytest.mark.parametrize(
    ("author", "reverse_path", "keys"),
    [
        ("example.com", None, ["r.example.com"]),
        ("EXAMPLE.com", "example.net", ["r.example.com"]),
        ("a.b.example.com", None, ["r.example.com"]),
        ("sub.example.com", None, ["e.sub.example.com"]),
        ("x.sub.example.com", None, ["e.sub.example.com"]),
        ("notexample.com", None, []),
        ("example.org", "example.net", ["r.example.net"]),
        (None, "a.example.net", ["r.example.net"]),
        ("bücher.example", None, ["r.xn--bcher-kva.example"]),
        ("[192.0.2.1]", "example.com", ["r.example.com"]),
        ("no domain", "", []),
        ("com", None, []),
        (None, None, []),
    ],
)
def test_keys_go_by_the_author_then_the_reverse_path(
    folder: Path, author: str | None, reverse_path: str | None, keys: list[str]
) -> None:
    domains = ("example.com", "example.net", "xn--bcher-kva.example")
    path = write(folder / "keys.toml", *map(entry, domains), entry("sub.example.com", "e", "e.pem"))
    assert chosen(Signer(str(path), ID), author, reverse_path) == keys


def test_the_keys_of_a_message_come_first_and_win(folder: Path) -> None:
    path = write(folder / "keys.toml", entry(), entry(selector="e", key="e.pem"))
    signer = Signer(str(path), ID)
    own = request("small")
    assert chosen(signer, "example.com", None, own) == ["small.example.com", "r.example.com", "e.example.com"]
    same = request("r", canonicalization="simple")
    keys = signer.choose(author_domain="example.com", reverse_path_domain=None, requests=(same,))
    assert keys[0] is same
    assert [one.selector for one in keys] == ["r", "e"]


def test_a_changed_file_is_read_again_after_a_while(folder: Path) -> None:
    path = write(folder / "keys.toml", entry())
    clock = Clock()
    signer = Signer(str(path), ID, clock=clock)
    write(path, entry(), entry(selector="e", key="e.pem"))
    clock.now = LOOK_INTERVAL - 1
    assert chosen(signer) == ["r.example.com"]
    clock.now = LOOK_INTERVAL
    assert chosen(signer) == ["r.example.com", "e.example.com"]


def test_a_changed_key_file_is_read_again(folder: Path) -> None:
    clock = Clock()
    signer = Signer(str(write(folder / "keys.toml", entry())), ID, clock=clock)
    new = folder / "new.pem"
    new.write_text(pem(ED25519))
    os.replace(new, folder / "r.pem")
    clock.now += LOOK_INTERVAL
    (key,) = signer.choose(author_domain="example.com", reverse_path_domain=None, requests=())
    assert key.key.algorithm == "ed25519-sha256"


def test_a_broken_file_leaves_the_old_keys_and_is_told_once(folder: Path) -> None:
    path = write(folder / "keys.toml", entry())
    clock = Clock()
    signer = Signer(str(path), ID, clock=clock)
    write(path, entry(), entry(selector="e", key="later.pem"))
    with capture_logs() as logs:
        for _ in range(3):
            clock.now += LOOK_INTERVAL
            assert chosen(signer) == ["r.example.com"]
    assert [line["log_level"] for line in logs] == ["error"]
    assert "later.pem: No such file" in logs[0]["reason"]
    (folder / "later.pem").write_text(pem(ED25519))
    clock.now += LOOK_INTERVAL
    assert chosen(signer) == ["r.example.com", "e.example.com"]
    path.unlink()
    clock.now += LOOK_INTERVAL
    assert chosen(signer) == ["r.example.com", "e.example.com"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = ", "keys.toml: Invalid value"),
        ("[[keys]]", "keys.toml: 'keys': unknown; expected only"),
        ("key = 1", "keys.toml: key: expected"),
        ("[[key]]", "keys.toml, key 1: domain: missing"),
        ("[[key]]\ndomain='example.com'\nselector='a'", "keys.toml, key 1: key: expected a private key"),
        ("[[key]]\ndomain='example.com'\nselector='a'\nkey='x'", "keys.toml, key 1: key: no private key can be read"),
        ("[[key]]\ndomain='example.com'\nselector='a'\nkey='x'\nkey_file='y'", "key 1: key_file: expected either"),
        ("[[key]]\ndomain='example.com'\nselector='a'\nkey_file=''", "key 1: key_file: expected the path"),
        ("[[key]]\ndomain='example.com'\nselector='a'\nkey_file='no.pem'", "key 1: key_file: .*no.pem: No such file"),
        ("[[key]]\ndomain='example.com'\nselector='a'\nkey_file='keys.toml'", "key 1: key_file: .*keys.toml: no private key"),
        (
            "[[key]]\ndomain='example.com'\nselector='a'\nkey_file='r.pem'\nexpires=1",
            "key 1: 'expires': unknown; expected one of",
        ),
        ("[[key]]\ndomain='example.com'\nselector='a'\nkey_file='r.pem'\nexpire='soon'", "key 1: expire: 'soon': expected"),
        (
            "[[key]]\ndomain='example.com'\nselector='a'\nkey_file='r.pem'\n" * 2,
            "key 2: selector: 'a' is given twice for example.com",
        ),
    ],
)
def test_at_start_a_broken_file_is_a_bad_setting(folder: Path, text: str, sentence: str) -> None:
    (folder / "keys.toml").write_text(text)
    with pytest.raises(BadSetting, match=sentence) as caught:
        Signer(str(folder / "keys.toml"), ID)
    assert str(caught.value).startswith("dkim-keys: ")


def test_files_that_cannot_be_read_are_bad_settings(folder: Path) -> None:
    with pytest.raises(BadSetting, match="No such file"):
        Signer(str(folder / "none.toml"), ID)
    (folder / "raw.toml").write_bytes(b"# \xff")
    with pytest.raises(BadSetting, match="byte 3: not UTF-8"):
        Signer(str(folder / "raw.toml"), ID)


def test_a_key_that_is_not_sound_is_refused_at_start(folder: Path) -> None:
    lines = pem(RSA, PrivateFormat.TraditionalOpenSSL).splitlines()
    lines[3] = lines[3][::-1]  # within the modulus
    (folder / "r.pem").write_text("\n".join(lines))
    path = write(folder / "keys.toml", entry())
    with pytest.raises(BadSetting, match=r"key 1: key_file: .*r.pem: the private key is broken"):
        Signer(str(path), ID)


@pytest.mark.parametrize("size", [0, BIG])
async def test_signed_and_sealed(folder: Path, size: int) -> None:
    path = write(
        folder / "keys.toml", entry(protocols=["dkim", "arc"]), entry(selector="e", key="e.pem", protocols=["dkim", "arc"])
    )
    signer = Signer(str(path), ID)
    content = MAIL + b"x" * size + b"\r\n"
    for number in range(1, 3):
        content = await signer.sign_and_seal(
            content,
            author_domain="example.com",
            reverse_path_domain=None,
            requests=(),
            now=NOW + timedelta(seconds=number),
            fetch_txt=fetch_txt,
        )
        assert await validate_chain(content, fetch_txt, now=NOW) is ChainStatus.PASS
        # One set each time, by the first key; the DKIM signatures of the first time still hold.
        assert content.count(b"ARC-Seal:") == number
        assert content.count(b"DKIM-Signature:") == 2
    assert dkimpy_verifies(content, 0)
    assert dkimpy_verifies(content, 1)


async def test_a_chain_is_looked_up_only_when_it_is_to_be_sealed() -> None:
    async def forbidden(name: str) -> bytes | None:
        raise AssertionError(name)

    signer = Signer("", ID)
    cases: list[tuple[list[SigningRequest], bytes]] = [
        ([], b"Return-Path"),
        ([request()], b"DKIM-Signature"),
        ([request(protocols="arc")], b"ARC-Seal"),
        ([request(protocols=["arc", "dkim"])], b"ARC-Seal"),
        ([request(protocols="arc", expire="2020-01-01 00:00:00")], b"Return-Path"),
    ]
    for requests, first in cases:
        mail = await signer.sign_and_seal(
            MAIL, author_domain=None, reverse_path_domain=None, requests=requests, now=NOW, fetch_txt=forbidden
        )
        assert mail.endswith(MAIL)
        assert mail.startswith(first)
