"""What a sender's journal knows about an attempt that this host has begun before. Values and the protocol; the files are
``shared.storage.journal``.

Between a peer's 250 and our ack lies a moment in which a crash would send the mail twice. The journal closes it for all senders of
one host: an attempt is written down when it begins, when it has ended, before anything is published, and when all is confirmed.
"""

from dataclasses import dataclass
from typing import Protocol

from shared.delivery.finished import Finished


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody on this host has made this attempt."""


@dataclass(frozen=True, slots=True)
class InWork:
    """A process that lives has it in hand: this message is a double."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """Processes died while they made it; nobody knows what the peer got."""

    times: int


@dataclass(frozen=True, slots=True)
class Ended:
    """It was made, by a process that died before its outcome was confirmed: the outcome is published, nothing is sent."""

    ident: str
    """The id under which it was made."""
    finished: Finished


@dataclass(frozen=True, slots=True)
class Done:
    """It was made, and everything that follows from it is confirmed: this message is a double, there is nothing to do."""


Known = Unknown | InWork | Crashed | Ended | Done


class Journal(Protocol):
    """The attempts of all senders of this host. No method blocks for longer than a small write or read of a local file takes."""

    def look(self, ident: str, attempt: int) -> Known:
        """What is known of attempt number ``attempt`` (from 1) for the message ``ident``."""

    def claim(self, digest: str) -> Ended | None:
        """An attempt that ended for a message without an id whose body has this SHA-256; each is given out once."""

    def begin(self, ident: str, attempt: int) -> None:
        """The attempt begins. Raises Unavailable when it cannot be written down."""

    def end(self, ident: str, finished: Finished, digest: str = "") -> None:
        """The attempt has ended. Before anything else is done about it; never raises, for the mail may have been sent.

        ``digest``: of the body, when the publisher gave no id that will be there again.
        """

    def done(self, ident: str, attempt: int) -> None:
        """Everything that follows from the attempt is confirmed. Never raises."""

    def forget(self, ident: str, attempt: int) -> None:
        """It was not made after all, or is parked: as if it had not begun. Never raises."""
