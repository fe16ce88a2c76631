"""From an attempt to what is published."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.outcome import check_queues, hand_over, refuse
from shared.delivery.verdict import Failed, Retry, Sent
from shared.wire.instructions import InvalidProperty, parse_instructions
from shared.wire.message import PAYLOAD, Message
from shared.wire.result import Result, State
from tests.unit.shared.delivery.messages import KEYS, NOW, accepted, body, by_key, deferred, end, make_message, refused

MAIL = ("outbox", "seal", "retries")
"""Keys that carry mail."""


def test_sent() -> None:
    outcome = accepted(make_message())
    assert isinstance(outcome.verdict, Sent)
    [published] = outcome.step.publications
    assert (published.key, published.record, published.headers) == ("success", True, {"event": "success"})
    # It is the record, too: it must not be dropped.
    assert (published.is_optional, published.otherwise) == (False, None)
    document = body(published)
    assert not set(PAYLOAD) & set(document)
    [result] = document["results"]
    assert (result["state"], result["result"], result["attempt"], result["code"]) == ("message", "accepted", 1, 250)


def test_refused_for_good() -> None:
    outcome = refused(make_message())
    assert outcome.verdict == Failed(is_refusal=True)
    [published] = outcome.step.publications
    assert (published.key, published.record, published.headers) == ("failure", True, {"event": "failure"})
    assert not set(PAYLOAD) & set(body(published))


def test_refused_for_now() -> None:
    message = make_message(**{"x-unknown": {"deep": [1, None]}})
    outcome = deferred(message)
    assert isinstance(outcome.verdict, Retry)
    published = by_key(outcome)
    assert set(published) == {"retries", "record"}
    mail = published["retries"]
    assert (mail.record, mail.headers, mail.otherwise, mail.is_optional) == (False, {}, None, False)
    again = body(mail)
    assert {name: again[name] for name in message.document} == message.document
    assert set(again) - set(message.document) == {"results", "extracted", "nextattempt"}
    due = outcome.verdict.due
    assert timedelta(seconds=540) <= due - NOW <= timedelta(seconds=660)
    assert again["nextattempt"] == {"time": due.strftime("%Y-%m-%d %H:%M:%S")}
    record = published["record"]
    assert (record.headers, record.record, record.is_optional) == ({"event": "retry"}, False, False)
    assert body(record) == {name: value for name, value in again.items() if name != "mime"}


def test_the_record_of_a_retry_keeps_the_key_for_the_deletion() -> None:
    message = make_message(mime=..., key="v1/2026/03/01/x", sha256="ab", size=3)
    published = by_key(deferred(message))
    assert body(published["record"])["key"] == body(published["retries"])["key"] == "v1/2026/03/01/x"
    assert "key" not in body(by_key(accepted(message))["success"])


def test_attempts_add_up() -> None:
    first = body(by_key(deferred(make_message()))["retries"])
    second = body(by_key(refused(Message(first)))["failure"])
    assert [one["attempt"] for one in second["results"]] == [1, 2]
    assert [one["code"] for one in second["results"]] == [451, 550]
    assert second["results"][0] == first["results"][0]


def test_the_last_refusal_is_the_verdict_when_time_is_over() -> None:
    message = make_message(maxdelivertime="2026-03-01 12:05:00")
    outcome = deferred(message)
    assert outcome.verdict == Failed(is_refusal=False)
    result = body(by_key(outcome)["failure"])["results"][-1]
    assert (result["state"], result["code"], result["description"]) == ("rcptto", 451, "the peer says 451")


def test_expiry_without_an_attempt() -> None:
    outcome = end(make_message(results=[{"attempt": 1, "state": "rcptto"}]), State.PROCESS, Result.TIMEOUT)
    result = body(by_key(outcome)["failure"])["results"][-1]
    assert (result["attempt"], result["code"], result["status"]) == (2, 554, "5.4.7")


@pytest.mark.parametrize("state", [State.RCPTTO, State.MESSAGE])
@pytest.mark.parametrize("result", [Result.TIMEOUT, Result.LOST, Result.INVALID])
def test_a_possible_duplicate_is_marked(state: State, result: Result) -> None:
    told = body(by_key(end(make_message(), state, result))["retries"])["results"][0]
    assert ("possible-duplicate" in told) == (state is State.MESSAGE)


def test_keepmime_keeps_everything() -> None:
    message = make_message(keepmime=1, key="k", sha256="ab")
    assert set(PAYLOAD) & set(body(by_key(accepted(message))["success"])) == {"mime", "key"}


def test_without_payload_in_every_result() -> None:
    """No copy for an application carries the content."""
    queues = {"success": "own", "results": "all", "retry": "extra"}
    message = make_message(queues=queues, mime64="eA==", key="k", sha256="ab")
    for outcome in (accepted(message), deferred(message)):
        for published in outcome.step.publications:
            found = set(PAYLOAD) & set(body(published))
            expected = set(PAYLOAD) if published.key in MAIL else {"key"} if published.key == "record" else set()
            assert found == expected, published.key


# --- which keys


def test_a_key_of_its_own_is_published_alone() -> None:
    """RabbitMQ takes a message with a reachable BCC for routed: with BCC, a key that leads nowhere would go unseen."""
    published = by_key(accepted(make_message(queues={"success": "own"})))
    assert set(published) == {"own", "record"}
    own = published["own"]
    assert (own.record, own.otherwise, own.headers, own.is_optional) == (False, "success", {}, True)
    assert published["record"].headers == {"event": "success"}
    assert (published["record"].is_optional, published["record"].record) == (False, False)


def test_null_publishes_nowhere_but_it_is_recorded() -> None:
    published = by_key(refused(make_message(queues={"failure": None})))
    assert set(published) == {"record"}
    assert body(published["record"])["results"][-1]["code"] == 550


def test_the_default_key_named_by_the_message_is_the_default() -> None:
    [published] = accepted(make_message(queues={"success": "success", "failure": "other"})).step.publications
    assert (published.key, published.record) == ("success", True)


def test_defaults_switched_off() -> None:
    off = replace(KEYS, success="", failure="")
    assert set(by_key(accepted(make_message(), keys=off))) == {"record"}
    own = by_key(accepted(make_message(queues={"success": "own"}), keys=off))
    assert set(own) == {"own", "record"}
    assert (own["own"].otherwise, own["own"].is_optional) == (None, True)


@pytest.mark.parametrize(
    ("setting", "queues", "key"),
    [("", {}, None), ("all", {}, "all"), ("", {"results": "mine"}, "mine"), ("all", {"results": None}, None)],
)
def test_the_extra_copy_of_final_results(setting: str, queues: dict[str, Any], key: str | None) -> None:
    keys = replace(KEYS, results=setting)
    published = by_key(accepted(make_message(queues=queues), keys=keys))
    assert set(published) == {"success"} | ({key} if key else set())
    if key:
        assert (published[key].is_optional, published[key].record, published[key].otherwise) == (True, False, setting or None)
        assert body(published[key]) == body(published["success"])
    assert set(by_key(deferred(make_message(queues=queues), keys=keys))) == {"retries", "record"}


def test_the_extra_copy_of_retries_never_replaces_the_mail() -> None:
    published = by_key(deferred(make_message(queues={"retry": "mine"})))
    assert set(published) == {"retries", "record", "mine"}
    assert (published["mine"].is_optional, published["mine"].otherwise) == (True, None)


def test_no_mail_is_ever_optional_or_redirected() -> None:
    queues = {"retry": "mine", "success": "own", "results": "all"}
    for outcome in (deferred(make_message(queues=queues)), refused(make_message(outbound=["seal"], queues=queues))):
        mails = [published for published in outcome.step.publications if published.key in MAIL]
        assert [(mail.is_optional, mail.otherwise, mail.record) for mail in mails] == [(False, None, False)]


@pytest.mark.parametrize("name", ["success", "failure", "results", "retry", "dsn"])
def test_keys_of_our_own_queues_are_refused(name: str) -> None:
    with pytest.raises(InvalidProperty, match=rf"^queues\.{name}: 'outbox': this key leads into a queue of the pipeline"):
        check_queues(parse_instructions(make_message(queues={name: "outbox"})), KEYS)
    check_queues(parse_instructions(make_message(queues={name: "mine", "results": None})), KEYS)


def test_a_clients_own_payload_key_reaches_the_recorder() -> None:
    published = by_key(accepted(make_message(channel="amqp", mime=..., key="client/x")))
    assert set(published) == {"success", "record"}
    assert not published["success"].record
    assert body(published["record"])["key"] == "client/x"
    assert "key" not in body(published["success"])


def test_priority_goes_along() -> None:
    for outcome in (accepted(make_message(priority=7)), deferred(make_message(priority=7, queues={"retry": "x"}))):
        assert {one.priority for one in outcome.step.publications if one.key != "record"} == {7}


def test_gzip() -> None:
    published = by_key(deferred(make_message(), keys=replace(KEYS, encoding="gzip")))
    assert {one.encoding for one in published.values()} == {"gzip"}
    assert gzip.decompress(published["retries"].body).startswith(b"{")


# --- the chain of strategies


def test_a_refusal_for_good_goes_on_to_the_next_strategy() -> None:
    message = make_message(outbound=["seal", "smtp"], nextattempt={"time": "2026-03-01 11:30:00"}, delayed="2026-03-01 11:30:00")
    outcome = refused(message)
    published = by_key(outcome)
    assert set(published) == {"seal", "record"}
    mail = body(published["seal"])
    assert mail["outbound"] == ["smtp"]
    assert mail["mime"] == message.document["mime"]
    assert not {"nextattempt", "delayed"} & set(mail)
    assert [one["code"] for one in mail["results"]] == [550]
    assert published["record"].headers == {"event": "retry"}


def test_the_last_refusal_of_the_chain_is_a_failure() -> None:
    assert set(by_key(refused(make_message(outbound=[])))) == {"failure"}


def test_a_refusal_for_now_stays_and_expiry_ends_the_chain() -> None:
    assert set(by_key(deferred(make_message(outbound=["seal"])))) == {"retries", "record"}
    assert set(by_key(deferred(make_message(outbound=["seal"], maxattempts=1)))) == {"failure"}
    assert set(by_key(end(make_message(outbound=["seal"]), State.PROCESS, Result.TIMEOUT))) == {"failure"}


@pytest.mark.parametrize("outcome", [deferred, refused])
def test_the_deadline_that_the_publishers_nextattempt_set_is_kept(outcome: Any) -> None:
    """The property is overwritten after the first attempt; a mail scheduled for next week must not expire then."""
    message = make_message(nextattempt={"time": "2026-03-08 12:00:00"}, outbound=["seal"])
    first = by_key(outcome(message, now=NOW + timedelta(days=7)))
    mail = body(first["retries" if outcome is deferred else "seal"])
    assert mail["maxdelivertime"] == "2026-03-09 12:00:00"
    second = by_key(deferred(Message(mail), now=NOW + timedelta(days=7, minutes=20)))
    assert body(second["retries"])["maxdelivertime"] == "2026-03-09 12:00:00"
    without = by_key(outcome(make_message(outbound=["seal"])))
    assert "maxdelivertime" not in body(without["retries" if outcome is deferred else "seal"])


def test_hand_over_is_unattempted() -> None:
    message = make_message(strategy="seal")
    [published] = hand_over(message, "seal", KEYS).publications
    assert (published.key, published.record, published.is_optional) == ("seal", False, False)
    assert body(published) == message.document


# --- messages that say something impossible


def test_an_impossible_message_fails_with_the_sentence() -> None:
    message = make_message(recipient="nobody", queues={"failure": "outbox"})
    outcome = refuse(message, InvalidProperty("recipient: 'nobody': there is no @"), keys=KEYS, now=NOW)
    [published] = outcome.step.publications
    assert (published.key, published.record) == ("failure", True)
    document = body(published)
    assert document["results"] == [
        {
            "state": "process", "result": "invalid", "attempt": 1, "time": "2026-03-01 12:00:00", "code": 554, "status": "5.5.2",
            "description": "recipient: 'nobody': there is no @", "strategy": "smtp",
        }
    ]  # fmt: skip
    assert document["extracted"] == {"envelope": {"local": "r", "domain": "a.example"}, "recipient": None}


@pytest.mark.parametrize("recipient", [7, None, ["a@b.example"], {"x": 1}])
def test_whatever_the_recipient_is_it_can_be_answered(recipient: Any) -> None:
    outcome = refuse(make_message(recipient=recipient), InvalidProperty("recipient"), keys=KEYS, now=NOW)
    assert body(outcome.step.publications[0])["recipient"] == recipient


# --- extracted


def test_extracted_is_of_the_content_as_sent() -> None:
    message = make_message(extracted={"subject": "at the door", "headers": {}})
    kept = body(by_key(deferred(message))["retries"])["extracted"]
    assert kept["subject"] == "at the door"
    assert kept["recipient"] == {"local": "to", "domain": "b.example"}
    sent = body(by_key(accepted(message, extracted={"subject": "as sent"}))["success"])["extracted"]
    assert sent == {
        "subject": "as sent",
        "envelope": {"local": "r", "domain": "a.example"},
        "recipient": {"local": "to", "domain": "b.example"},
    }


def test_the_null_reverse_path_has_no_parts() -> None:
    assert body(by_key(accepted(make_message(envelope="")))["success"])["extracted"]["envelope"] is None


TEXT = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(TEXT.map("x-".__add__), JSON, max_size=5))
def test_whatever_we_do_not_know_comes_back_equal(unknown: dict[str, Any]) -> None:
    message = make_message()
    message = message.with_properties(unknown)
    again = Message(body(by_key(deferred(message))["retries"]))
    told = body(by_key(accepted(again))["success"])
    assert {name: told[name] for name in unknown} == unknown
