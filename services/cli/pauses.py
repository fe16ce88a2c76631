"""``mailwarren pauses``: mail that waits, in Postgres."""

from typing import Annotated

import typer

from services.cli.collection import File, Names, Raw, add_all, expires_after, read, read_file, remove_all, show_all
from services.cli.given import Config, DbUri
from shared.delivery.stops import Pause
from shared.storage.catalogue import PAUSES
from shared.trouble import BadSetting
from shared.wire.times import render_time

group = typer.Typer(help="Mail that waits: list, add, remove pauses.", no_args_is_help=True, rich_markup_mode=None)

Destination = Annotated[
    str | None, typer.Argument(metavar="DESTINATION", help="Domain of the recipient, * for any text; '*' is all mail.")
]
Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only mail with this tag.")]
Pool = Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Only mail that is sent from this pool.")]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Default: made from the conditions. The one of this name is replaced."),
]
For = Annotated[
    str | None, typer.Option("--for", metavar="DURATION", help="Ends after so long: 90m, 48h; default: when removed.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="pauses")


@group.command("list")
def list_pauses(raw: Raw = False, db_uri: DbUri = None, config: Config = None) -> int:
    """All of them, by name."""
    heads = ("name", "destination", "tag", "pool", "expires (UTC)", "reason")
    return show_all(PAUSES, heads, _describe, raw=raw, db_uri=db_uri, config=config)


@group.command("add")
def add_pause(
    destination: Destination = None,
    tag: Tag = None,
    pool: Pool = None,
    lasts: For = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="For those who read the list.")] = None,
    name: Name = None,
    file: File = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Pause mail: it waits without an attempt until the pause ends; its deadline goes on counting. The senders know it at once.

    \b
    Mail must meet all conditions that are given: destination, tag, pool.
      mailwarren pauses add gmail.com --for 2h --reason 'they defer everything'
      mailwarren pauses add '*.outlook.com' --tag spring
      mailwarren pauses add --pool bulk
      mailwarren pauses add '*'                  everything, until 'mailwarren pauses remove "*"'
    """
    given = {"name": name, "destination": destination, "tag": tag, "pool": pool, "reason": reason}
    document = {key: value for key, value in given.items() if value is not None}
    if file is not None:
        if document or lasts is not None:
            raise BadSetting("either conditions or --file, not both")
        return add_all(PAUSES, read_file(PAUSES, file), db_uri=db_uri, config=config)
    if lasts is not None:
        document["expires"] = str(expires_after(lasts))
    return add_all(PAUSES, [read(PAUSES, document, "pause")], db_uri=db_uri, config=config)


@group.command("remove")
def remove_pauses(name: Names, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove some: their mail goes on.

    It does so within half the time that the pause has lasted, 10 minutes at most.
    """
    return remove_all(PAUSES, name, db_uri=db_uri, config=config)


def _describe(pause: Pause) -> list[list[str]]:
    conditions = pause.conditions
    expires = "when removed" if pause.expires is None else render_time(pause.expires)
    return [[pause.name, conditions.destination or "", conditions.tag or "", conditions.pool or "", expires, pause.reason or ""]]
