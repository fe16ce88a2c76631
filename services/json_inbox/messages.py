"""``POST /v1/messages`` and ``POST /v1/inject``: mail in. The hot path: the body is read raw, and nothing is modelled."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import examples
from services.json_inbox.body import is_lines, read_body
from services.json_inbox.inbox import Inbox
from services.json_inbox.intake import Door, InvalidItem, Rejected, count_recipients, parse_items, parse_submission
from services.json_inbox.problems import Problem, render_json
from shared.acceptance import Accepted, Submission
from shared.wire.document import WireError

PATIENT_ITEMS = 20
"""Messages after which others get a turn: a structured mail costs a millisecond of computing."""
TRUE, FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no", ""})


def build_router(inbox: Inbox) -> APIRouter:
    """The two calls."""
    router = APIRouter(tags=["messages"])

    @router.post("/v1/messages", status_code=202, openapi_extra=examples.SEND, responses=examples.ANSWERS)
    async def post_messages(request: Request) -> Response:
        """Send mail: one message, a list, or NDJSON; answered when RabbitMQ has confirmed every one.

        A list is all or nothing, unless `?partial=true`: then what is right is accepted, and `errors` names the rest.
        """
        return await take(request, inbox)

    @router.post("/v1/inject", status_code=202, openapi_extra=examples.SEND, responses=examples.ANSWERS)
    async def inject(request: Request) -> Response:
        """The same as `POST /v1/messages`, under MailerQ's name."""
        return await take(request, inbox)

    return router


async def take(request: Request, inbox: Inbox) -> Response:
    """One request with mail. Raises Problem."""
    if "idempotency-key" in request.headers:
        raise Problem(501, "this version cannot honour it yet; leave it out, and nothing guards against a repeated request",
                      field="Idempotency-Key")  # fmt: skip
    if "authorization" in request.headers:
        raise Problem(
            501, "tokens are not built yet; leave it out: whoever can connect (loopback only) may send", field="Authorization"
        )
    by_line = is_lines(request)
    partial = _parse_partial(request)
    settings = inbox.settings
    raw = await read_body(request, limit=settings.http_max_size, patience=settings.http_body_timeout)
    try:
        items, is_list = parse_items(raw, by_line=by_line)
    except WireError as error:
        raise Problem(400, str(error)) from None
    del raw
    submissions, rejected = await _parse_all(items, inbox.open_door(_remote_ip(request)), most=settings.http_max_messages)
    del items
    if rejected and not (partial and submissions):
        raise _refuse(rejected, is_list=is_list)
    accepted = await inbox.accept(submissions)
    return render_json(_render(accepted, rejected), 202)


async def _parse_all(items: list[Any], door: Door, *, most: int) -> tuple[list[Submission], list[Rejected]]:
    """The mails, and what is wrong with the others. Empties ``items``, so that a large body is not kept twice."""
    if not items:
        raise Problem(422, "expected at least one message")
    if len(items) > most:
        raise _too_many(most)
    submissions: list[Submission] = []
    rejected: list[Rejected] = []
    for index in range(len(items)):
        item, items[index] = items[index], None
        try:
            submissions.append(parse_submission(item, door))
        except InvalidItem as error:
            rejected.append(Rejected(index, error.field, error.reason))
        if index % PATIENT_ITEMS == PATIENT_ITEMS - 1:
            await asyncio.sleep(0)
    if count_recipients(submissions) > most:
        raise _too_many(most)
    return submissions, rejected


def _refuse(rejected: Sequence[Rejected], *, is_list: bool) -> Problem:
    first = rejected[0]
    if not is_list:
        return Problem(422, first.reason, field=first.field)
    errors = [item.to_document() for item in rejected]
    detail = f"{len(errors)} of the messages cannot be accepted, so none was; ?partial=true accepts the others"
    return Problem(422, detail, field=first.field, more={"errors": errors})


def _render(accepted: Sequence[Sequence[Accepted]], rejected: Sequence[Rejected]) -> dict[str, Any]:
    messages = [{"message-id": one.message_id, "recipient": one.recipient, "id": one.id} for group in accepted for one in group]
    answer: dict[str, Any] = {"messages": messages}
    if rejected:
        answer["errors"] = [item.to_document() for item in rejected]
    return answer


def _parse_partial(request: Request) -> bool:
    value = request.query_params.get("partial", "").lower()
    if value not in TRUE | FALSE:
        raise Problem(400, f"partial: {value[:80]!r}: expected true or false", field="partial")
    return value in TRUE


def _too_many(most: int) -> Problem:
    return Problem(422, f"more messages than http-max-messages, {most}: send them in several requests")


def _remote_ip(request: Request) -> str:
    return request.client.host if request.client else "127.0.0.1"
