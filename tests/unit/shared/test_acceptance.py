"""Taking responsibility: store, publish, and only then yes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from shared.acceptance import (
    Acceptance,
    Accepted,
    Origin,
    PartlyPublished,
    Ready,
    Recipient,
    Streamed,
    Submission,
    TooLate,
    name_submission,
)
from shared.trouble import BrokerLost, Unavailable

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CONTENT = b"Return-Path: <rp@a.example>\r\nSubject: hi\r\nX-Two: 1\r\nX-Two: 2\r\n\r\nbody\r\n"


class World:
    """A store and a broker that note the order of things, and fail when told to."""

    def __init__(self, *, threshold: int = 10_000, patience: float = 60) -> None:
        self.events: list[str] = []
        self.stored: dict[str, bytes] = {}
        self.published: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.store_fails: Exception | None = None
        self.publish_fails: Exception | None = None
        self.store_takes = 0.0
        self.acceptance = Acceptance(self, self.publish, "inbox", threshold, timedelta(seconds=patience))

        self.memory: dict[str, list[Accepted]] = {}

    def remembering(self) -> Acceptance:
        """The acceptance, with a memory."""
        return replace(self.acceptance, memory=self)

    def is_empty(self) -> bool:
        return not self.memory

    def recall(self, name: str) -> Mapping[str, Accepted]:
        return {one.recipient: one for one in self.memory.get(name, [])}

    def remember(self, name: str, accepted: Sequence[Accepted]) -> None:
        self.memory[name] = list(accepted)

    def forget(self, name: str, told: Collection[str]) -> None:
        left = [one for one in self.memory.pop(name) if one.recipient not in told]
        if left:
            self.memory[name] = left

    async def store(self, key: str, content: bytes) -> None:
        await asyncio.sleep(self.store_takes)
        if self.store_fails:
            raise self.store_fails
        self.stored[key] = content
        self.events.append("stored")

    async def publish(self, mails: Sequence[Ready]) -> None:
        assert {ready.key for ready in mails} == {"inbox"}
        if self.publish_fails:
            raise self.publish_fails
        self.published += [(orjson.loads(ready.mail), orjson.loads(ready.record)) for ready in mails]
        self.events.append("published")


def submission(*recipients: str, content: bytes = CONTENT, properties: Mapping[str, Any] | None = None) -> Submission:
    return Submission(
        channel="smtp",
        reverse_path="r@a.example",
        recipients=[Recipient(address) for address in recipients],
        content=content,
        source={"connection": {"remote-ip": "192.0.2.1"}},
        hostname="in.example",
        properties=properties or {},
    )


async def test_small_content_rides_along() -> None:
    world = World()
    [accepted] = await world.acceptance.accept([submission("a@b.example", "c@d.example", properties={"x-own": [1]})], now=NOW)
    assert world.events == ["published"]
    assert [one.recipient for one in accepted] == ["a@b.example", "c@d.example"]
    (first, first_record), (second, _) = world.published
    assert first["id"] != second["id"]
    assert first["transaction"] == second["transaction"]
    assert [one.id for one in accepted] == [first["id"], second["id"]]
    assert first["mime"].encode() == CONTENT
    assert "mime" not in first_record
    assert first_record == {name: value for name, value in first.items() if name != "mime"}
    ours = {
        "envelope": "r@a.example", "recipient": "a@b.example", "recipients-total": 2, "channel": "smtp", "received": "2026-03-01 12:00:00",
        "seen": "2026-03-01 12:00:00", "hostname": "in.example", "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "connection": {"remote-ip": "192.0.2.1"}, "x-own": [1], "message-id": first["id"],
    }  # fmt: skip
    assert {name: first[name] for name in ours} == ours
    assert first["extracted"]["subject"] == "hi"
    assert first["extracted"]["headers"]["x-two"] == ["1", "2"]


async def test_large_content_is_stored_once_and_first() -> None:
    world = World(threshold=10)
    await world.acceptance.accept([submission("a@b.example", "c@d.example")], now=NOW)
    assert world.events == ["stored", "published"]
    [(key, content)] = world.stored.items()
    assert key.startswith("v1/2026/03/01/")
    assert content == CONTENT
    for mail, record in world.published:
        assert (mail["key"], record["key"]) == (key, key)
        assert not {"mime", "mime64"} & (set(mail) | set(record))


async def test_content_that_is_not_utf8() -> None:
    world = World()
    await world.acceptance.accept([submission("a@b.example", content=b"Subject: \xff\r\n\r\n\x00")], now=NOW)
    mail, record = world.published[0]
    assert "mime64" in mail
    assert "mime" not in mail
    assert "mime64" not in record


async def test_a_batch_is_one_round_of_confirms() -> None:
    world = World()
    accepted = await world.acceptance.accept([submission(f"{number}@b.example") for number in range(50)], now=NOW)
    assert world.events == ["published"]
    assert [one.recipient for [one] in accepted] == [f"{number}@b.example" for number in range(50)]
    assert len({mail["transaction"] for mail, _ in world.published}) == 50


async def test_store_down_publishes_nothing() -> None:
    world = World(threshold=0)
    world.store_fails = Unavailable("disk full")
    with pytest.raises(Unavailable, match="disk full"):
        await world.acceptance.accept([submission("a@b.example")])
    assert world.events == []


async def test_one_of_many_not_stored_publishes_nothing() -> None:
    world = World(threshold=len(CONTENT))
    world.store_fails = Unavailable("disk full")
    with pytest.raises(Unavailable):
        await world.acceptance.accept([submission("a@b.example"), submission("c@d.example", content=CONTENT * 2)])
    assert world.published == []


@pytest.mark.parametrize("error", [Unavailable("no queue"), BrokerLost("gone")])
async def test_not_confirmed_is_not_accepted(error: Exception) -> None:
    world = World()
    world.publish_fails = error
    with pytest.raises(type(error)):
        await world.acceptance.accept([submission("a@b.example")])


async def test_too_late_to_take_responsibility() -> None:
    world = World(threshold=0, patience=0.01)
    world.store_takes = 0.05
    with pytest.raises(TooLate, match="data-processing-timeout"):
        await world.acceptance.accept([submission("a@b.example")])
    assert world.published == []


async def test_nobody_writes_our_properties() -> None:
    world = World()
    forged = {
        "id": "x", "transaction": "x", "recipients-total": 99, "channel": "x", "seen": "x", "size": 0, "sha256": "x",
        "extracted": {"subject": "x"},
        "results": [{}], "outbound": ["smtp"], "key": "v1/somebody/elses", "mime64": "eA==", "recipient": "x@y.example",
        "envelope": "x@y.example",
    }  # fmt: skip
    await world.acceptance.accept([submission("a@b.example", properties=forged)], now=NOW)
    mail, record = world.published[0]
    for name, value in forged.items():
        assert mail.get(name) != value, name
        assert record.get(name) != value, name
    assert mail["mime"].encode() == CONTENT


async def test_the_message_id_is_the_clients_or_ours() -> None:
    world = World()
    [[accepted]] = await world.acceptance.accept([submission("a@b.example", properties={"message-id": "mine"})])
    assert (accepted.message_id, world.published[0][0]["message-id"]) == ("mine", "mine")
    assert accepted.id != "mine"


class Uploading:
    """An upload that notes what is done to it."""

    def __init__(self, world: World, content: bytes) -> None:
        self._world = world
        self._content = content

    async def read(self) -> bytes:
        self._world.events.append("read")
        return self._content

    async def commit(self, key: str) -> None:
        self._world.events.append("committed")
        self._world.stored[key] = self._content


def streamed(world: World, *recipients: Recipient) -> Submission:
    """Large content that is on its way to the store."""
    head, content = CONTENT[: CONTENT.index(b"body")], CONTENT * 100
    upload = Streamed(head, len(content), hashlib.sha256(content).hexdigest(), Uploading(world, content))
    return replace(submission(content=b""), recipients=recipients, streamed=upload)


async def test_streamed_content_is_committed_and_then_published() -> None:
    world = World()
    [[accepted]] = await world.acceptance.accept([streamed(world, Recipient("a@b.example"))], now=NOW)
    assert world.events == ["committed", "published"]
    [(key, content)] = world.stored.items()
    mail, record = world.published[0]
    assert (mail["id"], mail["key"], record["key"]) == (accepted.id, key, key)
    assert (mail["size"], mail["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert mail["extracted"]["subject"] == "hi"
    assert mail["return-path"] == "<rp@a.example>"
    assert not {"mime", "mime64"} & (set(mail) | set(record))


async def test_streamed_content_is_read_back_once_for_those_who_want_it_inline() -> None:
    world = World()
    recipients = [Recipient("a@b.example", is_inline=True), Recipient("c@d.example"), Recipient("e@f.example", is_inline=True)]
    await world.acceptance.accept([streamed(world, *recipients)], now=NOW)
    assert world.events == ["read", "committed", "published"]
    mails = {mail["recipient"]: mail for mail, _ in world.published}
    assert mails["a@b.example"]["mime"].encode() == mails["e@f.example"]["mime"].encode() == CONTENT * 100
    assert "key" not in mails["a@b.example"]
    assert mails["c@d.example"]["key"] in world.stored

    only = World()
    await only.acceptance.accept([streamed(only, Recipient("a@b.example", is_inline=True))], now=NOW)
    assert only.events == ["read", "published"]


async def test_what_takes_too_long_is_not_waited_for() -> None:
    world = World(threshold=0, patience=0.05)
    world.store_takes = 60
    with pytest.raises(TooLate):
        async with asyncio.timeout(10):
            await world.acceptance.accept([submission("a@b.example")])
    assert world.events == []


def known(*recipients: str, client: str = "192.0.2.1", content: bytes = CONTENT) -> Submission:
    """A submission that is known again."""
    return replace(submission(*recipients, content=content), origin=Origin(client, hashlib.sha256(content).hexdigest()))


async def test_the_confirmed_part_of_a_mail_is_remembered_and_not_published_again() -> None:
    world = World()
    acceptance = world.remembering()
    world.publish_fails = PartlyPublished("1 of 2", [True, False, False])
    with pytest.raises(PartlyPublished):
        await acceptance.accept([known("a@b.example", "c@d.example", "e@f.example")], now=NOW)
    [(name, [first])] = world.memory.items()
    assert (name, first.recipient) == (name_submission(known()), "a@b.example")

    # One more confirmed: both are remembered.
    world.publish_fails = PartlyPublished("1 of 2", [False, True])
    with pytest.raises(PartlyPublished):
        await acceptance.accept([known("a@b.example", "c@d.example", "e@f.example")], now=NOW)
    assert [one.recipient for one in world.memory[name]] == ["a@b.example", "e@f.example"]

    world.publish_fails = None
    [accepted] = await acceptance.accept([known("a@b.example", "c@d.example", "e@f.example")], now=NOW)
    assert [one.recipient for one in accepted] == ["a@b.example", "c@d.example", "e@f.example"]
    assert accepted[0] == first
    [(mail, _)] = world.published
    assert (mail["recipient"], mail["recipients-total"], mail["id"]) == ("c@d.example", 3, accepted[1].id)
    assert world.memory == {}


async def test_a_mail_that_was_accepted_whole_is_neither_stored_nor_published_again() -> None:
    world = World(threshold=0)
    acceptance = world.remembering()
    [accepted] = await acceptance.accept([known("a@b.example", "c@d.example")], now=NOW)
    acceptance.remember(name_submission(known()), accepted)
    world.events.clear()
    assert await acceptance.accept([known("a@b.example", "c@d.example")], now=NOW) == [accepted]
    assert world.events == []
    again = replace(streamed(world, Recipient("a@b.example")), origin=known().origin)
    acceptance.remember(name_submission(again), accepted)
    assert await acceptance.accept([again], now=NOW) == [[accepted[0]]]
    assert world.events == []


async def test_another_part_of_the_same_mail_leaves_what_its_client_does_not_know() -> None:
    world = World()
    acceptance = world.remembering()
    [unread] = await acceptance.accept([known("b@x.example")], now=NOW)
    acceptance.remember(name_submission(known()), unread)
    await acceptance.accept([known("c@x.example")], now=NOW)
    assert await acceptance.accept([known("b@x.example", "d@x.example")], now=NOW) != []
    assert [mail["recipient"] for mail, _ in world.published] == ["b@x.example", "c@x.example", "d@x.example"]
    # It was told now: the same once more is another mail.
    assert world.memory == {}
    [again] = await acceptance.accept([known("b@x.example")], now=NOW)
    assert again[0].id != unread[0].id


async def test_of_a_batch_each_mail_is_remembered_by_itself() -> None:
    world = World()
    acceptance = world.remembering()
    world.publish_fails = PartlyPublished("2 of 4", [False, True, False, True])
    batch = [known("a@b.example", "b@b.example", content=b"one"), submission("c@b.example"), known("d@b.example", content=b"two")]
    with pytest.raises(PartlyPublished):
        await acceptance.accept(batch, now=NOW)
    assert {name: [one.recipient for one in accepted] for name, accepted in world.memory.items()} == {
        name_submission(batch[0]): ["b@b.example"],
        name_submission(batch[2]): ["d@b.example"],
    }


def test_what_makes_a_mail_another_one() -> None:
    same = name_submission(known("a@b.example"))
    assert same == name_submission(known("c@d.example"))
    others = [
        known("a@b.example", client="192.0.2.2"),
        known("a@b.example", content=b"x"),
        replace(known("a@b.example"), reverse_path=""),
        replace(known("a@b.example"), channel="json"),
    ]
    assert len({same, *map(name_submission, others)}) == 5
    assert name_submission(submission("a@b.example")) == ""
