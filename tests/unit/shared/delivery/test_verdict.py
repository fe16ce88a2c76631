"""What becomes of a message after an attempt: the table of the sending engine, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from shared.delivery.schedule import Schedule
from shared.delivery.verdict import Failed, Retry, Sent, decide
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
