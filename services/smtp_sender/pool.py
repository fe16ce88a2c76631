"""Open sessions, kept for reuse: one pool per process, keyed by everything that makes two sessions interchangeable."""

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from services.smtp_sender.opening import Manners, open_session
from services.smtp_sender.session import Ending, Session, Target
from shared.trouble import Unavailable

OPEN = Gauge("smtp_sessions_open", "SMTP sessions open towards peers")
OPENED = Counter("smtp_sessions_opened", "SMTP sessions opened")
REUSED = Counter("smtp_sessions_reused", "Transactions on a session that had carried a mail before")
MESSAGES = Histogram(
    "smtp_session_messages", "Mails that a session carried until it ended", buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
)


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
    stall: float = 10.0
    """Seconds in which a host has given back none of its connections: nobody waits for it any longer."""
    first: int = 5
    """Connections at once to a host that has not answered yet; one more for each transaction that it has carried."""


class Slots:
    """The connections of one target: how many there may be, and who waits for one."""

    def __init__(self, host: str, limits: Limits) -> None:
        self._host = host
        self._limits = limits
        self._allowed = min(limits.first, limits.connections)
        self._taken = 0
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        """Until when each waits; the longest first."""
        self._moved = 0.0
        """When one was given back last."""
        self._timer: asyncio.TimerHandle | None = None
        """One for all who wait: a timer for each would cost more than the rest of the wait."""

    @property
    def is_unused(self) -> bool:
        """Nobody has one, nobody waits."""
        return not self._taken and not self._waiting

    async def enter(self) -> None:
        """Take one, as soon as there is one. Raises Unavailable when none comes free in time: that says nothing about the mail."""
        if self._taken < self._allowed:
            if not self._taken:
                self._moved = time.monotonic()
            self._taken += 1
            return
        loop = asyncio.get_running_loop()
        waiter = (time.monotonic() + self._limits.patience, loop.create_future())
        self._waiting.append(waiter)
        if self._timer is None:
            self._look()
        try:
            await waiter[1]
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter[1].cancelled() and waiter[1].exception() is None:
                self.leave()  # our turn came in the same moment
            raise

    def leave(self) -> None:
        """Give one back."""
        self._taken -= 1
        self._moved = time.monotonic()
        self._admit()

    def allow_more(self) -> None:
        """The host carries mail: one more, up to its limit."""
        if self._allowed < self._limits.connections:
            self._allowed += 1
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._taken < self._allowed:
            _, turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)

    def _look(self) -> None:
        """Send away who has waited for long enough, and everybody when nothing moves."""
        self._timer = None
        now = time.monotonic()
        stalls_at = self._moved + self._limits.stall
        while self._waiting and min(self._waiting[0][0], stalls_at) <= now:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Unavailable(f"all {self._allowed} connections to {self._host} are in use"))
        if self._waiting:
            pause = min(self._waiting[0][0], stalls_at) - now
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)


class Pool:
    """Sessions by target. ``acquire`` and ``release`` in pairs."""

    def __init__(self, limits: Limits, manners: Manners) -> None:
        self._limits = limits
        self._manners = manners
        self._idle: dict[Target, deque[Session]] = defaultdict(deque)
        self._slots: dict[Target, Slots] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def acquire(self, target: Target, *, ends_at: float, is_new: bool = False) -> Session | Ending:
        """An idle session (not with ``is_new``), or a new one, for an attempt that is over at ``ends_at`` (time.monotonic).

        Waits while the host has all the connections it gets. Raises Unavailable when none comes free in time: that says
        nothing about the mail.
        """
        slots = self._slots.get(target)
        if slots is None:
            slots = self._slots[target] = Slots(target.host, self._limits)
        try:
            await slots.enter()
        except BaseException:
            self._forget(target)
            raise
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
        slots = self._slots[target]
        if session.messages:
            slots.allow_more()
        slots.leave()
        if slots.is_unused:
            del self._slots[target]

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

    def _leave(self, target: Target) -> None:
        self._slots[target].leave()
        self._forget(target)

    def _forget(self, target: Target) -> None:
        slots = self._slots.get(target)
        if slots is not None and slots.is_unused:
            del self._slots[target]

    def _close(self, session: Session) -> None:
        OPEN.dec()
        MESSAGES.observe(session.messages)
        task = asyncio.get_running_loop().create_task(session.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
