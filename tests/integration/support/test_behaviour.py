"""The language of addresses and scripts, read."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.behaviour import (
    GARBAGE,
    Ending,
    NotABehaviour,
    Playbook,
    Script,
    State,
    Step,
    parse_behaviour,
    render_reply,
)


def replies(local_part: str, state: State = State.RCPTTO) -> list[str]:
    """The planned reply to ``state`` of each attempt, its code and enhanced status; ``-`` = the usual one."""
    steps = [plan.get(state) for plan in parse_behaviour(local_part)]
    return ["-" if step is None or step.reply is None else " ".join(step.reply.decode().split()[:2]) for step in steps]


@pytest.mark.parametrize(
    ("local_part", "state", "expected"),
    [
        ("ok", State.RCPTTO, ["-"]),
        ("anna.miller", State.RCPTTO, ["-"]),
        ("rejected", State.RCPTTO, ["-"]),
        ("grey", State.RCPTTO, ["451 4.7.1", "-"]),
        ("Grey-2+any-thing", State.RCPTTO, ["451 4.7.1", "451 4.7.1", "-"]),
        ("tempfail", State.RCPTTO, ["451 4.3.0"]),
        ("tempfail-452", State.RCPTTO, ["452 4.2.2"]),
        ("reject", State.RCPTTO, ["550 5.1.1"]),
        ("reject-554", State.RCPTTO, ["554 5.7.1"]),
        ("reject-599", State.RCPTTO, ["599 5.0.0"]),
        ("fail-data-451", State.DATA, ["451 4.3.0"]),
        ("fail-message-550-1", State.MESSAGE, ["550 5.7.1", "-"]),
        ("fail-mailfrom-550", State.MAILFROM, ["550 5.1.8"]),
        ("c421-rcptto", State.RCPTTO, ["421 4.3.2"]),
        ("multi", State.MESSAGE, ["250-2.0.0 first"]),
        ("multi-550", State.RCPTTO, ["550-5.1.1 first"]),
        ("multi-451-data", State.DATA, ["451-4.3.0 first"]),
    ],
)
def test_words_ask_for_replies(local_part: str, state: State, expected: list[str]) -> None:
    assert replies(local_part, state) == expected


@pytest.mark.parametrize(
    ("local_part", "state", "step"),
    [
        ("drop-data", State.DATA, Step(b"", ending=Ending.CLOSE, stored=False)),
        ("drop-stored", State.MESSAGE, Step(b"", ending=Ending.CLOSE, stored=True)),
        ("reset-content", State.CONTENT, Step(b"", ending=Ending.RESET, stored=False)),
        ("silent-rcptto", State.RCPTTO, Step(b"", ending=Ending.SILENT, stored=False)),
        ("garbage-message", State.MESSAGE, Step(GARBAGE, stored=False)),
        ("slow", State.MESSAGE, Step(after=timedelta(seconds=1))),
        ("slow-0.5-rcptto", State.RCPTTO, Step(after=timedelta(seconds=0.5))),
        ("slow-200ms", State.MESSAGE, Step(after=timedelta(milliseconds=200))),
    ],
)
def test_words_ask_for_trouble(local_part: str, state: State, step: Step) -> None:
    assert parse_behaviour(local_part) == ({state: step},)


@pytest.mark.parametrize(
    "local_part",
    [
        "grey-x",
        "tempfail-550",
        "reject-9",
        "fail-data",
        "fail-nowhere-550",
        "drop",
        "drop-x",
        "slow-x",
        "fail-data-550-x",
        "ok-1",
    ],
)
def test_a_known_word_with_unreadable_arguments_is_named(local_part: str) -> None:
    with pytest.raises(NotABehaviour, match=f"behaviour '{local_part}': expected "):
        parse_behaviour(local_part)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("250", b"250\r\n"),
        ("550 5.1.1 No", b"550 5.1.1 No\r\n"),
        ("550 5.1.1 No\nnever", b"550-5.1.1 No\r\n550 5.1.1 never\r\n"),
        ("451 wait\nü", b"451-wait\r\n451 \xc3\xbc\r\n"),
        ("250 1.2.3.4 is you", b"250 1.2.3.4 is you\r\n"),
    ],
)
def test_replies_are_rendered_line_by_line(text: str, lines: bytes) -> None:
    assert render_reply(text) == lines


@pytest.mark.parametrize("text", ["", "hello", "99 x", "650 x", "2500", "550x"])
def test_a_reply_without_a_code_is_refused(text: str) -> None:
    with pytest.raises(NotABehaviour, match="expected a code"):
        render_reply(text)


def test_attempts_are_counted_per_recipient_without_case() -> None:
    book = Playbook()
    plans = [book.next_for_recipient(address) for address in ("grey-1@x.example", "GREY-1@x.example", "grey-1@y.example")]
    assert [bool(plan) for plan in plans] == [True, False, True]
    assert book.attempts == {"grey-1@x.example": 2, "grey-1@y.example": 1}
    book.next_for_recipient("anna@x.example")
    assert "anna@x.example" not in book.attempts


def test_a_script_goes_before_the_language(tmp_path: Path) -> None:
    script = {
        "recipients": {
            "Anna@x.example": ["451 4.7.1 not now", "grey-1", {"state": "message", "reply": "552 5.2.2 full\nsorry"}],
            "*@y.example": [[{"state": "rcptto", "after": 0.5}, {"state": "data", "reply": "", "ending": "reset"}]],
        },
        "reverse_paths": {"*": ["550 5.7.1 not you"]},
    }
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    book = Playbook(Script.from_file(path))
    texts = [plan.get(State.RCPTTO, Step()).reply for plan in [book.next_for_recipient("anna@X.example") for _ in range(4)]]
    assert texts == [b"451 4.7.1 not now\r\n", b"451 4.7.1 Greylisted, try again later\r\n", None, None]
    last = book.next_for_recipient("anna@x.example")
    assert last == {State.MESSAGE: Step(b"552-5.2.2 full\r\n552 5.2.2 sorry\r\n")}
    assert book.next_for_recipient("reject@y.example") == {
        State.RCPTTO: Step(after=timedelta(seconds=0.5)),
        State.DATA: Step(b"", ending=Ending.RESET),
    }
    assert State.RCPTTO in book.next_for_recipient("reject@z.example")
    assert book.next_for_reverse_path("who@ever.example") == {State.MAILFROM: Step(b"550 5.7.1 not you\r\n")}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("ok", "expected a list"),
        ([], "expected a list"),
        (["okay"], "expected a reply or one of"),
        ([{"state": "rcptto", "replies": "250 x"}], "unknown replies"),
        ([{"state": "nowhere"}], "nowhere"),
        ([{"reply": "250 x"}], "KeyError 'state'"),
        ([{"state": "data", "reply": "hello"}], "expected a code"),
        ([5], "expected text, an object"),
    ],
)
def test_a_script_that_cannot_be_read_is_named(tmp_path: Path, entry: object, reason: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"recipients": {"a@b.example": entry}}))
    with pytest.raises(NotABehaviour, match=reason) as caught:
        Script.from_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{", '{"recipient": {}}'])
def test_a_script_file_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(text)
    with pytest.raises(NotABehaviour, match=r"script .*script\.json: "):
        Script.from_file(path)
