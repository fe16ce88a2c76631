"""openapi.json: what FastAPI says of the calls, and what holds for all of them: tokens, scopes and problem documents."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.json_inbox.answers import PROBLEM, PROBLEM_SCHEMA, RETRY_AFTER
from services.json_inbox.scopes import PROBES, find_scope

_ABOUT = (
    "Every error is a problem document (RFC 9457) that names the field. Mail is answered 202 when it is safe, and not before. "
    "Requests from this machine need no token, others one with the scope that the call names."
)
_ACCESS = {
    "401": "no token, or a bad one (without one only requests from this machine are answered)",
    "403": "the token has not the scope, or a web page elsewhere asks",
    "421": "without a token: the host asked for is not this machine",
    "429": "too many bad tokens came from this address: `Retry-After` says when to come back",
}
_BODY = {
    "400": "the body is not JSON, or a header is wrong",
    "408": "the body did not come in time",
    "413": "larger than `http-max-size`, after decompression",
    "415": "an unknown `Content-Type` or `Content-Encoding`",
    "422": "something in it is wrong: `field` says what, `detail` why",
}
_DOWN = "something of ours that this call needs is out of reach: try again"
_NO_DATABASE = frozenset({"/metrics"})


def describe(app: FastAPI) -> dict[str, Any]:
    """The document; made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=_ABOUT,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        components = schema.setdefault("components", {})
        components["schemas"] = {"Problem": PROBLEM_SCHEMA}
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "made by `mailwarren tokens add NAME --scope …`"}
        }
        for path, calls in schema["paths"].items():
            for method, operation in calls.items():
                _describe_call(operation, method.upper(), path)
        app.openapi_schema = schema
    return app.openapi_schema


def _describe_call(operation: dict[str, Any], method: str, path: str) -> None:
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        # FastAPI's own, which never happens: what is wrong is told by a Problem.
        del answers["422"]
    needed = find_scope(method, path)
    if path not in PROBES and needed is not None:
        # A request from this machine needs none.
        operation["security"] = [{"token": []}, {}]
        operation["description"] = f"{operation.get('description', '')}\n\nScope of a token: `{needed}`.".strip()
        # A header that stands twice, of those that decide who asks.
        _add(
            answers,
            _ACCESS | {"400": "`Authorization`, `Host` or `Origin` stands twice"} | (_BODY if "requestBody" in operation else {}),
        )
        if path not in _NO_DATABASE:
            _add(answers, {"503": _DOWN}, RETRY_AFTER)
        for code in ("409", "429"):
            if code in answers:
                answers[code].setdefault("headers", RETRY_AFTER)
    if "{" in path:
        _add(answers, {"404": "there is none of that name" if method != "PUT" else "nothing can have that name"})
    operation["responses"] = dict(sorted(answers.items()))


def _add(answers: dict[str, Any], told: Mapping[str, str], headers: Mapping[str, Any] | None = None) -> None:
    for code, text in told.items():
        answers.setdefault(code, {"description": text, "content": PROBLEM} | ({"headers": headers} if headers else {}))
