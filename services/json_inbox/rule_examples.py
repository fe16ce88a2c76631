"""What openapi.json says about a rule: the schema and the examples that Swagger shows."""

from typing import Any

from shared.delivery.rewrites import MOST_SECONDS
from shared.delivery.rule_params import PARAMS
from shared.wire.instructions import STRATEGIES, Security

_TEXTS = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_PARAMS: dict[str, Any] = {
    "type": "object",
    "description": "all must match; of a list any; * is any text; none: every mail. Besides these: header.<name>",
    "properties": {name: {"type": "integer", "minimum": 0} if name == "size_over" else _TEXTS for name in PARAMS},
    "additionalProperties": _TEXTS,
}
_REWRITE: dict[str, Any] = {
    "type": "object",
    "description": "properties that the mail gets, in the words of a message",
    "properties": {
        "smarthost": {"type": "object", "required": ["hostname"]},
        "pool": {"type": "string"},
        "ips": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
        "security": {"enum": [str(level) for level in Security]},
        "headers": {"type": "object"},
        "nextattempt": {
            "oneOf": [
                {"type": "object", "required": ["time"], "properties": {"time": {"type": "string"}}},
                {"type": "integer", "minimum": 1, "maximum": MOST_SECONDS, "description": "seconds after the mail came in"},
            ]
        },
    },
    "additionalProperties": False,
}
_RULE: dict[str, Any] = {
    "type": "object",
    "required": ["configuration"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 200},
        "priority": {"type": "integer", "default": 0, "description": "lower is tried first"},
        "configuration": {
            "type": "object",
            "required": ["outbound"],
            "properties": {
                "params": _PARAMS,
                "outbound": {
                    "type": "array",
                    "items": {"enum": list(STRATEGIES)},
                    "minItems": 1,
                    "uniqueItems": True,
                    "description": "the first takes the mail; the next one when that is refused for good",
                },
                "rewrite": _REWRITE,
            },
            "additionalProperties": False,
        },
    },
}
_SEALED = {
    "name": "sealed for the clinic",
    "priority": 10,
    "configuration": {"params": {"recipient_domain": ["clinic.example"]}, "outbound": ["seal"]},
}
_REWRITTEN = {
    "name": "newsletters",
    "priority": 20,
    "configuration": {
        "params": {"channel": "json", "tag": "newsletter*"},
        "outbound": ["smtp"],
        "rewrite": {"pool": "bulk", "headers": {"replace": {"Precedence": "bulk"}}, "tags": ["slow"]},
    },
}

RULE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _RULE,
                "examples": {"a way": {"value": _SEALED}, "a way and a rewrite": {"value": _REWRITTEN}},
            }
        },
    }
}
