"""The servers as processes (uvloop): they say where they listen, keep their word through kill -9, end on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosmtplib
import dns.asyncquery
import dns.message
import httpx
import pytest

from tests.support.certificates import make_certificates
from tests.support.ledger import Ledger
from tests.support.wire_client import WireClient


@asynccontextmanager
async def running(module: str, *arguments: object) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, int]]:
    """A process, and the first host and port it says it listens on."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-W", "error", "-m", f"tests.support.{module}", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    try:
        said = ""
        while " listening on " not in said:
            line = await asyncio.wait_for(process.stdout.readline(), 15)
            assert line, (await process.communicate())[1].decode()
            said = line.decode()
        host, _, port = said.split()[-1].rpartition(":")
        yield process, host, int(port)
    finally:
        if process.returncode is None:
            process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), 15)
    assert errors == b""
    assert process.returncode in (0, -signal.SIGKILL)


async def test_mx_keeps_what_it_acknowledged_through_kill_9(tmp_path: Path) -> None:
    async with (
        running("mx", "--listen", "127.0.0.1:0", "--ledger", tmp_path) as (process, host, port),
        WireClient(host, port) as client,
    ):
        await client.greet()
        acknowledged = 0
        for _ in range(20):
            acknowledged += (await client.deliver("x@x.example"))[:3] == "250"
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    assert Ledger(tmp_path).count() == acknowledged == 20


async def test_mx_speaks_tls_and_resets_under_uvloop(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    arguments = ["--listen", "127.0.0.1:0", "--ledger", tmp_path / "l", "--tls", "good", "--certificates", folder]
    async with running("mx", *arguments, "--hostname", "mx.good.example", "--tls-name", "127.0.0.1") as (_, host, port):
        context = make_certificates(folder, ["mx.good.example", "127.0.0.1"]).client_context()
        client = aiosmtplib.SMTP(hostname=host, port=port, start_tls=True, tls_context=context, local_hostname="me.example")
        async with client:
            await client.sendmail("a@b.example", ["slow-20ms@x.example"], b"Subject: x\r\n\r\nx\r\n")
        async with WireClient(host, port) as wire:
            await wire.greet()
            assert (await wire.say("STARTTLS"))[:3] == "220"
            await wire.send(b"this is no handshake\r\n" * 10)
        async with WireClient(host, port) as wire:
            await wire.greet()
            with pytest.raises(ConnectionResetError):
                await wire.deliver("reset-data@x.example")
        async with WireClient(host, port) as wire:
            await wire.greet()
            assert await wire.deliver("drop-message@x.example") == ""
        [mail] = Ledger(tmp_path / "l").mails()
        assert (mail.session.tls, mail.session.hostname) == ("TLSv1.3", "mx.good.example")


async def test_mx_takes_its_options_from_the_command_line(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"recipients": {"anna@x.example": ["450 4.2.1 my own words"]}}))
    arguments = ["--listen", "127.0.0.1:0", "--listen", "127.0.1.1:0", "--ledger", tmp_path / "l", "--no-content"]
    arguments += ["--script", script, "--user", "anna:se:cret", "--auth-only-under-tls", "--size", "0", "--no-dsn"]
    arguments += ["--no-8bitmime", "--no-smtputf8", "--no-pipelining", "--hostname", "other.example", "--greeting-delay", "0.01"]
    async with running("mx", *arguments) as (_, host, port), WireClient(host, port) as client:
        assert (await client.greet()).split("\n") == ["250-other.example", "250 ENHANCEDSTATUSCODES"]
        assert (await client.say("MAIL FROM:<>"))[:3] == "250"
        assert await client.say("RCPT TO:<anna@x.example>") == "450 4.2.1 my own words"
        assert (await client.say("RCPT TO:<x@x.example>"))[:3] == "250"
        assert (await client.say("DATA"))[:3] == "354"
        assert (await client.say("Subject: x\r\n\r\n.")).startswith("250")
        [mail] = Ledger(tmp_path / "l").mails()
        assert (mail.has_content, mail.size) == (False, 14)


@pytest.mark.parametrize(
    ("module", "arguments", "reason"),
    [
        ("mx", ["--listen", "127.0.0.1", "--ledger", "{folder}"], "expected host:port"),
        ("mx", ["--listen", "127.0.0.1:0", "--ledger", "{folder}", "--connection", "drop-x"], "expected drop-state"),
        ("mx", ["--listen", "127.0.0.1:0", "--ledger", "{folder}", "--script", "{folder}/none"], "No such file"),
        ("mx", ["--listen", "127.0.0.1:0", "--ledger", "{folder}", "--user", "anna"], "expected name:password"),
        ("mx", ["--listen", "192.0.2.1:25", "--ledger", "{folder}"], "cannot assign requested address"),
        ("dns_zone", ["--listen", "127.0.0.1:0", "--zone", "{folder}/none"], "No such file"),
        ("seal_service", ["--listen", "192.0.2.1:80", "--ledger", "{folder}"], "annot assign requested address"),
    ],
)
async def test_a_wrong_command_line_is_one_telling_line(tmp_path: Path, module: str, arguments: list[str], reason: str) -> None:
    given = [one.replace("{folder}", str(tmp_path)) for one in arguments]
    pipe = asyncio.subprocess.PIPE
    run = await asyncio.create_subprocess_exec(sys.executable, "-m", f"tests.support.{module}", *given, stderr=pipe)
    _, errors = await asyncio.wait_for(run.communicate(), 15)
    assert run.returncode in (1, 2)
    assert reason in errors.decode().splitlines()[-1]
    assert b"Traceback" not in errors


async def test_dns_and_seal_run_as_processes(tmp_path: Path) -> None:
    zone = tmp_path / "zone.json"
    zone.write_text('{"good.example": {"A": "127.0.1.1"}}')
    async with (
        running("dns_zone", "--listen", "127.0.0.1:0", "--zone", zone) as (_, host, port),
        running("seal_service", "--listen", "127.0.0.1:0", "--ledger", tmp_path / "l") as (_, seal_host, seal_port),
    ):
        response = await dns.asyncquery.udp(dns.message.make_query("good.example", "A"), host, 5, port)
        assert "127.0.1.1" in response.answer[0].to_text()
        headers = {"Content-Type": "message/rfc822", "X-Seal-Envelope": "", "X-Seal-Recipient": "a@b.example"}
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://{seal_host}:{seal_port}/v1/seal"
            answer = await client.post(url, content=b"x", headers={**headers, "Idempotency-Key": "1"})
        assert answer.status_code == 200
        assert Ledger(tmp_path / "l").count() == 1
