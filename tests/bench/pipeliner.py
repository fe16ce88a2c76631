"""Sends mail over SMTP with PIPELINING, a connection for many mails: the load of the fastest client. Run as a process of its own.

    python -m tests.bench.pipeliner 127.0.0.1:2525 --messages 5000 --size 5000 --domain p.example --sessions 20

Each mail costs one round trip: the end of a mail and the commands of the next one go out together (RFC 2920 3.1 allows what
follows the final dot). Prints what ``tests.bench.sockets.tell`` says.
"""

import argparse
import signal
import time
from collections.abc import Iterator

from tests.bench.publisher import SENDER, render_content
from tests.bench.sockets import Talker, drive, tell

_BLANK = "#######"


class Pipeliner(Talker):
    """One session."""

    def __init__(self, host: str, port: int, numbers: Iterator[int], content: bytes, domain: str) -> None:
        """``numbers``: of the mails, shared by all sessions."""
        super().__init__(host, port)
        self._numbers = numbers
        self._content = content
        self._domain = domain
        self._number = 0
        self._awaited = ["220"]
        """The codes of the replies to come."""
        self.refused = 0

    def hear(self) -> None:
        """Count replies; after the last one of a group, say the next group."""
        while (end := self.heard.find(b"\r\n")) >= 0:
            line = bytes(self.heard[:end])
            del self.heard[: end + 2]
            if line[3:4] == b"-":
                continue
            expected = self._awaited.pop(0)
            if line[:3] != expected.encode():
                self.refused += 1
                self.is_over = True
                print(f"expected {expected}, got {line!r}", flush=True)
                return
            if not self._awaited:
                self._go_on(expected)
                return

    def _go_on(self, code: str) -> None:
        if code == "221":
            self.is_over = True
            return
        if code == "220":
            self.say(b"EHLO bench.example\r\n")
            self._awaited = ["250"]
            return
        end = self._render_end() if code == "354" else b""
        number = next(self._numbers, 0)
        if number:
            recipient = f"r{number:07}@{self._domain}"
            self.say(end + f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
            self._awaited = ["250"] * bool(end) + ["250", "250", "354"]
        else:
            self.say(end + b"QUIT\r\n")
            self._awaited = ["250"] * bool(end) + ["221"]
        self._number = number

    def _render_end(self) -> bytes:
        return self._content.replace(_BLANK.encode(), b"%07d" % self._number, 2) + b".\r\n"


def main() -> None:
    """Send, then tell when."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pipeliner", description=__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--size", type=int, required=True, help="octets of text")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--sessions", type=int, default=20)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    host, _, port = given.address.rpartition(":")
    content = render_content(given.size, given.domain).encode()
    numbers = iter(range(1, given.messages + 1))
    began, used = time.time(), time.process_time()
    talkers = [Pipeliner(host, int(port), numbers, content, given.domain) for _ in range(given.sessions)]
    drive(talkers)
    tell(began, used, sum(talker.refused for talker in talkers))


if __name__ == "__main__":
    main()
