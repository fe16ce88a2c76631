"""The calls of the interface in traces (``shared.tracing``): each goes on with its client's trace, or begins one."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from shared.tracing import Hop, open_request
from shared.wire.trace import read_http_trace

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CALLS = "/v1/"
"""What begins so is traced; pages, metrics and probes are not."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traced:
    """Outermost of all: what is refused at the door is seen as well."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        hop = _open(scope)
        if hop is None:
            await self._app(scope, receive, send)
            return

        async def observe(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                _tell(hop, scope, event["status"])
            await send(event)

        with hop:
            await self._app(scope, receive, observe)


def _open(scope: Scope) -> Hop | None:
    if scope["type"] != "http" or not str(scope["path"]).startswith(CALLS):
        return None
    method = _find_method(scope)
    # The path as it came may hold an address: the route's own is told, once it is known.
    facts = {"http.request.method": method, "url.scheme": str(scope["scheme"])}
    return open_request(method, facts, read_http_trace(scope["headers"]))


def _tell(hop: Hop, scope: Scope, status: int) -> None:
    hop.tell({"http.response.status_code": status})
    if route := getattr(scope.get("route"), "path", ""):
        hop.tell({"http.route": route})
        hop.rename(f"{_find_method(scope)} {route}")
    if status >= 500:
        hop.fail(str(status))


def _find_method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "_OTHER"
