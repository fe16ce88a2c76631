"""What openapi.json says about bodies: the schemas and examples that Swagger shows."""

from typing import Any

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
                        "attachments": {"type": "array", "items": {"type": "object"}},
                    },
                },
            ],
        },
        "mime64": {"type": "string", "description": "instead of mime: the message in base64, for content that is not UTF-8"},
        "message-id": {"type": "string"},
        "keepmime": {"type": "boolean"},
        "nextattempt": {"type": "object", "properties": {"time": {"type": "string"}}},
        "maxdelivertime": {"type": "string", "description": "YYYY-MM-DD HH:MM:SS, UTC"},
        "maxattempts": {"type": "integer"},
        "retries": {"type": "array", "items": {"type": "integer"}, "description": "seconds between attempts"},
        "security": {"enum": ["optional", "opportunistic", "required", "verified"]},
        "smarthost": {"type": "object"},
        "strategy": {"enum": ["smtp", "seal"]},
        "queues": {"type": "object"},
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
_POOL = {"name": "newsletters", "ips": {"192.0.2.1": "mail1.example.com", "192.0.2.2": "mail2.example.com"}}
_PROBLEM = {"application/problem+json": {"schema": {"type": "object"}}}

SEND: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_MESSAGE, {"type": "array", "items": _MESSAGE}]},
                "examples": {"text": {"value": _TEXT}, "structured": {"value": _STRUCTURED}},
            },
            "application/x-ndjson": {"schema": {"type": "string", "description": "one message a line"}},
        },
    },
    "parameters": [
        {"name": "partial", "in": "query", "schema": {"type": "boolean"}, "description": "accept what is right of a list"}
    ],
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "accepted: RabbitMQ has confirmed every message",
        "content": {
            "application/json": {"example": {"messages": [{"message-id": "…", "recipient": "recipient@example.org", "id": "…"}]}}
        },
    },
    422: {"description": "a message is wrong: `field` and, for a list, `errors` say which and why", "content": _PROBLEM},
    503: {"description": "RabbitMQ or the message store is out of reach: send again", "content": _PROBLEM},
}
RULE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}, "example": _RULE}}}
}
POOL: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["ips"],
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
                },
                "examples": {
                    "a name for each address": {"value": _POOL},
                    "a list": {"value": {"name": "bulk", "ips": ["192.0.2.3", "2001:db8::3"], "helo": "bulk.example.com"}},
                },
            }
        },
    }
}
TEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _MESSAGE, "example": _TEXT | {"channel": "json"}}},
    }
}
ACTION: dict[str, Any] = {
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
    }
}
