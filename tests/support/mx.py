"""The scripted MX: an SMTP server that accepts, refuses, waits and breaks as the address asks, and keeps a ledger.

    python -m tests.support.mx --listen 127.0.1.1:2525 --listen 127.0.1.2:2525 --ledger DIR [--tls good] …

or in a test ``async with ScriptedMx(folder) as mx: … mx.address … mx.ledger.mails()``. Every accepted mail is in the
ledger before the dot is answered, also when the answer is slow.

The recipient's local part says what happens, in any case of letters; everything after ``+`` is free
(``grey-2+anything@…``); a local part that begins with none of these words is accepted. ``-N`` counts attempts: the
first N behave so, the next ones are accepted. An attempt is a RCPT for that recipient, over all connections.

    ok                          accepted
    grey[-N]                    451 4.7.1 at RCPT the first N (1) times
    tempfail[-4xx]              always 451 (or that code) at RCPT
    reject[-CODE]               550 5.1.1 (or that code) at RCPT
    fail-STATE-CODE[-N]         that code in that state
    c421-STATE[-N]              421 in that state, then the connection is closed
    drop-STATE[-N]              the connection is closed without a reply
    reset-STATE[-N]             the same with a TCP RST
    silent-STATE[-N]            no reply, ever; the connection stays open
    garbage-STATE[-N]           a reply that is not SMTP
    slow[-SECONDS[-STATE[-N]]]  the reply comes late (message, 1 s); 5, 0.5, 200ms
    multi[-CODE[-STATE]]        a reply of three lines (250 to the dot; from 400 on, to RCPT)

STATE is ``rcptto``, ``data`` (the command), ``content`` (after its first bytes), ``message`` (the reply to the dot; with
anything but a 2xx the mail is not stored) or ``stored`` (the same, but the mail *is* stored: the reply gets lost or
lies). The reverse-path's local part is read the same way for the state ``mailfrom`` (``fail-mailfrom-450@…``). A word
with arguments that cannot be read is answered with 554 and the reason.

``--connection WORDS`` does the same to every connection, whatever its addresses, for the states ``intro ehlo helo
starttls handshake auth rset quit`` and those above: ``--connection fail-ehlo-502`` (HELO only), ``slow-5-intro``,
``drop-starttls``, ``garbage-handshake``. ``--script FILE`` gives single addresses a list of attempts with replies of
your own: see tests.support.behaviour.Script.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.addresses import parse_address, render_address
from tests.support.behaviour import NotABehaviour, Playbook, Script, State, Step, parse_behaviour
from tests.support.certificates import Kind, make_certificates
from tests.support.ledger import Ledger, LedgerWriter
from tests.support.mx_state import MxOptions, MxState
from tests.support.running import run_until_signal
from tests.support.smtp_session import MxSession
from tests.support.waiting import until

__all__ = ["MxOptions", "Script", "ScriptedMx"]


class ScriptedMx:
    """One MX on any number of addresses; use as ``async with``. Its counters are in ``state``."""

    def __init__(
        self,
        folder: Path | str,
        *,
        listen: Sequence[str] = ("127.0.0.1:0",),
        options: MxOptions | None = None,
        script: Script | None = None,
        connection: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        keep_content: bool = True,
        reuse_port: bool = False,
    ) -> None:
        self.ledger = Ledger(folder)
        """What was accepted."""
        self.addresses: list[str] = []
        """``host:port`` of each listener, with the real port."""
        self._listen = [parse_address(address) for address in listen]
        self._plan = _connection_plan(connection)
        self._settings = options or MxOptions(), Playbook(script), tls
        self._keep_content, self._reuse_port = keep_content, reuse_port
        self._servers: list[asyncio.Server] = []
        self.state: MxState

    @property
    def address(self) -> str:
        """The first listener, ``host:port``."""
        return self.addresses[0]

    @property
    def host(self) -> str:
        """The first listener's host."""
        return parse_address(self.address)[0]

    @property
    def port(self) -> int:
        """The first listener's port."""
        return parse_address(self.address)[1]

    async def __aenter__(self) -> Self:
        options, playbook, tls = self._settings
        writer = LedgerWriter(self.ledger.folder, keep_content=self._keep_content)
        self.state = MxState(options, playbook, writer, tls, self._plan)
        loop = asyncio.get_running_loop()
        try:
            for host, port in self._listen:
                server = await loop.create_server(
                    lambda: MxSession(self.state), host, port, backlog=512, reuse_port=self._reuse_port or None
                )
                self._servers.append(server)
                self.addresses.extend(render_address(one.getsockname()) for one in server.sockets)
        except OSError:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, cut every connection, close the ledger."""
        for server in self._servers:
            server.close()
        self.close_connections()
        await until(lambda: not self.state.open_sessions, within=5, every=0.001, what="the MX's connections to close")
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        self.state.writer.close()

    def close_connections(self) -> None:
        """Cut every open connection without a word; new ones are welcome."""
        for session in list(self.state.open_sessions):
            session.close()


def _connection_plan(words: Iterable[str]) -> Mapping[State, Step]:
    plan: dict[State, Step] = {}
    for one in words:
        attempts = parse_behaviour(one)
        if len(attempts) != 1 or not attempts[0]:
            raise NotABehaviour(f"connection behaviour {one!r}: expected words with a state and without a number of times")
        plan.update(attempts[0])
    return plan


def _read_arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.support.mx", description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--listen", action="append", required=True, metavar="HOST:PORT", help="repeatable; port 0 = a free one")
    add("--ledger", type=Path, required=True, metavar="DIR")
    add("--no-content", action="store_true", help="the ledger keeps envelope, ids, hash and size only")
    add("--tls", choices=[*Kind, "none"], default="none", help="STARTTLS with such a certificate")
    add("--certificates", type=Path, metavar="DIR", help="where the test CA is or will be (default: a new folder)")
    add("--tls-name", action="append", default=[], metavar="NAME", help="further names in the certificate; repeatable")
    add("--hostname", default="mx.example")
    add("--greeting", default="", help="the whole first reply, for example '554 5.3.2 No service here'")
    add("--greeting-delay", metavar="SECONDS", help="the same as --connection slow-SECONDS-intro")
    add("--connection", action="append", default=[], metavar="WORDS")
    add("--helo-only", action="store_true", help="the same as --connection fail-ehlo-502")
    add("--script", type=Path, metavar="FILE")
    add("--user", action="append", default=[], metavar="NAME:PASSWORD", help="offers AUTH PLAIN LOGIN; repeatable")
    add("--auth-required", action="store_true")
    add("--auth-only-under-tls", action="store_true")
    add("--size", type=int, default=MxOptions().size, help="octets; 0: not offered, no limit")
    add("--messages-per-connection", type=int, metavar="N")
    add("--connections", type=int, metavar="N", help="at most so many at once")
    for extension in ("pipelining", "8bitmime", "smtputf8", "dsn"):
        add(f"--no-{extension}", action="store_true")
    add("--reuse-port", action="store_true", help="several processes may share the addresses")
    arguments = parser.parse_args()
    for user in arguments.user:
        if ":" not in user:
            parser.error(f"--user {user!r}: expected name:password")
    return arguments


def _options(given: argparse.Namespace) -> MxOptions:
    return MxOptions(
        hostname=given.hostname,
        greeting=given.greeting,
        pipelining=not given.no_pipelining,
        eight_bit=not given.no_8bitmime,
        smtputf8=not given.no_smtputf8,
        dsn=not given.no_dsn,
        size=given.size or None,
        users=dict(user.split(":", 1) for user in given.user),
        auth_required=given.auth_required,
        auth_only_under_tls=given.auth_only_under_tls,
        messages_per_connection=given.messages_per_connection,
        connections=given.connections,
    )


def main() -> None:
    """Run the MX until SIGTERM."""
    given = _read_arguments()
    tls = None
    if given.tls != "none":
        folder = given.certificates or Path(tempfile.mkdtemp(prefix="mx-certificates-"))
        made = make_certificates(folder, tuple(dict.fromkeys([given.hostname, *given.tls_name])))
        tls = made.server_context(Kind(given.tls))
        print(f"test CA in {made.ca}", flush=True)
    words = [*given.connection]
    words += ["fail-ehlo-502"] if given.helo_only else []
    words += [f"slow-{given.greeting_delay}-intro"] if given.greeting_delay else []
    try:
        mx = ScriptedMx(
            given.ledger,
            listen=given.listen,
            options=_options(given),
            script=Script.from_file(given.script) if given.script else None,
            connection=words,
            tls=tls,
            keep_content=not given.no_content,
            reuse_port=given.reuse_port,
        )
    except (ValueError, OSError) as error:
        raise SystemExit(f"tests.support.mx: {error}") from None
    run_until_signal("mx", mx)


if __name__ == "__main__":
    main()
