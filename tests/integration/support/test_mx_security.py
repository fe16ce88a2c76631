"""AUTH and STARTTLS of the scripted MX, by a library and by hand."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import aiosmtplib
import pytest

from tests.integration.support.mx_and_client import mx_and_client
from tests.support.certificates import Certificates, Kind, make_certificates
from tests.support.mx import MxOptions, ScriptedMx
from tests.support.waiting import until
from tests.support.wire_client import WireClient

CONTENT = b"From: a@b.example\r\nX-Token: t1\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For localhost and 127.0.0.1."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("mechanism", ["plain", "login"])
async def test_auth_by_a_library(tmp_path: Path, mechanism: str) -> None:
    options = MxOptions(users={"anna": "se:cret"}, auth_required=True)
    async with ScriptedMx(tmp_path, options=options) as mx:
        client = aiosmtplib.SMTP(hostname=mx.host, port=mx.port, start_tls=False, local_hostname="me.example")
        async with client:
            with pytest.raises(aiosmtplib.SMTPSenderRefused, match="Authentication required"):
                await client.mail("a@b.example")
            login = client.auth_plain if mechanism == "plain" else client.auth_login
            with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                await login("anna", "wrong")
            await login("anna", "se:cret")
            await client.sendmail("a@b.example", ["x@x.example"], CONTENT)
        [mail] = mx.ledger.mails()
        assert mail.session.auth_user == "anna"


async def test_auth_in_odd_ways(tmp_path: Path) -> None:
    options = MxOptions(users={"anna": "secret"})
    right = base64.b64encode(b"\0anna\0secret").decode()
    async with mx_and_client(tmp_path, options=options) as (_, client):
        assert "AUTH PLAIN LOGIN" in await client.greet()
        assert (await client.say("AUTH CRAM-MD5"))[:3] == "504"
        assert (await client.say("AUTH PLAIN !!!"))[:3] == "501"
        assert await client.say("AUTH PLAIN") == "334"
        assert (await client.say("*"))[:9] == "501 5.7.0"
        assert (await client.say(f"AUTH PLAIN {right}"))[:3] == "235"
        assert (await client.say(f"AUTH PLAIN {right}"))[:3] == "503"


async def test_starttls_with_a_good_certificate(tmp_path: Path, certificates: Certificates) -> None:
    options = MxOptions(users={"anna": "secret"}, auth_only_under_tls=True)
    async with ScriptedMx(tmp_path, options=options, tls=certificates.server_context()) as mx:
        client = aiosmtplib.SMTP(hostname=mx.host, port=mx.port, start_tls=False, local_hostname="me.example")
        async with client:
            await client.ehlo()
            assert client.supports_extension("starttls")
            assert not client.supports_extension("auth")
            await client.starttls(tls_context=certificates.client_context())
            await client.ehlo()
            assert not client.supports_extension("starttls")
            await client.login("anna", "secret")
            await client.sendmail("a@b.example", ["x@x.example"], CONTENT)
        [mail] = mx.ledger.mails()
        assert (mail.session.tls, mail.session.auth_user, mail.content) == ("TLSv1.3", "anna", CONTENT)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.GOOD])
async def test_starttls_with_a_bad_certificate(tmp_path: Path, certificates: Certificates, kind: Kind) -> None:
    async with ScriptedMx(tmp_path, tls=certificates.server_context(kind)) as mx:
        client = aiosmtplib.SMTP(hostname=mx.host, port=mx.port, start_tls=False, local_hostname="me.example")
        await client.connect()
        with pytest.raises((aiosmtplib.SMTPException, ssl.SSLError)):
            await client.starttls(tls_context=certificates.client_context())
        client.close()
        await until(lambda: mx.state.failed_handshakes, within=5)
        await until(lambda: not mx.state.open_sessions, within=5)


async def test_a_client_that_speaks_no_tls_or_leaves_during_the_handshake(tmp_path: Path, certificates: Certificates) -> None:
    async with ScriptedMx(tmp_path, tls=certificates.server_context()) as mx:
        for rest in (b"this is no handshake at all\r\n", b""):
            async with WireClient(mx.host, mx.port) as client:
                await client.greet()
                assert (await client.say("STARTTLS"))[:3] == "220"
                await client.send(rest)
        await until(lambda: len(mx.state.failed_handshakes) == 2, within=5)
        await until(lambda: not mx.state.open_sessions, within=5)


async def test_commands_smuggled_behind_starttls_are_not_obeyed(tmp_path: Path, certificates: Certificates) -> None:
    async with mx_and_client(tmp_path, tls=certificates.server_context()) as (mx, client):
        await client.greet()
        await client.send(b"STARTTLS\r\nMAIL FROM:<evil@x.example>\r\n")
        assert (await client.reply())[:9] == "554 5.5.0"
        assert await client.reply() == ""
        assert mx.state.commands["MAIL"] == 0


@pytest.mark.parametrize(("words", "reply"), [("garbage-handshake", "\x7fTh"), ("drop-handshake", "")])
async def test_a_broken_handshake(tmp_path: Path, certificates: Certificates, words: str, reply: str) -> None:
    async with mx_and_client(tmp_path, tls=certificates.server_context(), connection=[words]) as (_, client):
        await client.greet()
        assert (await client.say("STARTTLS"))[:3] == "220"
        assert (await client.reply())[:3] == reply
