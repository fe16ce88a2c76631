"""Open sessions, kept for reuse: one pool per process, keyed by everything that makes two sessions interchangeable."""

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from services.smtp_sender.session import Ending, Session, Target, open_session
from services.smtp_sender.tls import Tls

OPEN = Gauge("smtp_sessions_open", "SMTP sessions open towards peers")
OPENED = Counter("smtp_sessions_opened", "SMTP sessions opened")
REUSED = Counter("smtp_sessions_reused", "Transactions on a session that had carried a mail before")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one host gets of us."""

    connections: int
    messages: int
    """Per connection."""
    idle: float
    """Seconds an idle session is kept."""


class Pool:
    """Sessions by target. ``acquire`` and ``release`` in pairs."""

    def __init__(self, limits: Limits, *, helo: str, tls: Tls) -> None:
        self._limits = limits
        self._helo = helo
        self._tls = tls
        self._idle: dict[Target, deque[Session]] = defaultdict(deque)
        self._slots: dict[Target, asyncio.Semaphore] = {}
        self._users: dict[Target, int] = defaultdict(int)
        self._closing: set[asyncio.Task[None]] = set()

    async def acquire(self, target: Target) -> Session | Ending:
        """An idle session, or a new one. Waits while the host has all the connections it gets."""
        self._users[target] += 1
        slot = self._slots.setdefault(target, asyncio.Semaphore(self._limits.connections))
        await slot.acquire()
        try:
            session = self._take_idle(target) or await open_session(target, helo=self._helo, tls=self._tls)
        except BaseException:
            self._leave(target, slot)
            raise
        if isinstance(session, Ending):
            self._leave(target, slot)
            return session
        if session.messages:
            REUSED.inc()
        else:
            OPENED.inc()
            OPEN.inc()
        return session

    def release(self, session: Session) -> None:
        """Give the session back: kept when it can carry another mail, closed otherwise."""
        target = session.target
        is_fit = session.is_usable and session.protocol.is_quiet and session.messages < self._limits.messages
        if is_fit:
            session.last_used = time.monotonic()
            self._idle[target].append(session)
        else:
            self._close(session)
        self._leave(target, self._slots[target])

    def close_idle(self) -> None:
        """Close what was idle for too long. Called once a second."""
        oldest = time.monotonic() - self._limits.idle
        for target, sessions in list(self._idle.items()):
            while sessions and (sessions[0].last_used < oldest or not sessions[0].protocol.is_quiet):
                self._close(sessions.popleft())
            if not sessions:
                del self._idle[target]

    async def close(self) -> None:
        """Close every idle session and wait for the goodbyes."""
        for sessions in self._idle.values():
            for session in sessions:
                self._close(session)
        self._idle.clear()
        if self._closing:
            await asyncio.wait(self._closing, timeout=6)

    def _take_idle(self, target: Target) -> Session | None:
        sessions = self._idle.get(target)
        while sessions:
            session = sessions.pop()
            if session.protocol.is_quiet:
                return session
            self._close(session)
        return None

    def _leave(self, target: Target, slot: asyncio.Semaphore) -> None:
        slot.release()
        self._users[target] -= 1
        if not self._users[target]:
            del self._users[target], self._slots[target]

    def _close(self, session: Session) -> None:
        OPEN.dec()
        task = asyncio.get_running_loop().create_task(session.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
