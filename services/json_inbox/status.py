"""``GET /v1/messages/{id}``: where a mail is, with every attempt."""

from fastapi import APIRouter, Path
from starlette.responses import Response

from services.json_inbox import answers
from services.json_inbox.problems import Problem, render_json
from shared.storage.database import Database
from shared.storage.status import find_message


def build_router(database: Database) -> APIRouter:
    """The one call."""
    router = APIRouter(tags=["messages"])

    @router.get("/v1/messages/{ident:path}", summary="Where a mail is", responses=answers.STATUS)
    async def get_message(
        ident: str = Path(description="our id, or the Message-ID", openapi_examples=answers.STATUS_NAME),
    ) -> Response:
        """A mail under way or final, by our id or by its Message-ID: one object, or a list when several have it."""
        async with database.connection() as connection:
            found = await find_message(connection, ident)
        if not found:
            raise Problem(404, f"no mail has the id {ident[:200]!r}; one just accepted is recorded within a second", field="id")
        return render_json(found[0] if len(found) == 1 else found)

    return router
