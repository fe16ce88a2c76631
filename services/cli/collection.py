"""Commands of a collection of named documents in Postgres: list, add, remove. Each collection says what is its own."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.cli.given import load_given, read_text, wait_for
from services.cli.table import render_table
from shared.mail.duration import parse_duration
from shared.storage.database import Connection, Database, DatabaseSettings
from shared.storage.documents import Collection, Entry, delete_document, fetch_pages, store_documents
from shared.trouble import BadSetting
from shared.wire.document import WireError, parse_json
from shared.wire.times import render_time

PATIENCE = timedelta(minutes=10)
"""For a list of millions."""
MOST_SHOWN = 20
"""Entries of a file that are named one by one when they are stored."""

Raw = Annotated[bool, typer.Option("--raw", help="JSON, as 'add --file' takes it.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME…")]
File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="One document or a list of them as JSON, - = standard input.")
]


def show_all(
    collection: Collection,
    heads: Sequence[str],
    describe: Callable[[Any], Sequence[Sequence[str]]],
    *,
    raw: bool,
    db_uri: str | None,
    config: Path | None,
) -> int:
    """``list``: the lines that ``describe`` makes of each entry under ``heads``, or with ``raw`` the documents as JSON."""
    settings = load_given(DatabaseSettings, config, db_uri=db_uri)
    if raw:
        wait_for(_print_raw(settings, collection))
        return 0
    rows = wait_for(_fetch(settings, collection, describe))
    if not rows:
        print(f"no {collection.many}")
        return 0
    for line in render_table(heads, rows):
        print(line)
    return 0


def add_all(collection: Collection, entries: Sequence[Entry], *, db_uri: str | None, config: Path | None) -> int:
    """``add``: store them, all or none, and tell what became of each, or how many they were."""
    settings = load_given(DatabaseSettings, config, db_uri=db_uri)
    news = wait_for(_store(settings, collection, entries))
    if len(entries) <= MOST_SHOWN:
        for entry, is_new in zip(entries, news, strict=True):
            print(f"{'added' if is_new else 'replaced'} {collection.one} {entry.name!r}")
    else:
        print(f"added {sum(news)}, replaced {len(news) - sum(news)} {collection.many}")
    return 0


def remove_all(collection: Collection, names: Sequence[str], *, db_uri: str | None, config: Path | None) -> int:
    """``remove``: each that there is; the exit code is 1 when one was missing."""
    settings = load_given(DatabaseSettings, config, db_uri=db_uri)
    code = 0
    for name, was_there in zip(names, wait_for(_delete(settings, collection, names)), strict=True):
        if was_there:
            print(f"removed {collection.one} {collection.find(name)!r}")
        else:
            print(f"no {collection.one} {name!r}", file=sys.stderr)
            code = 1
    return code


def read(collection: Collection, document: Any, source: str) -> Entry:
    """A document, read strictly. Raises BadSetting that begins with ``source``."""
    try:
        return collection.read(document)
    except ValueError as error:
        raise BadSetting(f"{source}: {error}") from None


def read_file(
    collection: Collection,
    file: Path,
    *,
    common: Mapping[str, Any] | None = None,
    lines: Callable[[str], Iterator[tuple[int, Any]]] | None = None,
) -> list[Entry]:
    """A document, or a list of documents. ``common``: what those say that do not say it themselves. ``lines``: makes
    (number, document) of a file that is no JSON. Raises BadSetting.
    """
    text, source = read_text(file, f"a {collection.one} as JSON")
    if lines is not None and text.lstrip()[:1] not in ("{", "[", '"'):
        return [read(collection, _add(document, common), f"{source}: line {number}") for number, document in lines(text)]
    try:
        whole = parse_json(text.encode())
    except WireError as error:
        raise BadSetting(f"{source}: {str(error).removeprefix('body ')}") from None
    documents = whole if isinstance(whole, list) else [whole]
    return [
        read(collection, _add(item, common), f"{source}: {collection.one} {index}") for index, item in enumerate(documents, 1)
    ]


def expires_after(duration: str | None) -> str | None:
    """``--for``: the time after so long, as documents have it; None = never. Raises BadSetting."""
    if duration is None:
        return None
    try:
        return render_time(datetime.now(UTC) + parse_duration(duration))
    except (ValueError, OverflowError) as error:
        raise BadSetting(f"--for {duration!r}: {error}") from None


def _add(document: Any, common: Mapping[str, Any] | None) -> Any:
    if not common:
        return document
    if isinstance(document, str):
        document = {"name": document}
    return {**common, **document} if isinstance(document, dict) else document


@asynccontextmanager
async def _open(settings: DatabaseSettings, collection: Collection) -> AsyncIterator[Connection]:
    database = Database(settings, name=f"mailwarren {collection.many}")
    try:
        async with database.connection(within=PATIENCE) as connection:
            yield connection
    finally:
        await database.close()


async def _fetch(
    settings: DatabaseSettings, collection: Collection, describe: Callable[[Any], Sequence[Sequence[str]]]
) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    async with _open(settings, collection) as connection:
        async for page in fetch_pages(connection, collection.table):
            for row in page:
                rows += describe(_parse(collection, row))
    return rows


def _parse(collection: Collection, row: Mapping[str, Any]) -> Entry:
    try:
        return collection.parse(row)
    except ValueError as error:
        raise BadSetting(f"Postgres: {collection.one} {row['name']!r}: {error}") from None


async def _print_raw(settings: DatabaseSettings, collection: Collection) -> None:
    """A page at a time: all of them may be many."""
    mark = "["
    async with _open(settings, collection) as connection:
        async for page in fetch_pages(connection, collection.table):
            for row in page:
                shown = orjson.dumps(collection.show(row, with_times=False), option=orjson.OPT_INDENT_2).decode()
                print(f"{mark}\n  " + shown.replace("\n", "\n  "), end="")
                mark = ","
    print("[]" if mark == "[" else "\n]")


async def _store(settings: DatabaseSettings, collection: Collection, entries: Sequence[Entry]) -> list[bool]:
    async with _open(settings, collection) as connection:
        return await store_documents(connection, collection.table, [(entry.name, entry.document) for entry in entries])


async def _delete(settings: DatabaseSettings, collection: Collection, names: Sequence[str]) -> list[bool]:
    async with _open(settings, collection) as connection:
        return [await delete_document(connection, collection.table, collection.find(name)) for name in names]
