"""The scripted MX, spoken to over real sockets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.support.mx_and_client import mx_and_client
from tests.support.behaviour import NotABehaviour
from tests.support.mx import MxOptions, Script, ScriptedMx
from tests.support.waiting import until
from tests.support.wire_client import WireClient

CONTENT = b"From: a@b.example\r\nX-Token: t1\r\n\r\nhello\r\n"


async def test_a_mail_is_in_the_ledger_with_everything_about_it(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        assert (await client.reply()).startswith("220 mx.example ")
        assert (await client.say("EHLO me.example")).split("\n") == [
            "250-mx.example",
            "250-PIPELINING",
            "250-8BITMIME",
            "250-SIZE 52428800",
            "250-SMTPUTF8",
            "250-DSN",
            "250 ENHANCEDSTATUSCODES",
        ]
        assert await client.say("MAIL FROM:<A@b.example> SIZE=99 body=8BITMIME RET=HDRS ENVID=x+2By") == "250 2.1.0 Ok"
        assert await client.say("RCPT TO:<ok@x.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ok@x.example") == "250 2.1.5 Ok"
        assert await client.say("RCPT TO:<reject-550@x.example>") == "550 5.1.1 No such user here"
        assert await client.say('RCPT TO:<"odd > one"@x.example>') == "250 2.1.5 Ok"
        assert (await client.say("DATA")).startswith("354 ")
        await client.send(CONTENT + b".\r\n")
        assert (await client.reply()).startswith("250 2.0.0 ")
        first, second = mx.ledger.mails()
    assert (first.reverse_path, first.recipient) == ("A@b.example", "ok@x.example")
    assert second.recipient == '"odd > one"@x.example'
    assert first.content == CONTENT
    assert (first.token, first.session.helo, first.session.tls, first.session.connection) == ("t1", "me.example", None, 1)
    assert (first.session.listener, first.session.hostname) == (mx.address, "mx.example")
    assert first.session.peer.startswith("127.0.0.1:")
    assert first.mail_parameters == {"SIZE": "99", "BODY": "8BITMIME", "RET": "HDRS", "ENVID": "x+2By"}
    assert first.rcpt_parameters == {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;ok@x.example"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
        (b"a\n.\nb\r.\rc\n.\r\nd\r\n.\ne\r\n.\r\n", b"a\n.\nb\r.\rc\n.\r\nd\r\n\ne\r\n"),
        (b"\x00\xff\xfe\r\n.\r\n", b"\x00\xff\xfe\r\n"),
        (b"x" * 300_000 + b"\r\n.\r\n", b"x" * 300_000 + b"\r\n"),
    ],
)
async def test_contents_keep_their_bytes_however_they_are_cut(tmp_path: Path, sent: bytes, kept: bytes) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        for cut in (0, 1, len(sent) - 3, len(sent) - 2, len(sent) - 1):
            await client.send(b"MAIL FROM:<>\r\nRCPT TO:<x@x.example>\r\nDATA\r\n")
            assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
            await client.send(sent[:cut])
            await client.send(sent[cut:] + b"NOOP\r\n")
            assert [(await client.reply())[:3] for _ in range(2)] == ["250", "250"]
        assert [mail.content == kept for mail in mx.ledger.mails()] == [True] * 5


async def test_a_burst_of_pipelined_mails_is_answered_in_order(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path, options=MxOptions(transcript=True)) as (mx, client):
        await client.greet()
        await client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<grey-1@x.example>\r\nRCPT TO:<ok@x.example>\r\nDATA\r\n")
        assert [(await client.reply())[:3] for _ in range(4)] == ["250", "451", "250", "354"]
        await client.send(CONTENT + b".\r\nRSET\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<grey-1@x.example>\r\nDATA\r\n")
        assert [(await client.reply())[:3] for _ in range(5)] == ["250", "250", "250", "250", "354"]
        await client.send(CONTENT + b".\r\nQUIT\r\n")
        assert [(await client.reply())[:3] for _ in range(3)] == ["250", "221", ""]
        assert sorted(mx.ledger.by_recipient()) == ["grey-1@x.example", "ok@x.example"]
        assert mx.state.commands["RCPT"] == 3
        burst = next(text for _, side, text in mx.state.transcript if side == "S" and "451" in text)
        assert burst.count("\r\n") == 4, "one write for one packet"


async def test_greylisting_counts_over_connections_per_recipient(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path) as mx:
        replies = []
        for recipient in ("grey-2+a@x.example", "grey-2+b@x.example", *["grey-2+a@x.example"] * 3):
            async with WireClient(mx.host, mx.port) as client:
                await client.greet()
                replies.append((await client.deliver(recipient))[:9])
        assert replies == ["451 4.7.1", "451 4.7.1", "451 4.7.1", "250 2.0.0", "250 2.0.0"]
        assert mx.ledger.count() == 2


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("tempfail@x.example", "451 4.3.0"),
        ("reject-554@x.example", "554 5.7.1"),
        ("fail-data-452@x.example", "452 4.2.2"),
        ("fail-message-550@x.example", "550 5.7.1"),
        ("multi-550@x.example", "550-5.1.1 first line\n550-5.1.1 second line\n550 5.1.1 the last"),
        ("garbage-message@x.example", "\x7fThis is no SMTP"),
        ("garbage-rcptto@x.example", "\x7fThis is no SMTP"),
        ("fail-nowhere-1@x.example", "554 5.3.5 behaviour 'fail-nowhere-1': expected fail-state-code"),
    ],
)
async def test_refusals_are_not_stored(tmp_path: Path, recipient: str, reply: str) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        assert (await client.deliver(recipient)).startswith(reply)
        assert mx.ledger.count() == 0


async def test_accepted_in_three_lines(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        reply = await client.deliver("multi@x.example")
        assert reply == "250-2.0.0 first line\n250-2.0.0 second line\n250 2.0.0 the last of three lines"
        assert mx.ledger.count() == 1


async def test_the_reverse_path_speaks_the_same_language(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        assert await client.say("MAIL FROM:<fail-mailfrom-451-1@b.example>") == "451 4.3.0 Local error in processing"
        assert await client.say("RCPT TO:<ok@x.example>") == "503 5.5.1 RCPT comes after MAIL"
        assert await client.say("MAIL FROM:<fail-mailfrom-451-1@b.example>") == "250 2.1.0 Ok"
        assert (await client.say("RSET"))[:3] == "250"
        assert (await client.deliver("ok@x.example", reverse_path="reject-550@b.example"))[:3] == "250"
        assert mx.ledger.count() == 1


@pytest.mark.parametrize("state", ["rcptto", "data", "message"])
async def test_drop_closes_without_a_word_and_only_so_often(tmp_path: Path, state: str) -> None:
    async with ScriptedMx(tmp_path) as mx:
        for expected in ("", "250"):
            async with WireClient(mx.host, mx.port) as client:
                await client.greet()
                assert (await client.deliver(f"drop-{state}-1@x.example"))[:3] == expected
        assert mx.ledger.count() == 1


async def test_drop_in_the_middle_of_the_content(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<drop-content@x.example>\r\nDATA\r\n")
        assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
        await client.send(b"Subject: half of it\r\n")
        assert await client.reply() == ""
        assert mx.ledger.count() == 0


@pytest.mark.parametrize("state", ["rcptto", "stored"])
async def test_reset_is_a_rst(tmp_path: Path, state: str) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        with pytest.raises(ConnectionResetError):
            await client.deliver(f"reset-{state}@x.example")
        assert mx.ledger.count() == (1 if state == "stored" else 0)


async def test_c421_replies_and_closes(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (_, client):
        await client.greet()
        assert (await client.deliver("c421-rcptto@x.example")).startswith("421 4.3.2")
        assert await client.reply() == ""


async def test_a_lost_reply_and_a_lying_one_leave_the_mail_stored(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        assert (await client.deliver("fail-stored-451@x.example"))[:3] == "451"
        assert await client.deliver("drop-stored@x.example") == ""
        assert mx.ledger.count() == 2


async def test_silence_lasts_and_the_mail_is_not_stored(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path) as mx, WireClient(mx.host, mx.port, within=0.2) as client:
        await client.greet()
        with pytest.raises(TimeoutError):
            await client.deliver("silent-message@x.example")
        assert len(mx.state.open_sessions) == 1
        assert mx.ledger.count() == 0


async def test_a_slow_reply_comes_late_in_order_and_the_mail_is_stored_before_it(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path) as mx, WireClient(mx.host, mx.port, within=0.15) as client:
        await client.greet()
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<slow-0.4@x.example>\r\nDATA\r\n")
        assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
        await client.send(b"Subject: x\r\n\r\n.\r\nNOOP\r\n")
        with pytest.raises(TimeoutError):
            await client.reply()
        assert mx.ledger.count() == 1
        assert (await until(client.reply, within=5, tolerating=(TimeoutError,)))[:9] == "250 2.0.0"
        assert await client.reply() == "250 2.0.0 Ok"


async def test_a_client_that_leaves_during_a_slow_reply_harms_nobody(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path) as mx:
        async with WireClient(mx.host, mx.port) as client:
            await client.greet()
            await client.send(b"MAIL FROM:<>\r\nRCPT TO:<slow-60-rcptto@x.example>\r\n")
            assert (await client.reply())[:3] == "250"
        await until(lambda: not mx.state.open_sessions, within=5)


async def test_a_script_gives_own_words_per_attempt(tmp_path: Path) -> None:
    script = Script({"anna@x.example": ["450 4.2.1 come\nback", {"state": "message", "reply": "552 5.2.2 full"}, "ok"]})
    async with mx_and_client(tmp_path, script=script) as (mx, client):
        await client.greet()
        replies = []
        for _ in range(3):
            replies.append(await client.deliver("Anna@x.example"))
            await client.say("RSET")
        assert replies[:2] == ["450-4.2.1 come\n450 4.2.1 back", "552 5.2.2 full"]
        assert replies[2][:3] == "250"
        assert mx.ledger.count() == 1


@pytest.mark.parametrize(
    ("options", "connection", "said"),
    [
        (MxOptions(greeting="554 5.3.2 No"), (), [("", "554"), ("EHLO x", "503"), ("QUIT", "221"), ("", "")]),
        (MxOptions(greeting="421 4.3.2 No"), (), [("", "421"), ("", "")]),
        (MxOptions(), ("drop-intro",), [("", "")]),
        (MxOptions(), ("garbage-intro",), [("", "\x7fTh")]),
        (MxOptions(), ("fail-ehlo-502",), [("", "220"), ("EHLO x", "502"), ("HELO x", "250"), ("MAIL FROM:<>", "250")]),
        (MxOptions(), ("slow-50ms-intro", "c421-mailfrom"), [("", "220"), ("HELO x", "250"), ("MAIL FROM:<>", "421"), ("", "")]),
        (MxOptions(size=100), (), [("", "220"), ("EHLO x", "250"), ("MAIL FROM:<> SIZE=101", "552")]),
        (MxOptions(size=None), (), [("", "220"), ("EHLO x", "250"), ("MAIL FROM:<> SIZE=101", "555")]),
        (MxOptions(eight_bit=False), (), [("", "220"), ("EHLO x", "250"), ("MAIL FROM:<> BODY=8BITMIME", "555")]),
        (MxOptions(dsn=False), (), [("", "220"), ("EHLO x", "250"), ("MAIL FROM:<> RET=FULL", "555")]),
        (MxOptions(), (), [("", "220"), ("HELO x", "250"), ("MAIL FROM:<> SIZE=1", "555")]),
        (MxOptions(), (), [("", "220"), ("EHLO x", "250"), ("MAIL FROM:<ü@x>", "553"), ("MAIL FROM:<ü@x> SMTPUTF8", "250")]),
        (MxOptions(), (), [("", "220"), ("MAIL FROM:<>", "503"), ("EHLO", "501"), ("EHLO x", "250"), ("MAIL FROM: <>", "501")]),
        (MxOptions(), (), [("", "220"), ("NONSENSE", "500"), ("VRFY x", "252"), ("DATA", "503"), ("STARTTLS", "503")]),
    ],
)
async def test_connection_wide_behaviour(
    tmp_path: Path, options: MxOptions, connection: Sequence[str], said: list[tuple[str, str]]
) -> None:
    async with mx_and_client(tmp_path, options=options, connection=connection) as (_, client):
        for line, code in said:
            assert (await (client.say(line) if line else client.reply()))[:3] == code, line


async def test_too_large_a_content_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path, options=MxOptions(size=1000)) as (mx, client):
        await client.greet()
        for size in (1001, 200_000):
            assert (await client.deliver("x@x.example", b"x" * size + b"\r\n"))[:9] == "552 5.3.4"
        assert (await client.deliver("x@x.example", b"x" * 998 + b"\r\n"))[:3] == "250"
        assert [mail.size for mail in mx.ledger.mails()] == [1000]


async def test_no_pipelining_means_none(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path, options=MxOptions(pipelining=False)) as (_, client):
        assert "PIPELINING" not in await client.greet()
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<x@x.example>\r\n")
        assert (await client.reply())[:9] == "503 5.5.0"
        assert await client.reply() == ""


async def test_content_before_354_and_bare_line_feeds_are_told(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (_, client):
        await client.greet()
        await client.send(b"NOOP\n")
        assert await client.reply() == "500 5.5.2 A line ends in CRLF"
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<x@x.example>\r\nDATA\r\nSubject: early\r\n")
        assert [(await client.reply())[:9] for _ in range(3)] == ["250 2.1.0", "250 2.1.5", "554 5.5.0"]
        assert await client.reply() == ""


async def test_limits_on_mails_per_connection_and_on_connections(tmp_path: Path) -> None:
    options = MxOptions(messages_per_connection=1, connections=1)
    async with mx_and_client(tmp_path, options=options) as (mx, client):
        await client.greet()
        async with WireClient(mx.host, mx.port) as second:
            assert (await second.reply())[:9] == "421 4.7.0"
        assert (await client.deliver("x@x.example"))[:3] == "250"
        assert (await client.deliver("x@x.example"))[:9] == "421 4.7.0"
        assert mx.ledger.count() == 1


async def test_the_test_can_cut_all_connections(tmp_path: Path) -> None:
    async with mx_and_client(tmp_path) as (mx, client):
        await client.greet()
        mx.close_connections()
        assert await client.reply() == ""
        async with WireClient(mx.host, mx.port) as second:
            assert (await second.reply())[:3] == "220"


async def test_several_addresses_are_one_mx(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path, listen=["127.0.1.1:0", "127.0.1.2:0"]) as mx:
        for address in mx.addresses:
            host, _, port = address.rpartition(":")
            async with WireClient(host, int(port)) as client:
                await client.greet()
                assert (await client.deliver("x@x.example"))[:3] == "250"
        assert [mail.session.listener for mail in mx.ledger.mails()] == mx.addresses


@pytest.mark.parametrize("words", ["ok", "fail-ehlo-502-2", "drop", "anna"])
def test_connection_words_that_say_nothing_are_refused(tmp_path: Path, words: str) -> None:
    with pytest.raises(NotABehaviour):
        ScriptedMx(tmp_path, connection=[words])


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path) as mx:
        with pytest.raises(OSError, match="address already in use"):
            await ScriptedMx(tmp_path, listen=["127.0.0.1:0", mx.address]).__aenter__()
