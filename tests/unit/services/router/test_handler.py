"""Route one mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from services.router.handler import REWRITTEN, TAKEN, Router
from shared.amqp.frame import Frame
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


def rewriting(*outbound: str, **rewrite: Any) -> Rule:
    return parse_rule({"name": "w", "configuration": {"params": {}, "outbound": list(outbound), "rewrite": rewrite}})


async def test_a_rewritten_mail_is_written_once_and_says_nothing_else_new() -> None:
    one = frame(OURS | {"n": 18446744073709551615, "unknown": {"a": [1.5, None]}})
    [mail] = await route([rewriting("smtp", tags=["x"], security="required")], one)
    assert orjson.loads(mail.body) == orjson.loads(one.body) | {"tags": ["x"], "security": "required"}


async def test_a_rewrite_without_effect_leaves_the_body_as_it_came() -> None:
    one = frame(OURS | {"tags": ["x"], "security": "verified"})
    [mail] = await route([rewriting("smtp", tags=["x"], security="required")], one)
    assert mail.body is one.body


async def test_routed_twice_after_a_crash_it_is_the_same_mail() -> None:
    rules = [rewriting("seal", "smtp", nextattempt=600, headers={"append": {"X-A": "1"}})]
    one = frame(OURS)
    assert await route(rules, one) == await route(rules, one)


async def test_a_rule_rewrites_mail_that_names_its_strategy() -> None:
    [mail] = await route([rewriting("seal", "smtp", security="required")], frame(OURS | {"strategy": "smtp"}))
    document = orjson.loads(mail.body)
    assert (mail.key, document["security"], document.get("outbound")) == ("outbox", "required", None)


async def test_a_mail_that_says_something_impossible_goes_on_to_be_refused_by_name() -> None:
    one = frame(OURS | {"security": "none"})
    [mail] = await route([rewriting("smtp", security="required")], one)
    assert mail.body is one.body


async def test_the_name_of_the_rule_is_counted() -> None:
    before = TAKEN.labels(rule="w")._value.get(), REWRITTEN._value.get()
    await route([rewriting("smtp", tags=["x"])], frame(OURS))
    await route([rewriting("smtp")], frame(OURS))
    assert (TAKEN.labels(rule="w")._value.get(), REWRITTEN._value.get()) == (before[0] + 2, before[1] + 1)
