"""STARTTLS with every kind of certificate and policy, and AUTH PLAIN, against the scripted MX."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from pathlib import Path

import pytest

from services.smtp_sender.session import Target
from shared.wire.instructions import Security
from shared.wire.result import Result, State
from tests.integration.smtp_sender.peers import CONTENT, commands, envelope, opened, refused, scripted, target
from tests.support.certificates import Certificates, Kind, make_certificates
from tests.support.mx import MxOptions
from tests.support.waiting import until

OPPORTUNISTIC, REQUIRED, VERIFIED = Security.OPPORTUNISTIC, Security.REQUIRED, Security.VERIFIED
BAD = {
    Kind.SELF_SIGNED: "self-signed",
    Kind.EXPIRED: "expired at 20",
    Kind.MISMATCH: "issued for wrong.name.invalid, not for mx.example",
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For mx.example."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("mx.example",))


@pytest.mark.parametrize("security", [OPPORTUNISTIC, REQUIRED, VERIFIED])
async def test_a_good_certificate(tmp_path: Path, certificates: Certificates, security: Security) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx:
        session = await opened(target(mx, security=security), ca=certificates.ca)
        cipher, certificate = session.tls["cipher"], session.tls["certificate"]
        assert set(cipher) == {"name", "bits", "algbits", "version", "id"}
        assert cipher["version"] == "TLSv1.3"
        assert cipher["name"].startswith("TLS_")
        assert cipher["bits"] in (128, 256)
        assert cipher["algbits"] == cipher["bits"]
        assert 0x1300 < cipher["id"] < 0x1400
        assert set(certificate) == {
            "notbefore", "notafter", "version", "verified", "result", "keyusage", "self-signed", "subject", "issuer", "altnames",
        }  # fmt: skip
        assert (certificate["verified"], certificate["result"], certificate["self-signed"]) == (True, "ok", False)
        assert certificate["subject"]["common"] == "mx.example"
        assert certificate["issuer"]["common"] == "Test CA"
        assert certificate["altnames"] == ["mx.example"]
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()
        assert mx.ledger.mails()[0].session.tls == "TLSv1.3"
        assert commands(mx) == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("security", [OPPORTUNISTIC, REQUIRED])
@pytest.mark.parametrize("kind", list(BAD))
async def test_a_bad_certificate_is_told_and_taken(
    tmp_path: Path, certificates: Certificates, kind: Kind, security: Security
) -> None:
    async with scripted(tmp_path, certificates=certificates, kind=kind) as mx:
        session = await opened(target(mx, security=security), ca=certificates.ca)
        certificate = session.tls["certificate"]
        assert certificate["verified"] is False
        assert certificate["result"].startswith(BAD[kind])
        assert certificate["self-signed"] is (kind is Kind.SELF_SIGNED)
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()


@pytest.mark.parametrize("kind", list(BAD))
async def test_verified_refuses_a_bad_certificate(tmp_path: Path, certificates: Certificates, kind: Kind) -> None:
    async with scripted(tmp_path, certificates=certificates, kind=kind) as mx:
        ending = await refused(target(mx, security=VERIFIED), ca=certificates.ca)
        assert (ending.state, ending.result) == (State.STARTTLS, Result.INVALID)
        assert ending.text is not None
        assert BAD[kind] in ending.text
        assert ending.session is not None
        assert ending.session.tls["certificate"]["result"].startswith(BAD[kind])
        assert ending.session.tls["cipher"]
        assert mx.state.commands["MAIL"] == 0


async def test_verified_without_a_known_authority(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx:
        ending = await refused(target(mx, security=VERIFIED))
        assert ending.text is not None
        assert "not trusted" in ending.text


async def test_verified_by_another_name_than_the_hosts(tmp_path: Path, certificates: Certificates) -> None:
    """A host found by plain DNS must have a certificate for the recipient's domain."""
    async with scripted(tmp_path, certificates=certificates) as mx:
        ending = await refused(target(mx, security=VERIFIED, certificate_name="x.example"), ca=certificates.ca)
        assert (ending.state, ending.result) == (State.STARTTLS, Result.INVALID)
        session = await opened(target(mx, host="whatever", security=VERIFIED, certificate_name="mx.example"), ca=certificates.ca)
        assert session.tls["certificate"]["verified"]
        await session.quit()


