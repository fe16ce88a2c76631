"""One request to a receiver: TLS, the address that was judged, and answers that are meant to cost us something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.webhook.client import Answer, Client, Result
from services.webhook.settings import ServiceSettings
from shared.delivery.webhooks import Endpoint, make_secret, parse_endpoint
from tests.support.certificates import Kind, make_certificates
from tests.support.webhook_receiver import Receiver

BODY = b'{"events": []}'


class Names:
    """A resolver that says 127.0.0.1 first, and something else the next time."""

    def __init__(self, *later: str) -> None:
        self.later = later
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return ["127.0.0.1"] if len(self.asked) == 1 else self.later


def client(names: Names | None = None, **settings: Any) -> Client:
    given = {"webhook_allow_private": "127.0.0.1/32", "webhook_allow_http": True, "webhook_timeout": "1.5"} | settings
    return Client(ServiceSettings.model_validate(given), names or Names("127.0.0.1"))


def endpoint(url: str) -> Endpoint:
    return parse_endpoint({"name": "hook", "url": url, "secret": make_secret()})


async def post(receiver: Receiver, made: Client, host: str = "hook.example", path: str = "/x?y=1") -> Answer:
    scheme = receiver.url.partition(":")[0]
    return await made.post(endpoint(f"{scheme}://{host}:{receiver.port}{path}"), "msg_1", BODY)


async def test_the_address_that_was_judged_is_the_one_connected_to() -> None:
    """Rebinding: whoever asks the DNS twice is led to ourselves the second time."""
    names = Names("127.0.0.2", "169.254.169.254")
    async with Receiver() as receiver:
        made = client(names)
        assert await post(receiver, made) == Answer(Result.TAKEN)
        assert names.asked == ["hook.example"]
        [got] = receiver.posts
        assert (got.headers["host"], got.path) == (f"hook.example:{receiver.port}", "/x?y=1")
        again = await post(receiver, made)
        assert (again.result, again.reason) == (Result.FAILED, "hook.example leads to private addresses, or ours, only")
        assert len(receiver.posts) == 1


async def test_the_certificate_is_that_of_the_name(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, ("hook.example",))
    wanted = {
        Kind.GOOD: Result.TAKEN, Kind.SELF_SIGNED: Result.FAILED, Kind.EXPIRED: Result.FAILED, Kind.MISMATCH: Result.FAILED,
    }  # fmt: skip
    for kind, result in wanted.items():
        async with Receiver(tls=made.server_context(kind)) as receiver:
            answer = await post(receiver, client(webhook_ca_file=str(made.ca)))
            assert answer.result is result, answer
            assert len(receiver.posts) == (result is Result.TAKEN)
    async with Receiver(tls=made.server_context(Kind.GOOD)) as receiver:
        assert "certificate verify failed" in (await post(receiver, client())).reason
        assert "certificate verify failed" in (await post(receiver, client(webhook_ca_file=str(made.ca)), "other.example")).reason


@pytest.mark.parametrize(
    ("mode", "result", "reason"),
    [
        ("slow", Result.FAILED, "no answer in time"),
        ("endless", Result.TAKEN, ""),
        ("endless-head", Result.FAILED, "RemoteProtocolError"),
        ("reset", Result.FAILED, "ReadError"),
        ("302 Location: http://127.0.0.1:1/", Result.FAILED, "redirects are not followed"),
        ("500 X: whsec", Result.FAILED, "it answered 500"),
    ],
)
async def test_receivers_that_misbehave(mode: str, result: Result, reason: str) -> None:
    async with Receiver(mode) as receiver:
        answer = await post(receiver, client())
    assert answer.result is result, answer
    assert reason in answer.reason
    assert "y=1" not in answer.reason


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as receiver, Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert (await post(receiver, client())).is_taken
        assert (len(receiver.posts), proxy.posts) == (1, [])


async def test_nobody_listens() -> None:
    async with Receiver() as receiver:
        port = receiver.port
    answer = await client().post(endpoint(f"http://hook.example:{port}/"), "msg_1", BODY)
    assert answer.result is Result.FAILED
    assert answer.reason.startswith("ConnectError")


async def test_without_a_secret_nothing_leaves() -> None:
    async with Receiver() as receiver:
        unsigned = parse_endpoint({"name": "hook", "url": f"{receiver.url}/"})
        assert (await client().post(unsigned, "msg_1", BODY)).reason == "it has no secret to sign with"
        assert receiver.posts == []
