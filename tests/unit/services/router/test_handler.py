"""Route one mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from services.router.handler import Router
from shared.amqp.consumer import Frame
from shared.delivery.outcome import Keys
from shared.delivery.rules import Rule, parse_rule
from shared.trouble import BadMessage, Unavailable
from shared.wire.publication import Publication

OURS: dict[str, Any] = {
    "id": "1",
    "channel": "json",
    "seen": "2026-03-01 12:00:00",
    "recipient": "a@b.example",
    "envelope": "",
    "mime": "x",
}


def rule(*outbound: str, **params: Any) -> Rule:
    return parse_rule({"name": "r", "configuration": {"params": params, "outbound": list(outbound)}})


def frame(document: Any, *, is_ours: bool = True, priority: int | None = None) -> Frame:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Frame(body, None, is_ours, False, 0, priority, None, 1)


async def route(rules: Sequence[Rule], one: Frame, *, default: str = "smtp", keys: Keys | None = None) -> list[Publication]:
    step = await Router(lambda: rules, keys or Keys(), default=default).handle(one)
    return list(step.publications)


async def test_to_the_first_strategy_as_it_came() -> None:
    one = frame(OURS, priority=7)
    [mail] = await route([rule("seal")], one)
    assert (mail.key, mail.priority, mail.record, mail.is_optional) == ("seal", 7, False, False)
    assert mail.body is one.body


async def test_the_rest_of_the_chain_travels_along() -> None:
    [mail] = await route([rule("seal", "smtp")], frame(OURS | {"outbound": ["seal"], "x": 18446744073709551615}))
    assert mail.key == "seal"
    assert orjson.loads(mail.body) == OURS | {"outbound": ["smtp"], "x": 18446744073709551615}


async def test_a_chain_of_an_earlier_life_is_forgotten() -> None:
    [mail] = await route([rule("smtp")], frame(OURS | {"outbound": ["seal"]}))
    assert not orjson.loads(mail.body).get("outbound")


async def test_an_applications_mail_becomes_ours() -> None:
    [mail] = await route([], frame(OURS | {"results": [{}]}, is_ours=False))
    document = orjson.loads(mail.body)
    assert mail.key == "outbox"
    assert document["id"] != "1"
    assert (document["channel"], "results" in document) == ("amqp", False)


async def test_gzip_both_ways() -> None:
    [mail] = await route([rule("seal", "smtp")], frame(OURS), keys=Keys(encoding="gzip"))
    assert (mail.encoding, mail.body[:2]) == ("gzip", b"\x1f\x8b")
    packed = Frame(mail.body, "gzip", True, False, 0, None, None, 1)
    [again] = await route([rule("smtp")], packed)
    assert again.encoding in ("gzip", "")


async def test_no_rule_and_no_default_is_a_failure_with_the_reason() -> None:
    [failure] = await route([rule("seal", tag="x")], frame(OURS), default="fail")
    assert (failure.key, failure.record, failure.headers) == ("failure", True, {"event": "failure"})
    document = orjson.loads(failure.body)
    assert (document["results"][0]["state"], document["results"][0]["result"]) == ("process", "invalid")
    assert "router-default is fail" in document["results"][0]["description"]
    assert "mime" not in document


async def test_an_unknown_strategy_is_a_failure() -> None:
    [failure] = await route([], frame(OURS | {"strategy": "pigeon"}))
    assert "expected one of smtp, seal" in orjson.loads(failure.body)["results"][0]["description"]


async def test_no_message_at_all() -> None:
    with pytest.raises(BadMessage, match="not JSON"):
        await route([], frame(b"hello"))


async def test_rules_that_were_never_seen() -> None:
    def fail() -> Sequence[Rule]:
        raise Unavailable("never seen")

    with pytest.raises(Unavailable):
        await Router(fail, Keys(), default="smtp").handle(frame(OURS))
