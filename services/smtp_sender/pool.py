"""Open sessions, kept for reuse: one pool per process, keyed by everything that makes two sessions interchangeable."""

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from services.smtp_sender.opening import Manners, open_session
from services.smtp_sender.session import Ending, Session, Target
from shared.trouble import Unavailable

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
    patience: float = 30.0
    """Seconds a message waits for one of the ``connections``: longer, and one slow host would keep all messages in hand."""


class Pool:
    """Sessions by target. ``acquire`` and ``release`` in pairs."""

    def __init__(self, limits: Limits, manners: Manners) -> None:
        self._limits = limits
        self._manners = manners
        self._idle: dict[Target, deque[Session]] = defaultdict(deque)
        self._slots: dict[Target, asyncio.Semaphore] = {}
        self._users: dict[Target, int] = defaultdict(int)
        self._closing: set[asyncio.Task[None]] = set()

    async def acquire(self, target: Target, *, ends_at: float, is_new: bool = False) -> Session | Ending:
        """An idle session (not with ``is_new``), or a new one, for an attempt that is over at ``ends_at`` (time.monotonic).

        Waits while the host has all the connections it gets. Raises Unavailable when none comes free in time: that says
        nothing about the mail.
        """
        await self._enter(target)
        try:
            session = None if is_new else self._take_idle(target)
            if session is not None:
                REUSED.inc()
            else:
                opened = await open_session(target, self._manners, ends_at=ends_at)
                if isinstance(opened, Ending):
                    self._leave(target)
                    return opened
                session = opened
                OPENED.inc()
                OPEN.inc()
        except BaseException:
            self._leave(target)
            raise
        session.lend(ends_at)
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
        self._leave(target)

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

    async def _enter(self, target: Target) -> None:
        self._users[target] += 1
        slot = self._slots.setdefault(target, asyncio.Semaphore(self._limits.connections))
        try:
            async with asyncio.timeout(self._limits.patience):
                await slot.acquire()
        except BaseException as error:
            self._forget(target)
            if isinstance(error, TimeoutError):
                raise Unavailable(f"all {self._limits.connections} connections to {target.host} are in use") from None
            raise

    def _leave(self, target: Target) -> None:
        self._slots[target].release()
        self._forget(target)

    def _forget(self, target: Target) -> None:
        self._users[target] -= 1
        if not self._users[target]:
            del self._users[target], self._slots[target]

    def _close(self, session: Session) -> None:
        OPEN.dec()
        task = asyncio.get_running_loop().create_task(session.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
