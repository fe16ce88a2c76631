"""openapi.json: what FastAPI says of the calls, and what holds for all of them: tokens, scopes and problem documents."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.json_inbox.scopes import PROBES, find_scope

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "the property, header or parameter that is wrong"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "field": {"type": "string"},
                    "reason": {"type": "string"},
                    "status": {"type": "integer", "description": "403: the token may not say this"},
                },
            },
        },
    },
}
_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ANSWERS = {
    "401": "no token, or a bad one (without one only requests from this machine are answered)",
    "403": "the token has not the scope, or a web page elsewhere asks",
    "429": "too many bad tokens came from this address: `Retry-After` says when to come back",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document; made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = _PROBLEM
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "made by `mailwarren tokens add NAME --scope …`"}
        }
        for path, calls in schema["paths"].items():
            for method, operation in calls.items():
                _describe_access(operation, method.upper(), path)
        app.openapi_schema = schema
    return app.openapi_schema


def _describe_access(operation: dict[str, Any], method: str, path: str) -> None:
    needed = find_scope(method, path)
    if path in PROBES or needed is None:
        return
    # A request from this machine needs none.
    operation["security"] = [{"token": []}, {}]
    operation["description"] = f"{operation.get('description', '')}\n\nScope of a token: `{needed}`.".strip()
    for code, text in _ANSWERS.items():
        operation["responses"].setdefault(code, {"description": text, "content": _CONTENT})
