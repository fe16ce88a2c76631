"""``/v1/webhooks``: endpoints that the process webhook posts events to. A secret is shown once, when it is made."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from services.json_inbox.answers import TIMES, Answers, answer, kept_answers
from services.json_inbox.documents import read_document
from services.json_inbox.problems import Problem, render_json
from services.json_inbox.settings import ServiceSettings
from shared.delivery.webhooks import EVENTS, USUAL_EVENTS
from shared.storage.database import Database
from shared.storage.documents import delete_document, fetch_document, fetch_documents
from shared.storage.webhooks import TABLE, WEBHOOKS, Stored, store_endpoint

PATH = "/v1/webhooks"
_TEXT: dict[str, Any] = {"type": "string"}
_ASKED: dict[str, Any] = {
    "name": _TEXT | {"description": "1 to 100 ASCII letters, digits and ._-", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
    "url": _TEXT | {"description": "https://…, where events are posted; http:// only where webhook-allow-http says so"},
    "events": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": list(EVENTS)},
        "description": f"absent = {', '.join(USUAL_EVENTS)}",
    },
    "tags": {"type": "array", "maxItems": 100, "items": _TEXT, "description": "only mail with one of them; absent = all mail"},
    "enabled": {"type": "boolean", "description": "true starts it afresh; absent = as it is, and a new one is enabled"},
}
_SECRET: dict[str, Any] = {
    "secret": _TEXT | {"description": "`whsec_` and 24 to 64 octets in base64; absent = the one that is there, or a new one"}
}
_TIME: dict[str, Any] = _TEXT | {"description": "YYYY-MM-DD HH:MM:SS, UTC"}
_STATE: dict[str, Any] = {
    "disabled_at": _TIME,
    "failing_since": _TIME | {"description": "nothing was taken since then; YYYY-MM-DD HH:MM:SS, UTC"},
    "reason": _TEXT | {"description": "why it is disabled, or what its failures say"},
}
_BODY: dict[str, Any] = {"type": "object", "required": ["name", "url"], "properties": {**_ASKED, **_SECRET, **_STATE, **TIMES}}
_SHOWN: dict[str, Any] = {
    "type": "object",
    "required": ["name", "url", "events", "enabled", *TIMES],
    "properties": {**_ASKED, **_STATE, **TIMES},
    "additionalProperties": False,
}
_MADE: dict[str, Any] = _SHOWN | {"properties": {**_SHOWN["properties"], "secret": _TEXT | {"description": "shown only now"}}}
_EXAMPLE: dict[str, Any] = {"name": "shop", "url": "https://shop.example/mail-events", "events": ["delivered", "failed"]}
_EXAMPLES: dict[str, Any] = {
    "what became of mail": {"value": _EXAMPLE},
    "everything about invoices": {
        "value": {"name": "books", "url": "https://books.example/hook?k=1", "events": list(EVENTS), "tags": ["invoices"]}
    },
}
_SHOWN_EXAMPLE: dict[str, Any] = {**_EXAMPLE, "enabled": True, **dict.fromkeys(TIMES, 1_795_406_400)}
_MADE_EXAMPLE: dict[str, Any] = {**_SHOWN_EXAMPLE, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwTf1Qw1Jf1bY="}
_KEPT: Answers = kept_answers("webhook", _MADE, _MADE_EXAMPLE)


def build_router(settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls."""
    router = APIRouter(tags=["webhooks"])
    name_in_path: Any = Path(description="name of the webhook", openapi_examples={"a webhook": {"value": "shop"}})

    shown: Answers = {200: answer("webhooks", {"type": "array", "items": _SHOWN}, [_SHOWN_EXAMPLE])}

    @router.get(PATH, summary="List webhooks", responses=shown)
    async def list_webhooks() -> Response:
        """All webhooks, by name, without their secrets."""
        async with database.connection() as connection:
            rows = await fetch_documents(connection, TABLE)
        return render_json([WEBHOOKS.show(row) for row in rows])

    posted = _describe(_BODY, _EXAMPLES)

    @router.post(PATH, summary="Add or replace a webhook", status_code=201, openapi_extra=posted, responses=_KEPT)
    async def post_webhook(request: Request) -> Response:
        """Add a webhook, or replace the one of the same name (then 200), which keeps its secret unless another is given.

        The secret that requests are signed with is in the answer when it is new, and never again.
        """
        return await _store(database, await read_document(request, settings))

    one: Answers = {200: answer("the webhook", _SHOWN, _SHOWN_EXAMPLE)}

    @router.get(f"{PATH}/{{name}}", summary="Show a webhook", responses=one)
    async def get_webhook(name: str = name_in_path) -> Response:
        """One webhook, without its secret; `reason` and `failing_since` tell how it is."""
        async with database.connection() as connection:
            row = await fetch_document(connection, TABLE, name)
        if row is None:
            raise _missing(name)
        return render_json(WEBHOOKS.show(row))

    removed: Answers = {204: {"description": "removed"}}

    @router.delete(f"{PATH}/{{name}}", summary="Remove a webhook", status_code=204, responses=removed)
    async def remove_webhook(name: str = name_in_path) -> Response:
        """Remove it: events that wait for it are dropped."""
        async with database.connection() as connection:
            if not await delete_document(connection, TABLE, name):
                raise _missing(name)
        return Response(status_code=204)

    _add_put(router, settings, database, name_in_path)
    return router


def _add_put(router: APIRouter, settings: ServiceSettings, database: Database, name_in_path: Any) -> None:
    named = {title: {"value": {k: v for k, v in one["value"].items() if k != "name"}} for title, one in _EXAMPLES.items()}
    put = _describe(_BODY | {"required": ["url"]}, named)

    @router.put(f"{PATH}/{{name}}", summary="Put a webhook", status_code=201, openapi_extra=put, responses=_KEPT)
    async def put_webhook(request: Request, name: str = name_in_path) -> Response:
        """Add or replace the webhook of this name; a name in the body must be the same. `"enabled": true` starts it afresh."""
        document = await read_document(request, settings)
        if document.setdefault("name", name) != name:
            raise Problem(422, f"name: {str(document['name'])[:80]!r}: expected {name[:100]!r} as in the address", field="name")
        return await _store(database, document)


async def _store(database: Database, given: Mapping[str, Any]) -> Response:
    try:
        endpoint = WEBHOOKS.read(given)
    except ValueError as error:
        raise Problem(422, str(error), field=str(error).partition(":")[0]) from None
    async with database.connection() as connection:
        stored = await store_endpoint(connection, endpoint, datetime.now(UTC))
    location = {"Location": f"{PATH}/{quote(endpoint.name, safe='')}"}
    return render_json(_render(stored), 201 if stored.is_new else 200, location)


def _render(stored: Stored) -> dict[str, Any]:
    return WEBHOOKS.show(stored.row) | ({} if stored.secret is None else {"secret": stored.secret})


def _missing(name: str) -> Problem:
    return Problem(404, f"no webhook has the name {name[:100]!r}", field="name")


def _describe(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    body = {**schema, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body, "examples": dict(examples)}}}}
