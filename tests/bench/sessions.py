"""How often smtp-sender used a session again, from its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

_OPENED, _REUSED = "smtp_sessions_opened_total", "smtp_sessions_reused_total"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Counted since the processes began; all copies together."""

    opened: int
    reused: int
    """Transactions on a session that had carried a mail before."""

    def find_share(self, before: "Sessions") -> float | None:
        """Of the transactions since ``before``, the share on a session used before. None: there were none."""
        opened, reused = self.opened - before.opened, self.reused - before.reused
        return reused / (opened + reused) if opened + reused > 0 else None


def parse_sessions(texts: Sequence[str]) -> Sessions:
    """From what ``/metrics`` says, a text per process."""
    counts = dict.fromkeys((_OPENED, _REUSED), 0)
    for line in (line for text in texts for line in text.splitlines()):
        name, _, value = line.partition(" ")
        if name in counts:
            counts[name] += int(float(value))
    return Sessions(counts[_OPENED], counts[_REUSED])


def read_sessions(addresses: str) -> Sessions | None:
    """Ask the processes at these addresses (``host:port,host:port``); None when one does not answer."""
    try:
        return parse_sessions([_fetch(address) for address in addresses.split(",")])
    except (OSError, HTTPException):
        return None


def _fetch(address: str) -> str:
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()
