"""Who is told what: the decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.outcome import refuse
from shared.delivery.settings import RetrySettings
from shared.delivery.verdict import Verdict
from shared.mail.dsn import Returned
from shared.mail.dsn_report import Action
from shared.wire.instructions import InvalidProperty
from shared.wire.times import render_time
from tests.unit.shared.delivery.messages import KEYS, NOW, make_message
from tests.unit.shared.delivery.notices import ALL, EXPIRED, REFUSED, RETRY, SENT, decide, outcome_of, render, tried


@pytest.mark.parametrize(
    ("verdict", "notify", "expected"),
    [
        (REFUSED, "FAILURE", Action.FAILED),
        (EXPIRED, "FAILURE", Action.FAILED),
        (REFUSED, "SUCCESS,DELAY", None),
        (REFUSED, "NEVER", None),
        (SENT, "SUCCESS", Action.RELAYED),
        (SENT, "FAILURE,DELAY", None),
        (SENT, "NEVER", None),
        (RETRY, ALL, None),
    ],
)
@pytest.mark.parametrize("channel", ["smtp", "json", "amqp"])
def test_what_the_mail_asks_for(channel: str, verdict: Verdict, notify: str, expected: Action | None) -> None:
    notice = decide(make_message(channel=channel, dsn={"notify": notify}), outcome_of(verdict, dsn=False))
    assert (notice.action if notice else None) == expected


@pytest.mark.parametrize(
    ("channel", "setting", "verdict", "expected"),
    [
        ("smtp", "", REFUSED, Action.FAILED),
        ("smtp", "", EXPIRED, Action.FAILED),
        ("smtp", "", SENT, None),
        ("json", "", REFUSED, None),
        ("amqp", "", REFUSED, None),
        ("amqp", "FAILURE", REFUSED, Action.FAILED),
        ("smtp", "NEVER", REFUSED, None),
        ("smtp", "SUCCESS", REFUSED, None),
        ("json", "SUCCESS", SENT, Action.RELAYED),
    ],
)
@pytest.mark.parametrize("request_", [..., {}, {"ret": "FULL"}])
def test_without_notify_the_setting_decides(
    request_: Any, channel: str, setting: str, verdict: Verdict, expected: Action | None
) -> None:
    settings = RetrySettings(dsn_notify=setting)
    notice = decide(make_message(channel=channel, dsn=request_), outcome_of(verdict, dsn=False), settings=settings)
    assert (notice.action if notice else None) == expected


@pytest.mark.parametrize("dsn", [True, False, None])
def test_success_is_ours_unless_the_peer_was_asked_and_can(dsn: bool | None) -> None:
    asked = decide(make_message(dsn={"notify": "SUCCESS"}), outcome_of(SENT, dsn=dsn))
    assert (asked is None) == (dsn is True)
    # Nothing was asked of the peer when only our setting wants it.
    assert decide(make_message(), outcome_of(SENT, dsn=dsn), settings=RetrySettings(dsn_notify="SUCCESS")) is not None


@pytest.mark.parametrize("reverse_path", ["", "<>", None, 7, "nobody", "a@b\r\nRCPT TO:<c@d>", "a b@c.example"])
@pytest.mark.parametrize("verdict", [SENT, REFUSED, EXPIRED, RETRY])
def test_never_to_nobody(verdict: Verdict, reverse_path: Any) -> None:
    message = make_message(envelope=reverse_path, dsn={"notify": ALL}, results=tried(300))
    assert decide(message, outcome_of(verdict, dsn=False)) is None


@pytest.mark.parametrize(
    "kind", ["multipart/report; report-type=delivery-status", 'Multipart/Report; boundary=x;\r\n\treport-type="delivery-status"']
)
def test_never_about_a_notification_whatever_its_sender(kind: str) -> None:
    message = make_message(dsn={"notify": "FAILURE"})
    assert decide(message, outcome_of(REFUSED), extracted={"headers": {"content-type": kind}}) is None
    told = message.with_properties({"extracted": {"headers": {"content-type": kind}}})
    assert decide(told, outcome_of(REFUSED)) is None
    assert decide(told, outcome_of(REFUSED), extracted={"headers": {"content-type": ["a", "b"]}}) is not None


def test_not_while_the_chain_goes_on() -> None:
    assert decide(make_message(), outcome_of(REFUSED), is_handed_on=True) is None


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ((), False),
        ((239,), False),
        ((240,), True),
        ((1000,), True),
        ((300, 61), True),
        ((300, 60), False),
        ((500, 400, 270), True),
        ((500, 100, 30), False),
    ],
)
def test_delay_is_told_once(before: Iterable[int], expected: bool) -> None:
    """At the first retry that is due four hours or more after the first attempt."""
    notice = decide(make_message(dsn={"notify": "DELAY"}, results=tried(*before)), outcome_of(RETRY))
    assert (notice is not None) == expected
    assert decide(make_message(dsn={"notify": "FAILURE"}, results=tried(*before)), outcome_of(RETRY)) is None


def test_delay_over_a_whole_schedule() -> None:
    results: list[dict[str, Any]] = []
    told = []
    for hour in range(24):
        moment = NOW + timedelta(hours=hour)
        message = make_message(dsn={"notify": "DELAY"}, results=list(results))
        if decide(message, outcome_of(RETRY, at=moment)):
            told.append(hour)
        results.append({"attempt": hour + 1, "time": render_time(moment)})
    assert told == [4]


def test_delay_at_once() -> None:
    settings = RetrySettings(dsn_delay=timedelta(0))
    assert decide(make_message(dsn={"notify": "DELAY"}), outcome_of(RETRY), settings=settings) is not None
    assert decide(make_message(dsn={"notify": "DELAY"}, results=tried(10)), outcome_of(RETRY), settings=settings) is None


@pytest.mark.parametrize("time", [None, 7, "", "yesterday", ["x"]])
def test_times_that_cannot_be_read_tell_nothing(time: Any) -> None:
    assert decide(make_message(dsn={"notify": "DELAY"}, results=[{"time": time}]), outcome_of(RETRY)) is None


@pytest.mark.parametrize(
    ("request_", "setting", "expected"),
    [(None, "HDRS", False), (None, "FULL", True), ({"ret": "FULL"}, "HDRS", True), ({"ret": "HDRS"}, "FULL", False)],
)
def test_what_is_returned(request_: Any, setting: str, expected: bool) -> None:
    settings = RetrySettings(dsn_ret=Returned(setting))
    notice = decide(make_message(dsn=request_), outcome_of(REFUSED), settings=settings)
    assert notice is not None
    assert notice.returns_all == expected


def test_the_whole_mail_comes_back_with_a_failure_only() -> None:
    notice = decide(make_message(dsn={"ret": "FULL", "notify": "SUCCESS"}), outcome_of(SENT))
    assert notice is not None
    assert not notice.returns_all


@pytest.mark.parametrize(
    ("properties", "more", "expected"),
    [
        ({}, {}, False),
        ({"strategy": "smtp"}, {}, False),
        ({"strategy": "seal"}, {}, True),
        ({"outbound": ["seal"]}, {}, True),
        ({"results": [{"strategy": "seal"}]}, {}, True),
        ({}, {"strategy": "seal"}, True),
    ],
)
def test_sealed_mail_is_known(properties: Any, more: Any, expected: bool) -> None:
    notice = decide(make_message(**properties), outcome_of(REFUSED, **more))
    assert notice is not None
    assert notice.is_sealed == expected


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        (..., ("dsn", None)),
        ({}, ("dsn", None)),
        ({"failure": None}, ("dsn", None)),
        ({"dsn": "mine"}, ("mine", "dsn")),
        ({"dsn": None}, None),
        ({"dsn": "outbox"}, ("dsn", None)),
        ({"dsn": ""}, ("dsn", None)),
        ({"dsn": 7}, ("dsn", None)),
        ({"dsn": "x" * 256}, ("dsn", None)),
        ({"dsn": "\ud800"}, ("dsn", None)),
        ("x", ("dsn", None)),
    ],
)
def test_the_key(queues: Any, expected: tuple[str, str | None] | None) -> None:
    notice = decide(make_message(queues=queues), outcome_of(REFUSED))
    assert ((notice.key, notice.otherwise) if notice else None) == expected


def test_switched_off() -> None:
    off = replace(KEYS, dsn="")
    assert decide(make_message(), outcome_of(REFUSED), keys=off) is None
    notice = decide(make_message(queues={"dsn": "mine"}), outcome_of(REFUSED), keys=off)
    assert notice is not None
    [published] = render(make_message(), outcome_of(REFUSED), notice, keys=off)
    assert (published.key, published.otherwise, published.is_optional) == ("mine", None, True)


@pytest.mark.parametrize("dsn", ["FAILURE", {"notify": "ALWAYS"}, {"envid": "\n"}, [1], 7])
def test_a_message_refused_for_its_dsn_is_answered_by_the_setting(dsn: Any) -> None:
    message = make_message(dsn=dsn)
    outcome = refuse(message, InvalidProperty("dsn: impossible"), keys=KEYS, now=NOW)
    notice = decide(message, outcome)
    assert notice is not None
    assert (notice.action, notice.request) == (Action.FAILED, None)
    assert decide(message.with_properties({"channel": "json"}), outcome) is None


DSN = st.none() | st.fixed_dictionaries(
    {},
    optional={"notify": st.sampled_from(["NEVER", "SUCCESS", "FAILURE", "DELAY", ALL]), "ret": st.sampled_from(["FULL", "HDRS"])},
)


@given(
    dsn=DSN,
    channel=st.sampled_from(["smtp", "json", "amqp"]),
    setting=st.sampled_from(["", "NEVER", "SUCCESS", "FAILURE", "DELAY", ALL]),
    verdict=st.sampled_from([SENT, REFUSED, EXPIRED, RETRY]),
    took=st.sampled_from([True, False, None]),
    reverse_path=st.sampled_from(["", "r@a.example"]),
    before=st.lists(st.integers(1, 1000), max_size=4),
    handed_on=st.booleans(),
)
def test_the_rule_read_aloud(
    dsn: Any,
    channel: str,
    setting: str,
    verdict: Verdict,
    took: bool | None,
    reverse_path: str,
    before: list[int],
    handed_on: bool,
) -> None:
    """Somebody is told exactly when there is somebody, something happened that is told, and it was asked for."""
    before.sort(reverse=True)
    message = make_message(channel=channel, dsn=dsn, envelope=reverse_path, results=tried(*before))
    notice = decide(message, outcome_of(verdict, dsn=took), settings=RetrySettings(dsn_notify=setting), is_handed_on=handed_on)
    own = (dsn or {}).get("notify")
    wanted = (own or setting or ("FAILURE" if channel == "smtp" else "NEVER")).split(",")
    is_late = bool(before) and before[0] >= 240 and all(before[0] - one < 240 for one in before)
    expected = None
    if reverse_path:
        if verdict == SENT and "SUCCESS" in wanted and not (own and took):
            expected = Action.RELAYED
        if verdict in (REFUSED, EXPIRED) and "FAILURE" in wanted and not handed_on:
            expected = Action.FAILED
        if verdict == RETRY and "DELAY" in wanted and is_late:
            expected = Action.DELAYED
    assert (notice.action if notice else None) == expected
