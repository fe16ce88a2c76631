"""Peers that do what no server does: each costs one session and one attempt, and the next mail to a good host goes out."""

from __future__ import annotations

import asyncio
import logging
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.smtp_sender.session import Timeouts
from shared.delivery.finished import Finished
from tests.integration.peers import floods
from tests.integration.peers.ending import ended, told
from tests.integration.peers.hostile import EHLO, GREETING, Connection, Hostile, Script, answer, hostile
from tests.integration.smtp_sender.sending import LOOPBACK, desk
from tests.support.certificates import Certificates
from tests.support.mx import ScriptedMx
from tests.support.waiting import until

IMPATIENT = Timeouts(greeting=0.5, ehlo=0.5, mail=0.5, rcpt=0.5, data=0.5, block=0.5, dot=0.5, quit=0.3)
SENT = ("message", "accepted", "sent")
MOST_READ = 16 * 1024 * 1024
"""Bytes that a peer may say before we leave: what fits into the kernel's buffers of both sides, and some more."""
MOST_KEPT = 4 * 1024 * 1024
"""Bytes of ours that one hostile session may cost."""


@pytest.fixture(autouse=True)
def _nothing_escapes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What nobody catches, asyncio logs."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


async def attempt(folder: Path, script: Script, **properties: Any) -> tuple[Finished, Hostile]:
    """One attempt to the hostile host, then one to a good one by the same courier."""
    async with hostile(script) as peer, ScriptedMx(folder, listen=[f"127.0.0.2:{peer.port}"]) as mx:
        zone = {
            "x.example": {"MX": "10 bad.x.example"}, "bad.x.example": {"A": peer.host},
            "good.example": {"MX": "10 mx.good.example"}, "mx.good.example": {"A": mx.host},
        }  # fmt: skip
        async with desk(zone, timeouts=IMPATIENT, smtp_port=peer.port, smtp_allow_private=LOOPBACK) as one:
            finished = await asyncio.wait_for(one.attempt("user@x.example", **properties), 10)
            assert ended(await one.attempt("ok@good.example")) == SENT
            assert len(mx.ledger.mails()) == 1
        peer.is_over.set()
        await until(lambda: not peer.open, within=5, what="the hostile connection to be over")
    return finished, peer


# --- too much


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        (floods.endless_greeting, ("intro", "invalid", "retry")),
        (floods.endless_ehlo, ("ehlo", "invalid", "retry")),
        (floods.endless_mail, ("mailfrom", "invalid", "retry")),
        (floods.endless_dot, ("message", "invalid", "retry")),
        (floods.endless_line, ("intro", "invalid", "retry")),
        (floods.endless_empty_lines, ("intro", "invalid", "retry")),
        (floods.endless_replies, ("mailfrom", "error", "failed")),
    ],
)
async def test_who_never_stops_talking(tmp_path: Path, script: Script, ending: tuple[str, str, str]) -> None:
    tracemalloc.start()
    try:
        finished, peer = await attempt(tmp_path, script)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ended(finished) == ending
    assert peer.sent < MOST_READ
    assert peak < MOST_KEPT
    assert len(told(finished)["description"]) <= 1024


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        (b"250 " + b"x" * 65536 + b"\r\n", ("mailfrom", "invalid", "retry")),
        (b"550 no\r\n" * 100, ("mailfrom", "error", "failed")),
    ],
    ids=["a line of 64 KB", "100 replies at once"],
)
async def test_too_much_at_once(tmp_path: Path, reply: bytes, ending: tuple[str, str, str]) -> None:
    async def script(peer: Connection) -> None:
        await peer.begin()
        await peer.hear(b"MAIL")
        await peer.say(reply)
        await peer.wait()

    finished, peer = await attempt(tmp_path, script)
    assert ended(finished) == ending
    assert peer.connections == 1


# --- too early


async def all_in_the_greeting(peer: Connection) -> None:
    await peer.say(GREETING + EHLO + b"250 ok\r\n250 ok\r\n354 go on\r\n250 taken\r\n")
    await peer.wait()


