"""``/v1/locals``: recipients that smtp-inbox takes mail for from anybody."""

from typing import Any

from fastapi import APIRouter

from services.json_inbox import collection
from services.json_inbox.resource import Resource
from services.json_inbox.settings import ServiceSettings
from shared.storage.catalogue import LOCALS
from shared.storage.database import Database

_SCHEMA: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "description": "the name alone"},
        {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {
                    "type": "string",
                    "description": "a domain (every address at it), an address, either with `*` for any text, or a regular expression "
                    "between slashes that must match the whole address",
                },
                "reason": {"type": "string", "description": "for whoever reads the list"},
            },
        },
    ]
}
_EXAMPLES: dict[str, Any] = {
    "a domain": {"name": "example.com", "reason": "ours"},
    "an address with a wildcard": {"name": "bounce-*@example.net"},
    "many": ["info@example.org", "*.example.org", {"name": "/(sales|support)(\\+[a-z]+)?@example\\.net/"}],
}
RESOURCE = Resource(
    LOCALS,
    "/v1/locals",
    _SCHEMA,
    _EXAMPLES,
    about="Those in smtp-inbox's `local-domains` and `local-addresses` are not among them.",
    on_delete="mail to it is refused, unless smtp-inbox's settings have it or its client may relay",
)


def build_router(settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls."""
    return collection.build_router(RESOURCE, settings, database)
