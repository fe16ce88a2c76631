"""What becomes of a message after an attempt: the table of the sending engine, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.patterns import Match
from shared.delivery.schedule import Schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.verdict import OURS_FINAL, Failed, Retry, Sent, decide
from shared.wire.result import Attempt, Result, State

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SCHEDULE = Schedule(NOW + timedelta(days=1), 0, (timedelta(minutes=10),), 0)
SENT, RETRY, FAILED = "sent", "retry", "failed"
EXPIRED = "expired"
SMTP_STATES = [
    State.INTRO, State.EHLO, State.HELO, State.STARTTLS, State.AUTHPLAIN, State.AUTHLOGIN, State.AUTHUSERNAME, State.AUTHPASSWORD,
    State.AUTHCRAM, State.AUTHRESPONSE, State.MAILFROM, State.RCPTTO, State.DATA, State.MESSAGE,
]  # fmt: skip
TRANSACTION = [State.MAILFROM, State.RCPTTO, State.DATA, State.MESSAGE]
SESSION = [state for state in SMTP_STATES if state not in TRANSACTION]


def verdict(
    state: State, result: Result, code: int | None = None, *, status: str | None = None, smarthost: bool = False, number: int = 1,
    schedule: Schedule = SCHEDULE,
) -> str:  # fmt: skip
    attempt = Attempt(state, result, number, NOW, code, status)
    match decide(attempt, ident="m1", schedule=schedule, now=NOW, with_smarthost=smarthost):
        case Sent():
            return SENT
        case Retry(after, due):
            assert (after, due) == (timedelta(minutes=10), NOW + timedelta(minutes=10))
            return RETRY
        case Failed(is_refusal):
            return FAILED if is_refusal else EXPIRED


@pytest.mark.parametrize("code", [200, 250, 251, 299])
def test_any_2xx_to_the_dot_is_sent(code: int) -> None:
    assert verdict(State.MESSAGE, Result.ACCEPTED, code) == SENT


@pytest.mark.parametrize("state", [state for state in State if state is not State.MESSAGE])
def test_accepted_anywhere_else_is_not_sent(state: State) -> None:
    assert verdict(state, Result.ACCEPTED, 250) != SENT


@pytest.mark.parametrize("state", TRANSACTION)
def test_5xx_in_the_transaction_fails(state: State) -> None:
    assert {verdict(state, Result.ERROR, code) for code in range(500, 600)} == {FAILED}


@pytest.mark.parametrize("state", SESSION)
def test_5xx_before_the_transaction_concerns_the_host(state: State) -> None:
    assert {verdict(state, Result.ERROR, code) for code in range(500, 600)} == {RETRY}


@pytest.mark.parametrize("state", SMTP_STATES)
def test_our_credentials_at_a_smarthost(state: State) -> None:
    for code in (530, 535, 538):
        assert verdict(state, Result.ERROR, code, smarthost=True) == RETRY
        assert verdict(state, Result.ERROR, code, smarthost=False) == (FAILED if state in TRANSACTION else RETRY)


@pytest.mark.parametrize("state", TRANSACTION)
def test_another_5xx_at_a_smarthost_fails(state: State) -> None:
    assert verdict(state, Result.ERROR, 550, smarthost=True) == FAILED


@pytest.mark.parametrize("state", SMTP_STATES)
def test_4xx_anywhere_is_tried_again(state: State) -> None:
    assert {verdict(state, Result.ERROR, code) for code in range(400, 500)} == {RETRY}


@pytest.mark.parametrize("state", [*SMTP_STATES, State.CONNECT])
def test_no_reply_is_tried_again(state: State) -> None:
    for result in (Result.TIMEOUT, Result.LOST, Result.INVALID):
        assert verdict(state, result) == RETRY
        assert verdict(state, result, 550) == RETRY


@pytest.mark.parametrize("code", [None, 250, 354, 600])
def test_an_error_that_is_no_refusal_is_tried_again(code: int | None) -> None:
    assert verdict(State.RCPTTO, Result.ERROR, code) == RETRY


@pytest.mark.parametrize(
    ("state", "result", "expected"),
    [
        (State.PROCESS, Result.INVALID, FAILED),
        (State.PROCESS, Result.ERROR, FAILED),
        (State.PROCESS, Result.TIMEOUT, EXPIRED),
        (State.SUPPRESSION, Result.ERROR, FAILED),
        (State.STORAGE, Result.ERROR, FAILED),
        (State.STORAGE, Result.INVALID, FAILED),
        (State.STORAGE, Result.LOST, RETRY),
        (State.STORAGE, Result.TIMEOUT, RETRY),
        (State.RESPONSIVE, Result.ERROR, FAILED),
        (State.PERSONALIZE, Result.ERROR, FAILED),
        (State.DNS, Result.ERROR, FAILED),
        (State.DNS, Result.TIMEOUT, RETRY),
        (State.CONNECT, Result.ERROR, RETRY),
        (State.CONNECT, Result.TIMEOUT, RETRY),
        (State.BIND, Result.ERROR, RETRY),
    ],
)
def test_verdicts_of_ours(state: State, result: Result, expected: str) -> None:
    assert verdict(state, result) == expected


def test_bind_fails_when_the_message_named_the_addresses() -> None:
    assert verdict(State.BIND, Result.ERROR, status="5.3.5") == FAILED
    assert verdict(State.BIND, Result.ERROR, status="4.3.5") == RETRY


def test_only_private_addresses_is_tried_again_and_ourselves_fails() -> None:
    assert verdict(State.CONNECT, Result.ERROR, 451, status="4.4.6") == RETRY
    assert verdict(State.DNS, Result.ERROR, 554, status="5.4.6") == FAILED


def test_a_dns_error_that_may_pass_is_tried_again() -> None:
    assert verdict(State.DNS, Result.ERROR, status="4.7.5") == RETRY
    assert verdict(State.DNS, Result.ERROR, 451) == RETRY
    assert verdict(State.DNS, Result.ERROR, status="5.1.10") == FAILED


@pytest.mark.parametrize("state", [*SMTP_STATES, State.CONNECT])
def test_421_at_any_time_is_tried_again(state: State) -> None:
    assert verdict(state, Result.ERROR, 421) == RETRY
    assert verdict(state, Result.ERROR, 421, smarthost=True) == RETRY


def test_5xx_to_ehlo_or_helo_says_nothing_about_the_mail() -> None:
    assert verdict(State.EHLO, Result.ERROR, 502) == RETRY
    assert verdict(State.HELO, Result.ERROR, 550) == RETRY


def test_the_last_attempt_fails_with_its_refusal() -> None:
    two = Schedule(NOW + timedelta(days=1), 2, (timedelta(minutes=10),), 0)
    assert verdict(State.RCPTTO, Result.ERROR, 451, number=1, schedule=two) == RETRY
    assert verdict(State.RCPTTO, Result.ERROR, 451, number=2, schedule=two) == EXPIRED
    assert verdict(State.RCPTTO, Result.ERROR, 550, number=2, schedule=two) == FAILED
    assert verdict(State.MESSAGE, Result.ACCEPTED, 250, number=2, schedule=two) == SENT


def test_the_next_attempt_must_begin_before_the_deadline() -> None:
    for left, expected in ((601, RETRY), (600, EXPIRED), (599, EXPIRED), (-5, EXPIRED)):
        schedule = Schedule(NOW + timedelta(seconds=left), 0, (timedelta(minutes=10),), 0)
        assert verdict(State.RCPTTO, Result.ERROR, 451, schedule=schedule) == expected


def test_every_combination_has_a_verdict() -> None:
    for state, result, code in product(State, Result, [None, 250, 421, 550]):
        found = verdict(state, result, code)
        assert (found == SENT) == (state is State.MESSAGE and result is Result.ACCEPTED), (state, result, code)


# --- With response patterns ----------------------------------------------------------------------------------------------


def with_match(state: State, result: Result, code: int | None = None, number: int = 1, **match: Any) -> Sent | Retry | Failed:
    attempt = Attempt(state, result, number, NOW, code)
    return decide(attempt, ident="m1", schedule=SCHEDULE, now=NOW, match=Match("mine.toml", 1, **match))


def test_a_pattern_overrules_the_code() -> None:
    assert isinstance(with_match(State.RCPTTO, Result.ERROR, 550, fatal=False), Retry)
    assert with_match(State.RCPTTO, Result.ERROR, 450, fatal=True) == Failed(is_refusal=True)
    assert with_match(State.CONNECT, Result.TIMEOUT, fatal=True) == Failed(is_refusal=True)
    assert isinstance(with_match(State.DNS, Result.ERROR, fatal=False), Retry)


def test_a_pattern_without_fatal_leaves_the_code_alone() -> None:
    assert with_match(State.RCPTTO, Result.ERROR, 550, greylisted=True, individual=False) == Failed(is_refusal=True)
    assert isinstance(with_match(State.RCPTTO, Result.ERROR, 450, greylisted=True), Retry)


def test_the_interval_of_a_pattern_replaces_that_of_the_schedule() -> None:
    wait = timedelta(minutes=90)
    assert with_match(State.RCPTTO, Result.ERROR, 450, interval=wait) == Retry(wait, NOW + wait)
    assert with_match(State.RCPTTO, Result.ERROR, 450, number=9, interval=wait) == Retry(wait, NOW + wait)
    assert with_match(State.RCPTTO, Result.ERROR, 550, interval=wait) == Failed(is_refusal=True)
    assert with_match(State.RCPTTO, Result.ERROR, 450, interval=timedelta(days=1)) == Failed(is_refusal=False)


@pytest.mark.parametrize("state", sorted(OURS_FINAL))
def test_a_pattern_does_not_overrule_what_we_know(state: State) -> None:
    assert with_match(state, Result.ERROR, fatal=False) == Failed(is_refusal=True)
    assert with_match(State.PROCESS, Result.TIMEOUT, fatal=False) == Failed(is_refusal=False)


def test_the_whole_life_of_a_mail_that_a_pattern_keeps_waiting() -> None:
    """An hour each time, whatever the schedule says: 24 attempts in the day that a mail has."""
    schedule = Schedule(NOW + timedelta(days=1), 0, RetrySettings().retry_interval, 0.1)
    now, times, match = NOW, [], Match("mine.toml", 1, greylisted=True, interval=timedelta(hours=1))
    for number in range(1, 100):
        times.append(now - NOW)
        found = decide(Attempt(State.RCPTTO, Result.ERROR, number, now, 451), ident="m1", schedule=schedule, now=now, match=match)
        if not isinstance(found, Retry):
            break
        now = found.due
    assert times == [timedelta(hours=hour) for hour in range(24)]
    assert found == Failed(is_refusal=False)


ATTEMPTS = st.builds(
    Attempt,
    state=st.sampled_from(State),
    result=st.sampled_from(Result),
    number=st.integers(1, 1000),
    time=st.just(NOW),
    code=st.none() | st.integers(200, 599),
    status=st.none() | st.sampled_from(["4.4.6", "5.3.5", "5.1.10", "2.0.0"]),
)
MATCHES = st.none() | st.builds(
    Match,
    file=st.just("mine.toml"),
    number=st.just(1),
    fatal=st.none() | st.booleans(),
    greylisted=st.none() | st.booleans(),
    interval=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=30)),
)
SCHEDULES = st.builds(
    Schedule,
    deadline=st.timedeltas(timedelta(days=-2), timedelta(days=40)).map(lambda left: NOW + left),
    most_attempts=st.integers(0, 20),
    intervals=st.lists(st.timedeltas(timedelta(0), timedelta(days=2)), min_size=1, max_size=4),
    jitter=st.sampled_from([0.0, 0.1]),
)


@given(ATTEMPTS, MATCHES, SCHEDULES, st.booleans(), st.text(max_size=8))
def test_whatever_happens(attempt: Attempt, match: Match | None, schedule: Schedule, smarthost: bool, ident: str) -> None:
    found = decide(attempt, ident=ident, schedule=schedule, now=NOW, with_smarthost=smarthost, match=match)
    # What a peer has accepted is sent, and nothing else is.
    assert isinstance(found, Sent) == (attempt.state is State.MESSAGE and attempt.result is Result.ACCEPTED)
    if isinstance(found, Retry):
        assert found.after >= timedelta(0)
        assert found.due == NOW + found.after
        assert found.due < schedule.deadline
        assert not schedule.most_attempts or attempt.number < schedule.most_attempts
    # It depends on nothing else.
    assert decide(attempt, ident=ident, schedule=schedule, now=NOW, with_smarthost=smarthost, match=match) == found
    # A pattern without a word about the verdict has none.
    plain = decide(attempt, ident=ident, schedule=schedule, now=NOW, with_smarthost=smarthost)
    if match is None or (match.fatal is None and match.interval is None):
        assert found == plain
