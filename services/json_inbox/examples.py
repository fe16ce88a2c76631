"""What openapi.json says about bodies: the schemas and examples that Swagger shows."""

from typing import Any

import orjson

from shared.wire.instructions import QUEUES

_ADDRESS: dict[str, Any] = {"type": "string", "format": "email"}
_TO: dict[str, Any] = {"oneOf": [{"required": ["recipient"]}, {"required": ["recipients"]}]}
_CONTENT: dict[str, Any] = {"oneOf": [{"required": ["mime"]}, {"required": ["mime64"]}, {"required": ["key"]}]}
_PERSON: dict[str, Any] = {
    "anyOf": [
        _ADDRESS,
        {"type": "object", "required": ["address"], "properties": {"name": {"type": "string"}, "address": _ADDRESS}},
    ]
}
_PEOPLE: dict[str, Any] = {"anyOf": [_PERSON, {"type": "array", "items": _PERSON}]}
_MOST = 2**31 - 1
_TIME: dict[str, Any] = {
    "type": "string",
    "pattern": r"^2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]) ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$",
}
_PROPERTIES: dict[str, Any] = {
    "type": "object",
    "description": "MailerQ's properties; unknown ones are kept and come back in the result.",
    "properties": {
        "recipient": _ADDRESS | {"description": "RCPT TO"},
        "recipients": {"type": "array", "items": _ADDRESS, "minItems": 1, "description": "instead of recipient: one message each"},
        "envelope": {
            "description": "MAIL FROM; absent or empty is the null reverse-path <>",
            "anyOf": [_ADDRESS, {"const": ""}],
        },
        "mime": {
            "description": "the message (RFC 5322) as a text, or a structured mail",
            "oneOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "required": ["from"],
                    "properties": {
                        "from": _PERSON, "to": _PEOPLE, "cc": _PEOPLE, "bcc": _PEOPLE, "replyTo": _PEOPLE,
                        "subject": {"type": "string"},
                        "text": {"type": "string"},
                        "content": {"type": "string", "description": "HTML"},
                        "headers": {"type": "object"},
                        "attachments": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {
                                    "data": {"type": "string", "description": "base64"},
                                    "name": {"type": "string"},
                                    "type": {"type": "string"},
                                    "content-id": {"type": "string", "description": "an image that the HTML shows: cid:…"},
                                },
                            },
                        },
                    },
                    "additionalProperties": False,
                },
            ],
        },
        "mime64": {
            "type": "string",
            "pattern": "^([A-Za-z0-9+/]{4})+$",
            "contentEncoding": "base64",
            "description": "instead of mime: the message in base64, for content that is not UTF-8",
        },
        "key": {"type": "string", "description": "instead of mime: where the content lies in the message store; scope route"},
        "message-id": {"type": "string", "minLength": 1, "maxLength": 998},
        "keepmime": {"type": "boolean"},
        "nextattempt": {"type": "object", "properties": {"time": _TIME}, "description": "not before"},
        "maxdelivertime": _TIME | {"description": "YYYY-MM-DD HH:MM:SS, UTC; later is too late"},
        "maxattempts": {"type": "integer", "minimum": 1, "maximum": _MOST},
        "retries": {
            "type": "array", "items": {"type": "integer", "minimum": 0, "maximum": _MOST}, "description": "seconds between attempts"
        },
        "security": {"enum": ["optional", "opportunistic", "required", "verified"]},
        "smarthost": {
            "type": "object",
            "description": "where mail goes instead of to the recipient's MX; scope route",
            "required": ["hostname"],
            "properties": {"hostname": {"type": "string", "minLength": 1}, "port": {"type": "integer", "minimum": 1, "maximum": 65535}},
        },
        "ips": {
            "type": "array",
            "items": {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]},
            "description": "source addresses; scope route",
        },
        "strategy": {"enum": ["smtp", "seal"]},
        "queues": {
            "type": "object",
            "description": "routing keys for what becomes of the mail; scope route",
            "properties": {name: {"type": "string", "minLength": 1} for name in QUEUES},
            "additionalProperties": False,
        },
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}  # fmt: skip
_MESSAGE: dict[str, Any] = _PROPERTIES | {"allOf": [_TO, _CONTENT]}
_SAMPLE: dict[str, Any] = _PROPERTIES | _TO
_TEXT = {
    "envelope": "sender@example.com",
    "recipient": "recipient@example.org",
    "mime": "From: sender@example.com\r\nTo: recipient@example.org\r\nSubject: Hello\r\n\r\nHello!\r\n",
}
_STRUCTURED = {
    "envelope": "sender@example.com",
    "recipients": ["one@example.org", "two@example.org"],
    "mime": {"from": "sender@example.com", "to": "list@example.org", "subject": "Hello", "content": "<p>Hello!</p>"},
}
_LINES = "".join(f"{orjson.dumps(_TEXT | {'recipient': name}).decode()}\n" for name in ("one@example.org", "two@example.org"))
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    "description": "the same request with the same key within 24 hours is done once and answered the same (`Idempotency-Replayed: true`)",
}

SEND: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "As it is, or gzip'ed with `Content-Encoding: gzip`.",
        "content": {
            "application/json": {
                "schema": {"oneOf": [_MESSAGE, {"type": "array", "items": _MESSAGE, "minItems": 1}]},
                "examples": {"text": {"value": _TEXT}, "structured": {"value": _STRUCTURED}},
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "one message a line"},
                "examples": {"two lines": {"value": _LINES}},
            },
        },
    },
    "parameters": [
        {
            "name": "partial",
            "in": "query",
            "schema": {"type": "boolean"},
            "description": "accept what is right of a list; NDJSON is then a stream of any length, answered in NDJSON",
        },
        _KEY,
    ],
}
_ASKED = {"channel": "smtp", "recipient": "doctor@clinic.example"}
TEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _SAMPLE,
                "examples": {"envelope alone": {"value": _ASKED}, "message": {"value": _TEXT}},
            }
        },
    }
}
_SEND_ACTION: dict[str, Any] = {
    "type": "object",
    "description": "a mail from `actions-sender`",
    "required": ["action", "recipient"],
    "properties": {
        "action": {"const": "send"},
        "recipient": _ADDRESS,
        "subject": {"type": "string"},
        "body_text": {"type": "string", "minLength": 1},
        "body_html": {"type": "string", "minLength": 1},
    },
    "anyOf": [{"required": ["body_text"]}, {"required": ["body_html"]}],
}
_REDRIVE: dict[str, Any] = {
    "type": "object",
    "description": "put what is parked in `dead` back where it was; scope rules",
    "required": ["action"],
    "properties": {
        "action": {"const": "redrive"},
        "limit": {"type": "integer", "minimum": 1, "maximum": _MOST, "description": "at most so many; absent = all"},
        "reason": {"type": "string", "minLength": 1, "description": "only those whose reason contains this text"},
        "dry-run": {"type": "boolean", "description": "only count"},
    },
}
ACTION: dict[str, Any] = {
    "parameters": [_KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_SEND_ACTION, _REDRIVE]},
                "examples": {
                    "send": {
                        "value": {
                            "action": "send",
                            "recipient": "recipient@example.org",
                            "subject": "Hello",
                            "body_text": "Hello!",
                            "body_html": "<p>Hello!</p>",
                        }
                    },
                    "redrive": {"value": {"action": "redrive", "limit": 100}},
                },
            }
        },
    },
}
