"""``mailwarren tokens``: the bearer tokens of json-inbox, in Postgres."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from services.cli.collection import Names, remove_all, show_all
from services.cli.given import Config, DbUri, load_given, wait_for
from shared.mail.duration import parse_duration
from shared.storage.database import Database, DatabaseSettings
from shared.storage.documents import fetch_document, store_documents
from shared.storage.tokens import SCOPES, TABLE, TOKENS, Token, digest_token, make_token, parse_token
from shared.trouble import BadSetting
from shared.wire.times import render_time

group = typer.Typer(help="Bearer tokens of the HTTP interface: list, add, remove.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="tokens")


@group.command("list")
def list_tokens(db_uri: DbUri = None, config: Config = None) -> int:
    """All tokens, without their secrets: those are kept nowhere."""
    return show_all(TOKENS, ("name", "scopes", "expires"), _describe, raw=False, db_uri=db_uri, config=config)


@group.command("add")
def add_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Shown in logs and in the mail that it sends.")],
    scope: Annotated[list[str], typer.Option("--scope", metavar="SCOPE", help=f"May be repeated: {', '.join(SCOPES)}.")],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="UTC: YYYY-MM-DD [HH:MM:SS], or from now: 12h, 2160h.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the token of this name: the old one is void.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Make a token and print it, once. json-inbox knows it at once.

    \b
    Scopes
      send    send mail and actions
      route   mail may say smarthost, queues, ips or key
      rules   change rules, pools and lists; redrive
      read    see mail, rules, pools and lists
    \b
      mailwarren tokens add shop --scope send --scope read
      TOKEN=$(mailwarren tokens add nightly --scope send --expires 2027-01-01)
      curl -H "Authorization: Bearer $TOKEN" …
    """
    text = make_token()
    now = datetime.now(UTC)
    document = {"name": name, "digest": digest_token(text), "scopes": list(dict.fromkeys(scope))}
    if expires is not None:
        document["expires"] = _render_expiry(expires, now)
    try:
        token = parse_token(document)
    except ValueError as error:
        raise BadSetting(f"token: {error}") from None
    known = wait_for(_store(load_given(DatabaseSettings, config, db_uri=db_uri), token, replace=replace))
    if known and not replace:
        print(f"there is a token {name!r}: --replace gives it a new secret", file=sys.stderr)
        return 1
    print(f"{'replaced' if known else 'added'} token {name!r}; this is the only time that it is shown:", file=sys.stderr)
    print(text)
    return 0


@group.command("remove")
def remove_token(name: Names, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove tokens: json-inbox refuses them at once."""
    return remove_all(TOKENS, name, db_uri=db_uri, config=config)


def _describe(token: Token) -> list[list[str]]:
    until = "" if token.expires is None else render_time(token.expires)
    if token.expires is not None and token.expires <= datetime.now(UTC):
        until += " (expired)"
    return [[token.name, ", ".join(scope for scope in SCOPES if scope in token.scopes), until]]


def _render_expiry(text: str, now: datetime) -> str:
    try:
        moment = _parse_moment(text) if "-" in text else now + parse_duration(text)
    except (ValueError, OverflowError):
        raise BadSetting(f"--expires {text!r}: expected UTC time as YYYY-MM-DD [HH:MM:SS], or a duration such as 2160h") from None
    if moment <= now:
        raise BadSetting(f"--expires {text!r}: expected a time to come")
    return render_time(moment)


def _parse_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


async def _store(settings: DatabaseSettings, token: Token, *, replace: bool) -> dict[str, Any] | None:
    """The token that had the name before; then it is replaced only when asked to."""
    database = Database(settings, name="mailwarren tokens")
    try:
        async with database.connection() as connection:
            known = await fetch_document(connection, TABLE, token.name)
            if known is None or replace:
                await store_documents(connection, TABLE, [(token.name, token.document)])
            return known
    finally:
        await database.close()
