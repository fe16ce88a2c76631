"""Codes and texts of ours: the class of the status is the class of the code."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from shared.delivery.texts import TEXTS, fill_in
from shared.delivery.verdict import is_final
from shared.wire.result import Attempt, Result, State

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("state", list(State))
def test_code_and_status_agree(state: State) -> None:
    for result, permanent in product(Result, (True, False)):
        check(fill_in(Attempt(state, result, 1, NOW), permanent=permanent), permanent=permanent)


def check(told: Attempt, *, permanent: bool) -> None:
    assert told.code is not None
    assert told.status is not None
    assert told.status.split(".")[0] == str(told.code)[0]
    assert len(told.status.split(".")) == 3
    assert told.description
    if permanent:
        assert told.code >= 500


@pytest.mark.parametrize(("state", "result"), list(TEXTS))
def test_a_made_up_5xx_is_one_that_is_final(state: State, result: Result) -> None:
    """A retry must not be told with a 5xx, a failure not with a 4xx."""
    code, status, _ = TEXTS[state, result]
    final = is_final(Attempt(state, result, 1, NOW)) or (state, result) == (State.PROCESS, Result.TIMEOUT)
    assert (code >= 500) == (status[0] == "5") == final


@pytest.mark.parametrize(
    ("status", "permanent", "code", "told_status"),
    [
        ("5.1.10", True, 554, "5.1.10"),
        ("5.4.6", False, 554, "5.4.6"),
        ("4.4.6", False, 451, "4.4.6"),
        ("4.4.6", True, 554, "5.4.6"),
    ],
)
def test_a_status_of_ours_without_a_code(status: str, permanent: bool, code: int, told_status: str) -> None:
    told = fill_in(Attempt(State.DNS, Result.ERROR, 1, NOW, status=status, description="because"), permanent=permanent)
    assert (told.code, told.status, told.description) == (code, told_status, "because")


def test_what_the_peer_said_is_never_touched() -> None:
    said = Attempt(State.RCPTTO, Result.ERROR, 1, NOW, 550, None, "go away")
    assert fill_in(said, permanent=True) is said
    lie = Attempt(State.RCPTTO, Result.ERROR, 1, NOW, 450, None, "")
    assert fill_in(lie, permanent=True) is lie
