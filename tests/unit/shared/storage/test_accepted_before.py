"""Confirmed recipients whose client does not know it: in files, for an hour, for all processes of a host."""

import os
import time
from pathlib import Path

import pytest

from shared.acceptance import Accepted
from shared.storage import accepted_before
from shared.storage.accepted_before import MAX_AGE, REPEATED, AcceptedBefore, parse_accepted, render_accepted

NAME = "a" * 64
OTHER = "b" * 64
FIRST = Accepted("id-1", "message-1", "a@example.org")
SECOND = Accepted("id-2", "message-2", "用户@example.org")


def age(path: Path, seconds: float) -> None:
    """As if it was written so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_is_remembered_is_known_to_all_processes_until_it_is_forgotten(tmp_path: Path) -> None:
    one, other = AcceptedBefore(tmp_path / "accepted"), AcceptedBefore(tmp_path / "accepted")
    assert other.recall(NAME) == {}
    one.remember(NAME, [FIRST, SECOND])
    assert other.recall(NAME) == {"a@example.org": FIRST, "用户@example.org": SECOND}
    assert other.recall(OTHER) == {}
    other.forget(NAME, {"a@example.org", "用户@example.org"})
    assert one.recall(NAME) == {}
    one.forget(NAME, {"a@example.org"})


def test_only_who_was_told_is_forgotten_and_counted(tmp_path: Path) -> None:
    memory = AcceptedBefore(tmp_path)
    memory.remember(NAME, [FIRST, SECOND])
    before = REPEATED._value.get()
    assert memory.recall(NAME).keys() == {"a@example.org", "用户@example.org"}
    memory.forget(NAME, {"other@example.org"})
    assert len(memory.recall(NAME)) == 2
    assert REPEATED._value.get() == before
    memory.forget(NAME, {"a@example.org", "other@example.org"})
    assert memory.recall(NAME) == {"用户@example.org": SECOND}
    assert REPEATED._value.get() == before + 1
    memory.forget(NAME, ["用户@example.org"])
    assert list(tmp_path.iterdir()) == []
    assert REPEATED._value.get() == before + 2


def test_when_the_rest_cannot_be_kept_the_told_are_forgotten_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = AcceptedBefore(tmp_path)
    memory.remember(NAME, [FIRST, SECOND])

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    memory.forget(NAME, {"a@example.org"})
    assert memory.recall(NAME) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_mail_in_several_transactions_is_remembered_for_all_its_recipients(tmp_path: Path) -> None:
    memory = AcceptedBefore(tmp_path)
    memory.remember(NAME, [FIRST])
    memory.remember(NAME, [SECOND])
    assert memory.recall(NAME) == {"a@example.org": FIRST, "用户@example.org": SECOND}
    # What is too old does not come back to life with what is new.
    age(tmp_path / NAME, MAX_AGE + 1)
    memory.remember(NAME, [SECOND])
    assert memory.recall(NAME) == {"用户@example.org": SECOND}


def test_a_folder_known_to_be_empty_is_not_looked_into(tmp_path: Path) -> None:
    memory = AcceptedBefore(tmp_path)
    seen = time.time_ns() - 10**10
    os.utime(tmp_path, ns=(seen, seen))
    assert memory.is_empty()
    # Nobody but this test sets the time of the folder back: it shows that only that is looked at.
    AcceptedBefore(tmp_path).remember(NAME, [FIRST])
    os.utime(tmp_path, ns=(seen, seen))
    assert memory.is_empty()
    os.utime(tmp_path)
    assert not memory.is_empty()
    assert memory.recall(NAME) == {"a@example.org": FIRST}


def test_a_folder_that_changed_just_now_is_looked_into_again(tmp_path: Path) -> None:
    """Two changes within a tick of the file system's clock leave the same time."""
    memory = AcceptedBefore(tmp_path)
    assert memory.is_empty()
    changed = os.stat(tmp_path).st_mtime_ns
    (tmp_path / NAME).write_bytes(render_accepted([FIRST]))
    os.utime(tmp_path, ns=(changed, changed))
    assert not memory.is_empty()


def test_after_an_hour_it_is_forgotten(tmp_path: Path) -> None:
    memory = AcceptedBefore(tmp_path)
    memory.remember(NAME, [FIRST])
    age(tmp_path / NAME, MAX_AGE - 60)
    assert memory.recall(NAME) != {}
    age(tmp_path / NAME, MAX_AGE + 1)
    assert memory.recall(NAME) == {}


def test_the_sweep_takes_what_is_too_old_and_nothing_else(tmp_path: Path) -> None:
    AcceptedBefore(tmp_path).remember(NAME, [FIRST])
    (tmp_path / f".{OTHER}.17").write_text("half")
    (tmp_path / "notes.txt").write_text("somebody's")
    for path in tmp_path.iterdir():
        age(path, MAX_AGE + 1)
    AcceptedBefore(tmp_path).remember(OTHER, [SECOND])
    assert sorted(path.name for path in tmp_path.iterdir()) == [OTHER, "notes.txt"]


def test_a_file_of_the_future_is_too_old(tmp_path: Path) -> None:
    """Somebody has set the clock back: it would stay for ever."""
    AcceptedBefore(tmp_path).remember(NAME, [FIRST])
    age(tmp_path / NAME, -2 * MAX_AGE)
    AcceptedBefore(tmp_path).remember(OTHER, [SECOND])
    assert [path.name for path in tmp_path.iterdir()] == [OTHER]


def test_the_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted_before, "MAX_FILES", 2)
    memory = AcceptedBefore(tmp_path)
    for letter in "abcd":
        memory.remember(letter * 64, [FIRST])
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("text", [b"", b"[[1, 2", b"{}", b"[1]", b'[["a", "b"]]', b'[["a", "b", 3]]'], ids=repr)
def test_a_file_that_a_power_cut_left_is_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / NAME).write_bytes(text)
    assert AcceptedBefore(tmp_path).recall(NAME) == {}
    with pytest.raises(ValueError, match=r"."):
        parse_accepted(text)


def test_a_folder_that_cannot_be_used_refuses_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = AcceptedBefore(tmp_path / "file")
    memory.remember(NAME, [FIRST])
    assert memory.recall(NAME) == {}
    memory.forget(NAME, {"a@example.org"})
