"""``POST /v1/actions``."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import answers, examples
from services.json_inbox.access import Caller, find_caller
from services.json_inbox.actions import CHANNEL, Actions, Redrive
from services.json_inbox.documents import parse_body, read_raw
from services.json_inbox.idempotency import HEADER, Idempotency, digest_request, find_key
from services.json_inbox.inbox import Inbox
from services.json_inbox.intake import Door, InvalidItem, digest_body
from services.json_inbox.problems import Problem, render_json
from shared.acceptance import Accepted, Submission
from shared.storage.idempotency import Claim


def build_router(inbox: Inbox, actions: Actions, idempotency: Idempotency) -> APIRouter:
    """The calls."""
    router = APIRouter(tags=["actions"])

    @router.post("/v1/actions", summary="Do an action now", openapi_extra=examples.ACTION, responses=answers.ACTED)
    async def post_action(request: Request) -> Response:
        """Do at once what the queue `actions` does: `send` (202) or `redrive` (200: how many messages went back; scope `rules`)."""
        caller = find_caller(request.scope)
        key = find_key(request)
        raw = await read_raw(request, inbox.settings)
        claim: Claim | None = None
        if key is not None:
            found = await idempotency.claim(key, digest_request(request, raw), caller)
            if isinstance(found, Response):
                return found
            claim = found
        async with idempotency.checking(claim):
            door = inbox.open_door(caller.remote_ip, channel=CHANNEL, caller=caller, claim=claim, digest=digest_body(raw))
            action = _parse(raw, actions, door)
            _check(action, caller, key)
        if isinstance(action, Redrive):
            return render_json({"redriven": await actions.redrive(action), "dry-run": action.dry_run})
        if claim is not None:
            return await idempotency.accept(claim, [action], _render)
        return render_json(_render(await inbox.accept([action])), 202)

    return router


def _parse(raw: bytes, actions: Actions, door: Door) -> Submission | Redrive:
    try:
        return actions.parse(parse_body(raw), door)
    except InvalidItem as error:
        raise Problem(error.status, error.reason, field=error.field) from None


def _check(action: Submission | Redrive, caller: Caller, key: str | None) -> None:
    if not isinstance(action, Redrive):
        return
    if "rules" not in caller.scopes:
        raise Problem(403, "action: redrive: the token needs the scope 'rules' for it", field="action")
    if key is not None:
        raise Problem(400, "redrive sends nothing twice and takes no key", field=HEADER)


def _render(accepted: Sequence[Sequence[Accepted]]) -> dict[str, Any]:
    [[one]] = accepted
    return {"messages": [{"message-id": one.message_id, "recipient": one.recipient, "id": one.id}]}
