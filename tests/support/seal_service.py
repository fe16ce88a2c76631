"""A service that answers ``POST /v1/seal`` by the contract of sealed delivery, keeps a ledger, and can notify.

    python -m tests.support.seal_service --listen 127.0.0.1:8200 --ledger DIR [--notify http://127.0.0.1:8100/v1/messages]

or in a test ``async with SealService(folder) as seal: … seal.url … seal.ledger.mails()``.

The request: body ``message/rfc822``; headers ``X-Seal-Envelope`` (the reverse-path, may be empty), ``X-Seal-Recipient``,
``Idempotency-Key``, optional ``X-Seal-Callback`` (kept in the ledger's ``extra``). The answer: 200 ``{"id": …}`` once the
mail is in the ledger; the same key gets the same answer, also after a restart, and no second copy or notification.
Errors are ``{"detail": …}``. The recipient's local part says what happens, everything after ``+`` is free, ``-N`` counts
requests per recipient:

    ok, or any other             200
    grey[-N]                     503 the first N (1) times
    tempfail[-5xx]               always 503, or that code
    reject[-CODE]                422, or that code (400, 413, 415)
    misconfigured[-CODE]         401, or that code (403, 404, 405, 407)
    slow-SECONDS                 200, that much later; stored at once
    silent                       no answer, not stored
    lostreply[-N]                stored, but the first N (1) answers are 503
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import uuid
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import httpx
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request

from tests.support.addresses import parse_address, render_address
from tests.support.ledger import Ledger, LedgerWriter, Session
from tests.support.running import run_until_signal
from tests.support.waiting import until

MAX_SIZE = 52428800
NO_REPLY = "no-reply@seal.example"
_WORDS = re.compile(
    r"(?P<word>grey|tempfail|reject|misconfigured|slow|silent|lostreply)(?:-(?P<number>\d+(?:\.\d+)?))?", re.ASCII
)
_CODES = {"grey": 503, "tempfail": 503, "reject": 422, "misconfigured": 401}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one recipient gets."""

    code: int | None = None
    """The refusal, None: accepted."""
    times: int | None = None
    """So many requests get ``code``, the next ones are accepted; None: all."""
    stored: bool = False
    """Stored although refused."""
    delay: float = 0.0
    """Seconds before the answer."""
    silent: bool = False


