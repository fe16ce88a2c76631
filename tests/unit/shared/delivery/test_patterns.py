"""Which pattern matches an attempt, and what follows from it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.patterns import Match, Patterns, contains, find_greylisted_source, flatten, order_patterns
from shared.delivery.patterns_file import load_patterns, parse_patterns
from shared.delivery.text_index import TextIndex
from shared.delivery.verdict import Failed, Retry, Sent
from shared.mail.reply import parse_reply
from shared.wire.instructions import InvalidProperty
from shared.wire.result import Attempt, Result, State
from tests.unit.shared.delivery.messages import KEYS, accepted, body, by_key, end, make_message, refused

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def patterns(*entries: str) -> Patterns:
    """Patterns from the inside of their tables."""
    return order_patterns(parse_patterns("\n".join(f"[[pattern]]\n{entry}" for entry in entries), "mine.toml"))


def attempt(
    code: int | None = 550, text: str | None = "5.1.1 no such user", *, state: State = State.RCPTTO, result: Result = Result.ERROR,
    status: str | None = None, local_ip: str | None = "192.0.2.7",
) -> Attempt:  # fmt: skip
    return Attempt(state, result, 1, NOW, code, status, text, local_ip=local_ip)


@pytest.mark.parametrize(
    ("condition", "matching", "other"),
    [
        ('state = "data"', attempt(state=State.DATA), attempt()),
        ('state = ["data", "rcptto"]', attempt(), attempt(state=State.MESSAGE)),
        ('result = "timeout"', attempt(None, None, result=Result.TIMEOUT), attempt()),
        ("code = 550", attempt(550), attempt(551)),
        ('code = "550"', attempt(550), attempt(450)),
        ('code = "55x"', attempt(559), attempt(560)),
        ('code = ["4xx", 550]', attempt(421), attempt(551)),
        ('status = "5.1.1"', attempt(status="5.1.1"), attempt(text="5.1.10 no", status="5.1.10")),
        ('status = "*.1.1"', attempt(450, "4.1.1 later"), attempt(text="5.1.2 no")),
        ('status = "5.7.606-649"', attempt(text="5.7.610 banned"), attempt(text="5.7.650 banned")),
        ('status = "5.1.1"', attempt(text="sorry, no mailbox here by that name (#5.1.1)"), attempt(text="see 5.1.1")),
        ('text = "such USER"', attempt(), attempt(text="5.1.1 no such domain")),
        ('text = "no * user"', attempt(text="No, there is NO such User"), attempt(text="user no")),
        ('text = ["a", "such"]', attempt(), attempt(text="no")),
        ("regex = '^5.1.1 NO\\b'", attempt(), attempt(text="5.1.1 nobody")),
        (
            'text = "no such user here"',
            attempt(text="5.1.1 no such\n5.1.1 user here"),
            attempt(text="5.1.1 no such\nfor user here"),
        ),
    ],
)
def test_conditions_on_the_reply(condition: str, matching: Attempt, other: Attempt) -> None:
    found = patterns(f'{condition}\nclass = "policy"')
    assert found.find(matching) is not None
    assert found.find(other) is None


@pytest.mark.parametrize(
    ("condition", "matching", "other"),
    [
        ('destination = "b.example"', {"destination": "B.example"}, {"destination": "a.b.example"}),
        ('destination = ["x.example", "*.b.example"]', {"destination": "a.b.example"}, {"destination": "b.example"}),
        ('host = "*.mx.example"', {"host": "one.mx.example"}, {"host": None}),
        ('source = "192.0.2.0/24"', {}, {"source": "198.51.100.1"}),
        ('source = ["2001:db8::/32", "198.51.100.1"]', {"source": "2001:db8::1"}, {"source": "192.0.2.9"}),
        ('tag = "news*"', {"tags": ["other", "newsletter"]}, {"tags": ["other"]}),
        ('tag = "news"', {"tags": ("news",)}, {}),
    ],
)
def test_conditions_on_the_way(condition: str, matching: dict[str, Any], other: dict[str, Any]) -> None:
    found = patterns(f"{condition}\nfatal = true")
    assert found.find(attempt(), **matching) is not None
    assert found.find(attempt(), **other) is None


def test_an_unknown_source_is_in_no_network() -> None:
    assert patterns('source = "0.0.0.0/0"\nfatal = true').find(attempt(local_ip=None)) is None


def test_all_conditions_must_hold() -> None:
    found = patterns('code = 550\ntext = "user"\nstate = "rcptto"\ndestination = "b.example"\nclass = "bad-mailbox"')
    assert found.find(attempt(), destination="b.example") is not None
    assert found.find(attempt(), destination="c.example") is None
    assert found.find(attempt(551), destination="b.example") is None


def test_the_first_match_decides() -> None:
    found = patterns('code = 550\nclass = "quota"', 'text = "user"\nclass = "policy"')
    match = found.find(attempt())
    assert match is not None
    assert (match.bounce_class, match.rule) == ("quota", "mine.toml, pattern 1")


def test_priority_comes_before_the_order() -> None:
    found = patterns('code = 550\nclass = "quota"\npriority = 1', 'text = "user"\nclass = "policy"\nname = "two"')
    match = found.find(attempt())
    assert match is not None
    assert match.rule == "mine.toml, pattern 2 (two)"


def test_a_class_that_the_first_lacks_comes_from_the_next() -> None:
    found = patterns(
        'text = "user"\nfatal = false\ninterval = "2h"', 'code = 550\nfatal = true\nclass = "quota"', 'class = "policy"'
    )
    match = found.find(attempt())
    assert match == Match("mine.toml", 1, "", "quota", fatal=False, interval=timedelta(hours=2))  # type: ignore[arg-type]
    assert [pattern.match.number for pattern in found.find_all(attempt())] == [1, 2]


def test_what_was_accepted_matches_nothing() -> None:
    assert patterns("fatal = true").find(attempt(250, "ok", state=State.MESSAGE, result=Result.ACCEPTED)) is None


def test_where_no_peer_spoke_the_words_of_the_result_count() -> None:
    silent = attempt(None, None, state=State.CONNECT, result=Result.TIMEOUT)
    assert patterns('code = 451\nstatus = "4.4.1"\ntext = "does not answer"\nfatal = true').find(silent) is not None


def test_only_the_first_characters_are_looked_at() -> None:
    found = patterns('text = "end"\nfatal = true')
    assert found.find(attempt(text="x" * 1021 + " end")) is None
    assert found.find(attempt(text="x" * 1020 + "end")) is not None


def test_flatten_keeps_the_first_status_only() -> None:
    reply = parse_reply([b"550-5.1.1 The account  you", b"550-5.1.1 tried", b"550 5.1.1  is \t gone 5.1.1"])
    assert flatten(reply.text) == "5.1.1 The account you tried is gone 5.1.1"


@given(
    st.lists(st.lists(st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=3), max_size=3), max_size=6),
    st.text("abc"),
)
def test_the_index_leaves_out_nothing_that_matches(entries: list[list[list[str]]], text: str) -> None:
    found = TextIndex(entries).find_candidates(text)
    assert found == sorted(set(found))
    for number, entry in enumerate(entries):
        if not entry or any(contains(text, parts) for parts in entry):
            assert number in found


@given(st.sampled_from(State), st.sampled_from(Result), st.none() | st.integers(200, 599), st.none() | st.text(max_size=2000))
def test_any_attempt_gets_a_class(state: State, result: Result, code: int | None, text: str | None) -> None:
    match = load_patterns().find(attempt(code, text, state=state, result=result))
    assert (match is None) == (result is Result.ACCEPTED)
    assert match is None or match.bounce_class is not None


def test_a_search_takes_no_time() -> None:
    shipped = load_patterns()
    long = attempt(599, "nobody knows what this is about " * 40)
    started = time.process_time()
    for _ in range(100):
        shipped.find(long, destination="b.example")
    assert (time.process_time() - started) / 100 < 0.002


# --- What follows --------------------------------------------------------------------------------------------------------


def conclude(entry: str, **more: Any) -> Any:
    return refused(make_message(**more), patterns=patterns(entry), host="mx.b.example")


def test_the_result_tells_what_the_pattern_said() -> None:
    outcome = conclude(
        'host = "mx.*"\ndestination = "b.example"\nclass = "rate-limit"\nindividual = false\nstrange = true\nfallback = true\n'
        'greylisted = true\nset = { team = "abuse", cost = 3 }'
    )
    [result] = body(by_key(outcome)["failure"])["results"]
    assert {name: result[name] for name in ("class", "individual", "strange", "fallback", "greylisted", "team", "cost")} == {
        "class": "rate-limit", "individual": False, "strange": True, "fallback": True, "greylisted": True, "team": "abuse", "cost": 3,
    }  # fmt: skip
    assert "fatal" not in result
    assert outcome.match.fallback is True


def test_without_patterns_nothing_is_told() -> None:
    outcome = refused(make_message())
    [result] = body(by_key(outcome)["failure"])["results"]
    assert not {"class", "fatal", "individual", "strange", "greylisted", "fallback"} & set(result)
    assert outcome.match is None


def test_not_fatal_retries_a_5xx_and_fatal_ends_a_4xx() -> None:
    assert isinstance(conclude("fatal = false").verdict, Retry)
    ended = end(make_message(), State.RCPTTO, Result.ERROR, 450, patterns=patterns("fatal = true"))
    assert ended.verdict == Failed(is_refusal=True)
    [result] = body(by_key(ended)["failure"])["results"]
    assert (result["code"], result["fatal"]) == (450, True)


def test_a_made_up_code_agrees_with_a_fatal_pattern() -> None:
    ended = end(make_message(), State.CONNECT, Result.TIMEOUT, patterns=patterns('state = "connect"\nfatal = true'))
    [result] = body(by_key(ended)["failure"])["results"]
    assert (result["code"], result["status"]) == (554, "5.4.1")


def test_the_interval_is_when_it_is_tried_again() -> None:
    outcome = conclude('fatal = false\ninterval = "90m"')
    assert outcome.verdict == Retry(timedelta(minutes=90), NOW + timedelta(minutes=90))
    assert body(by_key(outcome)["retries"])["nextattempt"] == {"time": "2026-03-01 13:30:00"}


def test_tags_are_added_to_those_of_the_message() -> None:
    outcome = conclude('tag = "a"\nfatal = false\ntags = ["b", "a", "c"]', tags=["a", "x"])
    assert body(by_key(outcome)["retries"])["tags"] == ["a", "x", "b", "c"]
    assert body(by_key(conclude('tags = ["b"]'))["failure"])["tags"] == ["b"]


def test_an_acceptance_is_left_alone() -> None:
    outcome = accepted(make_message(), patterns=patterns('fatal = true\nclass = "policy"\ntags = ["x"]'))
    assert isinstance(outcome.verdict, Sent)
    assert "class" not in body(by_key(outcome)["success"])["results"][0]


def test_the_next_attempt_after_greylisting_keeps_its_source() -> None:
    first = body(by_key(conclude("greylisted = true\nfatal = false"))["retries"])["results"]
    assert find_greylisted_source(first) is None, "there was no connection"
    assert find_greylisted_source([{**first[0], "from": "192.0.2.7"}]) == "192.0.2.7"
    assert find_greylisted_source([{"greylisted": True, "from": "192.0.2.7"}, {"from": "192.0.2.8"}]) is None
    assert find_greylisted_source([]) is None
    assert find_greylisted_source(["odd"]) is None


def test_a_mail_that_cannot_be_processed_has_a_class() -> None:
    from shared.delivery.outcome import refuse

    outcome = refuse(make_message(), InvalidProperty("ips: odd"), keys=KEYS, now=NOW, patterns=load_patterns())
    assert outcome.attempt.bounce_class == "bad-content"
