"""``/v1/suppressions``: recipients that get no mail."""

from typing import Any

from fastapi import APIRouter

from services.json_inbox import collection
from services.json_inbox.resource import Resource
from services.json_inbox.settings import ServiceSettings
from shared.storage.catalogue import SUPPRESSIONS
from shared.storage.database import Database

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {
            "type": "string",
            "description": "an address, a domain (every address at it), or *. and a domain (every address at a domain below it)",
        },
        "reason": {"type": "string", "description": "stands in the result of mail that was not sent"},
        "expires": {"type": "string", "description": "YYYY-MM-DD HH:MM:SS, UTC; absent = never"},
    },
}
_EXAMPLES: dict[str, Any] = {
    "an address": {"name": "bob@example.org", "reason": "unsubscribed"},
    "a domain, for some time": {"name": "example.net", "reason": "hard bounces", "expires": "2027-01-01 00:00:00"},
    "many": ["ann@example.org", {"name": "*.example.com", "reason": "asked by the owner"}],
}
RESOURCE = Resource(
    SUPPRESSIONS,
    "/v1/suppressions",
    _SCHEMA,
    _EXAMPLES,
    about="Mail to them fails without an attempt.",
    on_delete="mail to it is sent again",
)


def build_router(settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls."""
    return collection.build_router(RESOURCE, settings, database)
