"""``/v1/pauses``: mail that waits."""

from typing import Any

from fastapi import APIRouter

from services.json_inbox import collection
from services.json_inbox.resource import Resource
from services.json_inbox.settings import ServiceSettings
from shared.storage.catalogue import PAUSES
from shared.storage.database import Database

CONDITIONS: dict[str, Any] = {
    "name": {"type": "string", "description": "absent = made from the conditions"},
    "destination": {"type": "string", "description": "domain of the recipient, * for any text; * alone is all mail"},
    "tag": {"type": "string", "description": "one of the tags of the mail"},
    "pool": {"type": "string", "description": "the pool that the mail is sent from"},
}
"""Of pauses and forced errors: mail must meet all that are given."""
EXPIRES = {"type": "string", "description": "YYYY-MM-DD HH:MM:SS, UTC; absent = until it is removed"}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "anyOf": [{"required": ["destination"]}, {"required": ["tag"]}, {"required": ["pool"]}],
    "properties": CONDITIONS | {"reason": {"type": "string", "description": "for those who read the list"}, "expires": EXPIRES},
}
_EXAMPLES: dict[str, Any] = {
    "a destination": {"destination": "gmail.com", "reason": "they defer everything", "expires": "2027-01-01 00:00:00"},
    "a campaign at one provider": {"name": "spring at outlook", "destination": "*.outlook.com", "tag": "spring"},
    "everything": {"destination": "*"},
}
RESOURCE = Resource(
    PAUSES,
    "/v1/pauses",
    _SCHEMA,
    _EXAMPLES,
    about="Mail that meets one of them waits; its deadline goes on counting.",
    on_delete="its mail goes on within half the time that the pause lasted, 10 minutes at most",
)


def build_router(settings: ServiceSettings, database: Database) -> APIRouter:
    """The five calls."""
    return collection.build_router(RESOURCE, settings, database)
