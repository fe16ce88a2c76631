"""``/v1/config``: the router's rules, and which of them would take a mail."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.json_inbox import examples
from services.json_inbox.access import find_caller
from services.json_inbox.answers import TIMES
from services.json_inbox.documents import read_document
from services.json_inbox.inbox import Inbox
from services.json_inbox.intake import WRITTEN_HERE, InvalidItem, check_properties, parse_content, parse_recipients, submit
from services.json_inbox.problems import Problem, render_json
from services.json_inbox.rule_examples import NAME, NAMED_RULE, RULE, RULE_KEPT, RULE_SHOWN, RULES_LISTED, TESTED
from shared.acceptance import prepare
from shared.delivery.rewrites import apply_rewrite, find_changes, mask
from shared.delivery.rule_params import CHANNELS
from shared.delivery.rules import Rule, explain_route, parse_rule
from shared.storage.database import Database
from shared.storage.rules_table import delete_rule, fetch_rule, fetch_rules, store_rule
from shared.wire.document import parse_document
from shared.wire.message import PAYLOAD, Message


def build_router(inbox: Inbox, database: Database) -> APIRouter:
    """The six calls."""
    router = APIRouter(tags=["rules"])
    _add_test(router, inbox, database)

    @router.get("/v1/config", summary="List rules", responses=RULES_LISTED)
    async def list_rules(request: Request) -> Response:
        """All rules, in the order in which they are tried. Passwords are shown to the scope `rules` only."""
        async with database.connection() as connection:
            return render_json([_render(rule, request) for rule in await fetch_rules(connection)])

    @router.post("/v1/config", summary="Add or replace a rule", status_code=201, openapi_extra=RULE, responses=RULE_KEPT)
    async def post_rule(request: Request) -> Response:
        """Add a rule, or replace the one of the same name (then 200)."""
        return await _store(database, await read_document(request, inbox.settings))

    @router.get("/v1/config/{name:path}", summary="Show a rule", responses=RULE_SHOWN)
    async def get_rule(request: Request, name: str = NAME) -> Response:
        """One rule. A password is shown to the scope `rules` only."""
        async with database.connection() as connection:
            rule = await fetch_rule(connection, name)
        if rule is None:
            raise _missing(name)
        return render_json(_render(rule, request))

    @router.put("/v1/config/{name:path}", summary="Put a rule", openapi_extra=NAMED_RULE, responses=RULE_KEPT)
    async def put_rule(request: Request, name: str = NAME) -> Response:
        """Add or replace the rule of this name; a name in the body must be the same."""
        document = await read_document(request, inbox.settings)
        if document.setdefault("name", name) != name:
            raise Problem(422, f"name: {str(document['name'])[:80]!r}: expected {name!r} as in the address", field="name")
        return await _store(database, document)

    @router.delete("/v1/config/{name:path}", summary="Remove a rule", status_code=204)
    async def remove_rule(name: str = NAME) -> Response:
        """Remove a rule."""
        async with database.connection() as connection:
            if not await delete_rule(connection, name):
                raise _missing(name)
        return Response(status_code=204)

    return router


def _add_test(router: APIRouter, inbox: Inbox, database: Database) -> None:
    @router.post("/v1/config/test", summary="Ask the rules", openapi_extra=examples.TEST, responses=TESTED)
    async def test_rules(request: Request) -> Response:
        """Which rule would take this message, why each other would not, and what would be rewritten. Nothing is sent.

        The body is a message; its content may be left out. ``channel`` says how it comes in: smtp, json (default), amqp, actions.
        """
        document = await read_document(request, inbox.settings)
        message = _parse_sample(document, inbox)
        async with database.connection() as connection:
            rules = [_parse_stored(row) for row in await fetch_rules(connection)]
        route, passed = explain_route(message, rules, default=inbox.settings.router_default)
        tried = [{"name": name, "outcome": outcome} for name, outcome in passed]
        rewritten = message if route.rule is None else apply_rewrite(message, route.rule.rewrite)
        return render_json(
            {
                "outbound": route.outbound,
                "reason": route.reason,
                "rule": None if route.rule is None else route.rule.name,
                "rewrite": find_changes(message, rewritten),
                "rules": tried,
            }
        )


async def _store(database: Database, document: Mapping[str, Any]) -> Response:
    try:
        # What GET has shown may come back as it is.
        rule = parse_rule({name: value for name, value in document.items() if name not in TIMES})
    except ValueError as error:
        raise Problem(422, str(error), field=str(error).partition(":")[0]) from None
    row = {"name": rule.name, "priority": rule.priority, "configuration": document["configuration"]}
    async with database.connection() as connection:
        is_new = await store_rule(connection, row)
        stored = await fetch_rule(connection, rule.name)
    location = {"Location": f"/v1/config/{quote(rule.name, safe='')}"}
    return render_json(stored or row, 201 if is_new else 200, location)


def _parse_stored(row: Mapping[str, Any]) -> Rule:
    try:
        return parse_rule(row)
    except ValueError as error:
        # Written by hand, or by a later version: the router goes on with the rules that it had before.
        raise Problem(409, f"the rule {str(row['name'])[:80]!r} in Postgres cannot be read: {error}", field="name") from None


def _render(rule: Mapping[str, Any], request: Request) -> Mapping[str, Any]:
    """The rule as this caller may see it."""
    configuration = rule["configuration"]
    rewrite = configuration.get("rewrite")
    if not rewrite or "rules" in find_caller(request.scope).scopes:
        return rule
    return {**rule, "configuration": {**configuration, "rewrite": {name: mask(name, value) for name, value in rewrite.items()}}}


def _parse_sample(document: Mapping[str, Any], inbox: Inbox) -> Message:
    """The message as the router would see it."""
    channel = document.get("channel", "json")
    if channel not in CHANNELS:
        raise Problem(422, f"channel: {str(channel)[:80]!r}: expected one of {', '.join(CHANNELS)}", field="channel")
    door = inbox.open_door("127.0.0.1", channel=channel)
    properties = {
        name: value
        for name, value in document.items()
        if name not in WRITTEN_HERE and name not in (*PAYLOAD, "recipient", "recipients", "strategy")
    }
    try:
        recipients = parse_recipients(document)[:1]
        reverse_path = check_properties(properties, recipients[0], inbox.reserved)
        has_content = any(name in document for name in PAYLOAD)
        content = parse_content(document, door) if has_content else b""
    except InvalidItem as error:
        raise Problem(422, error.reason, field=error.field) from None
    if "strategy" in document:
        properties["strategy"] = document["strategy"]
    submission = submit(content, reverse_path, recipients, properties, door)
    settings = inbox.settings
    [ready] = prepare(submission, datetime.now(UTC), len(submission.content), settings.rabbitmq_inbox).mails
    return Message(parse_document(ready.mail))


def _missing(name: str) -> Problem:
    return Problem(404, f"no rule has the name {name[:80]!r}", field="name")
