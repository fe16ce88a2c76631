"""Whether a process of ours is ready, and what its log says when it is not."""

from http.client import HTTPConnection, HTTPException
from pathlib import Path


def find_trouble_at(address: str) -> str | None:
    """Why the process with its metrics at ``host:port`` is not ready; None when ``/readiness`` answers 200."""
    connection = HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/readiness")
        answer = connection.getresponse()
        text = answer.read(500).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        return f"http://{address}/readiness: {error}"
    finally:
        connection.close()
    return None if answer.status == 200 else f"http://{address}/readiness: {answer.status} {text}"


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log file, indented."""
    if not log.exists():
        return "    (no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        last = file.read().decode(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in last) or "    (empty log)"
