"""What openapi.json says about a rule: the schema and the examples that Swagger shows."""

from typing import Any

from fastapi import Path

from services.json_inbox.answers import PROBLEM, TIMES, Answers, answer, kept_answers
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
        **TIMES,
    },
    "additionalProperties": False,
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


def _describe(rule: dict[str, Any], **examples: Any) -> dict[str, Any]:
    shown = {title.replace("_", " "): {"value": value} for title, value in examples.items()}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": rule, "examples": shown}}}}


RULE = _describe(_RULE | {"required": ["name", "configuration"]}, a_way=_SEALED, a_way_and_a_rewrite=_REWRITTEN)
NAMED_RULE = _describe(_RULE, a_way={name: _SEALED[name] for name in ("priority", "configuration")})
"""Its name is in the address."""
NAME: Any = Path(description="name of the rule", openapi_examples={"a rule": {"value": _SEALED["name"]}})
_SHOWN = {"type": "object", "required": ["name", "priority", "configuration"], "properties": _RULE["properties"]}
_EXAMPLE = _SEALED | {"created_at": 1_795_406_400, "updated_at": 1_795_406_400}
_TEST: dict[str, Any] = {
    "type": "object",
    "required": ["outbound", "reason", "rule", "rewrite", "rules"],
    "properties": {
        "outbound": {"type": "array", "items": {"type": "string"}, "description": "the ways that would be tried"},
        "reason": {"type": "string"},
        "rule": {"type": ["string", "null"], "description": "the rule that takes it; null: none"},
        "rewrite": {"type": "object", "description": "properties that would be changed, with their new values"},
        "rules": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "outcome"],
                "properties": {"name": {"type": "string"}, "outcome": {"type": "string"}},
            },
        },
    },
}
_TAKEN = {
    "outbound": ["seal"],
    "reason": "rule 'sealed for the clinic'",
    "rule": "sealed for the clinic",
    "rewrite": {},
    "rules": [{"name": "sealed for the clinic", "outcome": "matches"}],
}
RULE_SHOWN: Answers = {200: answer("the rule", _SHOWN, _EXAMPLE)}
RULE_KEPT = kept_answers("rule", _SHOWN, _EXAMPLE)
RULES_LISTED: Answers = {200: answer("the rules", {"type": "array", "items": _SHOWN}, [_EXAMPLE])}
TESTED: Answers = {
    200: answer("what the router would do", _TEST, _TAKEN),
    409: {"description": "a rule in Postgres cannot be read", "content": PROBLEM},
}
