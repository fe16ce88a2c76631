"""Posts mail as JSON over HTTP, one or many in a request: the load of json-inbox. Run as a process of its own.

    python -m tests.bench.poster http://127.0.0.1:8100 --messages 20000 --batch 1000 --size 1000 --domain h.example --sessions 4

Prints what ``tests.bench.sockets.tell`` says; ``refused`` counts requests that were not answered 202 and messages not in the answer.
"""

import argparse
import json
import re
import signal
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.bench.publisher import SENDER, render_content
from tests.bench.sockets import Talker, drive, tell

_BLANK = b"#######"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class Poster(Talker):
    """One connection, kept for many requests."""

    def __init__(self, host: str, port: int, numbers: Iterator[int], item: bytes, batch: int) -> None:
        """``numbers``: of the first message of each request, shared by all connections."""
        super().__init__(host, port)
        self._host = f"{host}:{port}"
        self._numbers = numbers
        self._item = item.split(_BLANK)
        self._batch = batch
        self.refused = 0
        self._post()

    def hear(self) -> None:
        """When the whole answer is there, post the next request."""
        end = self.heard.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self.heard, 0, end + 2)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self.heard) < size:
            return
        answer = bytes(self.heard[:size])
        del self.heard[:size]
        if not answer.startswith(b"HTTP/1.1 202 ") or answer.count(b'"recipient"') != self._batch:
            self.refused += 1
            print(answer[:500], flush=True)
        self._post()

    def _post(self) -> None:
        first = next(self._numbers, 0)
        if not first:
            self.is_over = True
            return
        items = [(b"%07d" % number).join(self._item) for number in range(first, first + self._batch)]
        body = items[0] if self._batch == 1 else b"[" + b",".join(items) + b"]"
        head = f"POST /v1/messages HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.say(head.encode() + body)


def main() -> None:
    """Post, then tell when."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.poster", description=__doc__)
    parser.add_argument("url", help="http://host:port")
    parser.add_argument("--messages", type=int, required=True, help="a multiple of --batch")
    parser.add_argument("--batch", type=int, default=1, help="messages in a request")
    parser.add_argument("--size", type=int, required=True, help="octets of text")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--sessions", type=int, default=20)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    url = urlsplit(given.url)
    content = render_content(given.size, given.domain)
    item = json.dumps({"envelope": SENDER, "recipient": f"r{_BLANK.decode()}@{given.domain}", "mime": content}).encode()
    numbers = iter(range(1, given.messages + 1, given.batch))
    began, used = time.time(), time.process_time()
    talkers = [Poster(url.hostname or "", url.port or 80, numbers, item, given.batch) for _ in range(given.sessions)]
    drive([talker for talker in talkers if not talker.is_over])
    tell(began, used, sum(talker.refused for talker in talkers))


if __name__ == "__main__":
    main()
