"""``mailwarren users``: the users file of smtp-inbox, whose clients say who they are with AUTH."""

import fcntl
import getpass
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from services.cli.given import Config, load_given
from services.cli.table import render_table
from services.smtp_inbox.passwords import PasswordHash, Scheme, hash_password
from services.smtp_inbox.saslprep import prepare
from services.smtp_inbox.users import parse_users, prepare_name
from shared.settings import Settings
from shared.trouble import BadSetting

HELP = """Users of the SMTP inbox: add, list, remove, verify.

\b
A users file has one line per user, name:hash, and comments (#). smtp-inbox reads it when it starts
with INBOUND_SMTP_AUTH=FILE, and again as soon as it has changed: no restart, no signal. Hashes are
scrypt's or bcrypt's; a file of 'htpasswd -B' is a users file, too.

\b
  mailwarren users add app --file /etc/mailwarren/users            asks for the password
  pass show app | mailwarren users add app --file /etc/mailwarren/users
  export INBOUND_SMTP_AUTH=/etc/mailwarren/users                   then --file is not needed
"""
group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)

NEW_MODE = 0o600
File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The users file; else INBOUND_SMTP_AUTH.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]


class _Given(Settings):
    inbound_smtp_auth: str = Field(default="", description="the users file")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="users")


@group.command("add")
def add_user(
    name: Name,
    file: File = None,
    scheme: Annotated[Scheme, typer.Option("--hash", help="How the password is hashed.")] = Scheme.SCRYPT,
    config: Config = None,
) -> int:
    """Add a user, or give him a new password. The file is made (mode 0600) when there is none.

    \b
    The password is asked for twice on a terminal, else it is the first line of standard input; it is never an
    argument, which everybody on the machine could see. smtp-inbox knows the user at once.
    """
    path = _find_file(file, config)
    name = _check_name(name)
    password = _read_password(confirm=True)
    try:
        line = f"{name}:{hash_password(prepare(password), scheme).text}"
    except ValueError as error:
        raise BadSetting(f"password: {error}") from None
    with _rewriting(path) as (text, write):
        is_new = name not in parse_users(text, str(path))
        write(put_line(text, name, line))
    print(f"{'added' if is_new else 'changed the password of'} user {name!r} in {path}")
    return 0


@group.command("list")
def list_users(file: File = None, config: Config = None) -> int:
    """All users of the file, and how their passwords are hashed."""
    path = _find_file(file, config)
    users = _read_users(path)
    if not users:
        print(f"no users in {path}")
        return 0
    for line in render_table(("name", "hash"), [[name, str(user.scheme)] for name, user in sorted(users.items())]):
        print(line)
    return 0


@group.command("remove")
def remove_user(name: Name, file: File = None, config: Config = None) -> int:
    """Remove a user: he cannot log in any more. Sessions that he has stay until they end."""
    path = _find_file(file, config)
    name = _check_name(name)
    _read_text(path)
    with _rewriting(path) as (text, write):
        if name not in parse_users(text, str(path)):
            print(f"no user {name!r} in {path}", file=sys.stderr)
            return 1
        write(put_line(text, name, None))
    print(f"removed user {name!r} from {path}")
    return 0


@group.command("verify")
def verify_user(name: Name, file: File = None, config: Config = None) -> int:
    """Would smtp-inbox let this user in? Asks for the password as 'add' does. Exit code 1: no."""
    path = _find_file(file, config)
    user = _read_users(path).get(_check_name(name))
    if user is None:
        print(f"no user {name!r} in {path}", file=sys.stderr)
        return 1
    try:
        password = prepare(_read_password(confirm=False))
    except ValueError as error:
        raise BadSetting(f"password: {error}") from None
    if not user.verify(password):
        print("no: another password", file=sys.stderr)
        return 1
    print("yes")
    return 0


def put_line(text: str, name: str, line: str | None) -> str:
    """The file's text with another line for the user, None: without one. All other lines stay as they are, comments too."""
    kept = []
    for old in text.removesuffix("\n").split("\n") if text else []:
        if old.startswith("#") or not old.strip() or prepare_name(old.partition(":")[0]) != name:
            kept.append(old)
        elif line is not None:
            kept.append(line)
            line = None
    if line is not None:
        kept.append(line)
    return "".join(f"{one}\n" for one in kept)


def _find_file(file: Path | None, config: Path | None) -> Path:
    if file is not None:
        return file
    given = load_given(_Given, config).inbound_smtp_auth
    if not given:
        raise BadSetting("--file is missing, and INBOUND_SMTP_AUTH is not set: expected the path of the users file")
    if given.startswith(("http://", "https://")):
        raise BadSetting("inbound-smtp-auth is the address of a service, which has its own users: expected --file")
    return Path(given.removeprefix("file://"))


def _check_name(name: str) -> str:
    try:
        return prepare_name(name)
    except ValueError as error:
        raise BadSetting(f"{name!r}: {error}") from None


def _read_password(*, confirm: bool) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if confirm and getpass.getpass("Again: ") != password:
            raise BadSetting("the two passwords differ: nothing was changed")
    else:
        octets = sys.stdin.buffer.readline() if sys.stdin is not None else b""
        try:
            password = octets.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise BadSetting("password: not UTF-8") from None
    if not password:
        raise BadSetting("password: expected one on standard input, not nothing")
    return password


def _read_users(path: Path) -> dict[str, PasswordHash]:
    return parse_users(_read_text(path), str(path))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadSetting(f"{path}: byte {error.start + 1}: not UTF-8") from None


@contextmanager
def _rewriting(path: Path) -> Iterator[tuple[str, Callable[[str], None]]]:
    """The file's text and a function that replaces it: at once, on disk, nobody else at it meanwhile. Raises BadSetting."""
    # The file itself, not a link to it; its folder is locked, for the file is another one after each change.
    real = path.resolve()
    try:
        folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BadSetting(f"{real.parent}: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield (_read_text(real) if real.exists() else "", lambda text: _replace(real, text, folder))
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from None
    finally:
        os.close(folder)


def _replace(path: Path, text: str, folder: int) -> None:
    """The owner stays, and the group's right to read: smtp-inbox need not run as the user who runs this command."""
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if path.exists():
                found = path.stat()
                if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), found.st_uid, found.st_gid)
                os.fchmod(file.fileno(), NEW_MODE | (found.st_mode & 0o040))
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
        os.fsync(folder)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
