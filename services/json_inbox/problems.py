"""Problem documents (RFC 9457): every error of the HTTP interface is one."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

RETRY_AFTER = 5
"""Seconds after which a client may try again when something of ours is down."""


class Problem(Exception):
    """The request is answered with a problem document; nothing was accepted, unless ``detail`` says so."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``field``: the property, header or parameter that is wrong. ``more``: further members (``errors``)."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.more = more or {}
        self.headers = headers or {}

    @property
    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field is not None:
            document["field"] = self.field
        return document | dict(self.more)

    def render(self) -> Response:
        """The answer."""
        return Response(orjson.dumps(self.document), self.status, dict(self.headers), media_type="application/problem+json")


def unavailable(detail: str) -> Problem:
    """Something of ours is down. ``detail`` tells no internals: the log does."""
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER)})


def render_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")
