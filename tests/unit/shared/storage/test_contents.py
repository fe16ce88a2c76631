"""Where the content of a mail is, and getting it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from shared.storage.contents import Contents, NoContent
from shared.storage.payloads import MissingPayload
from shared.trouble import Unavailable
from shared.wire.message import Message
from shared.wire.result import Result, State


class Store:
    """A message store in memory."""

    def __init__(self, **payloads: bytes) -> None:
        self.payloads = payloads
        self.asked: list[str] = []
        self.is_down = False

    async def fetch(self, key: str) -> bytes:
        self.asked.append(key)
        if self.is_down:
            raise Unavailable("down")
        if key not in self.payloads:
            raise MissingPayload(key)
        return self.payloads[key]


async def load(document: dict[str, Any], store: Store | None = None, *, prefix: str = "") -> bytes | NoContent:
    full = {"id": "id-1", "seen": "2026-03-01 12:00:00", "recipient": "a@b.example"} | document
    contents = Contents(store or Store(), prefix, domain="me.example")  # type: ignore[arg-type] # only fetch is used
    return await contents.fetch(Message(full))


async def good(document: dict[str, Any], store: Store | None = None, *, prefix: str = "") -> bytes:
    content = await load(document, store, prefix=prefix)
    assert isinstance(content, bytes)
    return content


async def bad(document: dict[str, Any], store: Store | None = None, *, prefix: str = "") -> NoContent:
    ending = await load(document, store, prefix=prefix)
    assert isinstance(ending, NoContent)
    return ending


@pytest.mark.parametrize(("mime", "found"), [("a\nb\rc\r\n", b"a\r\nb\r\nc\r\n"), ("", b""), ("é", b"\xc3\xa9")])
async def test_inline_content_has_crlf_line_ends(mime: str, found: bytes) -> None:
    assert await good({"mime": mime}) == found


async def test_inline_content_in_base64() -> None:
    assert await good({"mime64": "/w=="}) == b"\xff"


@pytest.mark.parametrize("document", [{}, {"mime": None}, {"mime": 7}, {"mime64": "!"}, {"key": ""}, {"key": 7}, {"key": None}])
async def test_content_that_is_missing_or_impossible(document: dict[str, Any]) -> None:
    ending = await bad(document)
    assert (ending.state, ending.result) == (State.PROCESS, Result.INVALID)
    assert ending.text is not None
    assert ending.text.startswith(("mime", "key"))


async def test_structured_mail_is_the_same_bytes_at_every_attempt() -> None:
    """A duplicate must be one that can be recognised: same bytes, same Message-ID."""
    mail = {
        "from": "a@b.example", "to": "c@d.example", "subject": "x", "text": "t", "content": "<p>h</p>",
        "attachments": [{"name": "a.txt", "data": "eA=="}],
    }  # fmt: skip
    first, second = await good({"mime": mail}), await good({"mime": mail, "results": [{"attempt": 1}]})
    assert first == second
    assert b"Message-ID: <id-1@me.example>" in first
    assert b"Date: Sun, 01 Mar 2026 12:00:00 +0000" in first
    assert first != (await good({"mime": mail, "id": "id-2"}))


async def test_an_id_of_somebody_elses_making_cannot_add_headers() -> None:
    mail = {"from": "a@b.example", "to": "c@d.example", "subject": "x", "text": "t"}
    content = await good({"mime": mail, "id": "x>\r\nBcc: everybody@b.example\r\nX: <"})
    assert b"Bcc" not in content


async def test_structured_mail_that_cannot_become_a_message() -> None:
    ending = await bad({"mime": {"from": "nobody"}})
    assert (ending.state, ending.result) == (State.RESPONSIVE, Result.ERROR)


async def test_from_the_store() -> None:
    store = Store(k=b"hello\r\n")
    ours = {"channel": "smtp", "key": "k", "sha256": hashlib.sha256(b"hello\r\n").hexdigest()}
    assert (await good(ours, store)) == b"hello\r\n"
    ending = await bad(ours | {"sha256": "0" * 64}, store)
    assert (ending.state, ending.result) == (State.STORAGE, Result.INVALID)
    ending = await bad(ours | {"key": "missing"}, store)
    assert (ending.state, ending.result) == (State.STORAGE, Result.ERROR)


async def test_a_store_that_is_down_says_nothing_about_the_mail() -> None:
    store = Store()
    store.is_down = True
    with pytest.raises(Unavailable):
        await load({"channel": "smtp", "key": "k", "sha256": "00"}, store)


@pytest.mark.parametrize(
    ("prefix", "key", "allowed"),
    [
        ("", "k", False),
        ("", "v1/2026/03/01/x", False),
        ("client/", "client/k", True),
        ("client/", "v1/client/k", False),
        ("client/", "k", False),
    ],
)
async def test_a_clients_own_key(prefix: str, key: str, allowed: bool) -> None:
    """Without the prefix anybody could send somebody else's mail to themselves."""
    store = Store(**{key: b"x"})
    document = {"channel": "amqp", "key": key, "sha256": hashlib.sha256(b"x").hexdigest()}
    found = await load(document, store, prefix=prefix)
    assert isinstance(found, bytes) == allowed
    assert store.asked == ([key] if allowed else [])
    if isinstance(found, NoContent):
        assert (found.state, found.result) == (State.PROCESS, Result.INVALID)


async def test_inline_content_wins_over_a_key() -> None:
    store = Store(k=b"stored")
    assert (await good({"mime": "inline", "key": "k"}, store)) == b"inline"
    assert store.asked == []


async def test_a_sender_of_ours_may_have_stored_what_an_application_published() -> None:
    key = "v1/2026/03/01/id-1"
    store = Store(**{key: b"hello\r\n"})
    ours = {"channel": "amqp", "key": key, "sha256": hashlib.sha256(b"hello\r\n").hexdigest()}
    assert (await good(ours, store)) == b"hello\r\n"
    for other in ({"key": "v1/2026/03/01/id-2"}, {"sha256": None}):
        ending = await bad(ours | other, store)
        assert (ending.state, ending.result) == (State.PROCESS, Result.INVALID)


async def test_a_wrong_checksum_is_looked_at_twice() -> None:
    """It is final, and may have been wrong only on the way."""

    class Flaky(Store):
        async def fetch(self, key: str) -> bytes:
            content = await super().fetch(key)
            return content if len(self.asked) > 1 else b"x" + content[1:]

    store = Flaky(k=b"hello\r\n")
    ours = {"channel": "smtp", "key": "k", "sha256": hashlib.sha256(b"hello\r\n").hexdigest()}
    assert (await good(ours, store)) == b"hello\r\n"
    assert store.asked == ["k", "k"]
