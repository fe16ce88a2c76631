"""SMTP AUTH towards a smarthost: PLAIN, LOGIN, CRAM-MD5 (RFC 4954, 4616, 2195). A refusal is a value, and no secret is told.

User and password go out as the UTF-8 that they were given in, without SASLprep: a peer that compares bytes would refuse the
prepared form, and one that prepares does it itself.
"""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from services.smtp_sender.session import Ending, Session
from shared.mail.reply import Reply
from shared.wire.result import Result, State

UNDER_TLS = ("PLAIN", "LOGIN", "CRAM-MD5")
"""Mechanisms in order of preference. Under TLS nothing can be read on the way, and PLAIN lets the peer keep the password hashed."""
IN_CLEAR = ("CRAM-MD5", "PLAIN", "LOGIN")
"""In clear text (``smtp-auth-clear``) the one that does not show the password comes first."""
OTHER_MECHANISM = frozenset({504, 534, 538})
"""Refusals of the mechanism, not of user or password: unknown, too weak, only under encryption (RFC 4954 4 and 6)."""
LONGEST_COMMAND = 512
"""Octets with CRLF (RFC 5321 4.5.3.1.4): a longer initial response is sent after the 334 instead (RFC 4954 4)."""
LONGEST_ANSWER = 12288
"""Octets of one answer in base64, without CRLF (RFC 4954 4)."""
SHORTEST_MASKED = 4
"""Characters of a password that is masked where the peer repeats it: a shorter one is part of too many words."""


class Credentials:
    """User and password as octets. Shows neither."""

    __slots__ = ("password", "username")

    def __init__(self, username: str, password: str) -> None:
        """Raises ValueError for what no mechanism can carry: NUL (RFC 4616 2), or more than UTF-8 can say."""
        try:
            # What the environment gave that is not UTF-8 goes out as it came.
            self.username = username.encode("utf-8", "surrogateescape")
            self.password = password.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            # ``from None``: the error carries the text.
            raise ValueError("user or password is not Unicode") from None
        if b"\0" in self.username + self.password:
            raise ValueError("user or password contains NUL")

    def render_plain(self) -> bytes:
        """RFC 4616 2: no authorization identity, user, password."""
        return b"\0" + self.username + b"\0" + self.password

    def answer_challenge(self, challenge: bytes) -> bytes:
        """RFC 2195 2: user and HMAC-MD5 of the challenge under the password."""
        return self.username + b" " + hmac.digest(self.password, challenge, "md5").hex().encode("ascii")


async def authenticate(session: Session) -> Ending | None:
    """Log in as the target says, after EHLO and STARTTLS. None: done, and ``session.authentication`` names the mechanism.

    A mechanism that the peer offers and then refuses is followed by the next one; wrong credentials are offered once.
    """
    target = session.target
    order = UNDER_TLS if session.tls else IN_CLEAR
    if not session.tls and not target.auth_clear:
        text = "The host offers no TLS, and a password is not sent in clear text (smtp-auth-clear)"
        return Ending(State.AUTHPLAIN, Result.INVALID, text=text)
    offered = find_offered(session.extensions)
    common = [name for name in order if name in offered]
    if not common:
        text = f"The host offers AUTH {' '.join(offered)[:200] or 'nothing'}; expected one of {', '.join(order)}"
        return Ending(State.AUTHPLAIN, Result.INVALID, text=text)
    try:
        credentials = Credentials(target.username or "", target.password or "")
    except ValueError as error:
        return Ending(State.AUTHPLAIN, Result.INVALID, text=f"The smarthost's {error}")
    ending: Ending | None = None
    for name in common:
        ending = await _MECHANISMS[name](session, credentials)
        if ending is None:
            session.authentication = name
            return None
        if ending.reply is None or ending.reply.code not in OTHER_MECHANISM or not session.is_usable:
            break
    return ending


def find_offered(extensions: Mapping[str, str]) -> list[str]:
    """The mechanisms of an EHLO reply, upper case; also of ``AUTH=LOGIN``, as servers wrote it before RFC 2554."""
    offered = extensions.get("AUTH", "").split()
    for keyword, rest in extensions.items():
        if keyword.startswith("AUTH="):
            offered += [keyword.removeprefix("AUTH="), *rest.split()]
    return [name.upper() for name in dict.fromkeys(offered) if name]


