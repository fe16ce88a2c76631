"""smtp-sink and its fault switches: each gives the state, result and verdict that results name."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.integration.peers.contents import render
from tests.integration.peers.ending import PATIENT, desk_towards, ended, told
from tests.support.peers.smtp_sink import SmtpSink

SENT = ("message", "accepted", "sent")
STATES = {
    "CONNECT": "intro", "EHLO": "ehlo", "EHLO,HELO": "helo", "MAIL": "mailfrom", "RCPT": "rcptto", "DATA": "data", ".": "message",
}  # fmt: skip
OF_THE_HOST = ("CONNECT", "EHLO,HELO")
"""A 5xx here concerns the host, not the mail."""


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_soft_rejects(folder: Path, command: str) -> None:
    with SmtpSink(folder / f"r-{command}", "-r", command) as sink:
        async with desk_towards(sink) as one:
            finished = await one.attempt("good@x.example")
            assert ended(finished) == (STATES[command], "error", "retry")
            assert (told(finished)["code"], told(finished)["status"]) == (450, "4.3.0")
        assert sink.dumps() == [] or command == "."


@pytest.mark.parametrize("command", ["CONNECT", "EHLO,HELO", "MAIL", "RCPT", "DATA", "."])
async def test_hard_rejects(folder: Path, command: str) -> None:
    with SmtpSink(folder / f"f-{command}", "-f", command) as sink:
        async with desk_towards(sink) as one:
            finished = await one.attempt("good@x.example")
            assert ended(finished) == (STATES[command], "error", "retry" if command in OF_THE_HOST else "failed")
            assert (told(finished)["code"], told(finished)["status"]) == (500, "5.3.0")


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_disconnects(folder: Path, command: str) -> None:
    with SmtpSink(folder / f"q-{command}", "-q", command) as sink:
        async with desk_towards(sink) as one:
            finished = await one.attempt("good@x.example")
            assert ended(finished) == (STATES[command], "lost", "retry")
            assert told(finished).get("code", 451) // 100 == 4


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_421_and_disconnects(folder: Path, command: str) -> None:
    with SmtpSink(folder / f"Q-{command}", "-Q", command) as sink:
        async with desk_towards(sink) as one:
            for _ in range(2):
                finished = await one.attempt("good@x.example")
                assert ended(finished) == (STATES[command], "error", "retry")
                assert told(finished)["code"] == 421


@pytest.mark.parametrize("switch", ["-r", "-f", "-q", "-Q"])
@pytest.mark.parametrize("command", ["QUIT", "RSET"])
async def test_what_follows_the_mail_does_not_matter(folder: Path, switch: str, command: str) -> None:
    with SmtpSink(folder / f"{switch}-{command}", switch, command) as sink:
        async with desk_towards(sink, connection_maxmessages=1) as one:
            assert ended(await one.attempt("good@x.example")) == SENT
            assert ended(await one.attempt("good@x.example")) == SENT
        assert len(sink.dumps()) == 2


@pytest.mark.parametrize("switch", ["-f", "-q", "-Q"])
async def test_a_session_that_cannot_be_reset_is_not_used_again(folder: Path, switch: str) -> None:
    with SmtpSink(folder / f"reset{switch}", "-r", "RCPT", switch, "RSET") as sink:
        async with desk_towards(sink) as one:
            for _ in range(2):
                finished = await one.attempt("good@x.example")
                assert ended(finished) == ("rcptto", "error", "retry")
                assert told(finished)["messages"] == 1


async def test_replies_of_its_own(folder: Path) -> None:
    with SmtpSink(folder / "b", "-b", "451 4.7.1 Greylisted", "-r", "RCPT") as sink:
        async with desk_towards(sink) as one:
            finished = await one.attempt("good@x.example")
            assert ended(finished) == ("rcptto", "error", "retry")
            assert (told(finished)["code"], told(finished)["status"]) == (451, "4.7.1")
            assert told(finished)["description"] == "4.7.1 Greylisted"
    with SmtpSink(folder / "B", "-B", "571 5.7.1 Delivery not authorized", "-f", ".") as sink:
        async with desk_towards(sink) as one:
            finished = await one.attempt("good@x.example")
            assert ended(finished) == ("message", "error", "failed")
            assert (told(finished)["code"], told(finished)["status"]) == (571, "5.7.1")


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_answers_too_late(folder: Path, command: str) -> None:
    short = replace(PATIENT, greeting=0.3, ehlo=0.3, mail=0.3, rcpt=0.3, data=0.3, dot=0.3, quit=0.3)
    with SmtpSink(folder / f"W-{command}", "-p", "-W", f"{command}:3") as sink:
        async with desk_towards(sink, timeouts=short) as one:
            assert ended(await one.attempt("good@x.example")) == (STATES[command], "timeout", "retry")


async def test_answers_late_but_in_time(folder: Path) -> None:
    with SmtpSink(folder / "w", "-w", "1") as sink:
        async with desk_towards(sink) as one:
            assert ended(await one.attempt("good@x.example")) == SENT


async def test_refuses_after_354(folder: Path) -> None:
    """It answers the content before the content came, and reads no more."""
    with SmtpSink(folder / "A", "-A", "0") as sink:
        async with desk_towards(sink) as one:
            finished = await one.attempt("good@x.example", mime=render("aborted", b"x" * 70 + b"\r\n").decode())
            assert ended(finished) == ("message", "error", "failed")
            assert told(finished)["code"] == 550
        assert sink.dumps() == [] or "aborted" not in "".join(sink.dumps())


@pytest.mark.parametrize(
    "switches", [["-e"], ["-p"], ["-N"], ["-E"], ["-P"], ["-f", "EHLO"], ["-8"], ["-a", "-C", "-F"]], ids=" ".join
)
async def test_lacks_extensions(folder: Path, switches: list[str]) -> None:
    with SmtpSink(folder / "".join(switches), *switches) as sink:
        async with desk_towards(sink) as one:
            for number in range(3):
                finished = await one.attempt("good@x.example", mime=render(f"mail-{number}", b".dot\r\n").decode())
                assert ended(finished) == SENT
                assert told(finished)["messages"] == number + 1
        assert sorted(dump.partition("X-Token: ")[2][:6] for dump in sink.dumps()) == ["mail-0", "mail-1", "mail-2"]
        assert all("\n\n.dot\n" in dump for dump in sink.dumps())


@pytest.mark.parametrize("switches", [[], ["-p"], ["-N"]], ids=" ".join)
async def test_dsn_parameters_go_to_whom_they_mean_something(folder: Path, switches: list[str]) -> None:
    dsn = {"notify": "SUCCESS,FAILURE", "ret": "HDRS", "envid": "sink-1", "orcpt": "rfc822;first@x.example"}
    with SmtpSink(folder / f"dsn{''.join(switches)}", *switches) as sink:
        async with desk_towards(sink) as one:
            finished = await one.attempt("good@x.example", dsn=dsn)
            assert (ended(finished), told(finished)["dsn"]) == (SENT, "-N" not in switches)
        [dump] = sink.dumps()
    assert ("RET=HDRS ENVID=sink-1\n" in dump) is ("-N" not in switches)
    assert ("NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@x.example\n" in dump) is ("-N" not in switches)
    assert ("<r@a.example>\n" in dump) is ("-N" in switches)


@pytest.mark.parametrize("switches", [[], ["-8"], ["-e"]], ids=" ".join)
async def test_a_host_of_seven_bits(folder: Path, switches: list[str]) -> None:
    text = "Grüße, 你好\r\n.\r\n" * 20
    fields = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    with SmtpSink(folder / f"bits{''.join(switches)}", *switches) as sink:
        async with desk_towards(sink) as one:
            assert ended(await one.attempt("good@x.example", mime=f"{fields}\r\n{text}")) == SENT
        [dump] = sink.dumps()
    assert dump.isascii() is bool(switches)
    assert ("BODY=8BITMIME" in dump) is (not switches)
    stored = message_from_bytes(dump.encode(errors="surrogateescape"))
    payload = stored.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.replace(b"\r\n", b"\n").strip() == text.replace("\r\n", "\n").strip().encode()
