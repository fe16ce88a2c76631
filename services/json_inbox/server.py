"""The HTTP interface: FastAPI on uvicorn, around the handlers of ``messages``, ``rules``, ``pools``, ``status`` and ``actions``."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from functools import partial
from typing import Any

import prometheus_client
import uvicorn
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Match

from services.json_inbox import counters, errors, locals, operations, pauses, pools, rules, search, status, suppressions, webhooks
from services.json_inbox.access import CALLER, Access
from services.json_inbox.actions import Actions
from services.json_inbox.answers import text_answer
from services.json_inbox.body import find_size
from services.json_inbox.connections import IDLE, Crowd, HttpProtocol
from services.json_inbox.idempotency import Idempotency
from services.json_inbox.inbox import Inbox
from services.json_inbox.messages import build_router
from services.json_inbox.metrics import DURATION, REQUESTS
from services.json_inbox.page import PAGE
from services.json_inbox.problems import Problem, unavailable
from services.json_inbox.room import Room
from services.json_inbox.schema import describe
from services.json_inbox.settings import ServiceSettings, check_listener
from services.json_inbox.traced import Traced
from shared.log import get_logger
from shared.process import split_address
from shared.storage.database import Database
from shared.trouble import BadSetting, Unavailable

log = get_logger()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BACKLOG = 512
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose body is read."""
TAGS = [
    {"name": "messages", "description": "Mail in, and where it is."},
    {"name": "rules", "description": "Which way mail goes."},
]
OWN_ROOM = frozenset({"/v1/messages", "/v1/inject"})
"""Calls that take room themselves: a stream needs less than its size."""


def build_app(inbox: Inbox, database: Database, actions: Actions, idempotency: Idempotency) -> FastAPI:
    """The application, without a server."""
    app = FastAPI(
        # The library's own would tell paths and errors, addresses and all; ours are in ``traced``.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        title="mailwarren json-inbox",
        summary="Mail in over HTTP; rules, pools, status and actions",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(build_router(inbox, idempotency))
    for looking in (status, search, counters):
        app.include_router(looking.build_router(database))
    app.include_router(rules.build_router(inbox, database))
    for kept in (pools, suppressions, pauses, errors, locals, webhooks):
        app.include_router(kept.build_router(inbox.settings, database))
    app.include_router(operations.build_router(inbox, actions, idempotency))
    _add_pages(app, inbox)
    app.openapi = partial(describe, app)  # type: ignore[method-assign] # FastAPI's way to extend its document
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Unavailable, _on_unavailable)
    return app


def _add_pages(app: FastAPI, inbox: Inbox) -> None:
    """What tells of the process itself."""

    @app.get("/swagger/", include_in_schema=False)
    async def swagger() -> Response:
        return HTMLResponse(PAGE)

    @app.get("/swagger", include_in_schema=False)
    async def swagger_bare() -> Response:
        return Response(status_code=308, headers={"Location": "/swagger/"})

    ok = text_answer("yes", "ok\n")

    @app.get("/liveness", tags=["process"], summary="Does it live?", response_class=PlainTextResponse, responses={200: ok})
    async def liveness() -> Response:
        """Does the process answer?"""
        return Response("ok\n", media_type="text/plain")

    no = text_answer("no", "not ready\n")

    @app.get(
        "/readiness", tags=["process"], summary="Is it ready?", response_class=PlainTextResponse, responses={200: ok, 503: no}
    )
    async def readiness() -> Response:
        """Can mail be accepted now?"""
        is_ready = inbox.runtime.ready
        return Response("ok\n" if is_ready else "not ready\n", 200 if is_ready else 503, media_type="text/plain")

    figures = text_answer("the metrics", "# TYPE http_requests_total counter\n")

    @app.get("/metrics", tags=["process"], summary="Metrics", response_class=PlainTextResponse, responses={200: figures})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(prometheus_client.generate_latest(), media_type="text/plain; version=0.0.4")


class Door:
    """Outermost: who may talk to us, what is counted, and that no error leaves with internal text."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], access: Access, room: Room, max_size: int) -> None:
        """``room`` for bodies, each of at most ``max_size`` bytes."""
        self._app = app
        self._access = access
        self._room = room
        self._max_size = max_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        code = 499

        async def observe(event: MutableMapping[str, Any]) -> None:
            nonlocal code
            if event["type"] == "http.response.start":
                code = event["status"]
            await send(event)

        try:
            try:
                scope[CALLER] = self._access.admit(scope)
            except Problem as problem:
                await problem.render()(scope, receive, observe)
            except Unavailable as error:
                log.warning("a token cannot be looked up", reason=str(error))
                await unavailable("tokens cannot be looked up now: try again").render()(scope, receive, observe)
            else:
                await self._answer(scope, receive, observe)
        except ClientDisconnect:
            code = 499
        except Exception:
            log.exception("a request failed", path=str(scope.get("path"))[:200])
            if code == 499:
                await Problem(500, "an error of ours; the log tells more").render()(scope, receive, observe)
        finally:
            labels = {"operation": getattr(scope.get("endpoint"), "__name__", "other"), "code": str(code)}
            REQUESTS.labels(**labels).inc()
            DURATION.labels(**labels).observe(time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in WITH_BODY or scope["path"] in OWN_ROOM:
            await self._app(scope, receive, send)
            return
        try:
            async with self._room.hold(find_size(Request(scope), self._max_size)):
                await self._app(scope, receive, send)
        except Problem as problem:
            # Not the application's: it renders its own.
            await problem.render()(scope, receive, send)


def bind(settings: ServiceSettings) -> socket.socket:
    """The listening socket; copies of the process share the port. Raises BadSetting."""
    check_listener(settings)
    host, port = split_address(settings.http_listen, "http-listen")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadSetting(f"http-listen: {settings.http_listen!r}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


async def serve_http(inbox: Inbox, app: FastAPI, access: Access, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Serve until the process is asked to stop, then finish the requests in hand."""
    settings = inbox.settings
    crowd = Crowd(settings.http_max_connections, settings.http_max_connections_per_address)
    server = Server(
        uvicorn.Config(
            Traced(Door(app, access, inbox.room, settings.http_max_size)),
            # A function that makes one is as good as a class.
            http=partial(HttpProtocol, crowd=crowd),  # type: ignore[arg-type]
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=max(1, round(settings.drain_timeout.total_seconds())),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
    )
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    stopping = asyncio.ensure_future(inbox.runtime.stopping.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving


async def _on_problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return error.render()


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    text = f"{request.method} {request.url.path[:200]}: there is no such call; /swagger/ lists them"
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # Starlette names the methods of the first route with this path alone.
        headers["Allow"] = ", ".join(sorted(_find_methods(request)))
    return Problem(error.status_code, text, headers=headers).render()


def _find_methods(request: Request) -> set[str]:
    """The methods that its path has."""
    routes = request.app.router.routes
    return {
        method
        for method in ("GET", "POST", "PUT", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    }


async def _on_unavailable(_: Request, error: Exception) -> Response:
    log.warning("request answered 503", reason=str(error))
    return unavailable("something of ours that this call needs is out of reach: try again").render()