async def mail_before_it_came(peer: Connection) -> None:
    await peer.begin(EHLO + b"250 ok\r\n")
    await peer.wait()


async def taken_before_the_content(peer: Connection) -> None:
    await peer.begin()
    await peer.hear(b"DATA")
    await peer.say(b"250 ok\r\n250 ok\r\n354 go on\r\n250 taken\r\n")
    await peer.wait()


async def all_after_ehlo_one_by_one(peer: Connection) -> None:
    await peer.begin(b"250 hostile.example\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 taken\r\n")
    await peer.wait()


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        (all_in_the_greeting, ("ehlo", "invalid", "retry")),
        (mail_before_it_came, ("mailfrom", "invalid", "retry")),
        (all_after_ehlo_one_by_one, ("mailfrom", "invalid", "retry")),
        (taken_before_the_content, ("message", "invalid", "retry")),
    ],
)
async def test_who_answers_before_it_was_asked(tmp_path: Path, script: Script, ending: tuple[str, str, str]) -> None:
    """Such a 250 is no word that the mail was taken."""
    finished, _ = await attempt(tmp_path, script)
    assert ended(finished) == ending


# --- nonsense


@pytest.mark.parametrize(
    ("command", "reply", "ending"),
    [
        (b"CONNECT", b"220-one\r\n221 two\r\n", ("intro", "invalid", "retry")),
        (b"CONNECT", b"354 go on\r\n", ("intro", "invalid", "retry")),
        (b"CONNECT", b"HTTP/1.1 400 Bad Request\r\n\r\n", ("intro", "invalid", "retry")),
        (b"CONNECT", b"\r\n", ("intro", "invalid", "retry")),
        (b"CONNECT", b"\0" * 100 + b"\n", ("intro", "invalid", "retry")),
        (b"EHLO", b"250-x\r\n550 y\r\n", ("ehlo", "invalid", "retry")),
        (b"EHLO", b"354 go on\r\n", ("ehlo", "invalid", "retry")),
        (b"EHLO", b"250-x\r\nSIZE 5\r\n", ("ehlo", "invalid", "retry")),
        (b"MAIL", b"354 go on\r\n", ("mailfrom", "invalid", "retry")),
        (b"MAIL", b"250-a\r\n550-b\r\n250 c\r\n", ("mailfrom", "invalid", "retry")),
        (b"MAIL", b"999 what\r\n", ("mailfrom", "invalid", "retry")),
        (b"MAIL", b"25\r\n", ("mailfrom", "invalid", "retry")),
        (b"RCPT", b"550-no\r\n250 yes\r\n", ("rcptto", "invalid", "retry")),
        (b"RCPT", b"354 go on\r\n", ("rcptto", "invalid", "retry")),
        (b"DATA", b"250 ok\r\n", ("data", "invalid", "retry")),
        (b"DATA", b"354-go\r\n250 on\r\n", ("data", "invalid", "retry")),
        (b".", b"354 more\r\n", ("message", "invalid", "retry")),
        (b".", b"550-no\r\n250 yes\r\n", ("message", "invalid", "retry")),
        (b".", b"\x00250 ok\r\n", ("message", "invalid", "retry")),
    ],
)
async def test_contradictions(tmp_path: Path, command: bytes, reply: bytes, ending: tuple[str, str, str]) -> None:
    finished, peer = await attempt(tmp_path, answer(command, reply))
    assert ended(finished) == ending
    assert peer.connections == 1


CONTROLS = bytes(range(1, 10)) + bytes(range(11, 32)) + b"\0\x7f\x80\xff\xc2\x85\xed\xa0\x80"


