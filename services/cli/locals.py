"""``mailwarren locals``: recipients that smtp-inbox takes mail for from anybody, in Postgres."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from services.cli.collection import File, Names, Raw, add_all, read, read_file, remove_all, show_all
from services.cli.given import Config, DbUri
from shared.delivery.local_patterns import LocalEntry
from shared.storage.catalogue import LOCALS
from shared.trouble import BadSetting

HELP = "Local recipients, whose mail is taken from anybody: list, add, remove."
group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="locals")


@group.command("list")
def list_locals(raw: Raw = False, db_uri: DbUri = None, config: Config = None) -> int:
    """Those in Postgres, by name. Those in smtp-inbox's local-domains and local-addresses are not among them."""
    return show_all(LOCALS, ("name", "kind", "reason"), _describe, raw=raw, db_uri=db_uri, config=config)


@group.command("add")
def add_locals(
    name: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="Domain or address, '*' for any text, or '/regular expression/'."),
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="For whoever reads the list.")] = None,
    file: File = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Take mail for recipients, from anybody. smtp-inbox knows it at once.

    \b
      mailwarren locals add example.com --reason ours
      mailwarren locals add 'bounce-*@example.net' '*.example.org'
      mailwarren locals add '/(sales|support)@example\\.net/'     must match the whole address
      mailwarren locals add --file list.txt                       one a line
      mailwarren locals add --file list.json                      as 'list --raw' prints it
    """
    common = {} if reason is None else {"reason": reason}
    if file is not None:
        if name:
            raise BadSetting("either NAME or --file, not both")
        entries = read_file(LOCALS, file, common=common, lines=_read_lines)
    else:
        if not name:
            raise BadSetting("NAME is missing")
        entries = [read(LOCALS, {"name": one, **common}, "local recipient") for one in name]
    return add_all(LOCALS, entries, db_uri=db_uri, config=config)


@group.command("remove")
def remove_locals(name: Names, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove some: mail to them is refused, unless smtp-inbox's settings have them or its client may relay."""
    return remove_all(LOCALS, name, db_uri=db_uri, config=config)


def _read_lines(text: str) -> Iterator[tuple[int, Any]]:
    """A name a line; empty lines and comments (#) count for nothing."""
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if name and not name.startswith("#"):
            yield number, {"name": name}


def _describe(entry: LocalEntry) -> list[list[str]]:
    return [[entry.name, entry.pattern.kind.value, str(entry.document.get("reason", ""))]]
