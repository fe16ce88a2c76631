"""What openapi.json says about bodies: the schemas and examples that Swagger shows."""

from typing import Any

import orjson

_MESSAGE: dict[str, Any] = {
    "type": "object",
    "description": "MailerQ's properties; unknown ones are kept and come back in the result.",
    "properties": {
        "recipient": {"type": "string", "description": "RCPT TO"},
        "recipients": {"type": "array", "items": {"type": "string"}, "description": "instead of recipient: one message each"},
        "envelope": {"type": "string", "description": "MAIL FROM; absent or empty is the null reverse-path <>"},
        "mime": {
            "description": "the message (RFC 5322) as a text, or a structured mail",
            "oneOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "from": {}, "to": {}, "cc": {}, "bcc": {}, "replyTo": {},
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
                },
            ],
        },
        "mime64": {"type": "string", "description": "instead of mime: the message in base64, for content that is not UTF-8"},
        "key": {"type": "string", "description": "instead of mime: where the content lies in the message store; scope route"},
        "message-id": {"type": "string"},
        "keepmime": {"type": "boolean"},
        "nextattempt": {"type": "object", "properties": {"time": {"type": "string"}}},
        "maxdelivertime": {"type": "string", "description": "YYYY-MM-DD HH:MM:SS, UTC"},
        "maxattempts": {"type": "integer"},
        "retries": {"type": "array", "items": {"type": "integer"}, "description": "seconds between attempts"},
        "security": {"enum": ["optional", "opportunistic", "required", "verified"]},
        "smarthost": {"type": "object", "description": "scope route"},
        "ips": {"type": "array", "items": {"type": "string"}, "description": "scope route"},
        "strategy": {"enum": ["smtp", "seal"]},
        "queues": {"type": "object", "description": "scope route"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}  # fmt: skip
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
_RULE = {
    "name": "sealed for the clinic",
    "priority": 10,
    "configuration": {"params": {"recipient_domain": ["clinic.example"]}, "outbound": ["seal"]},
}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

_LINES = "".join(f"{orjson.dumps(_TEXT | {'recipient': name}).decode()}\n" for name in ("one@example.org", "two@example.org"))
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "the same request with the same key within 24 hours is done once and answered the same (`Idempotency-Replayed: true`)",
}

SEND: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_MESSAGE, {"type": "array", "items": _MESSAGE}]},
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
        {
            "name": "Content-Encoding",
            "in": "header",
            "schema": {"enum": ["gzip", "identity"]},
            "description": "how the body is packed",
        },
    ],
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "accepted: RabbitMQ has confirmed every message",
        "content": {
            "application/json": {"example": {"messages": [{"message-id": "…", "recipient": "recipient@example.org", "id": "…"}]}},
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '{"line":1,"message-id":"…","recipient":"one@example.org","id":"…"}\n'
                '{"line":2,"status":422,"field":"recipient","reason":"…"}\n{"accepted":1,"rejected":1,"complete":true}\n',
            },
        },
    },
    400: {"description": "the body cannot be read, or a header or parameter is wrong", "content": _PROBLEM},
    408: {"description": "the body did not come in time", "content": _PROBLEM},
    409: {"description": "the Idempotency-Key belongs to another request, or to one that is in work", "content": _PROBLEM},
    413: {"description": "larger than `http-max-size`, after decompression", "content": _PROBLEM},
    415: {"description": "an unknown `Content-Type` or `Content-Encoding`", "content": _PROBLEM},
    422: {"description": "a message is wrong: `field` and, for a list, `errors` say which and why", "content": _PROBLEM},
    503: {"description": "RabbitMQ or the message store is out of reach: send again", "content": _PROBLEM},
}
RULE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}, "example": _RULE}}}
}
TEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _MESSAGE, "example": _TEXT | {"channel": "json"}}},
    }
}
ACTION: dict[str, Any] = {
    "parameters": [_KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
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
