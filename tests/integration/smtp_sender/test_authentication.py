"""AUTH PLAIN, LOGIN and CRAM-MD5: against the scripted MX, against aiosmtpd, and against peers that say odd things."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from services.smtp_sender.authentication import Credentials
from services.smtp_sender.session import Ending, Session, Target
from shared.wire.instructions import Security
from shared.wire.result import Result, State
from tests.integration.smtp_sender.peers import CONTENT, commands, envelope, open_to, opened, refused, scripted, target
from tests.support.certificates import Certificates, make_certificates
from tests.support.mx import MxOptions, ScriptedMx

USER, PASSWORD = "anna@größe.example", "pä\N{SNOWMAN}ss word"
LOGIN: dict[str, Any] = {"username": USER, "password": PASSWORD}
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For mx.example."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("mx.example",))


def options(*mechanisms: str, password: str = PASSWORD, user: str = USER) -> MxOptions:
    """An MX that takes nothing without AUTH."""
    return MxOptions(users={user: password}, mechanisms=mechanisms, auth_required=True, transcript=True)


def lines(mx: ScriptedMx) -> list[str]:
    """What the client said, without the names and the transaction."""
    said = [line.strip() for _, side, line in mx.state.transcript if side == "C"]
    return [line for line in said if not line.startswith(("EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "QUIT"))]


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


# --- the scripted MX


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_every_mechanism_under_tls(tmp_path: Path, certificates: Certificates, mechanism: str) -> None:
    async with scripted(tmp_path, options=options(mechanism), certificates=certificates) as mx:
        session = await opened(target(mx, security=Security.REQUIRED, **LOGIN))
        assert session.authentication == mechanism
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()
        assert mx.ledger.mails()[0].session.auth_user == USER


@pytest.mark.parametrize(
    ("mechanism", "state"),
    [("PLAIN", State.AUTHPLAIN), ("LOGIN", State.AUTHPASSWORD), ("CRAM-MD5", State.AUTHRESPONSE)],
)
async def test_a_wrong_password(tmp_path: Path, certificates: Certificates, mechanism: str, state: State) -> None:
    async with scripted(tmp_path, options=options(mechanism), certificates=certificates) as mx:
        ending = await refused(target(mx, security=Security.REQUIRED, username=USER, password="wrong"))
        assert (ending.state, ending.result) == (state, Result.ERROR)
        assert ending.reply is not None
        assert (ending.reply.code, ending.reply.enhanced_status) == (535, "5.7.8")
        assert ending.session is not None
        assert ending.session.authentication is None
        assert commands(mx)[-1] == "QUIT"


async def test_a_wrong_password_is_said_once(tmp_path: Path, certificates: Certificates) -> None:
    """Every further mechanism would be a further failure in the eyes of whoever counts them."""
    async with scripted(tmp_path, options=options(*MECHANISMS), certificates=certificates) as mx:
        ending = await refused(target(mx, security=Security.REQUIRED, username=USER, password="wrong"))
        assert ending.state is State.AUTHPLAIN
        assert mx.state.commands["AUTH"] == 1


@pytest.mark.parametrize(
    ("offered", "in_clear", "taken"),
    [
        (MECHANISMS, False, "PLAIN"),
        (("CRAM-MD5", "LOGIN"), False, "LOGIN"),
        (("GSSAPI", "CRAM-MD5", "XOAUTH2"), False, "CRAM-MD5"),
        (MECHANISMS, True, "CRAM-MD5"),
        (("LOGIN", "PLAIN"), True, "PLAIN"),
        (("LOGIN",), True, "LOGIN"),
    ],
)
async def test_which_mechanism(
    tmp_path: Path, certificates: Certificates, offered: Sequence[str], in_clear: bool, taken: str
) -> None:
    async with scripted(tmp_path, options=options(*offered), certificates=None if in_clear else certificates) as mx:
        session = await opened(target(mx, security=Security.OPPORTUNISTIC, auth_clear=True, **LOGIN))
        assert session.authentication == taken
        await session.quit()


@pytest.mark.parametrize("offered", [MECHANISMS, ("CRAM-MD5",)])
async def test_nothing_in_clear_unless_it_is_allowed(tmp_path: Path, offered: Sequence[str]) -> None:
    async with scripted(tmp_path, options=options(*offered)) as mx:
        ending = await refused(target(mx, security=Security.OPPORTUNISTIC, **LOGIN))
        assert (ending.state, ending.result, ending.reply) == (State.AUTHPLAIN, Result.INVALID, None)
        assert ending.text is not None
        assert "smtp-auth-clear" in ending.text
        assert mx.state.commands["AUTH"] == 0


async def test_none_in_common(tmp_path: Path) -> None:
    async with scripted(tmp_path, options=options("XOAUTH2", "GSSAPI")) as mx:
        ending = await refused(target(mx, auth_clear=True, **LOGIN))
        assert (ending.state, ending.result) == (State.AUTHPLAIN, Result.INVALID)
        assert ending.text == "The host offers AUTH XOAUTH2 GSSAPI; expected one of CRAM-MD5, PLAIN, LOGIN"


@pytest.mark.parametrize(("length", "is_initial"), [(372, True), (373, False)])
async def test_a_long_initial_response_waits_for_334(tmp_path: Path, length: int, is_initial: bool) -> None:
    """A command has 512 octets at most, an answer 12288 (RFC 4954 4)."""
    password = "x" * (length - len("\0a\0"))
    token = b64(f"\0a\0{password}")
    assert (len(f"AUTH PLAIN {token}\r\n") <= 512) is is_initial
    async with scripted(tmp_path, options=options("PLAIN", user="a", password=password)) as mx:
        session = await opened(target(mx, auth_clear=True, username="a", password=password))
        await session.quit()
        assert lines(mx) == ([f"AUTH PLAIN {token}"] if is_initial else ["AUTH PLAIN", token])


async def test_credentials_that_no_answer_can_hold(tmp_path: Path) -> None:
    async with scripted(tmp_path, options=options("PLAIN")) as mx:
        ending = await refused(target(mx, auth_clear=True, username="a", password="x" * 9300))
        assert (ending.state, ending.result) == (State.AUTHPLAIN, Result.INVALID)
        assert lines(mx) == ["AUTH PLAIN"]
        for bad in ("a\0b", "a\ud800b"):
            ending = await refused(target(mx, auth_clear=True, username=bad, password="x"))
            assert (ending.state, ending.result, ending.reply) == (State.AUTHPLAIN, Result.INVALID, None)
        assert mx.state.commands["AUTH"] == 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_an_empty_password(tmp_path: Path, mechanism: str) -> None:
    async with scripted(tmp_path, options=options(mechanism, password="")) as mx:
        session = await opened(target(mx, auth_clear=True, username=USER, password=None))
        assert session.authentication == mechanism
        await session.quit()


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ("silent-auth", Result.TIMEOUT),
        ("drop-auth", Result.LOST),
        ("reset-auth", Result.LOST),
        ("garbage-auth", Result.INVALID),
        ("fail-auth-454", Result.ERROR),
        ("fail-auth-535", Result.ERROR),
        ("c421-auth", Result.ERROR),
    ],
)
@pytest.mark.parametrize(
    ("mechanism", "state"),
    [("PLAIN", State.AUTHPLAIN), ("LOGIN", State.AUTHPASSWORD), ("CRAM-MD5", State.AUTHRESPONSE)],
)
async def test_without_a_yes(tmp_path: Path, mechanism: str, state: State, words: str, result: Result) -> None:
    async with scripted(tmp_path, options=options(mechanism), connection=[words]) as mx:
        ending = await refused(target(mx, auth_clear=True, **LOGIN))
        assert (ending.state, ending.result) == (state, result)


# --- aiosmtpd


@asynccontextmanager
async def aiosmtpd(certificates: Certificates, *, without: Sequence[str] = ()) -> AsyncIterator[Target]:
    """An aiosmtpd that wants AUTH under TLS."""

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        return AuthResult(success=(given.login, given.password) == (USER.encode(), PASSWORD.encode()), handled=False)

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            return "250 2.0.0 taken"

    def make() -> SMTP:
        return SMTP(
            Handler(),
            tls_context=certificates.server_context(),
            require_starttls=True,
            authenticator=authenticate,
            auth_required=True,
            auth_exclude_mechanism=without,
            hostname="mx.example",
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        yield Target("mx.example", "127.0.0.1", server.sockets[0].getsockname()[1], security=Security.REQUIRED, **LOGIN)


@pytest.mark.parametrize(("without", "taken"), [((), "PLAIN"), (("PLAIN",), "LOGIN")])
async def test_aiosmtpd_lets_us_in(certificates: Certificates, without: Sequence[str], taken: str) -> None:
    async with aiosmtpd(certificates, without=without) as one:
        session = await opened(one)
        assert session.authentication == taken
        assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
        await session.quit()


@pytest.mark.parametrize(("without", "state"), [((), State.AUTHPLAIN), (("PLAIN",), State.AUTHPASSWORD)])
async def test_aiosmtpd_refuses_a_wrong_password(certificates: Certificates, without: Sequence[str], state: State) -> None:
    async with aiosmtpd(certificates, without=without) as one:
        wrong = Target(one.host, one.address, one.port, security=one.security, username=USER, password="wrong")
        ending = await refused(wrong)
        assert (ending.state, ending.result) == (state, Result.ERROR)
        assert ending.reply is not None
        assert ending.reply.code == 535


# --- peers that say odd things


async def talk(offers: str, *replies: bytes, **more: Any) -> tuple[Session | Ending, list[str]]:
    """How a session ends with a peer that gives these replies after EHLO, line by line, and what it got."""
    got: list[str] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx.example\r\n")
        await reader.readline()
        writer.write(f"250-mx.example\r\n250-{offers}\r\n250 8BITMIME\r\n".encode())
        for reply in replies:
            line = (await reader.readline()).decode().removesuffix("\r\n")
            got.append(line)
            writer.write(reply)
        writer.write_eof()
        await reader.read()
        writer.close()
        done.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        given: dict[str, Any] = {"username": "anna", "password": "secret-pass", "auth_clear": True} | more
        one = Target("mx.example", "127.0.0.1", server.sockets[0].getsockname()[1], security=Security.OPTIONAL, **given)
        ended = await open_to(one)
        if isinstance(ended, Session):
            await ended.quit()
        await asyncio.wait_for(done.wait(), 5)
    return ended, got


CHALLENGE = f"334 {b64('<1896.697170952@postoffice.reston.mci.net>')}\r\n".encode()
ASKS, YES, NO = b"334 VXNlcm5hbWU6\r\n", b"235 2.7.0 in\r\n", b"535 5.7.8 no\r\n"


async def test_the_example_of_rfc_2195() -> None:
    assert Credentials("tim", "tanstaaftanstaaf").answer_challenge(b"<1896.697170952@postoffice.reston.mci.net>") == (
        b"tim b913a602c7eda7a495b4e6e7334d3890"
    )
    ended, got = await talk("AUTH CRAM-MD5", CHALLENGE, YES, username="tim", password="tanstaaftanstaaf")
    assert isinstance(ended, Session)
    assert got[:2] == ["AUTH CRAM-MD5", "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"]


async def test_a_key_longer_than_a_block_of_md5() -> None:
    password = "y" * 100
    answer = Credentials("u", password).answer_challenge(b"<1@x>")
    assert answer == b"u " + hmac.new(password.encode(), b"<1@x>", "md5").hexdigest().encode()


@pytest.mark.parametrize(
    ("offers", "replies", "state", "result"),
    [
        ("AUTH PLAIN", [NO], State.AUTHPLAIN, Result.ERROR),
        ("AUTH PLAIN", [b"250 well\r\n"], None, None),
        ("AUTH LOGIN", [b"502 5.5.1 no\r\n"], State.AUTHLOGIN, Result.ERROR),
        ("AUTH LOGIN", [YES], State.AUTHLOGIN, Result.INVALID),
        ("AUTH LOGIN", [b"354 go on\r\n"], State.AUTHLOGIN, Result.INVALID),
        ("AUTH LOGIN", [ASKS, NO], State.AUTHUSERNAME, Result.ERROR),
        ("AUTH LOGIN", [ASKS, YES], State.AUTHUSERNAME, Result.INVALID),
        ("AUTH LOGIN", [ASKS, b"\x7f\r\n"], State.AUTHUSERNAME, Result.INVALID),
        ("AUTH LOGIN", [ASKS, ASKS, NO], State.AUTHPASSWORD, Result.ERROR),
        ("AUTH LOGIN", [b"334 not base64\r\n", b"334\r\n", YES], None, None),
        ("AUTH CRAM-MD5", [b"454 4.7.0 later\r\n"], State.AUTHCRAM, Result.ERROR),
        ("AUTH CRAM-MD5", [YES], State.AUTHCRAM, Result.INVALID),
        ("AUTH CRAM-MD5", [CHALLENGE, NO], State.AUTHRESPONSE, Result.ERROR),
        ("AUTH CRAM-MD5", [CHALLENGE, b"299 well\r\n"], None, None),
        ("AUTH=LOGIN", [ASKS, ASKS, YES], None, None),
        ("AUTH=CRAM-MD5 LOGIN", [CHALLENGE, YES], None, None),
        ("auth login", [ASKS, ASKS, YES], None, None),
    ],
)
async def test_where_it_ends(offers: str, replies: list[bytes], state: State | None, result: Result | None) -> None:
    ended, _ = await talk(offers, *replies)
    if state is None:
        assert isinstance(ended, Session)
    else:
        assert isinstance(ended, Ending)
        assert (ended.state, ended.result) == (state, result)


@pytest.mark.parametrize("challenge", ["", "!!!", "abc", "a=bc", "YWJj\r\n334-x", "\xff\xfe", "YWJj YWJj"])
async def test_a_challenge_that_is_none_is_cancelled(challenge: str) -> None:
    first, _, second = challenge.partition("\r\n")
    reply = f"334-{first}\r\n334 x\r\n" if second else f"334 {first}\r\n"
    ended, got = await talk("AUTH CRAM-MD5", reply.encode("latin-1"), b"501 5.7.0 cancelled\r\n", b"221 bye\r\n")
    assert isinstance(ended, Ending)
    assert (ended.state, ended.result) == (State.AUTHCRAM, Result.INVALID)
    assert got == ["AUTH CRAM-MD5", "*", "QUIT"]


@pytest.mark.parametrize(
    ("offers", "replies", "state"),
    [
        ("AUTH PLAIN", [b"334 \r\n"], State.AUTHPLAIN),
        ("AUTH LOGIN", [ASKS, ASKS, ASKS], State.AUTHPASSWORD),
        ("AUTH CRAM-MD5", [CHALLENGE, CHALLENGE], State.AUTHRESPONSE),
    ],
)
async def test_a_peer_that_asks_on_and_on(offers: str, replies: list[bytes], state: State) -> None:
    ended, got = await talk(offers, *replies, b"501 5.7.0 cancelled\r\n", b"221 bye\r\n")
    assert isinstance(ended, Ending)
    assert (ended.state, ended.result) == (state, Result.INVALID)
    assert got[-2:] == ["*", "QUIT"]


@pytest.mark.parametrize("code", [504, 534, 538])
async def test_a_mechanism_that_is_refused_is_followed_by_the_next(code: int) -> None:
    refusal = f"{code} 5.5.4 not this one\r\n".encode()
    ended, got = await talk("AUTH LOGIN CRAM-MD5 PLAIN", refusal, refusal, ASKS, ASKS, YES)
    assert isinstance(ended, Session)
    assert ended.authentication == "LOGIN"
    assert [line.split()[1] for line in got if line.startswith("AUTH")] == ["CRAM-MD5", "PLAIN", "LOGIN"]
    ended, _ = await talk("AUTH LOGIN CRAM-MD5", refusal, refusal)
    assert isinstance(ended, Ending)
    assert (ended.state, ended.result) == (State.AUTHLOGIN, Result.ERROR)


@pytest.mark.parametrize(("offers", "before"), [("AUTH PLAIN", []), ("AUTH LOGIN", [ASKS, ASKS]), ("AUTH CRAM-MD5", [CHALLENGE])])
async def test_a_peer_that_repeats_what_it_got(offers: str, before: list[bytes]) -> None:
    """The description of a result, and the log, have the peer's words: not our secrets in them."""
    answer = Credentials("anna", "secret-pass").answer_challenge(b"<1896.697170952@postoffice.reston.mci.net>")
    repeated = ["secret-pass", b64("secret-pass"), b64("\0anna\0secret-pass"), b64(answer)]
    told = f"535-5.7.8 no: {repeated[0]} {repeated[1]}\r\n535 5.7.8 {repeated[2]} {repeated[3]}\r\n".encode()
    ended, got = await talk(offers, *before, told)
    assert isinstance(ended, Ending)
    assert ended.reply is not None
    assert ended.reply.enhanced_status == "5.7.8"
    assert "secret-pass" not in ended.reply.text
    assert got[len(before)].split()[-1] not in ended.reply.text
    assert "secret-pass" not in repr(ended) + repr(ended.session)


def test_credentials_show_nothing() -> None:
    with pytest.raises(ValueError, match="contains NUL") as caught:
        Credentials("anna", "secret\0pass")
    assert "secret" not in str(caught.value) + repr(Credentials("anna", "secret"))
    with pytest.raises(ValueError, match="not Unicode") as caught:
        Credentials("anna", "secret\ud800pass")
    assert "secret" not in str(caught.value) + repr(caught.value.__context__ if not caught.value.__suppress_context__ else "")
    assert Credentials("a", "p\udcff").password == b"p\xff"
