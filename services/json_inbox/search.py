"""``GET /v1/messages``: pages of mails that were asked for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import looking
from services.json_inbox.problems import Problem, render_json
from shared.storage.asked import BadParameter
from shared.storage.database import Database
from shared.storage.search import find_page, parse_search


def build_router(database: Database) -> APIRouter:
    """The one call."""
    router = APIRouter(tags=["messages"])

    @router.get("/v1/messages", summary="Find mails", responses=looking.FOUND, openapi_extra=looking.SEARCH)
    async def get_messages(request: Request) -> Response:
        """Mails final or under way that meet every condition, the one with the newest event first. `next` is the `cursor` of the
        next page, null when there is none. A page may have fewer mails than `limit`, or none, and still a `next`: it looks at a
        bounded number of records."""
        given = read_parameters(request)
        try:
            search = parse_search(given, datetime.now(UTC))
        except BadParameter as error:
            raise Problem(422, str(error), field=error.field) from None
        async with database.connection() as connection:
            page = await find_page(connection, search)
        headers = {}
        if page.next is not None:
            headers["Link"] = f'</v1/messages?{urlencode({**given, "cursor": page.next})}>; rel="next"'
        return render_json({"messages": page.messages, "next": page.next}, headers=headers)

    return router


def read_parameters(request: Request) -> Mapping[str, str]:
    """The parameters of the address, each once. Raises Problem."""
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise Problem(422, f"{name[:80]}: stands twice, expected it once", field=name[:80])
        given[name] = value
    return given