def parse_behaviour(recipient: str) -> Behaviour:
    """The behaviour that a recipient's local part asks for."""
    match = _WORDS.fullmatch(recipient.partition("@")[0].partition("+")[0].lower())
    if match is None:
        return Behaviour()
    word, number = match["word"], match["number"]
    if word == "slow":
        return Behaviour(delay=float(number or 1))
    if word == "silent":
        return Behaviour(silent=True)
    if word in ("grey", "lostreply"):
        return Behaviour(code=503, times=int(float(number or 1)), stored=word == "lostreply")
    code = int(float(number)) if number else _CODES[word]
    return Behaviour(code=code) if 400 <= code <= 599 else Behaviour()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the test or to the process, not to the server."""
        yield


class SealService:
    """The service on a port of its own; use as ``async with``."""

    def __init__(
        self,
        folder: Path | str,
        *,
        listen: str = "127.0.0.1:0",
        token: str | None = None,
        notify: str | None = None,
        link: str = "https://seal.example/m/",
    ) -> None:
        self.ledger = Ledger(folder)
        """What was accepted; ``extra`` has ``id``, ``idempotency_key`` and ``callback``."""
        self.addresses: list[str] = []
        self.requests: Counter[str] = Counter()
        """Requests per recipient."""
        self.notified: list[str] = []
        """Ids whose notification was taken by the URL."""
        self.unnotified: dict[str, str] = {}
        """Id to the reason of the last try, while its notification is not taken."""
        self._listen = parse_address(listen)
        self._token, self._notify, self._link = token, notify, link
        self._ids: dict[str, str] = {}
        self._writer: LedgerWriter
        self._client: httpx.AsyncClient
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._closing = asyncio.Event()

    @property
    def address(self) -> str:
        """``host:port``."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        """``http://host:port``, the value of OUTBOUND_SEAL_ADDR."""
        return f"http://{self.address}"

    async def __aenter__(self) -> Self:
        self._ids = {mail.extra["idempotency_key"]: mail.extra["id"] for mail in self.ledger.mails()}
        async with AsyncExitStack() as stack:
            self._writer = LedgerWriter(self.ledger.folder)
            stack.callback(self._writer.close)
            if self._notify is not None:
                self._client = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
            listener = socket.create_server(self._listen)  # uvicorn would end the process when the port is taken
            stack.callback(listener.close)
            self.addresses = [render_address(listener.getsockname())]
            config = uvicorn.Config(self._app(), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
            self._server = _Server(config)
            self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
            await until(lambda: self._server.started, within=10, every=0.01, what="uvicorn to start")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.should_exit = True
        await self._serving
        await self._stack.aclose()

    def _app(self) -> FastAPI:
        app = FastAPI(title="seal service for tests", openapi_url=None)

        @app.post("/v1/seal")
        async def seal(
            request: Request,
            recipient: Annotated[str, Header(alias="X-Seal-Recipient", min_length=3)],
            envelope: Annotated[str, Header(alias="X-Seal-Envelope")],
            key: Annotated[str, Header(alias="Idempotency-Key", min_length=1)],
            callback: Annotated[str | None, Header(alias="X-Seal-Callback")] = None,
        ) -> Mapping[str, str]:
            self._check(request)
            content = await _read_body(request)
            return await self._answer(request, content, recipient, envelope, key, callback)

        return app

    def _check(self, request: Request) -> None:
        if self._token is not None and request.headers.get("authorization") != f"Bearer {self._token}":
            raise HTTPException(401, "wrong or missing bearer token")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "message/rfc822":
            raise HTTPException(415, f"content-type {kind!r}: expected message/rfc822")

    async def _answer(
        self, request: Request, content: bytes, recipient: str, envelope: str, key: str, callback: str | None
    ) -> Mapping[str, str]:
        behaviour = parse_behaviour(recipient)
        self.requests[recipient] += 1
        refused = behaviour.code is not None and (behaviour.times is None or self.requests[recipient] <= behaviour.times)
        if behaviour.silent:
            await self._closing.wait()
            raise HTTPException(503, "closing")
        if refused and not behaviour.stored:
            raise HTTPException(behaviour.code or 500, f"{recipient} asked for this refusal")
        if key not in self._ids:
            self._store(request, content, recipient, envelope, key, callback)
        if refused:
            raise HTTPException(behaviour.code or 500, f"{recipient} asked for a lost reply")
        await asyncio.sleep(behaviour.delay)
        return {"id": self._ids[key]}

    def _store(self, request: Request, content: bytes, recipient: str, envelope: str, key: str, callback: str | None) -> None:
        seal_id = str(uuid.uuid4())
        peer = render_address(request.client) if request.client else ""
        try:
            self._writer.store(
                content,
                reverse_path=envelope,
                recipients=[(recipient, {})],
                session=Session(peer=peer, listener=self.address, hostname="seal"),
                extra={"id": seal_id, "idempotency_key": key, "callback": callback},
            )
        except OSError as error:
            raise HTTPException(503, "the ledger takes no more") from error
        self._ids[key] = seal_id
        if self._notify is not None:
            self._start(self._send_notification(self._notify, seal_id, recipient))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_notification(self, url: str, seal_id: str, recipient: str) -> None:
        body = {
            "envelope": NO_REPLY,
            "recipient": recipient,
            "channel": "json",
            "mime": render_notification(recipient, seal_id, self._link + seal_id),
        }
        for attempt in range(60):
            self.unnotified[seal_id] = await self._post(url, body)
            if not self.unnotified[seal_id]:
                del self.unnotified[seal_id]
                self.notified.append(seal_id)
                return
            await asyncio.sleep(min(0.25 * 2**attempt, 5))
        print(f"seal: no notification for {seal_id}: {self.unnotified[seal_id]}", flush=True)

    async def _post(self, url: str, body: Mapping[str, str]) -> str:
        """Empty: taken; else why not."""
        try:
            response = await self._client.post(url, json=body)
        except httpx.HTTPError as error:
            return f"{type(error).__name__} {error}"
        return "" if response.is_success else f"{response.status_code} {response.text[:500]}"


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SIZE:
            raise HTTPException(413, f"more than {MAX_SIZE} octets")
    return bytes(body)


def render_notification(recipient: str, seal_id: str, link: str) -> str:
    """The notification mail (RFC 5322), header ``X-Seal-Id`` for those who count."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = f"Sealed mail <{NO_REPLY}>"
    mail["To"] = recipient
    mail["Subject"] = "A sealed message is waiting for you"
    mail["Message-ID"] = f"<{seal_id}@seal.example>"
    mail["X-Seal-Id"] = seal_id
    mail.set_content(f"A sealed message is waiting for you. Open it here:\n\n{link}\n")
    return mail.as_string()


def main() -> None:
    """Serve until SIGTERM."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.support.seal_service", description=__doc__, formatter_class=form)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--ledger", type=Path, required=True, metavar="DIR")
    parser.add_argument("--token", help="requests must carry this bearer token")
    parser.add_argument("--notify", metavar="URL", help="where the notification mail is posted as JSON")
    given = parser.parse_args()
    try:
        service = SealService(given.ledger, listen=given.listen, token=given.token, notify=given.notify)
    except (ValueError, OSError) as error:
        raise SystemExit(f"tests.support.seal_service: {error}") from None
    run_until_signal("seal", service)


if __name__ == "__main__":
    main()
