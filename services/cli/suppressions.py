"""``mailwarren suppressions``: recipients that get no mail, in Postgres."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from services.cli.collection import File, Names, Raw, add_all, expires_after, read, read_file, remove_all, show_all
from services.cli.given import Config, DbUri
from shared.delivery.suppressions import Suppression
from shared.storage.catalogue import SUPPRESSIONS
from shared.trouble import BadSetting
from shared.wire.times import render_time

HELP = "Recipients that get no mail: list, add, remove."
group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)

Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Stands in the result of mail that was not sent.")]
For = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Ends after so long: 90m, 48h; default: never.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="suppressions")


@group.command("list")
def list_suppressions(raw: Raw = False, db_uri: DbUri = None, config: Config = None) -> int:
    """All of them, by name."""
    return show_all(SUPPRESSIONS, ("name", "expires (UTC)", "reason"), _describe, raw=raw, db_uri=db_uri, config=config)


@group.command("add")
def add_suppressions(
    name: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Address, domain, or '*.domain' for all domains below it.")
    ] = None,
    reason: Reason = None,
    lasts: For = None,
    file: File = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Suppress recipients: mail to them fails, without an attempt. The senders know it at once.

    \b
      mailwarren suppressions add bob@example.org --reason unsubscribed
      mailwarren suppressions add example.net '*.example.net' --for 720h --reason 'hard bounces'
      mailwarren suppressions add --file list.txt --reason imported       an address or domain a line
      mailwarren suppressions add --file list.json                        as 'list --raw' prints it
    """
    expires = expires_after(lasts)
    common = {key: value for key, value in (("reason", reason), ("expires", expires)) if value is not None}
    if file is not None:
        if name:
            raise BadSetting("either NAME or --file, not both")
        entries = read_file(SUPPRESSIONS, file, common=common, lines=_read_lines)
    else:
        if not name:
            raise BadSetting("NAME is missing")
        entries = [read(SUPPRESSIONS, {"name": one, **common}, "suppression") for one in name]
    return add_all(SUPPRESSIONS, entries, db_uri=db_uri, config=config)


@group.command("remove")
def remove_suppressions(name: Names, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove some: mail to them is sent again."""
    return remove_all(SUPPRESSIONS, name, db_uri=db_uri, config=config)


def _read_lines(text: str) -> Iterator[tuple[int, Any]]:
    """A name a line; empty lines and comments (#) count for nothing."""
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        if "@" not in name and "." not in name:
            # A heading, or a local part whose domain was lost: as a domain it would stop nothing that anybody meant.
            raise BadSetting(f"line {number}: {name[:80]!r}: expected an address or a domain")
        yield number, {"name": name}


def _describe(entry: Suppression) -> list[list[str]]:
    expires = entry.held.expires
    return [[entry.name, "never" if expires is None else render_time(expires), entry.held.reason or ""]]
