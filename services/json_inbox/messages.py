"""``POST /v1/messages`` and ``POST /v1/inject``: mail in. The hot path: the body is read raw, and nothing is modelled."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import answers, examples
from services.json_inbox.access import find_caller
from services.json_inbox.body import find_size, is_lines, read_body
from services.json_inbox.idempotency import HEADER, Idempotency, digest_request, find_key
from services.json_inbox.inbox import Inbox
from services.json_inbox.intake import Door, InvalidItem, Rejected, count_recipients, digest_body, parse_items, parse_submission
from services.json_inbox.problems import Problem, render_json
from services.json_inbox.stream import take_stream
from shared.acceptance import Accepted, Submission
from shared.storage.idempotency import Claim
from shared.wire.document import WireError

PATIENT_ITEMS = 20
"""Messages after which others get a turn: a structured mail costs a millisecond of computing."""
TRUE, FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no", ""})


def build_router(inbox: Inbox, idempotency: Idempotency) -> APIRouter:
    """The two calls."""
    router = APIRouter(tags=["messages"])

    @router.post("/v1/messages", summary="Send mail", status_code=202, openapi_extra=examples.SEND, responses=answers.SENT)
    async def post_messages(request: Request) -> Response:
        """Send mail: one message, a list, or NDJSON; answered when RabbitMQ has confirmed every one.

        A list is all or nothing, unless `?partial=true`: then what is right is accepted, and `errors` names the rest.
        NDJSON with `?partial=true` is a stream: however long, it is read and accepted in batches, and answered in NDJSON, a line for
        each message and a last one that says whether the stream was taken to its end (`complete`).
        """
        return await take(request, inbox, idempotency)

    @router.post(
        "/v1/inject",
        summary="Send mail, by MailerQ's name",
        status_code=202,
        openapi_extra=examples.SEND,
        responses=answers.SENT,
    )
    async def inject(request: Request) -> Response:
        """The same as `POST /v1/messages`, under MailerQ's name."""
        return await take(request, inbox, idempotency)

    return router


async def take(request: Request, inbox: Inbox, idempotency: Idempotency) -> Response:
    """One request with mail. Raises Problem."""
    by_line = is_lines(request)
    partial_list = _parse_partial(request)
    key = find_key(request)
    if by_line and partial_list:
        if key is not None:
            raise Problem(400, "a stream (NDJSON with ?partial=true) is not done as a whole and takes no key", field=HEADER)
        return await take_stream(request, inbox)
    settings = inbox.settings
    async with inbox.room.hold(find_size(request, settings.http_max_size)):
        raw = await read_body(request, limit=settings.http_max_size, patience=settings.http_body_timeout)
        caller = find_caller(request.scope)
        claim: Claim | None = None
        if key is not None:
            found = await idempotency.claim(key, digest_request(request, raw), caller)
            if isinstance(found, Response):
                return found
            claim = found
        async with idempotency.checking(claim):
            items, is_list = _parse_items(raw, by_line=by_line)
            digest = digest_body(raw)
            # A large body is not kept twice.
            del raw
            door = inbox.open_door(caller.remote_ip, caller=caller, claim=claim, digest=digest)
            submissions, rejected = await _parse_all(items, door, most=settings.http_max_messages)
            if rejected and not (partial_list and submissions):
                raise _refuse(rejected, is_list=is_list)
        if claim is not None:
            return await idempotency.accept(claim, submissions, partial(_render, rejected))
        return render_json(_render(rejected, await inbox.accept(submissions)), 202)


def _parse_items(raw: bytes, *, by_line: bool) -> tuple[list[Any], bool]:
    try:
        return parse_items(raw, by_line=by_line)
    except WireError as error:
        raise Problem(400, str(error)) from None


async def _parse_all(items: list[Any], door: Door, *, most: int) -> tuple[list[Submission], list[Rejected]]:
    """The mails, and what is wrong with the others. Empties ``items``, so that a large body is not kept twice. Raises Problem."""
    if not items:
        raise Problem(422, "expected at least one message")
    if len(items) > most:
        raise _too_many(most)
    submissions: list[Submission] = []
    rejected: list[Rejected] = []
    for index in range(len(items)):
        item, items[index] = items[index], None
        try:
            submissions.append(parse_submission(item, door, index))
        except InvalidItem as error:
            rejected.append(Rejected(index, error.field, error.reason, error.status))
        if index % PATIENT_ITEMS == PATIENT_ITEMS - 1:
            await asyncio.sleep(0)
    if count_recipients(submissions) > most:
        raise _too_many(most)
    return submissions, rejected


def _refuse(rejected: Sequence[Rejected], *, is_list: bool) -> Problem:
    first = rejected[0]
    if not is_list:
        return Problem(first.status, first.reason, field=first.field)
    errors = [item.to_document() for item in rejected]
    detail = f"{len(errors)} of the messages cannot be accepted, so none was; ?partial=true accepts the others"
    statuses = {item.status for item in rejected}
    return Problem(statuses.pop() if len(statuses) == 1 else 422, detail, field=first.field, more={"errors": errors})


def _render(rejected: Sequence[Rejected], accepted: Sequence[Sequence[Accepted]]) -> dict[str, Any]:
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
    text = f"more messages than http-max-messages, {most}: send them in several requests, or as NDJSON with ?partial=true"
    return Problem(422, text)
