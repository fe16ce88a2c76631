"""The ledger keeps what was stored, whole, countable, through kill -9."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ledger import HEAD, Ledger, LedgerWriter, Session, render_table


def store(writer: LedgerWriter, token: str | None, *recipients: str, text: bytes = b"text\r\n") -> bytes:
    """One mail; its content."""
    header = b"" if token is None else b"x-token:  " + token.encode() + b"\r\n"
    content = b"Message-Id: <1@x.example>\r\n" + header + b"\r\nX-Token: in the body\r\n" + text
    writer.store(
        content, reverse_path="a@b.example", recipients=[(one, {"NOTIFY": "NEVER"}) for one in recipients], session=Session("me")
    )
    return content


def test_a_mail_comes_back_whole(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    session = Session("helo.example", "TLSv1.3", "127.0.0.1:9", "127.0.0.1:25", "mx.example", 7, "anna")
    content = b"X-Token: t1\r\n\r\n\x00\xff.\r\nend"
    writer.store(
        content,
        reverse_path="",
        recipients=[("ü@b.example", {"ORCPT": "rfc822;x@y"})],
        session=session,
        mail_parameters={"SIZE": "9"},
        extra={"id": "5"},
    )
    [mail] = Ledger(tmp_path).mails()
    assert (mail.reverse_path, mail.recipient, mail.content) == ("", "ü@b.example", content)
    assert (mail.size, mail.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert mail.session == session
    assert (mail.token, mail.message_id, mail.identity) == ("t1", None, "t1")
    assert (mail.mail_parameters, mail.rcpt_parameters, mail.extra) == ({"SIZE": "9"}, {"ORCPT": "rfc822;x@y"}, {"id": "5"})
    assert mail.time.utcoffset() is not None
    writer.close()


def test_counting(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "not there yet")
    assert ledger.mails() == []
    writer = LedgerWriter(ledger.folder)
    store(writer, "t1", "x@x.example", "y@x.example")
    assert ledger.count() == 2
    store(writer, "t2", "x@x.example")
    store(writer, "t2", "x@x.example")
    store(writer, None, "z@x.example")
    assert ledger.count() == 5
    assert {key: len(mails) for key, mails in ledger.by_recipient().items()} == {
        "x@x.example": 3,
        "y@x.example": 1,
        "z@x.example": 1,
    }
    assert {key: len(mails) for key, mails in ledger.by_token().items()} == {"t1": 2, "t2": 2}
    assert ledger.duplicates() == {("t2", "x@x.example"): 1}
    assert ledger.lost(["t1", "t2", "t3"]) == {"t3"}
    [unknown] = ledger.by_recipient()["z@x.example"]
    assert ledger.unexpected(["t1", "t2"]) == {unknown.sha256}
    assert ledger.mails()[0].message_id == "<1@x.example>"
    assert "5 mails" in render_table(ledger.mails())
    writer.close()


def test_without_contents_envelope_hash_and_size_stay(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, keep_content=False)
    content = store(writer, "t1", "x@x.example", text=b"x" * 100_000)
    [mail] = Ledger(tmp_path).mails()
    assert (mail.size, mail.sha256, mail.token) == (len(content), hashlib.sha256(content).hexdigest(), "t1")
    assert writer.path.stat().st_size < 2000
    with pytest.raises(LookupError, match="without contents"):
        _ = mail.content
    writer.close()


def test_many_recipients_need_more_than_one_read(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    content = store(writer, "t1", *(f"recipient-{number}@x.example" for number in range(500)))
    store(writer, "t2", "x@x.example")
    mails = Ledger(tmp_path).mails()
    assert len(mails) == 501
    assert mails[499].content == content
    assert mails[500].token == "t2"
    writer.close()


def test_a_record_cut_off_is_not_counted_and_one_still_being_written_is_found_later(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    store(writer, "t1", "x@x.example")
    first = writer.path.stat().st_size
    store(writer, "t2", "x@x.example")
    whole = writer.path.read_bytes()
    writer.close()
    ledger = Ledger(tmp_path)
    for length in (first + 1, first + HEAD.size, first + HEAD.size + 5, len(whole) - 1):
        writer.path.write_bytes(whole[:length])
        assert [mail.token for mail in ledger.mails()] == ["t1"]
    writer.path.write_bytes(whole)
    assert [mail.token for mail in ledger.mails()] == ["t1", "t2"]


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "1-1.ledger").write_bytes(b"something else altogether")
    with pytest.raises(ValueError, match=r"1-1\.ledger at 0: not a ledger record"):
        Ledger(tmp_path).mails()


def test_a_full_disk_stores_nothing_and_says_so(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from tests.support.ledger import LedgerWriter
from tests.integration.support.test_ledger import store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = LedgerWriter({str(tmp_path)!r})
store(writer, "t1", "x@x.example")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    store(writer, "t2", "x@x.example", text=b"x" * 5000)
except OSError as error:
    print("refused", flush=True)
store(writer, "t3", "x@x.example")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (run.stdout, run.returncode) == ("refused\n", 0), run.stderr
    assert [mail.token for mail in Ledger(tmp_path).mails()] == ["t1", "t3"]


def test_what_was_stored_survives_kill_9_and_several_writers_share_a_folder(tmp_path: Path) -> None:
    script = f"""
import os, signal
from tests.support.ledger import LedgerWriter
from tests.integration.support.test_ledger import store
writer = LedgerWriter({str(tmp_path)!r})
store(writer, str(os.getpid()), "x@x.example")
os.kill(os.getpid(), signal.SIGKILL)
"""
    runs = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [run.wait(20) for run in runs] == [-signal.SIGKILL] * 2
    assert {mail.token for mail in Ledger(tmp_path).mails()} == {str(run.pid) for run in runs}


def test_a_writer_that_stored_nothing_leaves_no_file(tmp_path: Path) -> None:
    LedgerWriter(tmp_path).close()
    assert os.listdir(tmp_path) == []


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    store(writer, "t1", "x@x.example")
    writer.close()
    command = [sys.executable, "-m", "tests.support.ledger"]
    run = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=20, check=True)
    assert "x@x.example" in run.stdout
    assert "t1" in run.stdout
    run = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True, timeout=20, check=False)
    assert (run.returncode, "no such folder" in run.stderr) == (2, True)
