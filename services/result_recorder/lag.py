"""How far Postgres is behind what has happened: the figure to be alarmed by.

Nothing waits: 0, however long ago the last mail was. Something waits: the age of the newest that was recorded meanwhile, as all that
waits happened after it; before anything was, the time since it was first seen to wait. So it grows second by second while Postgres is
away or frozen. Pure: times are unix seconds, and arguments.
"""


class Lag:
    """From the moment at which something waits until nothing does."""

    def __init__(self) -> None:
        self._since: float | None = None
        """When it was seen that something waits; None: nothing does."""
        self._recorded: float | None = None
        """When the newest of what was committed since then happened."""
        self._in_hand = 0
        self._queued = 0
        self._is_held = False

    def begin(self, now: float) -> None:
        """A batch is in hand."""
        self._in_hand += 1
        self._look(now)

    def commit(self, moment: float, now: float) -> None:
        """Records were committed, the newest of which happened at ``moment``."""
        self._recorded = max(self._recorded or 0.0, min(moment, now))
        self._is_held = False

    def end(self, now: float, *, failed: bool = False) -> None:
        """The batch is done. ``failed``: it waits still, here or in a wait queue, and does so until something is committed again."""
        self._in_hand -= 1
        self._is_held = self._is_held or failed
        self._look(now)

    def count(self, queued: int, now: float) -> None:
        """So many messages wait in the queue, as was just seen."""
        self._queued = queued
        self._look(now)

    def read(self, now: float) -> float:
        """Seconds."""
        if self._since is None:
            return 0.0
        return max(0.0, now - (self._since if self._recorded is None else self._recorded))

    @property
    def is_known(self) -> bool:
        """False while something waits and nothing was recorded since that was seen: it may be older than ``read`` says."""
        return self._since is None or self._recorded is not None

    def _look(self, now: float) -> None:
        if not (self._in_hand or self._queued or self._is_held):
            self._since = self._recorded = None
        elif self._since is None:
            self._since = now
