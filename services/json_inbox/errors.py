"""``/v1/errors``: mail that gets a made-up reply instead of an attempt (MailerQ's forced errors)."""

from typing import Any

from fastapi import APIRouter

from services.json_inbox import collection
from services.json_inbox.pauses import CONDITIONS, EXPIRES
from services.json_inbox.resource import Resource
from services.json_inbox.settings import ServiceSettings
from shared.storage.catalogue import ERRORS
from shared.storage.database import Database

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["code"],
    "anyOf": [{"required": ["destination"]}, {"required": ["tag"]}, {"required": ["pool"]}],
    "properties": CONDITIONS
    | {
        "code": {"type": "integer", "description": "400 to 499: tried again by the usual schedule; 500 to 599: failed"},
        "status": {"type": "string", "description": "enhanced status code (RFC 3463) of the same class; absent = 4.7.1 or 5.7.1"},
        "description": {"type": "string", "description": "stands in the result"},
        "expires": EXPIRES,
    },
}
_EXAMPLES: dict[str, Any] = {
    "a campaign is called back": {"tag": "spring", "code": 550, "description": "The campaign was called back"},
    "a destination is tried later": {
        "destination": "yahoo.example",
        "code": 421,
        "status": "4.3.2",
        "expires": "2027-01-01 00:00:00",
    },
}
RESOURCE = Resource(
    ERRORS,
    "/v1/errors",
    _SCHEMA,
    _EXAMPLES,
    about="Mail that meets one of them gets its code without an attempt; the most specific one counts.",
    on_delete="its mail is sent again",
)


def build_router(settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls."""
    return collection.build_router(RESOURCE, settings, database)
