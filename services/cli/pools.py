"""``mailwarren pools``: the pools of source addresses in Postgres."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.cli.given import Config, DbUri, load_given, read_text, wait_for
from services.cli.table import render_table
from shared.delivery.pools import FIELDS, SourcePool, parse_pool
from shared.storage.database import Connection, Database, DatabaseSettings
from shared.storage.documents import TIMES, delete_document, fetch_documents, store_documents
from shared.trouble import BadSetting
from shared.wire.document import parse_document

group = typer.Typer(help="Pools of source addresses: list, add, remove.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="pools")


@group.command("list")
def list_pools(
    raw: Annotated[bool, typer.Option("--raw", help="JSON, as 'pools add --file' takes it.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """All pools in Postgres. Those in a sender's pools-file are not among them."""
    found = wait_for(_fetch(load_given(DatabaseSettings, config, db_uri=db_uri)))
    if raw:
        documents = [{name: row[name] for name in FIELDS if name in row} for row in found]
        print(orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode())
        return 0
    if not found:
        print("no pools")
        return 0
    pools = [_parse(row, "Postgres") for row in found]
    rows = [[pool.name, source.address or "", source.helo or ""] for pool in pools for source in pool.sources]
    for line in render_table(("name", "address", "name for EHLO"), rows):
        print(line)
    return 0


@group.command("add")
def add_pool(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A pool of this name is replaced.")] = None,
    ip: Annotated[
        list[str] | None, typer.Option("--ip", metavar="ADDRESS[=NAME]", help="May be repeated; NAME is said in EHLO.")
    ] = None,
    helo: Annotated[str | None, typer.Option("--helo", metavar="NAME", help="For EHLO from addresses without their own.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A pool or a list of pools as JSON, - = standard input.")
    ] = None,
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
        pools = _parse_file(*read_text(file, "a pool as JSON"))
    else:
        if name is None:
            raise BadSetting("NAME is missing")
        pools = [_parse(build_pool(name, ip or [], helo), "pool")]
    settings = load_given(DatabaseSettings, config, db_uri=db_uri)
    for pool, is_new in zip(pools, wait_for(_store(settings, pools)), strict=True):
        print(f"{'added' if is_new else 'replaced'} pool {pool.name!r}")
    return 0


@group.command("remove")
def remove_pool(name: Annotated[str, typer.Argument(metavar="NAME")], db_uri: DbUri = None, config: Config = None) -> int:
    """Remove a pool: mail that names it then fails."""
    if not wait_for(_delete(load_given(DatabaseSettings, config, db_uri=db_uri), name)):
        print(f"no pool {name!r}", file=sys.stderr)
        return 1
    print(f"removed pool {name!r}")
    return 0


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


def _parse_file(text: str, source: str) -> list[SourcePool]:
    """A pool, or a list of pools."""
    whole = parse_document(f'{{"pools": {text}}}'.encode()).get("pools")
    documents = whole if isinstance(whole, list) else [whole]
    return [_parse(item, f"{source}: pool {index}") for index, item in enumerate(documents, 1)]


def _parse(document: Any, source: str) -> SourcePool:
    try:
        pool = parse_pool(document)
    except ValueError as error:
        raise BadSetting(f"{source}: {error}") from None
    if unknown := set(document) - {*FIELDS, *TIMES}:
        raise BadSetting(f"{source}: {min(unknown)}: unknown; expected {', '.join(FIELDS)}")
    return pool


@asynccontextmanager
async def _open(settings: DatabaseSettings) -> AsyncIterator[Connection]:
    database = Database(settings, name="mailwarren pools")
    try:
        async with database.connection() as connection:
            yield connection
    finally:
        await database.close()


async def _fetch(settings: DatabaseSettings) -> list[dict[str, Any]]:
    async with _open(settings) as connection:
        return await fetch_documents(connection, "pools")


async def _store(settings: DatabaseSettings, pools: Sequence[SourcePool]) -> list[bool]:
    """All or none."""
    async with _open(settings) as connection:
        return await store_documents(connection, "pools", [(pool.name, pool.document) for pool in pools])


async def _delete(settings: DatabaseSettings, name: str) -> bool:
    async with _open(settings) as connection:
        return await delete_document(connection, "pools", name)
