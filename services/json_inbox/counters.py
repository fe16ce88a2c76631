"""``GET /v1/counters``: how many mails became final."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import looking
from services.json_inbox.problems import Problem, render_json, unavailable
from services.json_inbox.search import read_parameters
from shared.storage.asked import BadParameter
from shared.storage.counters import CountersMissing, count_final, parse_question
from shared.storage.database import Database


def build_router(database: Database) -> APIRouter:
    """The one call."""
    router = APIRouter(tags=["messages"])

    @router.get("/v1/counters", summary="Count mails", responses=looking.COUNTED, openapi_extra=looking.COUNT)
    async def get_counters(request: Request) -> Response:
        """How many mails became final between two times, by destination, class, status and hour. The largest count stands first; by
        hour, the newest hour. `total` counts those beyond `limit` as well."""
        try:
            question = parse_question(read_parameters(request), datetime.now(UTC))
        except BadParameter as error:
            raise Problem(422, str(error), field=error.field) from None
        try:
            async with database.connection() as connection:
                answer = await count_final(connection, question)
        except CountersMissing:
            raise unavailable("the database has no counters yet: run `mailwarren migrate`") from None
        return render_json(answer)

    return router