@pytest.mark.parametrize(
    ("command", "reply", "ending"),
    [
        (b"CONNECT", b"554 5.7.1 " + CONTROLS + b"\r\n", ("intro", "error", "retry")),
        (b"MAIL", b"550 5.1.8 " + CONTROLS + b"\r\n", ("mailfrom", "error", "failed")),
        (b".", b"250 2.0.0 " + CONTROLS + b"\r\n", SENT),
        (b"MAIL", b"garbage " + CONTROLS + b"\r\n", ("mailfrom", "invalid", "retry")),
    ],
)
async def test_control_bytes(tmp_path: Path, command: bytes, reply: bytes, ending: tuple[str, str, str]) -> None:
    """Results go into JSON, databases and terminals."""
    finished, _ = await attempt(tmp_path, answer(command, reply))
    assert ended(finished) == ending
    text = told(finished)["description"]
    assert text.encode().decode() == text
    assert not any((ord(letter) < 32 and letter != "\n") or 0x7F <= ord(letter) < 0xA0 for letter in text)


async def test_a_greeting_with_a_strange_name(tmp_path: Path) -> None:
    name = b"\0\x1b[31mmx" + b"x" * 7000
    async with hostile(answer(b"CONNECT", b"220 " + name + b" ESMTP\r\n")) as peer:
        given: dict[str, Any] = {"timeouts": IMPATIENT, "smtp_port": peer.port, "smtp_allow_private": LOOPBACK}
        async with desk({"x.example": {"A": peer.host}}, **given) as one:
            finished = await one.attempt("user@x.example")
    assert ended(finished) == ("ehlo", "timeout", "retry")
    mta = told(finished)["mta"]
    assert mta.isprintable()
    assert len(mta) <= 1024


EXTENSIONS = {
    "a size of 5000 digits": b"SIZE " + b"9" * 5000,
    "a negative size": b"SIZE -1",
    "a size in other digits": "SIZE \u0661\u0662".encode(),
    "a size without a number": b"SIZE",
    "many sizes": b"SIZE 1 2 3",
    "a keyword without end": b"X" * 7000,
    "no keyword": b"",
    "blanks": b"   ",
    "controls": CONTROLS,
    "lower case": b"size 100000",
}


@pytest.mark.parametrize("extension", EXTENSIONS)
async def test_strange_extensions(tmp_path: Path, extension: str) -> None:
    async def script(peer: Connection) -> None:
        await peer.begin(b"250-hostile.example\r\n250-" + EXTENSIONS[extension] + b"\r\n250 PIPELINING\r\n")
        await peer.hear(b"DATA")
        await peer.say(b"250 ok\r\n250 ok\r\n354 go on\r\n")
        await peer.hear(b".\r\n")
        await peer.say(b"250 2.0.0 taken\r\n")
        await peer.wait()

    finished, _ = await attempt(tmp_path, script)
    assert ended(finished) == SENT


# --- too slow


async def a_greeting_byte_by_byte(peer: Connection) -> None:
    for byte in GREETING * 10:
        await peer.say(bytes([byte]))
        await asyncio.sleep(0.1)


async def line_by_line(peer: Connection) -> None:
    await peer.begin()
    await peer.hear(b"MAIL")
    for _ in range(100):
        await peer.say(b"250-one moment\r\n")
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("script", "state"), [(a_greeting_byte_by_byte, "intro"), (line_by_line, "mailfrom")], ids=["bytes", "lines"]
)
async def test_a_trickle_does_not_prolong_the_wait(tmp_path: Path, script: Script, state: str) -> None:
    began = time.monotonic()
    finished, _ = await attempt(tmp_path, script)
    assert ended(finished) == (state, "timeout", "retry")
    assert time.monotonic() - began < 3


async def test_who_never_says_goodbye(tmp_path: Path) -> None:
    async def script(peer: Connection) -> None:
        await peer.until_354()
        await peer.hear(b".\r\n")
        await peer.say(b"250 2.0.0 taken\r\n")
        await peer.hear(b"QUIT")
        await peer.babble(b"221-bye\r\n")

    finished, peer = await attempt(tmp_path, script)
    assert ended(finished) == SENT
    assert peer.sent < MOST_READ


