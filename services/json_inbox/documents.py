"""Small JSON bodies: rules, actions. Strictly parsed, as everything that comes in."""

from typing import Any

from fastapi import Request

from services.json_inbox.body import is_lines, read_body
from services.json_inbox.problems import Problem
from services.json_inbox.settings import ServiceSettings
from shared.wire.document import WireError, parse_document


async def read_document(request: Request, settings: ServiceSettings) -> dict[str, Any]:
    """The one JSON object in the body. Raises Problem."""
    return parse_body(await read_raw(request, settings))


async def read_raw(request: Request, settings: ServiceSettings) -> bytes:
    """The body of a call that takes one object. Raises Problem."""
    if is_lines(request):
        raise Problem(415, "expected one object: application/json", field="Content-Type")
    return await read_body(request, limit=settings.http_max_size, patience=settings.http_body_timeout)


def parse_body(raw: bytes) -> dict[str, Any]:
    """The one JSON object in ``raw``. Raises Problem."""
    try:
        return parse_document(raw)
    except WireError as error:
        raise Problem(400, str(error)) from None
