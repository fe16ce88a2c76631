"""The calls of a collection of named documents: list, add one or many, get, put, delete. Each collection describes itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response, StreamingResponse

from services.json_inbox.body import is_lines, read_body
from services.json_inbox.documents import read_document
from services.json_inbox.problems import Problem, render_json
from services.json_inbox.resource import Resource
from services.json_inbox.settings import ServiceSettings
from shared.storage.database import Database
from shared.storage.documents import PAGE, Entry, delete_document, fetch_document, fetch_page, store_documents
from shared.wire.document import WireError, parse_json

MOST_ERRORS = 100
"""Wrong entries of a list that the answer names."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The five calls of one resource."""

    resource: Resource
    settings: ServiceSettings
    database: Database

    async def list_all(self) -> Response:
        """Every document by name, a page at a time: a list may be longer than memory."""
        table = self.resource.collection.table
        async with self.database.connection() as connection:
            page = await fetch_page(connection, table)
        return StreamingResponse(self._render_list(page), media_type="application/json")

    async def post(self, request: Request) -> Response:
        """One document, or a list of them: all or none."""
        given = await _read_json(request, self.settings)
        if isinstance(given, list):
            entries = await self._read_list(given)
            async with self.database.connection() as connection:
                news = await store_documents(connection, self._table, [(entry.name, entry.document) for entry in entries])
            return render_json({"added": sum(news), "replaced": len(news) - sum(news)})
        return await self._store(given)

    async def get(self, name: str) -> Response:
        """One of them."""
        async with self.database.connection() as connection:
            found = await fetch_document(connection, self._table, self.resource.collection.find(name))
        if found is None:
            raise self._missing(name)
        return render_json(self.resource.collection.show(found))

    async def put(self, name: str, request: Request) -> Response:
        """Add or replace that of this name."""
        document = await read_document(request, self.settings)
        given = document.setdefault("name", name)
        find = self.resource.collection.find
        if not isinstance(given, str) or find(given) != find(name):
            raise Problem(422, f"name: {given!r:.80}: expected {name[:320]!r} as in the address", field="name")
        return await self._store(document)

    async def delete(self, name: str) -> Response:
        """Remove it."""
        async with self.database.connection() as connection:
            if not await delete_document(connection, self._table, self.resource.collection.find(name)):
                raise self._missing(name)
        return Response(status_code=204)

    @property
    def _table(self) -> str:
        return self.resource.collection.table

    async def _store(self, given: Any) -> Response:
        collection = self.resource.collection
        try:
            entry = collection.read(given)
        except ValueError as error:
            raise Problem(422, str(error), field=_field(error)) from None
        async with self.database.connection() as connection:
            [is_new] = await store_documents(connection, self._table, [(entry.name, entry.document)])
            stored = await fetch_document(connection, self._table, entry.name)
        location = {"Location": f"{self.resource.path}/{quote(entry.name, safe='')}"}
        return render_json(collection.show(stored or {"name": entry.name, **entry.document}), 201 if is_new else 200, location)

    async def _read_list(self, given: Sequence[Any]) -> list[Entry]:
        entries: list[Entry] = []
        errors: list[dict[str, Any]] = []
        for index, document in enumerate(given):
            if index % PAGE == PAGE - 1:
                # Requests that bring mail must not wait for a long list.
                await asyncio.sleep(0)
            try:
                entries.append(self.resource.collection.read(document))
            except ValueError as error:
                errors.append({"index": index, "field": _field(error), "reason": str(error)})
        if errors:
            many = self.resource.collection.many
            text = f"{len(errors)} of the {len(given)} {many} are wrong, so none was stored; the first: {errors[0]['reason']}"
            raise Problem(422, text, field=errors[0]["field"], more={"errors": errors[:MOST_ERRORS]})
        return entries

    async def _render_list(self, page: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        show, mark = self.resource.collection.show, b"["
        while page:
            yield mark + b",".join(orjson.dumps(show(row)) for row in page)
            mark = b","
            if len(page) < PAGE:
                break
            async with self.database.connection() as connection:
                page = await fetch_page(connection, self._table, after=page[-1]["name"])
        yield b"[]" if mark == b"[" else b"]"

    def _missing(self, name: str) -> Problem:
        return Problem(404, f"no {self.resource.collection.one} has the name {name[:320]!r}", field="name")


def _add(
    router: APIRouter, resource: Resource, verb: str, path: str, call: Callable[..., Awaitable[Response]], summary: str, text: str
) -> None:
    """One call, described."""
    answers = resource.describe_answers()[f"{verb} list" if path == resource.path else verb]
    router.add_api_route(
        path,
        call,
        methods=[verb],
        summary=summary,
        description=text,
        status_code=max(map(int, answers)),
        responses=answers,
        openapi_extra=resource.describe_body(is_list=verb == "POST") if verb in ("POST", "PUT") else None,
    )


def build_router(resource: Resource, settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls of ``resource``."""
    calls = Calls(resource, settings, database)
    one, many, path = resource.collection.one, resource.collection.many, resource.path
    named, a = f"{path}/{{name:path}}", "an" if one[0] in "aeiou" else "a"
    router = APIRouter(tags=[many])

    name_in_path: Any = Path(description=f"name of the {one}", openapi_examples={f"{a} {one}": {"value": resource.example_name}})
    add = partial(_add, router, resource)

    # Functions of their own, named after what they do: metrics and pages tell the calls apart by that.
    async def list_all() -> Response:
        return await calls.list_all()

    async def post(request: Request) -> Response:
        return await calls.post(request)

    async def get(name: str = name_in_path) -> Response:
        return await calls.get(name)

    async def put(request: Request, name: str = name_in_path) -> Response:
        return await calls.put(name, request)

    async def remove(name: str = name_in_path) -> Response:
        return await calls.delete(name)

    list_all.__name__ = f"list_{many.replace(' ', '_')}"
    for call in (post, get, put, remove):
        call.__name__ = f"{call.__name__}_{one.replace(' ', '_')}"
    replaced = f"Add {a} {one}, or replace the one of the same name (then 200)."
    add("GET", path, list_all, f"List {many}", f"All {many} that are managed here, by name. {resource.about}".rstrip())
    taken = f"{replaced} A list is all or nothing; then `added` and `replaced` say how many (200)."
    add("POST", path, post, f"Add or replace {many}", taken)
    add("GET", named, get, f"Show {a} {one}", f"One {one}.")
    same = f"Add or replace the {one} of this name; a name in the body must be the same."
    add("PUT", named, put, f"Put {a} {one}", same)
    add("DELETE", named, remove, f"Remove {a} {one}", f"Remove it{': ' + resource.on_delete if resource.on_delete else ''}.")
    return router


async def _read_json(request: Request, settings: ServiceSettings) -> Any:
    """An object or a list. Raises Problem."""
    if is_lines(request):
        raise Problem(415, "expected one object or a list: application/json", field="Content-Type")
    raw = await read_body(request, limit=settings.http_max_size, patience=settings.http_body_timeout)
    try:
        given = parse_json(raw)
    except WireError as error:
        raise Problem(400, str(error)) from None
    if not isinstance(given, dict | list):
        raise Problem(400, "expected an object or a list of objects")
    return given


def _field(error: ValueError) -> str:
    return str(error).partition(":")[0]
