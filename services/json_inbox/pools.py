"""``/v1/pools``: the pools of source addresses that smtp-sender sends from."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import examples
from services.json_inbox.documents import read_document
from services.json_inbox.problems import Problem, render_json
from services.json_inbox.settings import ServiceSettings
from shared.delivery.pools import FIELDS, parse_pool
from shared.storage.database import Database
from shared.storage.documents import TIMES, delete_document, fetch_document, fetch_documents, store_documents

TABLE = "pools"


def build_router(settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls."""
    router = APIRouter(tags=["pools"])

    @router.get("/v1/pools")
    async def list_pools() -> Response:
        """All pools that are managed here, by name. Those in the sender's `pools-file` are not among them."""
        async with database.connection() as connection:
            return render_json([_render(pool) for pool in await fetch_documents(connection, TABLE)])

    @router.post("/v1/pools", status_code=201, openapi_extra=examples.POOL)
    async def post_pool(request: Request) -> Response:
        """Add a pool, or replace the one of the same name (then 200)."""
        return await _store(database, await read_document(request, settings))

    @router.get("/v1/pools/{name:path}")
    async def get_pool(name: str) -> Response:
        """One pool."""
        async with database.connection() as connection:
            pool = await fetch_document(connection, TABLE, name)
        if pool is None:
            raise _missing(name)
        return render_json(_render(pool))

    @router.put("/v1/pools/{name:path}", openapi_extra=examples.POOL)
    async def put_pool(name: str, request: Request) -> Response:
        """Add or replace the pool of this name; a name in the body must be the same."""
        document = await read_document(request, settings)
        if document.setdefault("name", name) != name:
            raise Problem(422, f"name: {str(document['name'])[:80]!r}: expected {name!r} as in the address", field="name")
        return await _store(database, document)

    @router.delete("/v1/pools/{name:path}", status_code=204)
    async def remove_pool(name: str) -> Response:
        """Remove a pool: mail that names it then fails, unless the sender's `pools-file` has one of that name."""
        async with database.connection() as connection:
            if not await delete_document(connection, TABLE, name):
                raise _missing(name)
        return Response(status_code=204)

    return router


async def _store(database: Database, document: Mapping[str, Any]) -> Response:
    try:
        pool = parse_pool(document)
    except ValueError as error:
        raise Problem(422, str(error), field=str(error).partition(":")[0]) from None
    if unknown := set(document) - {*FIELDS, *TIMES}:
        raise Problem(422, f"{min(unknown)}: unknown; expected {', '.join(FIELDS)}", field=min(unknown))
    async with database.connection() as connection:
        [is_new] = await store_documents(connection, TABLE, [(pool.name, pool.document)])
        stored = await fetch_document(connection, TABLE, pool.name)
    location = {"Location": f"/v1/pools/{quote(pool.name, safe='')}"}
    return render_json(_render(stored or {"name": pool.name, **pool.document}), 201 if is_new else 200, location)


def _render(pool: Mapping[str, Any]) -> dict[str, Any]:
    return {key: pool[key] for key in (*FIELDS, *TIMES) if key in pool}


def _missing(name: str) -> Problem:
    return Problem(404, f"no pool has the name {name[:80]!r}", field="name")
