"""A collection of named documents as HTTP shows it, and what openapi.json says about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.json_inbox.answers import TIMES, Answers, answer, kept_answers
from shared.storage.documents import Collection


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection as HTTP shows it."""

    collection: Collection
    path: str
    """``/v1/pools``."""
    schema: Mapping[str, Any]
    """JSON schema of a document. When it needs no more than a name, a list may hold bare names."""
    examples: Mapping[str, Any]
    """Bodies of POST by title; a list among them is fine."""
    about: str = ""
    """What else is to be said of the list."""
    on_delete: str = ""
    """What follows from removing one."""

    @property
    def example_name(self) -> str:
        """What the first example is called."""
        return self.collection.read(next(iter(self.examples.values()))).name

    @property
    def _one(self) -> dict[str, Any]:
        """The schema of a document that is an object, also when a bare name would do."""
        forms = self.schema.get("oneOf", [self.schema])
        one = dict(next(form for form in forms if form["type"] == "object"))
        return one | {"properties": one["properties"] | TIMES}

    def describe_body(self, *, is_list: bool) -> dict[str, Any]:
        """Of POST, which takes a list as well, or of PUT, where the name is in the address."""
        one = self._one | {"additionalProperties": False}
        if is_list:
            item = {"anyOf": [one, {"type": "string"}]} if one.get("required") == ["name"] else one
            schema: dict[str, Any] = {"oneOf": [one, {"type": "array", "items": item}]}
            shown = dict(self.examples)
        else:
            schema = one | {"required": [known for known in one.get("required", ()) if known != "name"]}
            shown = {title: _without_name(value) for title, value in self.examples.items() if isinstance(value, dict)}
        examples = {title: {"value": value} for title, value in shown.items()}
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}}

    def describe_answers(self) -> dict[str, Answers]:
        """Of the five calls."""
        shown = self._one | {"required": ["name", *TIMES]}
        shown.pop("anyOf", None)
        first = next(value for value in self.examples.values() if isinstance(value, dict))
        example = {**first, "name": self.example_name, **dict.fromkeys(TIMES, 1_795_406_400)}
        counts = {"type": "integer", "minimum": 0}
        many = {"type": "object", "required": ["added", "replaced"], "properties": {"added": counts, "replaced": counts}}
        name = self.collection.one
        return {
            "GET list": {200: answer(self.collection.many, {"type": "array", "items": shown}, [example])},
            "POST list": kept_answers(name, shown, example, many=many),
            "GET": {200: answer(f"the {name}", shown, example)},
            "PUT": kept_answers(name, shown, example),
            "DELETE": {204: {"description": "removed"}},
        }


def _without_name(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "name"}
