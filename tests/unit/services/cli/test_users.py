"""The users file as the command writes it."""

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from services.cli.__main__ import call
from services.cli.users import put_line
from services.smtp_inbox.users import parse_users
from tests.unit.services.smtp_inbox.test_users import cheap_hash


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INBOUND_SMTP_AUTH", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What comes on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogateescape"))))


@pytest.mark.parametrize("scheme", ["scrypt", "bcrypt"])
def test_a_user_is_added_verified_and_removed(
    path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--file", str(path)]
    say(monkeypatch, "geheim ä \r\nnext line\n")
    assert call(["users", "add", "app", *file, "--hash", scheme]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert parse_users(path.read_text(), "users")["app"].verify("geheim ä ")
    for password, code in (("geheim ä ", 0), ("geheim ä", 1)):
        say(monkeypatch, password)
        assert call(["users", "verify", "app", *file]) == code
    monkeypatch.setenv("INBOUND_SMTP_AUTH", f"file://{path}")
    assert call(["users", "list"]) == 0
    assert call(["users", "remove", "app"]) == 0
    assert call(["users", "remove", "app"]) == 1
    assert call(["users", "list"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == [f"added user 'app' in {path}", "yes"]
    assert said.out.splitlines()[2:] == [
        "name  hash",
        f"app   {scheme}",
        f"removed user 'app' from {path}",
        f"no users in {path}",
    ]
    assert said.err.splitlines() == ["no: another password", f"no user 'app' in {path}"]
    assert "geheim" not in said.out + said.err
    assert list(path.parent.iterdir()) == [path]


def test_owner_group_links_and_comments_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = path.with_name("real")
    real.write_text(f"# ours\n\nfirst:{cheap_hash('a')}\r\napp:{cheap_hash('old')}\nlast:{cheap_hash('b')}")
    os.chmod(real, 0o644)
    os.symlink(real, path)
    say(monkeypatch, "new")
    assert call(["users", "add", "app", "--file", str(path)]) == 0
    assert capsys.readouterr().out == f"changed the password of user 'app' in {path}\n"
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    lines = real.read_bytes().split(b"\n")
    assert [line.partition(b":")[0] for line in lines] == [b"# ours", b"", b"first", b"app", b"last", b""]
    assert parse_users(real.read_text(), "users")["app"].verify("new")


def test_another_line_changes_no_other() -> None:
    text = f"a:{cheap_hash('a')}\n#b\nu\u0308:{cheap_hash('b')}\n"
    assert put_line(text, "\u00fc", None) == f"a:{cheap_hash('a')}\n#b\n"
    assert put_line(text, "c", "c:x") == text + "c:x\n"
    assert put_line("", "c", "c:x") == "c:x\n"


@pytest.mark.parametrize(
    ("arguments", "said", "reason"),
    [
        pytest.param(["add", "app"], "x", "--file is missing, and INBOUND_SMTP_AUTH is not set", id="no file"),
        pytest.param(["add", "a:b", "--file", "{}"], "x", "'a:b': name: expected at most 255", id="name"),
        pytest.param(["add", "app", "--file", "{}"], "", "password: expected one on standard input, not nothing", id="nothing"),
        pytest.param(["add", "app", "--file", "{}"], "a\x07b", "password: the character U+0007 is not allowed", id="control"),
        pytest.param(["add", "app", "--file", "{}"], "\udcff", "password: not UTF-8", id="not UTF-8"),
        pytest.param(["add", "app", "--file", "{}", "--hash", "bcrypt"], "x" * 73, "scrypt does", id="too long for bcrypt"),
        pytest.param(["add", "app", "--file", "{}/no/users"], "x", "/no: ", id="no folder"),
        pytest.param(["list", "--file", "{}"], "", "No such file or directory", id="list"),
        pytest.param(["verify", "app", "--file", "{}"], "x", "No such file or directory", id="verify"),
        pytest.param(["remove", "app", "--file", "{}"], "", "No such file or directory", id="remove"),
    ],
)
def test_what_is_wrong_is_one_line(
    path: Path,
    arguments: list[str],
    said: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(monkeypatch, said)
    assert call(["users", *(argument.format(path) for argument in arguments)]) == 2
    told = capsys.readouterr()
    assert reason in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""
    assert not path.exists()


def test_a_bad_file_is_never_replaced(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("app clear text\n")
    say(monkeypatch, "x")
    assert call(["users", "add", "app", "--file", str(path)]) == 2
    assert capsys.readouterr().err == f"mailwarren: {path}: line 1: expected name:hash\n"
    assert path.read_text() == "app clear text\n"
    monkeypatch.setenv("INBOUND_SMTP_AUTH", "https://auth.example/")
    assert call(["users", "list"]) == 2
    assert "has its own users" in capsys.readouterr().err
