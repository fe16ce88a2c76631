"""An SMTP session against the scripted MX: every state with every result that messages.md 2 names."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from services.smtp_sender.session import Ending, Envelope, Target
from shared.wire.result import Result, State
from tests.integration.smtp_sender.peers import CONTENT, SHORT, commands, envelope, open_to, opened, refused, scripted, target
from tests.support.mx import MxOptions
from tests.support.waiting import until

PIPELINING = pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "one-by-one"])
TROUBLES = [("silent", Result.TIMEOUT), ("drop", Result.LOST), ("reset", Result.LOST), ("garbage", Result.INVALID)]


@PIPELINING
async def test_accepted(tmp_path: Path, pipelining: bool) -> None:
    async with scripted(tmp_path, options=MxOptions(pipelining=pipelining, transcript=True)) as mx:
        session = await opened(target(mx))
        assert (session.mta, session.remote_ip, session.local_ip, session.tls) == ("mx.example", "127.0.0.1", "127.0.0.1", {})
        ending = await session.transact(envelope(), CONTENT)
        assert (ending.state, ending.result) == (State.MESSAGE, Result.ACCEPTED)
        assert ending.reply is not None
        assert (ending.reply.code, ending.reply.enhanced_status) == (250, "2.0.0")
        assert (session.messages, session.data_sent, session.is_usable) == (1, len(CONTENT), True)
        await session.quit()
        [mail] = mx.ledger.mails()
        assert (mail.reverse_path, mail.recipient, mail.content) == ("r@a.example", "ok@x.example", CONTENT)
        assert (mail.session.helo, mail.mail_parameters) == ("me.example", {"SIZE": str(len(CONTENT))})
        assert commands(mx) == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
        await until(lambda: not mx.state.open_sessions, within=2)


@pytest.mark.parametrize("reply", ["200", "250", "251", "299"])
async def test_any_2xx_to_the_dot(tmp_path: Path, reply: str) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        ending = await session.transact(envelope(f"multi-{reply}@x.example"), CONTENT)
        assert (ending.state, ending.result) == (State.MESSAGE, Result.ACCEPTED)
        await session.quit()


# --- the transaction: mailfrom, rcptto, data, message


def behave(words: str, state: str) -> tuple[str, str]:
    """(recipient, reverse-path) that make the MX behave so."""
    return ("ok@x.example", f"{words}@a.example") if state == "mailfrom" else (f"{words}@x.example", "r@a.example")


@PIPELINING
@pytest.mark.parametrize("code", [450, 550])
@pytest.mark.parametrize("state", ["mailfrom", "rcptto", "data", "message"])
async def test_refused_in_the_transaction_and_the_session_goes_on(
    tmp_path: Path, state: str, code: int, pipelining: bool
) -> None:
    async with scripted(tmp_path, options=MxOptions(pipelining=pipelining, transcript=True)) as mx:
        session = await opened(target(mx))
        recipient, reverse_path = behave(f"fail-{state}-{code}", state)
        ending = await session.transact(envelope(recipient, reverse_path), CONTENT)
        assert (ending.state, ending.result) == (State(state), Result.ERROR)
        assert ending.reply is not None
        assert ending.reply.code == code
        assert ending.reply.enhanced_status is not None
        assert session.is_usable
        assert session.protocol.is_quiet
        ending = await session.transact(envelope("ok+second@x.example"), CONTENT)
        assert (ending.state, ending.result, session.messages) == (State.MESSAGE, Result.ACCEPTED, 2)
        await session.quit()
        assert [mail.recipient for mail in mx.ledger.mails()] == ["ok+second@x.example"]
        assert ("RSET" in commands(mx)) == (state != "message")


@PIPELINING
@pytest.mark.parametrize(("words", "result"), TROUBLES)
@pytest.mark.parametrize("state", ["mailfrom", "rcptto", "data", "message"])
async def test_no_reply_in_the_transaction(tmp_path: Path, state: str, words: str, result: Result, pipelining: bool) -> None:
    async with scripted(tmp_path, options=MxOptions(pipelining=pipelining)) as mx:
        session = await opened(target(mx))
        recipient, reverse_path = behave(f"{words}-{state}", state)
        ending = await session.transact(envelope(recipient, reverse_path), CONTENT)
        assert (ending.state, ending.result, ending.reply) == (State(state), result, None)
        assert not session.is_usable
        await session.quit()
        await until(lambda: not mx.state.open_sessions or words == "silent", within=2)
        assert not mx.ledger.mails()


@pytest.mark.parametrize("words", ["drop", "reset", "silent", "garbage"])
async def test_taken_but_the_reply_is_lost(tmp_path: Path, words: str) -> None:
    """The mail may be there: it is ``message``, never ``data``."""
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        ending = await session.transact(envelope(f"{words}-stored@x.example"), CONTENT)
        assert ending.state is State.MESSAGE
        assert ending.result is dict(TROUBLES)[words]
        await session.quit()
        assert len(mx.ledger.mails()) == 1


@pytest.mark.parametrize("words", ["drop-content", "reset-content", "silent-content"])
async def test_lost_in_the_middle_of_a_large_content(tmp_path: Path, words: str) -> None:
    """Without its final dot the peer cannot have taken it: ``data``."""
    content = b"x" * 998 + b"\r\n"
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        ending = await session.transact(envelope(f"{words}@x.example", size=len(content) * 20_000), content * 20_000)
        assert ending.state is State.DATA
        assert ending.result is (Result.TIMEOUT if "silent" in words else Result.LOST)
        assert not session.is_usable
        await session.quit()


@PIPELINING
@pytest.mark.parametrize("state", ["mailfrom", "rcptto", "data", "message"])
async def test_421_ends_the_session(tmp_path: Path, state: str, pipelining: bool) -> None:
    async with scripted(tmp_path, options=MxOptions(pipelining=pipelining)) as mx:
        session = await opened(target(mx))
        recipient, reverse_path = behave(f"c421-{state}", state)
        ending = await session.transact(envelope(recipient, reverse_path), CONTENT)
        assert (ending.state, ending.result) == (State(state), Result.ERROR)
        assert ending.reply is not None
        assert ending.reply.code == 421
        assert not session.is_usable
        await session.quit()
        await until(lambda: not mx.state.open_sessions, within=2)


async def test_a_reply_of_several_lines(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        ending = await session.transact(envelope("multi-550@x.example"), CONTENT)
        assert ending.reply is not None
        assert ending.reply.text == "5.1.1 first line\n5.1.1 second line\n5.1.1 the last of three lines"
        await session.quit()


async def test_a_slow_reply_is_waited_for(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        ending = await session.transact(envelope("slow-200ms@x.example"), CONTENT)
        assert ending.result is Result.ACCEPTED
        await session.quit()


async def test_no_wait_goes_beyond_the_end_of_the_attempt(tmp_path: Path) -> None:
    """RabbitMQ closes the channel of whoever keeps a message for 30 minutes."""
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx), timeouts=replace(SHORT, rcpt=300))
        session.lend(asyncio.get_running_loop().time() + 0.3)
        ending = await asyncio.wait_for(session.transact(envelope("silent-rcptto@x.example"), CONTENT), 3)
        assert (ending.state, ending.result) == (State.RCPTTO, Result.TIMEOUT)
        await session.quit()


async def test_a_session_cut_off_in_the_middle_is_not_used_again(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        sending = asyncio.ensure_future(session.transact(envelope("slow-5-rcptto@x.example"), CONTENT))
        await until(lambda: mx.state.commands["RCPT"], within=2)
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()
        assert not session.is_usable
        await session.quit()
        await until(lambda: not mx.state.open_sessions, within=2)
        assert mx.state.commands["QUIT"] == 0


# --- what the extensions allow


@pytest.mark.parametrize(
    ("options", "given", "code", "status"),
    [
        (MxOptions(size=100), envelope(size=101), 552, "5.3.4"),
        (MxOptions(smtputf8=False), envelope("é@x.example", needs_utf8=True), 553, "5.6.7"),
        (MxOptions(eight_bit=False), envelope(is_eight_bit=True), 554, "5.6.3"),
    ],
)
async def test_what_the_peer_cannot_take_is_not_even_begun(
    tmp_path: Path, options: MxOptions, given: Envelope, code: int, status: str
) -> None:
    async with scripted(tmp_path, options=options) as mx:
        session = await opened(target(mx))
        ending = await session.transact(given, CONTENT)
        assert (ending.state, ending.result, ending.code, ending.status) == (State.MAILFROM, Result.ERROR, code, status)
        assert mx.state.commands["MAIL"] == 0
        assert session.is_usable
        assert (await session.transact(envelope(size=50), CONTENT)).result is Result.ACCEPTED
        await session.quit()


async def test_parameters_of_mail(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        content = "Subject: é\r\n\r\né\r\n".encode()
        given = envelope("jürgen@x.example", "", size=len(content), is_eight_bit=True, needs_utf8=True)
        assert (await session.transact(given, content)).result is Result.ACCEPTED
        await session.quit()
        [mail] = mx.ledger.mails()
        assert mail.mail_parameters == {"SIZE": str(len(content)), "BODY": "8BITMIME", "SMTPUTF8": ""}
        assert (mail.reverse_path, mail.recipient, mail.content) == ("", "jürgen@x.example", content)


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 3_000_000])
async def test_contents_of_any_size_arrive_as_they_are(tmp_path: Path, size: int) -> None:
    line = b"." + b"x" * 97 + b"\r\n"
    plain = (line * (size // 100 + 1))[:size]
    if plain.endswith(b"\r"):
        plain = plain[:-1] + b"y"
    stuffed = plain.replace(b"\r\n.", b"\r\n..")
    stuffed = b"." + stuffed if stuffed.startswith(b".") else stuffed
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx), timeouts=replace(SHORT, dot=10, block=10))
        assert (await session.transact(envelope(size=size), stuffed)).result is Result.ACCEPTED
        assert (await session.transact(envelope("ok+next@x.example", size=5), b"next\r\n")).result is Result.ACCEPTED
        await session.quit()
        first, second = mx.ledger.mails()
        assert first.content == (plain if not plain or plain.endswith(b"\r\n") else plain + b"\r\n")
        assert second.content == b"next\r\n"


# --- before the first transaction: connect, bind, intro, ehlo, helo


async def test_nobody_listens(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        gone = target(mx)
    ending = await refused(gone)
    assert (ending.state, ending.result, ending.session) == (State.CONNECT, Result.ERROR, None)
    assert ending.text is not None
    assert gone.address in ending.text


async def test_nobody_answers() -> None:
    """A listener whose queue is full: the kernel drops our SYN."""
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        with socket.socket() as more:
            more.setblocking(False)
            more.connect_ex(full.getsockname())
            one = Target("mx.example", "127.0.0.1", full.getsockname()[1], connect_timeout=0.3)
            ending = await refused(one)
    assert (ending.state, ending.result) == (State.CONNECT, Result.TIMEOUT)


async def test_a_source_address_that_is_not_ours(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        ending = await refused(target(mx, source="203.0.113.77"))
        assert (ending.state, ending.result) == (State.BIND, Result.ERROR)
        assert mx.state.connections == 0


async def test_a_source_address_is_used(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx, source="127.0.0.7"))
        assert session.local_ip == "127.0.0.7"
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()
        [mail] = mx.ledger.mails()
        assert mail.session.peer.startswith("127.0.0.7:")


@pytest.mark.parametrize("code", [421, 450, 550, 554])
@pytest.mark.parametrize("state", ["intro", "helo"])
async def test_refused_before_the_first_transaction(tmp_path: Path, state: str, code: int) -> None:
    words = [f"fail-{state}-{code}"] + (["fail-ehlo-502"] if state == "helo" else [])
    async with scripted(tmp_path, connection=words) as mx:
        ending = await refused(target(mx))
        assert (ending.state, ending.result) == (State(state), Result.ERROR)
        assert ending.reply is not None
        assert ending.reply.code == code
        assert ending.session is not None
        assert (ending.session.remote_ip, ending.session.local_ip) == ("127.0.0.1", "127.0.0.1")
        assert ending.session.mta == (None if state == "intro" else "mx.example")
        await until(lambda: not mx.state.open_sessions, within=2)


@pytest.mark.parametrize(("words", "result"), TROUBLES)
@pytest.mark.parametrize("state", ["intro", "ehlo", "helo"])
async def test_no_reply_before_the_first_transaction(tmp_path: Path, state: str, words: str, result: Result) -> None:
    given = [f"{words}-{state}"] + (["fail-ehlo-502"] if state == "helo" else [])
    async with scripted(tmp_path, connection=given) as mx:
        ending = await refused(target(mx))
        assert (ending.state, ending.result, ending.reply) == (State(state), result, None)
        await until(lambda: not mx.state.open_sessions or words == "silent", within=2)


@pytest.mark.parametrize("code", [500, 502, 550])
async def test_5xx_to_ehlo_is_followed_by_helo(tmp_path: Path, code: int) -> None:
    async with scripted(tmp_path, connection=[f"fail-ehlo-{code}"]) as mx:
        session = await opened(target(mx))
        assert session.extensions == {}
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()
        assert commands(mx) == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]
        assert mx.ledger.mails()[0].mail_parameters == {}


@pytest.mark.parametrize("code", [421, 451])
async def test_4xx_to_ehlo_is_an_answer(tmp_path: Path, code: int) -> None:
    async with scripted(tmp_path, connection=[f"fail-ehlo-{code}"]) as mx:
        ending = await refused(target(mx))
        assert (ending.state, ending.result) == (State.EHLO, Result.ERROR)
        assert mx.state.commands["HELO"] == 0


async def test_an_endless_greeting_costs_one_session(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"220-" + b"x" * 1000 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        ending = await refused(Target("mx.example", "127.0.0.1", server.sockets[0].getsockname()[1]))
    assert (ending.state, ending.result) == (State.INTRO, Result.INVALID)


async def test_a_byte_now_and_then_does_not_prolong_the_wait() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for byte in b"220 mx.example and so on and on and on and on and on":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.wait_for(reader.read(1), 0.1)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        one = Target("mx.example", "127.0.0.1", server.sockets[0].getsockname()[1])
        ending = await asyncio.wait_for(open_to(one, timeouts=replace(SHORT, greeting=0.3)), 3)
    assert isinstance(ending, Ending)
    assert ending.state is State.INTRO


async def test_a_word_that_nobody_asked_for_ends_the_reuse(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx))
        assert session.protocol.is_quiet
        for open_session in mx.state.open_sessions:
            open_session._transport.write(b"421 4.3.2 going down\r\n")
        await until(lambda: not session.protocol.is_quiet, within=2)
        await session.quit()
        assert mx.state.commands["QUIT"] == 0
