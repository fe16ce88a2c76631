"""``mailwarren pools``: the pools of source addresses in Postgres."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from services.cli.collection import File, Names, Raw, add_all, read, read_file, remove_all, show_all
from services.cli.given import Config, DbUri
from shared.delivery.pools import SourcePool
from shared.storage.catalogue import POOLS
from shared.trouble import BadSetting

group = typer.Typer(help="Pools of source addresses: list, add, remove.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="pools")


@group.command("list")
def list_pools(raw: Raw = False, db_uri: DbUri = None, config: Config = None) -> int:
    """All pools in Postgres. Those in a sender's pools-file are not among them."""
    return show_all(POOLS, ("name", "address", "name for EHLO"), _describe, raw=raw, db_uri=db_uri, config=config)


@group.command("add")
def add_pool(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A pool of this name is replaced.")] = None,
    ip: Annotated[
        list[str] | None, typer.Option("--ip", metavar="ADDRESS[=NAME]", help="May be repeated; NAME is said in EHLO.")
    ] = None,
    helo: Annotated[str | None, typer.Option("--helo", metavar="NAME", help="For EHLO from addresses without their own.")] = None,
    file: File = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Add a pool, or replace the one of the same name. The senders know it at once.

    \b
      mailwarren pools add bulk --ip 192.0.2.1 --ip 192.0.2.2 --helo bulk.example.com
      mailwarren pools add news --ip 192.0.2.3=news1.example.com --ip 192.0.2.4=news2.example.com
      mailwarren pools add --file pools.json
    """
    if file is not None:
        if name is not None or ip or helo is not None:
            raise BadSetting("either NAME with --ip and --helo, or --file, not both")
        pools = read_file(POOLS, file)
    else:
        if name is None:
            raise BadSetting("NAME is missing")
        pools = [read(POOLS, build_pool(name, ip or [], helo), "pool")]
    return add_all(POOLS, pools, db_uri=db_uri, config=config)


@group.command("remove")
def remove_pool(name: Names, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove pools: mail that names them then fails."""
    return remove_all(POOLS, name, db_uri=db_uri, config=config)


def build_pool(name: str, ips: Sequence[str], helo: str | None) -> dict[str, Any]:
    """The document of a pool from options. Raises BadSetting."""
    named: dict[str, str] = {}
    for item in ips:
        address, separator, own = item.partition("=")
        if not address or (separator and not own):
            raise BadSetting(f"--ip {item!r}: expected ADDRESS or ADDRESS=NAME")
        if address in named:
            raise BadSetting(f"--ip {item!r}: expected each address once")
        named[address] = own
    document: dict[str, Any] = {"name": name, "ips": named if any(named.values()) else list(named)}
    return document if helo is None else document | {"helo": helo}


def _describe(pool: SourcePool) -> list[list[str]]:
    return [[pool.name, source.address or "", source.helo or ""] for source in pool.sources]
