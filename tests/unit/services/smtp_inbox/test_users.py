"""The users file: what is in it, and that it is read again when it has changed."""

import hashlib
import os
from base64 import b64encode
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import services.smtp_inbox.users
from services.smtp_inbox.users import UsersFile, parse_users, prepare_name
from shared.log import get_logger
from shared.trouble import BadSetting


@pytest.fixture(autouse=True)
def new_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that another test has used keeps what that one had configured, and nothing can be captured."""
    monkeypatch.setattr(services.smtp_inbox.users, "log", get_logger())


def cheap_hash(password: str) -> str:
    """A hash that costs nothing."""
    digest = hashlib.scrypt(password.encode(), salt=b"salt" * 4, n=2, r=1, p=1)
    salt, text = (b64encode(octets).decode().rstrip("=") for octets in (b"salt" * 4, digest))
    return f"$scrypt$ln=1,r=1,p=1${salt}${text}"


def test_comments_empty_lines_and_crlf_count_for_nothing() -> None:
    text = f"# users\r\n\r\napp:{cheap_hash('a')}\r\nu\u0308:{cheap_hash('b')}"
    users = parse_users(text, "users")
    assert list(users) == ["app", "\u00fc"]
    assert users["app"].verify("a")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("app", "users: line 1: expected name:hash", id="no colon"),
        pytest.param(f":{cheap_hash('a')}", "users: line 1: name: empty", id="no name"),
        pytest.param(f" app:{cheap_hash('a')}", "users: line 1: name: expected .* no space at either end", id="space"),
        pytest.param("#\napp:geheim", "users: line 2: expected a hash", id="clear text"),
        pytest.param(f"a:{cheap_hash('a')}\na:{cheap_hash('b')}", "users: line 2: 'a' is there already", id="twice"),
    ],
)
def test_a_bad_line_is_named_and_no_secret_shown(text: str, reason: str) -> None:
    with pytest.raises(BadSetting, match=reason) as caught:
        parse_users(text, "users")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a:b", " a", "a ", "#a", "a\nb", "a" * 256], ids=ascii)
def test_names_that_no_user_can_have(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name: "):
        prepare_name(name)


def write(path: Path, text: str) -> None:
    """Another file in its place, as an administrator's tools do it."""
    fresh = path.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_text(text)
    fresh.replace(path)


def spoil(path: Path, what: str) -> None:
    match what:
        case "bad line":
            path.write_text("app geheim\n")
        case "gone":
            path.unlink()
        case _:
            path.write_bytes(b"app\xff:x\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "users"
    found.touch(0o600)
    found.write_text(f"app:{cheap_hash('right')}\nother:{cheap_hash('x')}\n")
    return found


async def test_only_the_right_password_of_the_right_user(path: Path) -> None:
    users = UsersFile(path)
    for _ in range(2):  # the second time it is remembered
        assert await users.verify("app", "right")
        assert not await users.verify("app", "wrong")
        assert not await users.verify("other", "right")
        assert not await users.verify("nobody", "right")
    assert (users.knows("app"), users.knows("nobody")) == (True, False)
    await users.close()


async def test_a_stranger_is_compared_with_somebody_always_the_same(path: Path) -> None:
    users = UsersFile(path)
    stand_ins = {name: users._find_stand_in(name) for name in map(str, range(50))}
    assert set(stand_ins.values()) == set(users._users.values())
    assert all(users._find_stand_in(name) == hashed for name, hashed in stand_ins.items())
    write(path, "# nobody\n")
    assert not await users.verify("nobody", "x")
    assert users._find_stand_in("nobody").text.startswith("$scrypt$ln=14,")
    await users.close()


async def test_a_change_counts_at_once_also_for_who_was_remembered(path: Path) -> None:
    users = UsersFile(path)
    assert await users.verify("app", "right")
    write(path, f"app:{cheap_hash('changed')}\n")
    assert not await users.verify("app", "right")
    assert await users.verify("app", "changed")
    write(path, "")
    assert not await users.verify("app", "changed")
    await users.close()


@pytest.mark.parametrize("what", ["bad line", "gone", "not UTF-8"])
async def test_a_bad_file_ends_the_start_and_changes_nothing_later(path: Path, what: str) -> None:
    users = UsersFile(path)
    spoil(path, what)
    with capture_logs() as logs:
        assert await users.verify("app", "right")
        assert await users.verify("app", "right")
        users.reload()
    assert [line["event"] for line in logs] == ["the users were not replaced"] * 2  # when it changed, and on SIGHUP
    assert "geheim" not in str(logs)
    with pytest.raises(BadSetting, match=f"inbound-smtp-auth: '{path}': "):
        UsersFile(path)
    await users.close()


async def test_a_file_that_everybody_can_read_is_told_of(path: Path) -> None:
    os.chmod(path, 0o644)
    with capture_logs() as logs:
        await UsersFile(path).close()
    assert [line["path"] for line in logs] == [str(path)]
