"""Mail that ends in a queue of an application: its content in the message, its record final, its size bounded."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
import pytest

from shared.acceptance import Acceptance, Ready, Recipient, Streamed, Submission, TooLarge, prepare

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CONTENT = b"Subject: hello\r\n\r\n" + b"text \xff\r\n" * 100


class Desk:
    """A message store and a publisher that remember."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.published: list[Ready] = []

    async def store(self, key: str, content: bytes) -> None:
        self.stored.append(key)

    async def __call__(self, mails: Sequence[Ready]) -> None:
        self.published += mails


class Held:
    """An upload that must not be read when the mail is too large anyway."""

    def __init__(self) -> None:
        self.was_read = False

    async def read(self) -> bytes:
        self.was_read = True
        return CONTENT

    async def commit(self, key: str) -> None:
        raise AssertionError(key)


def submission(*recipients: Recipient, streamed: Streamed | None = None) -> Submission:
    content = b"" if streamed else CONTENT
    return Submission("smtp", "a@example.com", recipients, content, {"connection": {}}, "mx.example", streamed=streamed)


LOCAL = Recipient("b@local.example", key="local", is_inline=True)
FOREIGN = Recipient("c@foreign.example")


def test_the_record_of_a_mail_that_is_handed_over_is_final() -> None:
    local, foreign = prepare(submission(LOCAL, FOREIGN), NOW, 10, "inbox").mails
    assert (local.key, local.event, foreign.key, foreign.event) == ("local", "success", "inbox", "accepted")
    mail, record = orjson.loads(local.mail), orjson.loads(local.record)
    assert base64.b64decode(mail["mime64"]) == CONTENT
    assert "results" not in mail
    assert record["results"] == [
        {
            "attempt": 1,
            "time": "2026-03-01 12:00:00",
            "state": "message",
            "result": "accepted",
            "description": "handed over with the routing key local",
        }
    ]
    assert not {"mime", "mime64", "key"} & set(record)
    assert "key" in orjson.loads(foreign.mail)
    assert "results" not in orjson.loads(foreign.record)


@pytest.mark.parametrize("spare", [0, -1], ids=["just fits", "too large by one"])
async def test_the_whole_message_counts(spare: int) -> None:
    size = len(prepare(submission(LOCAL, FOREIGN), NOW, 10, "inbox").mails[0].mail)
    desk = Desk()
    acceptance = Acceptance(desk, desk, "inbox", 10, max_message=size + spare)
    if spare < 0:
        with pytest.raises(TooLarge):
            await acceptance.accept([submission(LOCAL, FOREIGN)], now=NOW)
        assert (desk.stored, desk.published) == ([], [])
    else:
        await acceptance.accept([submission(LOCAL, FOREIGN)], now=NOW)
        assert len(desk.published) == 2


async def test_large_content_is_not_even_read() -> None:
    desk, upload = Desk(), Held()
    streamed = Streamed(b"Subject: x\r\n\r\n", 2000, "", upload)
    with pytest.raises(TooLarge):
        await Acceptance(desk, desk, "inbox", 10, max_message=1999).accept([submission(LOCAL, streamed=streamed)])
    assert not upload.was_read


async def test_mail_that_does_not_ride_in_the_message_has_no_such_bound() -> None:
    desk = Desk()
    await Acceptance(desk, desk, "inbox", 10, max_message=100).accept([submission(FOREIGN)])
    assert len(desk.published) == len(desk.stored) == 1
