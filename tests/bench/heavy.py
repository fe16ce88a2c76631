"""Clients that mean to fill a server's memory. Run as a process of its own; prints the last reply of each client, as JSON.

    python -m tests.bench.heavy 127.0.0.1:2525 large --clients 200 --octets 20000000
    python -m tests.bench.heavy 127.0.0.1:2525 lines --octets 9000000
    python -m tests.bench.heavy 127.0.0.1:2525 endless --octets 31000000
    python -m tests.bench.heavy 127.0.0.1:2525 endless-data --octets 31000000

``large``: each sends a mail of so many octets, all at once. ``lines``: empty lines for commands. ``endless``: one line as a
command. ``endless-data``: one line as the content of a mail.
"""

import argparse
import json
import signal

from tests.bench.publisher import SENDER
from tests.bench.sockets import Talker, drive

_LINE = b"X" * 78 + b"\r\n"


class Heavy(Talker):
    """One client."""

    def __init__(self, host: str, port: int, steps: list[bytes]) -> None:
        """``steps``: what to say after each reply."""
        super().__init__(host, port)
        self._steps = steps
        self.last = ""
        """The last reply, "" when the connection ended without one."""

    def hear(self) -> None:
        """After each reply the next step, unless it was a refusal."""
        while (end := self.heard.find(b"\r\n")) >= 0:
            line = bytes(self.heard[:end])
            del self.heard[: end + 2]
            if line[3:4] == b"-":
                continue
            self.last = line.decode()
            if line[:1] not in b"23" or not self._steps:
                self.is_over = True
                return
            self.say(self._steps.pop(0))

    def hang_up(self) -> None:
        """The server has had enough."""
        self.is_over = True


def plan(how: str, octets: int, number: int) -> list[bytes]:
    """What one client says, step by step."""
    if how == "lines":
        return [b"\r\n" * (octets // 2)]
    if how == "endless":
        return [b"X" * octets + b"\r\n"]
    mail = [
        b"EHLO bench.example\r\n",
        f"MAIL FROM:<{SENDER}>\r\n".encode(),
        f"RCPT TO:<r{number:07}@heavy.bench.example>\r\n".encode(),
    ]
    text = b"X" * octets if how == "endless-data" else _LINE * (octets // len(_LINE))
    return [*mail, b"DATA\r\n", b"Subject: heavy\r\n\r\n" + text + b"\r\n.\r\n"]


def main() -> None:
    """Send it all, then tell what was replied."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.heavy", description=__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("how", choices=("large", "lines", "endless", "endless-data"))
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--octets", type=int, required=True, help="for each client")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    host, _, port = given.address.rpartition(":")
    shared = plan(given.how, given.octets, 0)[-1]
    talkers = []
    for number in range(1, given.clients + 1):
        steps = plan(given.how, 0, number)
        steps[-1] = shared
        talkers.append(Heavy(host, int(port), steps))
    drive(talkers)
    print(json.dumps([talker.last for talker in talkers]))


if __name__ == "__main__":
    main()
