"""What openapi.json says about answers: their schemas, and an example of each."""

from typing import Any

Answers = dict[int | str, dict[str, Any]]

PROBLEM: dict[str, Any] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEM_SCHEMA: dict[str, Any] = {
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
            "description": "of a list: what is wrong with which",
            "items": {
                "type": "object",
                "required": ["index", "reason"],
                "properties": {
                    "index": {"type": "integer", "description": "its place in the list, from 0"},
                    "field": {"type": "string"},
                    "reason": {"type": "string"},
                    "status": {"type": "integer", "description": "403: the token may not say this"},
                },
            },
        },
    },
    "example": {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "recipient: 'nobody': expected a mail address",
        "field": "recipient",
    },
}
RETRY_AFTER: dict[str, Any] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
_LOCATION: dict[str, Any] = {"Location": {"description": "where it is now", "schema": {"type": "string"}}}
_TIME: dict[str, Any] = {"type": ["string", "null"], "description": "YYYY-MM-DD HH:MM:SS, UTC"}
_UNIX: dict[str, Any] = {"type": "integer", "description": "Unix time"}
TIMES: dict[str, Any] = {"created_at": _UNIX, "updated_at": _UNIX}
"""Of what is kept by name."""
_TEXT: dict[str, Any] = {"type": ["string", "null"]}


def answer(description: str, schema: dict[str, Any], example: Any, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    """One answer in JSON."""
    told = {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}
    return told | ({"headers": headers} if headers else {})


def kept_answers(one: str, schema: dict[str, Any], example: Any, *, many: dict[str, Any] | None = None) -> Answers:
    """Of a call that adds or replaces; ``many``: the schema of the answer to a list, when it takes one."""
    replaced = schema if many is None else {"anyOf": [schema, many]}
    text = f"the {one} was replaced" + ("" if many is None else "; or a list was taken")
    return {
        200: answer(text, replaced, example, {"Location": _LOCATION["Location"]}),
        201: answer(f"the {one} is new", schema, example, _LOCATION),
    }


_ID = "9b2f6a0e-6c1d-4a86-9f57-0f3a5f0c7a11"
_ACCEPTED = {"message-id": _ID, "recipient": "recipient@example.org", "id": _ID}
_MESSAGES: dict[str, Any] = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "messages": {
            "type": "array",
            "description": "one for each recipient, in the order of the request",
            "items": {
                "type": "object",
                "required": ["message-id", "recipient", "id"],
                "properties": {
                    "message-id": {"type": "string", "description": "as the message says, else its id"},
                    "recipient": {"type": "string"},
                    "id": {"type": "string", "description": "ours: for GET /v1/messages/{ident}"},
                },
            },
        },
        "errors": PROBLEM_SCHEMA["properties"]["errors"] | {"description": "with ?partial=true: what was not accepted"},
    },
}
_STREAM = (
    f'{{"line":1,"message-id":"{_ID}","recipient":"one@example.org","id":"{_ID}"}}\n'
    '{"line":2,"status":422,"field":"recipient","reason":"recipient: \'nobody\': expected a mail address"}\n'
    '{"accepted":1,"rejected":1,"complete":true}\n'
)
_REPLAYED: dict[str, Any] = {
    "Idempotency-Replayed": {"description": "`true`: done before, under the same Idempotency-Key", "schema": {"type": "string"}}
}
_SENT = answer("accepted: RabbitMQ has confirmed every message", _MESSAGES, {"messages": [_ACCEPTED]}, _REPLAYED)
_TAKEN: Answers = {
    409: {"description": "the Idempotency-Key belongs to another request, or to one that is in work", "content": PROBLEM}
}
_LINES = {"application/x-ndjson": {"schema": {"type": "string"}, "example": _STREAM}}

SENT: Answers = {
    202: _SENT | {"content": _SENT["content"] | _LINES},
    400: {"description": "the body cannot be read, or a header or parameter is wrong", "content": PROBLEM | _LINES},
    408: {"description": "the body did not come in time", "content": PROBLEM | _LINES},
    413: {"description": "larger than `http-max-size`, after decompression", "content": PROBLEM | _LINES},
    422: {
        "description": "a message is wrong: `field` and, for a list, `errors` say which and why; none was accepted",
        "content": PROBLEM | _LINES,
    },
    503: {
        "description": "RabbitMQ or the message store is out of reach, or only a part was accepted, which `detail` says: send again",
        "content": PROBLEM | _LINES,
        "headers": RETRY_AFTER,
    },
    **_TAKEN,
}
_REDRIVEN: dict[str, Any] = {
    "type": "object",
    "required": ["redriven", "dry-run"],
    "properties": {
        "redriven": {"type": "integer", "description": "messages that went back (`dry-run`: would go back)"},
        "dry-run": {"type": "boolean"},
    },
}
ACTED: Answers = {
    200: answer("redriven", _REDRIVEN, {"redriven": 3, "dry-run": False}),
    202: _SENT,
    **_TAKEN,
}
_ATTEMPT = {
    "attempt": 1,
    "state": "message",
    "result": "accepted",
    "code": 250,
    "status": "2.0.0",
    "description": "Ok: queued",
    "time": "2026-11-23 04:00:01",
    "mta": "mx.example.org",
    "from": "192.0.2.1",
    "to": "198.51.100.7",
    "strategy": "smtp",
}
MAIL: dict[str, Any] = {
    "type": "object",
    "required": ["id", "message-id", "recipient", "status", "final", "attempts"],
    "properties": {
        "id": {"type": "string"},
        "message-id": _TEXT,
        "transaction": _TEXT | {"description": "shared by the recipients of one mail"},
        "envelope": _TEXT,
        "recipient": _TEXT,
        "subject": _TEXT,
        "status": {"enum": ["accepted", "routed", "deferred", "delivered", "failed"]},
        "final": {"type": "boolean"},
        "attempts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "attempt": {"type": "integer"},
                    "state": {"type": "string"},
                    "result": {"type": "string"},
                    "code": {"type": ["integer", "null"]},
                    "status": _TEXT | {"description": "enhanced status code (RFC 3463)"},
                    "description": _TEXT,
                    "time": _TIME,
                },
            },
        },
        "nextattempt": _TIME,
        "strategy": _TEXT,
        "accepted": _TIME | {"description": "null: recorded by a release that did not"},
        "updated": _TIME | {"description": "when it was accepted, deferred or became final, the last of them"},
    },
}
EXAMPLE_MAIL = {
    "id": _ID,
    "message-id": _ID,
    "transaction": "6f1d3c4e-2f0b-4a7e-8a54-3d0f7c1b2e90",
    "envelope": "sender@example.com",
    "recipient": "recipient@example.org",
    "subject": "Hello",
    "attempts": [_ATTEMPT],
    "accepted": "2026-11-23 04:00:00",
    "updated": "2026-11-23 04:00:01",
    "status": "delivered",
    "final": True,
    "nextattempt": None,
    "strategy": "smtp",
    "state": "message",
    "code": 250,
    "class": None,
    "destination": "example.org",
    "archived": None,
}
STATUS: Answers = {
    200: answer("what is known of it", {"anyOf": [MAIL, {"type": "array", "items": MAIL}]}, EXAMPLE_MAIL),
    404: {"description": "unknown; one just accepted is recorded within a second", "content": PROBLEM},
}
STATUS_NAME: dict[str, Any] = {"an id": {"value": _ID}, "a Message-ID": {"value": "<20261123.1@example.com>"}}


def text_answer(description: str, example: str) -> dict[str, Any]:
    """One answer in plain text."""
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}, "example": example}}}
