"""The journal: what each process of a host learns of the attempts of the others, the living and the dead."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.finished import Finished
from shared.delivery.journal import Crashed, Done, Ended, InWork, Unknown
from shared.storage import journal as module
from shared.storage.journal import FileJournal
from shared.trouble import BadSetting
from shared.wire.result import Attempt, Result, State

DIGEST = "ab" * 32


def accepted(number: int = 1) -> Finished:
    attempt = Attempt(
        State.MESSAGE, Result.ACCEPTED, number, datetime(2026, 3, 1, 12, tzinfo=UTC), 250, "2.0.0", "2.0.0 Ok: queued",
        mta="mx.example", sent={"connection": 100, "data": 50}, cipher={"name": "TLS_AES", "bits": 256},
    )  # fmt: skip
    return Finished(attempt, {"subject": "x", "headers": {"received": ["a", "b"]}}, 50, with_smarthost=True)


def die(journal: FileJournal) -> None:
    """As a process that is killed: its files are closed, and nothing more is written."""
    for file in journal._files():
        file.close()


def test_nothing_is_known_of_a_new_mail(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    assert journal.look("a", 1) == Unknown()


def test_what_a_living_process_has_in_hand_is_in_work_for_itself_and_for_others(tmp_path: Path) -> None:
    one, other = FileJournal(tmp_path), FileJournal(tmp_path)
    one.begin("a", 1)
    assert one.look("a", 1) == other.look("a", 1) == InWork()
    one.end("a", accepted())
    assert one.look("a", 1) == other.look("a", 1) == InWork()
    one.done("a", 1)
    assert one.look("a", 1) == other.look("a", 1) == Done()
    assert other.look("a", 2) == Unknown()


def test_an_attempt_that_ended_before_its_process_died_is_told_as_it_was(tmp_path: Path) -> None:
    one, other = FileJournal(tmp_path), FileJournal(tmp_path)
    one.begin("a", 3)
    one.end("a", accepted(3))
    die(one)
    assert other.look("a", 3) == Ended("a", accepted(3))
    # A process that starts later knows it too, and so does everybody once it is done.
    later = FileJournal(tmp_path)
    assert later.look("a", 3) == Ended("a", accepted(3))
    later.done("a", 3)
    assert other.look("a", 3) == later.look("a", 3) == Done()


def test_crashes_are_counted_by_process(tmp_path: Path) -> None:
    first = FileJournal(tmp_path)
    first.begin("a", 1)
    first.begin("b", 1)
    die(first)
    second = FileJournal(tmp_path)
    assert second.look("a", 1) == Crashed(1)
    second.begin("a", 1)
    die(second)
    third = FileJournal(tmp_path)
    assert third.look("a", 1) == Crashed(2)
    assert third.look("b", 1) == Crashed(1)


def test_a_parked_mail_begins_anew_when_it_comes_back(tmp_path: Path) -> None:
    for _ in range(2):
        journal = FileJournal(tmp_path)
        journal.begin("a", 1)
        die(journal)
    journal = FileJournal(tmp_path)
    journal.forget("a", 1)
    assert journal.look("a", 1) == Unknown()
    other = FileJournal(tmp_path)
    assert other.look("a", 1) == Unknown()
    journal.begin("a", 1)
    die(journal)
    assert other.look("a", 1) == Crashed(1)


def test_a_process_that_stops_in_the_middle_was_not_killed_by_its_mail(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.begin("a", 1)
    journal.end("b", accepted())
    journal.close()
    other = FileJournal(tmp_path)
    assert other.look("a", 1) == Unknown()
    assert other.look("b", 1) == Ended("b", accepted())


def test_what_was_not_made_after_all_is_unknown(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.begin("a", 1)
    journal.forget("a", 1)
    assert journal.look("a", 1) == Unknown()
    die(journal)
    assert FileJournal(tmp_path).look("a", 1) == Unknown()


def test_a_body_without_an_id_is_claimed_once(tmp_path: Path) -> None:
    one = FileJournal(tmp_path)
    one.end("a", accepted(), DIGEST)
    one.end("b", accepted(), DIGEST)
    one.end("c", accepted(), "cd" * 32)
    two, three = FileJournal(tmp_path), FileJournal(tmp_path)
    assert two.claim(DIGEST) is None, "the living answer for themselves"
    die(one)
    claimed = [two.claim(DIGEST), three.claim(DIGEST), two.claim(DIGEST), three.claim(DIGEST)]
    assert sorted(ended.ident for ended in claimed if ended) == ["a", "b"]


def test_a_claim_ends_with_its_process_unless_it_was_done(tmp_path: Path) -> None:
    one = FileJournal(tmp_path)
    one.end("a", accepted(), DIGEST)
    die(one)
    two = FileJournal(tmp_path)
    assert two.claim(DIGEST) == Ended("a", accepted())
    die(two)
    three = FileJournal(tmp_path)
    assert three.claim(DIGEST) == Ended("a", accepted())
    three.done("a", 1)
    die(three)
    assert FileJournal(tmp_path).claim(DIGEST) is None


def test_a_digest_that_was_done_is_never_claimed(tmp_path: Path) -> None:
    """The same body again is another mail: it must be sent."""
    one = FileJournal(tmp_path)
    one.end("a", accepted(), DIGEST)
    one.done("a", 1)
    die(one)
    assert FileJournal(tmp_path).claim(DIGEST) is None


def test_a_line_that_was_cut_is_passed_over(tmp_path: Path) -> None:
    one = FileJournal(tmp_path)
    one.end("a", accepted())
    die(one)
    [path] = tmp_path.glob("*.journal")
    with path.open("ab") as file:
        file.write(b"end b")
    other = FileJournal(tmp_path)
    assert other.look("a", 1) == Ended("a", accepted())
    assert other.look("b", 1) == Unknown()


def test_a_new_file_takes_along_what_is_open(tmp_path: Path) -> None:
    one, other = FileJournal(tmp_path, rotate=2000), FileJournal(tmp_path)
    one.begin("open", 1)
    one.end("sent", accepted())
    for number in range(50):
        one.begin(f"m{number}", 1)
        one.end(f"m{number}", accepted())
        one.done(f"m{number}", 1)
    own = [path for path in tmp_path.glob("*.journal") if path.stat().st_size]
    assert len(own) == 2
    assert other.look("open", 1) == other.look("sent", 1) == InWork()
    assert other.look("m49", 1) == Done()
    die(one)
    assert other.look("open", 1) == Crashed(1)
    assert other.look("sent", 1) == Ended("sent", accepted())


def test_old_files_are_swept_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ident, is_done in (("open", False), ("closed", True)):
        journal = FileJournal(tmp_path)
        journal.end(ident, accepted())
        if is_done:
            journal.done(ident, 1)
        die(journal)
    monkeypatch.setattr(module, "KEEP_DONE", -1.0)
    journal = FileJournal(tmp_path)
    assert journal.look("open", 1) == Ended("open", accepted())
    assert journal.look("closed", 1) == Unknown()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSetting, match=r"journal-dir: .*file"):
        FileJournal(tmp_path / "file")


@given(st.integers(0, 2**32))
def test_whatever_happens_no_mail_that_ended_is_sent_again(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Three processes, random deaths and rotations: until an attempt that ended is done, nobody may make it again."""
    chance = Random(seed)
    folder = tmp_path_factory.mktemp("journal")
    processes = [FileJournal(folder, rotate=500) for _ in range(3)]
    ended: set[str] = set()
    for _ in range(60):
        place = chance.randrange(3)
        process, ident = processes[place], f"m{chance.randrange(6)}"
        known = process.look(ident, 1)
        if chance.random() < 0.1:
            die(process)
            processes[place] = FileJournal(folder, rotate=500)
        elif isinstance(known, Ended):
            assert ident in ended
            process.done(ident, 1)
        elif isinstance(known, Unknown | Crashed):
            assert ident not in ended, "it would be sent twice"
            process.begin(ident, 1)
            if chance.random() < 0.7:
                process.end(ident, accepted())
                ended.add(ident)
                if chance.random() < 0.5:
                    process.done(ident, 1)
                    ended.discard(ident)
    for process in processes:
        die(process)
