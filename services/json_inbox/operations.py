"""``POST /v1/actions``, and the calls that this version does not have yet."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import examples
from services.json_inbox.actions import Actions, Redrive
from services.json_inbox.documents import read_document
from services.json_inbox.inbox import Inbox
from services.json_inbox.intake import InvalidItem
from services.json_inbox.problems import Problem, render_json

UNBUILT = ("/v1/suppressions", "/v1/pauses", "/v1/errors", "/v1/locals")


def build_router(inbox: Inbox, actions: Actions) -> APIRouter:
    """The calls."""
    router = APIRouter(tags=["actions"])

    @router.post("/v1/actions", openapi_extra=examples.ACTION)
    async def post_action(request: Request) -> Response:
        """Do at once what the queue `actions` does: `send` (202) or `redrive` (200: how many messages went back)."""
        document = await read_document(request, inbox.settings)
        remote_ip = request.client.host if request.client else "127.0.0.1"
        try:
            action = actions.parse(document, remote_ip)
        except InvalidItem as error:
            raise Problem(422, error.reason, field=error.field) from None
        if isinstance(action, Redrive):
            return render_json({"redriven": await actions.redrive(action), "dry-run": action.dry_run})
        [[accepted]] = await inbox.accept([action])
        message: dict[str, Any] = {
            "message-id": accepted.message_id,
            "recipient": accepted.recipient,
            "id": accepted.id,
        }
        return render_json({"messages": [message]}, 202)

    async def unbuilt(request: Request) -> Response:
        raise Problem(501, f"{request.url.path[:200]}: not built yet")

    for path in UNBUILT:
        router.add_api_route(path, unbuilt, methods=["GET", "POST", "DELETE"], include_in_schema=False)
    return router
