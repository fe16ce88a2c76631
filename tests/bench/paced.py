"""Sends mail over SMTP at a pace, whether or not the server keeps it: the load of (i). Run as a process of its own.

    python -m tests.bench.paced 127.0.0.1:2525 FILE --messages 3000 --rate 200 --size 5000 --domain i.example --sessions 20

Mail n is due (n - 1) / rate seconds after the start and goes over a session that is free; when none is, it waits and the next ones
are due no later. ``FILE`` gets for each mail, in order, the unix time at which the 250 to its dot was read (a double, in this
machine's order of octets). Prints ``{"began": …, "ended": …, "cpu": …, "refused": …}`` as tests.bench.sockets.tell does: unix
seconds of the first mail due and of the last 250.
"""

import argparse
import asyncio
import signal
import time
from array import array
from collections import deque
from pathlib import Path
from typing import cast

import uvloop

from tests.bench.publisher import SENDER, render_content
from tests.bench.sockets import tell

_BLANK = b"#######"
_PATIENCE = 60.0
"""Seconds that the server has for what is left when the last mail is due."""


class Pace:
    """When each mail is due, who sends it, and when it was accepted."""

    def __init__(self, messages: int, rate: float, content: bytes, domain: str) -> None:
        """``content``: of a mail, with a blank where its number goes."""
        self.accepted = array("d", bytes(8 * messages))
        """Unix seconds, by number from 0."""
        self.refused = 0
        self.over = asyncio.get_running_loop().create_future()
        """Done when every mail was accepted, or something was refused."""
        self._interval = 1 / rate
        self._content = content.split(_BLANK)
        self._domain = domain
        self._due = 0
        self._left = messages
        self._idle: deque[Session] = deque()
        self._waiting: deque[int] = deque()

    def start(self) -> None:
        """The first mail is due now."""
        self._began = asyncio.get_running_loop().time()
        self._go_on()

    def is_free(self, session: "Session") -> None:
        """A session has nothing to do."""
        if self._waiting:
            session.begin(self._waiting.popleft())
        else:
            self._idle.append(session)

    def accept(self, number: int) -> None:
        """The 250 to this mail's dot was read now."""
        self.accepted[number] = time.time()
        self._left -= 1
        if not self._left and not self.over.done():
            self.over.set_result(None)

    def refuse(self, why: str) -> None:
        """Something went wrong: end."""
        self.refused += 1
        print(why, flush=True)
        if not self.over.done():
            self.over.set_result(None)

    def render_commands(self, number: int) -> bytes:
        """The commands before a mail."""
        return f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<r{number + 1:07}@{self._domain}>\r\nDATA\r\n".encode()

    def render_content(self, number: int) -> bytes:
        """A mail and its dot."""
        return (b"%07d" % (number + 1)).join(self._content) + b".\r\n"

    def _go_on(self) -> None:
        loop, messages = asyncio.get_running_loop(), len(self.accepted)
        while self._due < messages and self._began + self._due * self._interval <= loop.time():
            if self._idle:
                self._idle.popleft().begin(self._due)
            else:
                self._waiting.append(self._due)
            self._due += 1
        if self._due < messages:
            loop.call_at(self._began + self._due * self._interval, self._go_on)


class Session(asyncio.Protocol):
    """One SMTP session, for many mails."""

    def __init__(self, pace: Pace) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        """Done after EHLO."""
        self._pace = pace
        self._heard = bytearray()
        self._awaited = ["220"]
        """The codes of the replies to come."""
        self._number = 0
        self._leaves = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the greeting."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Replies."""
        self._heard += data
        while (end := self._heard.find(b"\r\n")) >= 0:
            line = bytes(self._heard[:end])
            del self._heard[: end + 2]
            if line[3:4] != b"-":
                self._take(line.decode())

    def connection_lost(self, exc: Exception | None) -> None:
        """Only after QUIT."""
        if not self._leaves:
            self._pace.refuse(f"the server closed the connection: {exc or 'no reason given'}")

    def begin(self, number: int) -> None:
        """Send a mail; the session must be free."""
        self._number = number
        self._awaited = ["250", "250", "354"]
        self._transport.write(self._pace.render_commands(number))

    def leave(self) -> None:
        """QUIT."""
        self._leaves = True
        self._transport.write(b"QUIT\r\n")
        self._transport.close()

    def _take(self, line: str) -> None:
        expected = self._awaited.pop(0) if self._awaited else "nothing"
        if line[:3] != expected:
            self._pace.refuse(f"expected {expected}, got {line!r}")
        elif self._awaited:
            return
        elif expected == "220":
            self._awaited = ["250"]
            self._transport.write(b"EHLO bench.example\r\n")
        elif expected == "354":
            self._awaited = ["250"]
            self._transport.write(self._pace.render_content(self._number))
        elif not self.ready.done():
            self.ready.set_result(None)
            self._pace.is_free(self)
        else:
            self._pace.accept(self._number)
            self._pace.is_free(self)


async def send(address: str, pace: Pace, sessions: int, rate: float) -> tuple[float, float]:
    """Open the sessions, send everything; unix seconds and CPU seconds when the first mail was due. Raises TimeoutError."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(lambda: Session(pace), host, int(port)))[1] for _ in range(sessions)]
    async with asyncio.timeout(_PATIENCE):
        await asyncio.wait([pace.over, asyncio.gather(*(one.ready for one in opened))], return_when=asyncio.FIRST_COMPLETED)
    began = time.time(), time.process_time()
    pace.start()
    async with asyncio.timeout(len(pace.accepted) / rate + _PATIENCE):
        await pace.over
    for session in opened:
        session.leave()
    return began


async def run(given: argparse.Namespace) -> None:
    """Send, write the times, tell."""
    pace = Pace(given.messages, given.rate, render_content(given.size, given.domain).encode(), given.domain)
    began, used = await send(given.address, pace, given.sessions, given.rate)
    with given.file.open("wb") as file:
        pace.accepted.tofile(file)
    tell(began, used, pace.refused)


def read_times(file: Path) -> "array[float]":
    """What a run has written: unix seconds by number from 0; 0.0: never accepted."""
    times = array("d")
    times.frombytes(file.read_bytes())
    return times


def main() -> None:
    """Send, then tell when."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.paced", description=__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("file", type=Path, help="for the times")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="mails per second")
    parser.add_argument("--size", type=int, required=True, help="octets of text")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--sessions", type=int, default=20)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(given))


if __name__ == "__main__":
    main()
