"""``mailwarren errors``: mail that gets a made-up reply instead of an attempt, in Postgres."""

from typing import Annotated, Any

import typer

from services.cli.collection import File, Names, Raw, add_all, expires_after, read, read_file, remove_all, show_all
from services.cli.given import Config, DbUri
from services.cli.pauses import Destination, For, Name, Pool, Tag
from shared.delivery.stops import ForcedError
from shared.storage.catalogue import ERRORS
from shared.trouble import BadSetting
from shared.wire.times import render_time

HELP = "Mail that gets an error instead of an attempt: list, add, remove forced errors."
group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="errors")


@group.command("list")
def list_errors(raw: Raw = False, db_uri: DbUri = None, config: Config = None) -> int:
    """All of them, by name."""
    heads = ("name", "destination", "tag", "pool", "expires (UTC)", "reply")
    return show_all(ERRORS, heads, _describe, raw=raw, db_uri=db_uri, config=config)


@group.command("add")
def add_error(
    destination: Destination = None,
    code: Annotated[int | None, typer.Option("--code", help="4xx: tried again by the usual schedule; 5xx: failed.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="X.Y.Z", help="Enhanced status code; default: 4.7.1 or 5.7.1.")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Stands in the result.")] = None,
    tag: Tag = None,
    pool: Pool = None,
    lasts: For = None,
    name: Name = None,
    file: File = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Force an error: mail gets this reply and nobody is connected. It counts as an attempt. The senders know it at once.

    \b
    Mail must meet all conditions that are given: destination, tag, pool. The most specific error counts.
      mailwarren errors add --tag spring --code 550 --description 'The campaign was called back'
      mailwarren errors add yahoo.example --code 421 --status 4.3.2 --for 2h
      mailwarren errors remove tag=spring
    """
    given = {"name": name, "destination": destination, "tag": tag, "pool": pool}
    given |= {"status": status, "description": description}
    document: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if file is not None:
        if document or code is not None or lasts is not None:
            raise BadSetting("either conditions and --code, or --file, not both")
        return add_all(ERRORS, read_file(ERRORS, file), db_uri=db_uri, config=config)
    if code is None:
        raise BadSetting("--code is missing")
    document["code"] = code
    if lasts is not None:
        document["expires"] = expires_after(lasts)
    return add_all(ERRORS, [read(ERRORS, document, "forced error")], db_uri=db_uri, config=config)


@group.command("remove")
def remove_errors(name: Names, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove some: their mail is sent again."""
    return remove_all(ERRORS, name, db_uri=db_uri, config=config)


def _describe(error: ForcedError) -> list[list[str]]:
    conditions = error.conditions
    expires = "when removed" if error.expires is None else render_time(error.expires)
    reply = f"{error.code} {error.status} {error.description}"
    return [[error.name, conditions.destination or "", conditions.tag or "", conditions.pool or "", expires, reply]]