async def _plain(session: Session, credentials: Credentials) -> Ending | None:
    answer = _encode(credentials.render_plain())
    secrets = [answer, *_secrets(credentials)]
    # The state is AUTHPLAIN all along: the mechanism has no other.
    command = f"AUTH PLAIN {answer}"
    if len(command) + 2 > LONGEST_COMMAND:
        ready = await _ask(session, State.AUTHPLAIN, "AUTH PLAIN", secrets)
        if isinstance(ready, Ending):
            return ready
        command = answer
    return await _finish(session, State.AUTHPLAIN, command, secrets)


async def _login(session: Session, credentials: Credentials) -> Ending | None:
    """Never standardised. What the 334s ask is not looked at: it is always the user, then the password."""
    username, password = _encode(credentials.username), _encode(credentials.password)
    secrets = [password, *_secrets(credentials)]
    ready = await _ask(session, State.AUTHLOGIN, "AUTH LOGIN", secrets)
    if not isinstance(ready, Ending):
        ready = await _ask(session, State.AUTHUSERNAME, username, secrets)
    if isinstance(ready, Ending):
        return ready
    return await _finish(session, State.AUTHPASSWORD, password, secrets)


async def _cram(session: Session, credentials: Credentials) -> Ending | None:
    asked = await _ask(session, State.AUTHCRAM, "AUTH CRAM-MD5", _secrets(credentials))
    if isinstance(asked, Ending):
        return asked
    challenge = _decode(asked)
    if not challenge:
        return await _cancel(session, Ending(State.AUTHCRAM, Result.INVALID, asked))
    answer = _encode(credentials.answer_challenge(challenge))
    return await _finish(session, State.AUTHRESPONSE, answer, [answer, *_secrets(credentials)])


_MECHANISMS: Mapping[str, Callable[[Session, Credentials], Awaitable[Ending | None]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram,
}


async def _ask(session: Session, state: State, line: str, secrets: Sequence[str]) -> Reply | Ending:
    """Send a line that is to be answered with 334; that reply, or how it ended."""
    reply = await _say(session, state, line, secrets)
    return reply if isinstance(reply, Ending) or reply.code == 334 else _refusal(state, reply)


async def _finish(session: Session, state: State, line: str, secrets: Sequence[str]) -> Ending | None:
    """Send the last line of the exchange. None: we are in."""
    reply = await _say(session, state, line, secrets)
    if isinstance(reply, Ending):
        return reply
    if reply.code == 334:
        # The peer asks on, which the mechanism does not.
        return await _cancel(session, Ending(state, Result.INVALID, reply))
    return None if reply.is_positive else _refusal(state, reply)


async def _say(session: Session, state: State, line: str, secrets: Sequence[str]) -> Reply | Ending:
    if len(line) > LONGEST_ANSWER:
        # Nothing the peer could take (RFC 4954 4). The exchange may have begun: this session is over.
        session.is_usable = False
        return Ending(state, Result.INVALID, text=f"User and password are longer than the {LONGEST_ANSWER} octets of an answer")
    reply = await session.command(state, line, session.timeouts.mail)
    return _mask(reply, secrets) if isinstance(reply, Reply) else reply


async def _cancel(session: Session, ending: Ending) -> Ending:
    """Leave the exchange with ``*`` (RFC 4954 4); the peer says 501."""
    await session.command(ending.state, "*", session.timeouts.mail)
    return ending


def _refusal(state: State, reply: Reply) -> Ending:
    return Ending(state, Result.ERROR if reply.code >= 400 else Result.INVALID, reply)


def _mask(reply: Reply, secrets: Sequence[str]) -> Reply:
    """Replies are told in results and logs: a peer that repeats what it got must not bring the password there."""
    if not any(secret in line for line in reply.lines for secret in secrets):
        return reply
    lines = list(reply.lines)
    for secret in secrets:
        lines = [line.replace(secret, "********") for line in lines]
    return replace(reply, lines=tuple(lines))


def _secrets(credentials: Credentials) -> list[str]:
    password = credentials.password.decode("utf-8", "replace")
    return [password] if len(password) >= SHORTEST_MASKED else []


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _decode(reply: Reply) -> bytes | None:
    """The challenge of a 334; None when it is no base64 in one line."""
    try:
        return base64.b64decode(reply.text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
