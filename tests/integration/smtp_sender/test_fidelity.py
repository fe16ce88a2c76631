"""The bytes at the peer are the bytes of the message, but for line ends: whatever they are."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from email import message_from_bytes
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.mail.content import has_bare_newlines, normalise_newlines
from tests.integration.smtp_sender.sending import Desk, desk, what
from tests.support.mx import MxOptions, ScriptedMx

MEGABYTE = 1_000_000
ACCEPTED = ("message", "accepted")

T = TypeVar("T")

# What matters to transparency and to line ends, often; any octet, sometimes. NUL is no content (RFC 5322 2.2).
octets = st.binary(max_size=30).map(lambda piece: piece.replace(b"\0", b"\1"))
pieces = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b".", b"..", b"\r\n.", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\r\n..\r\nQUIT\r\n", b"text"]
)
contents = st.lists(pieces | octets, max_size=40).map(b"".join)
by_hand = pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"..",
        b".\r\n",
        b"\r\n.\r\n",
        b"\r\n.\r\n.\r\n",
        b"\n",
        b"\r",
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\r\n.\r\r\n",
        b"Subject: x\r\n\r\nno end",
        b"Subject: x\r\n\r\n.leading\r\n..two\r\n\r\n",
        b"Subject: x\r\n\r\nends in CR\r",
        b"Subject: x\r\n\r\n.\r\nMAIL FROM:<evil@a.example>\r\nRCPT TO:<ok@x.example>\r\nDATA\r\nsmuggled\r\n.\r\n",
        b"Subject: x\r\n\r\n" + bytes(range(1, 256)),
        b"Subject: x\r\n\r\n" + b"x" * MEGABYTE,
        b"Subject: x\r\n\r\n" + b"." * MEGABYTE,
        b"Subject: x\r\n\r\n" + b"\n." * (MEGABYTE // 2),
        b"Subject: x\r\n\r\n" + b"x" * (256 * 1024 - 15) + b"\r\n." * 3 + b"x" * 256 * 1024 + b"\r\n.",
    ],
    ids=lambda content: f"{len(content)}-{content[:24]!a}",
)


def as_it_arrives(content: bytes) -> bytes:
    """CRLF line ends; a last line without an end gets one (RFC 5321 4.1.1.4)."""
    normal = normalise_newlines(content)
    return normal if not normal or normal.endswith(b"\r\n") else normal + b"\r\n"


class World:
    """A desk, a peer, and a loop that both live in while hypothesis tries one example after the other."""

    def __init__(self, runner: asyncio.Runner, mx: ScriptedMx, sender: Desk) -> None:
        self._runner, self._mx, self._desk, self._numbers = runner, mx, sender, count(1)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it to its end."""

        async def start() -> T:
            return await work()

        return self._runner.run(start())

    def send(self, *given: bytes, **properties: Any) -> list[tuple[dict[str, Any], bytes | None]]:
        """Send these contents at once; for each the result, and what arrived."""
        recipients = [f"ok+{next(self._numbers)}@x.example" for _ in given]

        async def send_all() -> list[dict[str, Any]]:
            sendings = (
                self._desk.send(recipient, mime64=base64.b64encode(content).decode(), **properties)
                for recipient, content in zip(recipients, given, strict=True)
            )
            return await asyncio.gather(*sendings)

        results = self.run(send_all)
        arrived = {mail.recipient: mail.content for mail in self._mx.ledger.mails()}
        assert len(arrived) == len(self._mx.ledger.mails()), "a mail of its own came out of another's content"
        return [(result, arrived.get(recipient)) for recipient, result in zip(recipients, results, strict=True)]


@contextmanager
def world(folder: Path, *, eight_bit: bool = True, pipelining: bool = True) -> Iterator[World]:
    """A sender and a scripted MX with these extensions."""
    options = MxOptions(size=None, eight_bit=eight_bit, pipelining=pipelining)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()

        async def begin() -> World:
            mx = await stack.enter_async_context(ScriptedMx(folder / "ledger", options=options))
            return World(runner, mx, await stack.enter_async_context(desk(mx=mx)))

        try:
            yield runner.run(begin())
        finally:
            runner.run(stack.aclose())


PIPELINING = pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "one-by-one"])


@by_hand
def test_what_is_sent_is_what_arrives(tmp_path: Path, content: bytes) -> None:
    with world(tmp_path) as here:
        # A second mail over the same session shows that the first one ended where it should.
        for _ in range(2):
            [(result, arrived)] = here.send(content)
            assert what(result) == ACCEPTED
            assert arrived == as_it_arrives(content)


@PIPELINING
def test_arbitrary_bytes(tmp_path: Path, pipelining: bool) -> None:
    with world(tmp_path, pipelining=pipelining) as here:

        @given(st.lists(contents, min_size=1, max_size=8))
        @example([b"\r\n.\r\n", b".", b"", b"\n"])
        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def check(mails: list[bytes]) -> None:
            for content, (result, arrived) in zip(mails, here.send(*mails), strict=True):
                assert what(result) == ACCEPTED
                assert arrived == as_it_arrives(content)
                assert not has_bare_newlines(arrived)

        check()


LINES = st.lists(octets.map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")), max_size=6).map(b"\r\n".join)


@PIPELINING
def test_a_peer_of_seven_bits_gets_the_same_once_decoded(tmp_path: Path, pipelining: bool) -> None:
    with world(tmp_path, eight_bit=False, pipelining=pipelining) as here:

        @given(st.lists(LINES, min_size=1, max_size=8))
        @example(["Grüße\r\n.\r\n..\r\n".encode() + b"x" * 2000])
        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def check(bodies: list[bytes]) -> None:
            header = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            for body, (result, arrived) in zip(bodies, here.send(*(header + body for body in bodies)), strict=True):
                assert what(result) == ACCEPTED
                assert arrived is not None
                assert arrived.isascii()
                if body.isascii():
                    assert arrived == as_it_arrives(header + body)
                decoded = message_from_bytes(arrived).get_payload(decode=True)
                assert isinstance(decoded, bytes)
                assert decoded.removesuffix(b"\r\n") == body.removesuffix(b"\r\n")

        check()


def test_signed_mail_of_eight_bits_is_refused_by_us_and_not_touched(tmp_path: Path) -> None:
    with world(tmp_path, eight_bit=False) as here:
        [(result, arrived)] = here.send("DKIM-Signature: v=1\r\n\r\nGrüße\r\n".encode())
    assert (result["code"], result["status"], arrived) == (554, "5.6.3", None)


def test_header_edits_leave_every_other_byte(tmp_path: Path) -> None:
    content = b"Subject :  x\r\n\ty \r\nX-Old: 1\r\n \r\n 2\r\nX-Keep:\t\xff\r\n\r\n.\r\nX-Old: body\r\n"
    edits = {"remove": "x-old", "prepend": {"X-First": "1"}, "append": {"X-Last": "Grüße"}}
    with world(tmp_path) as here:
        [(result, arrived)] = here.send(content, headers=edits)
    assert what(result) == ACCEPTED
    first, last = b"X-First: 1\r\n", b"X-Last: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
    assert arrived == first + content.replace(b"X-Old: 1\r\n \r\n 2\r\n", b"").replace(b"\xff\r\n", b"\xff\r\n" + last)
