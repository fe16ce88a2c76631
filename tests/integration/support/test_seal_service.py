"""The seal service keeps its contract, asked by httpx over real sockets."""

from __future__ import annotations

import email
import email.policy
import json
import ssl
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.support.seal_service import NO_REPLY, SealService
from tests.support.waiting import until

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not used, but httpx would read all its authorities each time
CONTENT = b"Subject: secret\r\nX-Token: t1\r\n\r\n\xff\x00\r\n"


@pytest.fixture
async def seal(tmp_path: Path) -> AsyncIterator[SealService]:
    """Without token and notification."""
    async with SealService(tmp_path / "seal") as service:
        yield service


async def post(seal: SealService, recipient: str, key: str = "id-1", **more: str) -> httpx.Response:
    """One request as the sender makes it; ``more`` are further headers."""
    headers = {
        "Content-Type": "message/rfc822",
        "X-Seal-Envelope": "a@b.example",
        "X-Seal-Recipient": recipient,
        "Idempotency-Key": key,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    async with httpx.AsyncClient(timeout=5, trust_env=False, verify=NO_TLS) as client:
        return await client.post(f"{seal.url}/v1/seal", content=CONTENT, headers=headers)


async def test_accepted_is_in_the_ledger(seal: SealService) -> None:
    response = await post(seal, "anna@x.example", X_Seal_Callback="https://b.example/done")
    assert response.status_code == 200
    [mail] = seal.ledger.mails()
    assert (mail.reverse_path, mail.recipient, mail.content, mail.token) == ("a@b.example", "anna@x.example", CONTENT, "t1")
    assert mail.extra == {"id": response.json()["id"], "idempotency_key": "id-1", "callback": "https://b.example/done"}
    assert (await post(seal, "anna@x.example", "id-2", X_Seal_Envelope="")).status_code == 200
    assert seal.ledger.mails()[1].reverse_path == ""


async def test_the_same_key_gets_the_same_answer_also_after_a_restart(tmp_path: Path) -> None:
    async with SealService(tmp_path) as seal:
        first, again, other = [await post(seal, "a@x.example", key) for key in ("id-1", "id-1", "id-2")]
        assert first.json() == again.json() != other.json()
    async with SealService(tmp_path) as seal:
        assert (await post(seal, "a@x.example", "id-1")).json() == first.json()
        assert seal.ledger.count() == 2


async def test_recipients_choose(seal: SealService) -> None:
    for recipient, codes, stored in (
        ("reject-422@x.example", [422, 422], 0),
        ("reject-400@x.example", [400], 0),
        ("misconfigured-401@x.example", [401, 401], 0),
        ("misconfigured-407+x@x.example", [407], 0),
        ("grey-2@x.example", [503, 503, 200, 200], 1),
        ("tempfail@x.example", [503, 503, 503], 0),
        ("tempfail-500@x.example", [500], 0),
        ("lostreply@x.example", [503, 200, 200], 1),
        ("slow-0.05@x.example", [200], 1),
    ):
        assert [(await post(seal, recipient, f"key of {recipient}")).status_code for _ in codes] == codes, recipient
        assert len(seal.ledger.by_recipient().get(recipient, [])) == stored, recipient
        assert seal.requests[recipient] == len(codes)


async def test_silence_ends_with_the_service(tmp_path: Path) -> None:
    async with SealService(tmp_path) as seal, httpx.AsyncClient(timeout=0.2, trust_env=False, verify=NO_TLS) as client:
        headers = {"Content-Type": "message/rfc822", "X-Seal-Envelope": "", "Idempotency-Key": "1"}
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{seal.url}/v1/seal", content=b"x", headers={**headers, "X-Seal-Recipient": "silent@x.example"})
        assert seal.ledger.count() == 0


async def test_bad_requests_are_told(seal: SealService) -> None:
    assert (await post(seal, "a@x.example", Content_Type="application/json")).status_code == 415
    assert (await post(seal, "a@x.example", key="")).status_code == 422
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client:
        assert (await client.post(f"{seal.url}/v1/seal", content=CONTENT)).status_code == 422
    assert seal.ledger.count() == 0


async def test_a_token_is_asked_for(tmp_path: Path) -> None:
    async with SealService(tmp_path, token="secret") as seal:
        assert (await post(seal, "a@x.example")).status_code == 401
        assert (await post(seal, "a@x.example", Authorization="Bearer wrong")).status_code == 401
        assert (await post(seal, "a@x.example", Authorization="Bearer secret")).status_code == 200


class Inbox(ThreadingHTTPServer):
    """Takes notifications from the second try on."""

    def __init__(self) -> None:
        self.tries = 0
        self.bodies: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), InboxHandler)


class InboxHandler(BaseHTTPRequestHandler):
    """One POST."""

    server: Inbox

    def do_POST(self) -> None:
        """503 the first time, then 202."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tries += 1
        if self.server.tries > 1:
            self.server.bodies.append({"path": self.path, **json.loads(body)})
        self.send_response(202 if self.server.tries > 1 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


async def test_one_notification_per_seal_is_posted_until_it_is_taken(tmp_path: Path) -> None:
    inbox = Inbox()
    thread = Thread(target=inbox.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        notify = f"http://127.0.0.1:{inbox.server_address[1]}/v1/messages"
        async with SealService(tmp_path, notify=notify) as seal:
            answers = [(await post(seal, "anna@x.example")).json()["id"] for _ in range(2)]
            await until(lambda: seal.notified, within=10)
            assert seal.notified == answers[:1]
            assert seal.unnotified == {}
    finally:
        inbox.shutdown()
        thread.join()
        inbox.server_close()
    [body] = inbox.bodies
    assert (body["path"], body["envelope"], body["recipient"], body["channel"]) == (
        "/v1/messages",
        NO_REPLY,
        "anna@x.example",
        "json",
    )
    mail = email.message_from_string(body["mime"], policy=email.policy.default)
    assert (mail["X-Seal-Id"], mail["To"]) == (answers[0], "anna@x.example")
    assert f"https://seal.example/m/{answers[0]}" in mail.as_string()
    assert "secret" not in body["mime"]


async def test_a_taken_port_is_an_error(tmp_path: Path, seal: SealService) -> None:
    with pytest.raises(OSError, match="already in use"):
        await SealService(tmp_path / "second", listen=seal.address).__aenter__()
