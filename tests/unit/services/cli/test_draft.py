"""The mail that ``send`` hands in."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.cli.draft import Draft, read_draft
from shared.trouble import BadSetting

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EML = b"From: Me <me@example.com>\nTo: a@example.org, b@example.org\nCc: c@example.org\nSubject: x\nMessage-ID: <1@example.com>\n\nhi\n"


def draft(file: Path | None = None, sender: str | None = None, to: tuple[str, ...] = (), **described: Any) -> Draft:
    return read_draft(file, sender, to, **({"subject": None, "text": None, "html": None} | described), now=NOW)


@pytest.fixture
def eml(tmp_path: Path) -> Path:
    path = tmp_path / "mail.eml"
    path.write_bytes(EML)
    return path


def test_from_options() -> None:
    made = draft(to=("a@example.org", "b@example.org"), sender="me@example.com", subject="Grüße", text="Hallo")
    assert (made.reverse_path, made.recipients) == ("me@example.com", ["a@example.org", "b@example.org"])
    assert b"\r\nFrom: me@example.com\r\n" in b"\r\n" + made.content
    assert made.content.isascii()
    assert made.message_id.endswith("@example.com")


def test_the_null_sender() -> None:
    assert draft(to=("a@example.org",), sender="<>", text="x").reverse_path == ""


def test_from_a_message_file(eml: Path) -> None:
    made = draft(eml)
    assert (made.reverse_path, made.recipients) == ("me@example.com", ["a@example.org", "b@example.org", "c@example.org"])
    assert made.content == EML.replace(b"\n", b"\r\n")
    assert made.message_id == "1@example.com"
    assert draft(eml, "other@example.com", ("z@example.org",)).to_submission()["recipients"] == ["z@example.org"]


def test_one_message_per_recipient_for_the_exchange(eml: Path) -> None:
    documents = draft(eml).to_documents()
    assert [document["recipient"] for document in documents] == ["a@example.org", "b@example.org", "c@example.org"]
    assert {document["message-id"] for document in documents} == {"1@example.com"}
    assert {document["mime"] for document in documents} == {EML.decode().replace("\n", "\r\n")}


def test_content_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "mail.eml"
    path.write_bytes(b"To: a@example.org\r\n\r\n\xff\r\n")
    assert set(draft(path, "me@example.com").to_documents()[0]) == {"envelope", "recipient", "mime64"}


def test_json_messages_are_handed_in_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mails.json"
    path.write_text('[{"recipient": "a@example.org", "n": 18446744073709551615}, {"recipient": "b@example.org"}]')
    assert draft(path).to_documents() == [{"recipient": "a@example.org", "n": 2**64 - 1}, {"recipient": "b@example.org"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"recipient": ', "not JSON"),
        ('{"n": 99999999999999999999}', "64 bits"),
        ("[1]", "expected an object"),
        ("", "not JSON"),
    ],
)
def test_what_is_wrong_with_json_is_told(content: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mail.json"
    path.write_text(content)
    with pytest.raises(BadSetting, match=told):
        draft(path)


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "is empty"), (b"hello\n", "no header"), (b"Subject: x\n\nx", "nobody to send it to")]
)
def test_what_is_wrong_with_a_message_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mail.eml"
    path.write_bytes(content)
    with pytest.raises(BadSetting, match=told):
        draft(path, "me@example.com")


def test_a_json_message_names_its_own_recipient(tmp_path: Path) -> None:
    path = tmp_path / "mail.json"
    path.write_text("{}")
    with pytest.raises(BadSetting, match="says itself"):
        draft(path, to=("a@example.org",))


def test_from_standard_input(monkeypatch: pytest.MonkeyPatch, eml: Path) -> None:
    with eml.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert draft().recipients == ["a@example.org", "b@example.org", "c@example.org"]


def test_nothing_on_standard_input_is_a_test_mail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", Path("/dev/null")):
        with path.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            assert b"This is a test mail" in draft(to=("a@example.org",)).content


def test_standard_input_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(EML)))
    assert b"This is a test mail" in draft(to=("a@example.org",)).content
