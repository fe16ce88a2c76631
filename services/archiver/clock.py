"""Is the time to be believed? Deleting by a clock that is ahead cannot be taken back, deleting a day later harms nobody.

Two witnesses: Postgres's clock, and the steady clock of this host, by which a step of the wall clock is seen. A host that starts with
a wrong clock, Postgres on it, has no witness: that is what NTP is for.
"""

import time
from datetime import timedelta

APART = timedelta(hours=1)
"""By which two clocks may differ."""
TRIAL = timedelta(hours=24)
"""How long a clock that was set forward must stand before anything is deleted by it."""


class Clock:
    """Compares the wall clock with the steady one."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        """Wall over steady clock, as believed."""
        self._stepped: float | None = None
        """When, by the steady clock, the step was seen that is on trial."""

    def note(self, wall: float, steady: float) -> None:
        """Look at both (unix seconds; seconds that go on while the host sleeps). Call it every minute or so."""
        ahead = wall - steady
        if self._ahead is None or ahead - self._ahead <= APART.total_seconds():
            # Set back, or as good as equal: nothing is deleted too early by that.
            self._ahead, self._stepped = ahead, None
        elif self._stepped is None:
            self._stepped = steady
        elif steady - self._stepped >= TRIAL.total_seconds():
            self._ahead, self._stepped = ahead, None

    def find_doubt(self, wall: float, steady: float, postgres: float) -> str:
        """Why nothing may be deleted by the wall clock now; "" when it is to be believed."""
        self.note(wall, steady)
        if abs(wall - postgres) > APART.total_seconds():
            side = "behind" if wall < postgres else "ahead of"
            return f"the clock of this host is {abs(wall - postgres):.0f} s {side} that of Postgres"
        if self._stepped is not None and self._ahead is not None:
            left = TRIAL.total_seconds() - (steady - self._stepped)
            step = wall - steady - self._ahead
            return f"the clock was set forward by {step:.0f} s: believed in {left:.0f} s, or after a restart of the archiver"
        return ""


def read_steady() -> float:
    """Seconds that no setting of the clock touches, and that go on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
