"""One connection to the scripted MX, below the commands: lines in, planned replies out, delays, endings, TLS.

Whatever came in one packet is answered in one write. No task per line: only TLS handshakes are tasks.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from tests.support.addresses import render_address
from tests.support.behaviour import ACCEPT, Ending, Plan, State, Step, render_reply
from tests.support.ledger import Session
from tests.support.mx_state import MxState

COMMAND_LIMIT = 12288  # octets, AUTH's limit (RFC 4954 4.1), the largest of all commands
HELD_LIMIT = 1 << 20  # octets taken from a client that talks while its reply is delayed


class SmtpConnection(asyncio.Protocol, ABC):
    """Bytes in, lines and contents out to the subclass; replies, delays and endings as planned; TLS."""

    def __init__(self, mx: MxState) -> None:
        self._mx = mx
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._held = False  # a reply is delayed or a handshake under way: input waits
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._prompt: Callable[[str], None] | None = None  # takes the next line instead of a command (AUTH)
        self._turned_away = False
        self._facts = Session()
        self._in_content = False
        self._paused = False

    @abstractmethod
    def _take_command(self, verb: str, line: str) -> None:
        """``verb`` in upper case, ``line`` whole and without CRLF."""

    @abstractmethod
    def _take_content(self) -> bool:
        """True: something was taken from the buffer, look again."""

    @abstractmethod
    def _forget_session(self) -> None:
        """After the handshake nothing said before counts (RFC 3207 4.2)."""

    # --- transport -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets (RFC 5321 4.3.1)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        mx, options = self._mx, self._mx.options
        mx.connections += 1
        peer, listener = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._facts = Session(
            peer=render_address(peer) if peer else "",
            listener=render_address(listener) if listener else "",
            hostname=options.hostname,
            connection=mx.connections,
        )
        crowded = options.connections is not None and len(mx.open_sessions) >= options.connections
        mx.open_sessions.add(self)
        if crowded:
            self._act(Step(render_reply("421 4.7.0 Too many connections"), ending=Ending.CLOSE))
        elif options.greeting and not options.greeting.startswith("220"):
            self._turned_away = not options.greeting.startswith("421")
            ending = Ending.STAY if self._turned_away else Ending.CLOSE
            self._act(Step(render_reply(options.greeting), ending=ending))
        else:
            self._respond(State.INTRO, render_reply(options.greeting or f"220 {options.hostname} ESMTP scripted"))
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Works off everything that is complete."""
        self._buffer += data
        if self._held:
            if len(self._buffer) > HELD_LIMIT and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            return
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection; a mail whose dot never came was never there."""
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        self._mx.open_sessions.discard(self)

    def close(self) -> None:
        """Ends the connection from this side, without a word."""
        self._gone = True
        if self._handshake is not None:
            self._handshake.cancel()
        self._transport.abort()

    def _work(self) -> None:
        while not self._held and not self._gone and (self._take_content() if self._in_content else self._take_line()):
            pass
        self._flush()

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            if self._mx.options.transcript:
                self._mx.transcript.append((self._facts.connection, "S", data.decode("utf-8", "replace")))
            self._transport.write(data)

    # --- replies ---------------------------------------------------------------------------------------------------

    def _respond(self, state: State, usual: bytes, plan: Plan = ACCEPT, then: Callable[[], None] | None = None) -> bool:
        """Reply to ``state`` as planned; ``then`` runs once a positive reply was written. True: the reply is positive."""
        step = plan.get(state) or self._mx.connection_plan.get(state)
        if step is None:
            self._out.append(usual)
            positive = usual[:1] in b"23"
            if then is not None and positive:
                self._flush()
                then()
            return positive
        reply = usual if step.reply is None else step.reply
        positive = reply[:1] in (b"2", b"3")
        self._act(Step(reply, step.after, step.ending), then if positive else None)
        return positive

    def _act(self, step: Step, then: Callable[[], None] | None = None) -> None:
        if step.after:
            self._flush()
            self._held = True
            self._timer = self._loop.call_later(step.after.total_seconds(), self._resume, step, then)
        else:
            self._conclude(step, then)

    def _resume(self, step: Step, then: Callable[[], None] | None) -> None:
        self._held = False
        self._conclude(step, then)
        if not self._gone and not self._held:
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self._work()

    def _conclude(self, step: Step, then: Callable[[], None] | None) -> None:
        if step.reply:
            self._out.append(step.reply)
        if then is not None or step.ending is not Ending.STAY:
            self._flush()
        if step.ending is Ending.CLOSE:
            self._gone = True
            self._transport.close()
        elif step.ending is Ending.RESET:
            self._gone = True
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        elif step.ending is Ending.SILENT:
            self._held = True
        elif then is not None:
            then()

    def _say(self, text: str) -> None:
        self._out.append(render_reply(text))

    def _hang_up(self, text: str) -> None:
        self._act(Step(render_reply(text), ending=Ending.CLOSE))

    # --- commands --------------------------------------------------------------------------------------------------

    def _take_line(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > COMMAND_LIMIT:
                self._hang_up("500 5.5.6 Line too long")
            return False
        raw = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._say("500 5.5.2 Neither ASCII nor UTF-8")
            return True
        if self._mx.options.transcript:
            self._mx.transcript.append((self._facts.connection, "C", line))
        if not line.endswith("\r\n"):
            self._say("500 5.5.2 A line ends in CRLF")
            return True
        line = line[:-2]
        if self._prompt is not None:
            take, self._prompt = self._prompt, None
            take(line)
            return True
        verb = line.partition(" ")[0].upper()
        self._mx.commands[verb] += 1
        if self._turned_away and verb != "QUIT":
            self._say("503 5.5.1 No service here")
        elif self._buffer and not self._mx.options.pipelining:
            self._hang_up("503 5.5.0 Pipelined, but PIPELINING was not offered")
        else:
            self._take_command(verb, line)
        return True

    # --- TLS (RFC 3207) ---

    def _begin_tls(self) -> None:
        if step := self._mx.connection_plan.get(State.HANDSHAKE):
            self._act(step)
            return
        self._held = True
        self._handshake = self._loop.create_task(self._shake_hands())

    async def _shake_hands(self) -> None:
        assert self._mx.tls is not None
        try:
            transport = await self._loop.start_tls(self._transport, self, self._mx.tls, server_side=True)
        except (OSError, EOFError) as error:  # ssl.SSLError is an OSError
            self._mx.failed_handshakes.append(f"{type(error).__name__}: {error}")
            self.close()
            self.connection_lost(error)
            return
        if transport is None:
            self._mx.failed_handshakes.append("the client left")
            self.connection_lost(None)
            return
        self._transport = transport
        self._facts = replace(self._facts, helo="", auth_user=None, tls=transport.get_extra_info("ssl_object").version())
        self._forget_session()
        self._held = False
        self._work()
