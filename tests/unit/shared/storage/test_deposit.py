"""Mail that is about to wait, and its content."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.storage.contents import Contents, NoContent
from shared.storage.deposit import Depot
from shared.storage.directory import DirectoryStore
from shared.trouble import Unavailable
from shared.wire.message import Message
from tests.unit.shared.delivery.messages import make_message

CONTENT = b"Subject: x\r\n\r\n" + b"y" * 86
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KEY = "v1/2026/03/01/11111111-2222-3333-4444-555555555555"
MIME = CONTENT.decode()
OTHER = "v1/2026/03/01/other"
OTHER_PATH = f"v1/2026/03/01/{hashlib.sha256(b'other').hexdigest()[0]}/{hashlib.sha256(b'other').hexdigest()[1]}/other"


class Failing(DirectoryStore):
    """A store that can be out of reach."""

    trouble: Exception | None = None
    asked = 0

    async def store(self, key: str, content: bytes) -> None:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        await super().store(key, content)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Failing]:
    store = Failing(tmp_path / "payloads")
    yield store
    await store.close()


def depot(store: DirectoryStore, threshold: int | None = 99, **more: Any) -> Depot:
    return Depot(Contents(store, "client/", domain="me.example"), threshold, **more)


@pytest.mark.parametrize("channel", ["amqp", "json"])
async def test_the_content_changes_places_and_comes_back_the_same(store: Failing, channel: str) -> None:
    told = {} if channel == "amqp" else {"sha256": DIGEST, "size": 100}
    before = make_message(channel=channel, mime=MIME, **told)
    after = await depot(store).put_away(before)
    assert dict(after.document) == {name: value for name, value in before.document.items() if name != "mime"} | {
        "key": KEY, "sha256": DIGEST, "size": 100,
    }  # fmt: skip
    assert await Contents(store, "client/", domain="me.example").fetch(after) == CONTENT
    # Again: the same mail came a second time, or the process died before it was published.
    assert (await depot(store).put_away(before)).document == after.document
    assert await depot(store).put_away(after) is after


async def test_content_of_any_kind(store: Failing) -> None:
    binary = make_message(channel="amqp", mime=..., mime64="/w" + "A" * 148 + "==")
    after = await depot(store).put_away(binary)
    assert "mime64" not in after.document
    assert await store.fetch(after.document["key"]) == b"\xff" + b"\0" * 111
    structured = make_message(
        channel="amqp", id="s-1", mime={"from": "a@b.example", "to": "c@d.example", "subject": "x", "text": "t" * 100}
    )
    contents = Contents(store, "", domain="me.example")
    assert await contents.fetch(await depot(store).put_away(structured)) == await contents.fetch(structured)


@pytest.mark.parametrize(
    ("threshold", "properties"),
    [
        (None, {}),
        (100, {}),
        (99, {"mime": "Subject: x\r\n\r\n"}),
        (99, {"key": "client/its-own"}),
        (99, {"mime": ..., "key": KEY}),
        (99, {"mime": ...}),
        (99, {"mime": 7}),
        (99, {"mime": {"from": "nobody"}}),
        (99, {"channel": "smtp", "sha256": "0" * 64}),
    ],
    ids=["policy", "threshold", "small", "both", "stored", "nothing", "a number", "impossible", "not what its inbox took"],
)
async def test_mail_that_keeps_what_it_has(store: Failing, threshold: int | None, properties: dict[str, Any]) -> None:
    message = make_message(**({"channel": "amqp", "mime": MIME} | properties))
    assert await depot(store, threshold).put_away(message) is message
    assert store.asked == 0


async def test_recipients_of_one_submission_share_a_payload(store: Failing) -> None:
    first, second = [
        await depot(store).put_away(make_message(id=ident, transaction="t-1", recipients_total=2, mime=MIME, sha256=DIGEST))
        for ident in ("r-1", "r-2")
    ]
    assert first.document["key"] == second.document["key"] == "v1/2026/03/01/t-1"


async def test_a_store_out_of_reach_is_left_alone_for_a_while(store: Failing) -> None:
    message = make_message(channel="amqp", mime=MIME)
    store.trouble = Unavailable("down")
    one = depot(store)
    assert await one.put_away(message) is message
    assert await one.put_away(message) is message
    assert store.asked == 1


async def test_a_store_that_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "payloads", threads=1)
    await store.store(OTHER, b"x")
    path = f"{tmp_path}/payloads/{OTHER_PATH}"
    os.unlink(path)
    os.mkfifo(path)
    # Opening it waits for a writer, as a hanging file system does: the one thread is taken.
    blocked = asyncio.ensure_future(store.fetch(OTHER))
    await asyncio.sleep(0)
    message = make_message(channel="amqp", mime=MIME)
    assert await depot(store, patience=timedelta(seconds=0.1)).put_away(message) is message
    with open(path, "wb"):  # noqa: ASYNC230 - that ends it
        pass
    assert await blocked == b""
    await store.close()


async def test_other_content_under_the_key_is_not_touched(store: Failing) -> None:
    await store.store(KEY, b"other")
    message = make_message(channel="amqp", mime=MIME)
    assert await depot(store).put_away(message) is message
    assert await store.fetch(KEY) == b"other"


@pytest.mark.parametrize(
    "properties",
    [
        {"transaction": "not a key", "sha256": DIGEST},
        {"id": "a@b.example"},
        {"id": "urn:uuid:1"},
        {"id": ".hidden"},
        {"id": "i" * 201},
    ],
)
async def test_an_application_may_name_its_mail_as_no_payload_can_be_named(store: Failing, properties: dict[str, Any]) -> None:
    message = make_message(channel="amqp", mime=MIME, **properties)
    one = depot(store)
    assert await one.put_away(message) is message
    # That says nothing about the store: the next mail is put away.
    assert (await one.put_away(make_message(channel="amqp", mime=MIME))).document["key"] == KEY


async def test_nobody_elses_key_is_believed(store: Failing) -> None:
    """Only the key of this very mail: whoever names another one gets nothing, checksum or not."""
    other = await depot(store).put_away(make_message(channel="amqp", mime=MIME))
    stolen = Message(dict(other.document) | {"id": "22222222-2222-3333-4444-555555555555"})
    found = await Contents(store, "client/", domain="me.example").fetch(stolen)
    assert isinstance(found, NoContent)
    assert "client-key-prefix" not in (found.text or "")
    assert "expected a key beginning with 'client/'" in (found.text or "")