# --- under TLS


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        (b"250-X\r\n" * 10_000, ("ehlo", "invalid", "retry")),
        (b"250 hostile.example\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 taken\r\n", ("mailfrom", "invalid", "retry")),
        (b"", ("ehlo", "timeout", "retry")),
        (None, ("ehlo", "lost", "retry")),
    ],
    ids=["too much", "too early", "silence", "clear text"],
)
async def test_under_tls(tmp_path: Path, certificates: Certificates, reply: bytes | None, ending: tuple[str, str, str]) -> None:
    async def script(peer: Connection) -> None:
        await peer.begin(b"250-hostile.example\r\n250 STARTTLS\r\n")
        await peer.hear(b"STARTTLS")
        plain = peer.writer.get_extra_info("socket").dup()
        await peer.say(b"220 go ahead\r\n")
        await peer.writer.start_tls(certificates.server_context())
        await peer.hear(b"EHLO")
        if reply is None:
            plain.send(b"250 in clear\r\n")
        plain.close()
        await peer.say(reply or b"")
        await peer.wait()

    finished, peer = await attempt(tmp_path, script)
    assert ended(finished) == ending
    assert (told(finished)["cipher"]["version"], peer.connections) == ("TLSv1.3", 1)


# --- leaving


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("command", [b"CONNECT", b"EHLO", b"MAIL", b"RCPT", b"DATA"])
async def test_leaves_in_the_middle_of_a_reply(tmp_path: Path, command: bytes, is_reset: bool) -> None:
    """Half a reply is none."""
    states = {b"CONNECT": "intro", b"EHLO": "ehlo", b"MAIL": "mailfrom", b"RCPT": "rcptto", b"DATA": "data"}

    async def script(peer: Connection) -> None:
        if command != b"CONNECT":
            await peer.say(GREETING)
            await peer.hear(b"EHLO")
        if command not in (b"CONNECT", b"EHLO"):
            await peer.say(b"250-hostile.example\r\n250 8BITMIME\r\n")
            for name in (b"MAIL", b"RCPT", b"DATA"):
                await peer.hear(name)
                if name == command:
                    break
                await peer.say(b"250 ok\r\n")
        await peer.say(b"250-half\r\n250 a rep")
        if is_reset:
            peer.reset()

    finished, _ = await attempt(tmp_path, script)
    assert ended(finished) == (states[command], "lost", "retry")


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
async def test_leaves_in_the_middle_of_a_large_content(tmp_path: Path, is_reset: bool) -> None:
    async def script(peer: Connection) -> None:
        await peer.until_354()
        await peer.reader.readexactly(100_000)
        if is_reset:
            peer.reset()

    finished, _ = await attempt(tmp_path, script, mime="Subject: x\r\n\r\n" + "x" * 70 + ("y" * 70 + "\r\n") * 280_000)
    assert ended(finished) == ("data", "lost", "retry")


async def test_reads_nothing_of_a_large_content(tmp_path: Path) -> None:
    async def script(peer: Connection) -> None:
        await peer.until_354()
        await peer.read_nothing()

    content = "Subject: x\r\n\r\n" + ("y" * 70 + "\r\n") * 280_000
    finished, _ = await attempt(tmp_path, script, mime=content)
    assert ended(finished) == ("data", "timeout", "retry")


async def test_many_of_them_leave_nothing_behind(tmp_path: Path) -> None:
    """Sessions, tasks and slots of the pool are given back, whatever happened."""
    scripts = [
        answer(b"CONNECT", b"junk\r\n"), answer(b"EHLO", b"250-x\r\n550 y\r\n"), answer(b"MAIL", b"\0\r\n"),
        floods.endless_dot, floods.endless_line,
    ]  # fmt: skip
    turn = iter(range(10_000))

    async def script(peer: Connection) -> None:
        await scripts[next(turn) % len(scripts)](peer)

    async with hostile(script) as peer:
        given: dict[str, Any] = {"timeouts": IMPATIENT, "smtp_port": peer.port, "smtp_allow_private": LOOPBACK}
        async with desk({"x.example": {"A": peer.host}}, **given) as one:
            tasks = len(asyncio.all_tasks())
            for _ in range(4):
                finished = await asyncio.gather(*(one.attempt("user@x.example") for _ in range(25)))
                assert {word for _, _, word in map(ended, finished)} == {"retry"}
            await until(lambda: not peer.open and len(asyncio.all_tasks()) <= tasks, within=5)
