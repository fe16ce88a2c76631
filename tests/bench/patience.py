"""Waiting for something that moves: how long to wait, when to tell, and when to give up."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds without any progress after which it is given up."""
NO_PROGRESS = f"no progress for {PATIENCE:.0f} s"
POLL = 0.1
_TELL = 2.0


def watch(look: Callable[[], T], is_done: Callable[[T], bool], tell: Callable[[T], None], *, every: float = POLL) -> bool:
    """Look until it is done, and tell now and then. False: nothing has moved for PATIENCE."""
    seen: T | None = None
    moved = told = time.monotonic()
    while not is_done(progress := look()):
        now = time.monotonic()
        if progress != seen:
            seen, moved = progress, now
        elif now - moved > PATIENCE:
            return False
        if now - told > _TELL:
            told = now
            tell(progress)
        time.sleep(every)
    return True