async def test_optional_never_asks(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx:
        session = await opened(target(mx, security=Security.OPTIONAL))
        assert session.tls == {}
        await session.quit()
        assert mx.state.commands["STARTTLS"] == 0


async def test_not_offered(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx:
        session = await opened(target(mx, security=OPPORTUNISTIC))
        assert session.tls == {}
        await session.quit()
        for security in (REQUIRED, VERIFIED):
            ending = await refused(target(mx, security=security))
            assert (ending.state, ending.result, ending.reply) == (State.STARTTLS, Result.ERROR, None)
        assert mx.state.commands["STARTTLS"] == 0


HANDSHAKES = [
    ("fail-starttls-454", Result.ERROR),
    ("fail-starttls-550", Result.ERROR),
    ("c421-starttls", Result.ERROR),
    ("silent-starttls", Result.TIMEOUT),
    ("drop-starttls", Result.LOST),
    ("garbage-starttls", Result.INVALID),
    ("garbage-handshake", Result.INVALID),
    ("drop-handshake", Result.INVALID),
    ("reset-handshake", Result.INVALID),
    ("silent-handshake", Result.TIMEOUT),
]


@pytest.mark.parametrize(("words", "result"), HANDSHAKES)
async def test_required_and_it_fails(tmp_path: Path, certificates: Certificates, words: str, result: Result) -> None:
    async with scripted(tmp_path, connection=[words], certificates=certificates) as mx:
        ending = await refused(target(mx, security=REQUIRED))
        assert ending.state is State.STARTTLS
        assert ending.result in ((result, Result.LOST) if "handshake" in words and result is not Result.TIMEOUT else (result,))
        assert ending.session is not None
        assert ending.session.mta == "mx.example"
        if "fail" in words:
            assert ending.reply is not None
            assert ending.reply.enhanced_status is not None
        assert mx.state.commands["MAIL"] == 0


@pytest.mark.parametrize(("words", "result"), HANDSHAKES)
async def test_opportunistic_goes_on_in_clear_on_a_new_connection(
    tmp_path: Path, certificates: Certificates, words: str, result: Result
) -> None:
    async with scripted(tmp_path, connection=[words], certificates=certificates) as mx:
        session = await opened(target(mx, security=OPPORTUNISTIC))
        assert session.tls == {}
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()
        assert mx.state.connections == 2
        [mail] = mx.ledger.mails()
        assert (mail.session.tls, mail.session.connection) == (None, 2)


async def test_a_peer_without_tls_1_2(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx:
        assert mx.state.tls is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            mx.state.tls.minimum_version = ssl.TLSVersion.TLSv1
            mx.state.tls.maximum_version = ssl.TLSVersion.TLSv1_1
        ending = await refused(target(mx, security=REQUIRED))
        assert (ending.state, ending.result) == (State.STARTTLS, Result.INVALID)


@pytest.mark.parametrize("injected", [b"250-PIPELINING\r\n250 mx.example\r\n", b"250 half a line", b"\r\n"])
async def test_words_put_behind_the_220_are_not_read_under_tls(injected: bytes) -> None:
    """Somebody on the way writes replies in clear that we would take for the peer's, under TLS (CVE-2011-0411)."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx.example\r\n")
        await reader.readline()
        writer.write(b"250-mx.example\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go ahead\r\n" + injected)
        got.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        one = Target("mx.example", "127.0.0.1", server.sockets[0].getsockname()[1], security=REQUIRED)
        ending = await refused(one)
        assert (ending.state, ending.result) == (State.STARTTLS, Result.INVALID)
        await until(lambda: got, within=2)
    assert got == [b""]


async def test_tls_1_2_ciphers_are_told_completely(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx:
        assert mx.state.tls is not None
        mx.state.tls.maximum_version = ssl.TLSVersion.TLSv1_2
        session = await opened(target(mx, security=REQUIRED))
        cipher = session.tls["cipher"]
        assert cipher["version"] == "TLSv1.2"
        assert cipher["name"].startswith("ECDHE-ECDSA-")
        assert 0xC000 < cipher["id"] < 0xD000
        await session.quit()


# --- AUTH


USERS = MxOptions(users={"anna": "pässword"}, auth_required=True, transcript=True)
LOGIN = {"username": "anna", "password": "pässword"}


async def test_auth_under_tls(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, options=USERS, certificates=certificates) as mx:
        session = await opened(target(mx, security=OPPORTUNISTIC, **LOGIN))
        assert session.authentication == "PLAIN"
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()
        assert mx.ledger.mails()[0].session.auth_user == "anna"


async def test_a_wrong_password(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, options=USERS, certificates=certificates) as mx:
        ending = await refused(target(mx, security=REQUIRED, username="anna", password="wrong"))
        assert (ending.state, ending.result) == (State.AUTHPLAIN, Result.ERROR)
        assert ending.reply is not None
        assert (ending.reply.code, ending.reply.enhanced_status) == (535, "5.7.8")
        assert ending.session is not None
        assert (ending.session.tls["cipher"]["version"], ending.session.authentication) == ("TLSv1.3", None)


async def test_no_password_in_clear(tmp_path: Path) -> None:
    async with scripted(tmp_path, options=USERS) as mx:
        ending = await refused(target(mx, security=OPPORTUNISTIC, **LOGIN))
        assert (ending.state, ending.result) == (State.AUTHPLAIN, Result.INVALID)
        assert mx.state.commands["AUTH"] == 0
        session = await opened(target(mx, auth_clear=True, **LOGIN))
        assert session.authentication == "PLAIN"
        await session.quit()


async def test_stripped_tls_does_not_lure_the_password_out(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, options=USERS, connection=["garbage-handshake"], certificates=certificates) as mx:
        ending = await refused(target(mx, security=OPPORTUNISTIC, **LOGIN))
        assert (ending.state, ending.result) == (State.AUTHPLAIN, Result.INVALID)
        assert mx.state.connections == 2
        assert mx.state.commands["AUTH"] == 0


async def test_auth_that_is_not_offered(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx:
        ending = await refused(target(mx, security=REQUIRED, **LOGIN))
        assert (ending.state, ending.result) == (State.AUTHPLAIN, Result.INVALID)
        assert ending.text == "The host offers AUTH nothing; expected one of PLAIN, LOGIN, CRAM-MD5"


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ("silent", Result.TIMEOUT),
        ("drop", Result.LOST),
        ("garbage", Result.INVALID),
        ("fail-454", Result.ERROR),
        ("c421", Result.ERROR),
    ],
)
async def test_auth_without_a_yes(tmp_path: Path, certificates: Certificates, words: str, result: Result) -> None:
    word, _, code = words.partition("-")
    behaviour = f"{word}-auth" + (f"-{code}" if code else "")
    async with scripted(tmp_path, options=USERS, connection=[behaviour], certificates=certificates) as mx:
        ending = await refused(target(mx, security=REQUIRED, **LOGIN))
        assert (ending.state, ending.result) == (State.AUTHPLAIN, result)


async def test_530_in_the_transaction(tmp_path: Path) -> None:
    async with scripted(tmp_path, options=USERS) as mx:
        session = await opened(target(mx))
        ending = await session.transact(envelope(), CONTENT)
        assert (ending.state, ending.result) == (State.MAILFROM, Result.ERROR)
        assert ending.reply is not None
        assert ending.reply.code == 530
        await session.quit()
