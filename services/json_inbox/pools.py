"""``/v1/pools``: the pools of source addresses that smtp-sender sends from."""

from typing import Any

from fastapi import APIRouter

from services.json_inbox import collection
from services.json_inbox.resource import Resource
from services.json_inbox.settings import ServiceSettings
from shared.storage.catalogue import POOLS
from shared.storage.database import Database

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "ips"],
    "properties": {
        "name": {"type": "string", "description": "what messages say in pool"},
        "ips": {
            "description": "local addresses of the senders: a list, or an object of address and name for EHLO",
            "oneOf": [
                {"type": "array", "items": {"type": "string"}},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ],
        },
        "helo": {"type": "string", "description": "name for EHLO of the addresses that have none of their own"},
    },
}
_EXAMPLES: dict[str, Any] = {
    "a name for each address": {
        "name": "newsletters",
        "ips": {"192.0.2.1": "mail1.example.com", "192.0.2.2": "mail2.example.com"},
    },
    "a list of addresses": {"name": "bulk", "ips": ["192.0.2.3", "2001:db8::3"], "helo": "bulk.example.com"},
}
RESOURCE = Resource(
    POOLS,
    "/v1/pools",
    _SCHEMA,
    _EXAMPLES,
    about="Those in the sender's `pools-file` are not among them.",
    on_delete="mail that names it then fails, unless the sender's `pools-file` has one of that name",
)


def build_router(settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls."""
    return collection.build_router(RESOURCE, settings, database)
