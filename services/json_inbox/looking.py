"""What openapi.json says about searches and counters: parameters, answers, and an example of each."""

from typing import Any

from services.json_inbox.answers import EXAMPLE_MAIL, MAIL, PROBLEM, Answers, answer
from shared.delivery.patterns import BounceClass
from shared.storage import counters, search

_TIME = r"^([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?Z?)?|[0-9]{1,4}[smh])$"
_DOMAIN = r"^[a-z0-9]{1,20}\.[a-z]{2,10}$"
_WRONG: Answers = {
    422: {"description": "a parameter is wrong: `field` says which, `detail` what is expected", "content": PROBLEM}
}


def _parameter(name: str, description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema, "examples": {"one": {"value": example}}}


_PARTY: dict[str, Any] = {"type": "string", "pattern": r"^([a-z0-9]{1,20}|\*)@[a-z0-9]{1,20}\.[a-z]{2,10}$"}
_SINCE = _parameter(
    "since",
    "not before: `2026-11-23 04:00:00` (UTC), RFC 3339, a day, or how long ago: `2h`",
    {"type": "string", "pattern": _TIME},
    "2h",
)
_UNTIL = _parameter("until", "before; written as `since`", {"type": "string", "pattern": _TIME}, "1m")
_DESTINATION = _parameter("destination", "domain of the recipient", {"type": "string", "pattern": _DOMAIN}, "example.org")
_CLASS = _parameter("class", "bounce class", {"enum": list(BounceClass)}, "quota")


def _limit(most: int, default: int) -> dict[str, Any]:
    return _parameter(
        "limit", f"absent = {default}", {"type": "integer", "minimum": 1, "maximum": most, "default": default}, default
    )


SEARCH: dict[str, Any] = {
    "parameters": [
        _parameter("recipient", "an address (case makes no difference), or `*@domain`", _PARTY, "recipient@example.org"),
        _parameter("sender", "the same of the envelope; `<>` is the null reverse-path", _PARTY, "*@example.com"),
        _parameter("status", "what became of it", {"enum": list(search.STATUSES)}, "failed"),
        _CLASS,
        _DESTINATION,
        _SINCE,
        _UNTIL,
        _parameter("archived", "look into the archive, too", {"type": "boolean"}, "true"),
        _limit(search.MOST, search.DEFAULT_LIMIT),
        _parameter("cursor", "`next` of the page before", {"type": "string"}, search.render_cursor((1_795_406_400, "9b2f6a0e"))),
    ]
}
FOUND: Answers = {
    200: answer(
        "a page",
        {
            "type": "object",
            "required": ["messages", "next"],
            "properties": {
                "messages": {"type": "array", "items": MAIL},
                "next": {"type": ["string", "null"], "description": "cursor of the next page; null = there is none"},
            },
        },
        {"messages": [EXAMPLE_MAIL], "next": search.render_cursor((1_795_406_401, str(EXAMPLE_MAIL["id"])))},
        {"Link": {"description": 'address of the next page, `rel="next"` (RFC 8288)', "schema": {"type": "string"}}},
    ),
    **_WRONG,
}
COUNT: dict[str, Any] = {
    "parameters": [
        _SINCE | {"description": f"{_SINCE['description']}; absent = `24h`"},
        _UNTIL,
        _parameter(
            "by",
            f"one or several of {', '.join(counters.BY)}, with commas; absent = destination. Beyond 48 hours destinations are counted "
            "by whole days (UTC), over 31 days at most",
            {"type": "string", "pattern": f"^({'|'.join(counters.BY)})(,({'|'.join(counters.BY)}))?$"},
            "hour,class",
        ),
        _DESTINATION,
        _CLASS,
        _parameter("status", "what became of them", {"enum": ["delivered", "failed"]}, "failed"),
        _limit(counters.MOST, counters.DEFAULT_LIMIT),
    ]
}
_NAME: dict[str, Any] = {"type": ["string", "null"]}
COUNTED: Answers = {
    200: answer(
        "the counts; `since` and `until` as they were rounded to hours or days",
        {
            "type": "object",
            "required": ["since", "until", "total", "counters"],
            "properties": {
                "since": {"type": "string"},
                "until": {"type": "string"},
                "total": {"type": "integer", "minimum": 0},
                "counters": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["count"],
                        "properties": {**dict.fromkeys(counters.BY, _NAME), "count": {"type": "integer", "minimum": 0}},
                    },
                },
            },
        },
        {
            "since": "2026-11-23 03:00:00",
            "until": "2026-11-23 05:00:00",
            "total": 1204,
            "counters": [{"destination": "example.org", "count": 1102}, {"destination": "example.net", "count": 102}],
        },
    ),
    **_WRONG,
}
