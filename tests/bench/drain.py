"""Takes the results from a queue (``success``) and acks them: the user who reads what became of his mail.

    python -m tests.bench.drain URL FILE [QUEUE]

Runs until it is told to stop; ``FILE`` always holds the number of results acked so far (8 octets, big-endian).
"""

import argparse
import os
import signal
import struct
import time
from pathlib import Path

from pamqp import commands

from tests.bench.amqp import CONTENT_BODY, CONTENT_HEADER, METHOD, AmqpClient

QUEUE = "success"
PREFETCH = 1000
_GATHER = 0.005
"""Seconds between two looks: who reads results takes what is there, and does not compete with the mail for every single one."""
_COUNT = struct.Struct(">Q")
_METHOD = struct.Struct(">HH")
_DELIVER = (60, 60)
_BODY_SIZE = struct.Struct(">HHQ")


class Deliveries:
    """Counts whole messages; the tags of a channel run from 1, so the count is the tag of the last one."""

    def __init__(self) -> None:
        self.whole = 0
        self._missing = 0

    def take(self, kind: int, payload: memoryview) -> None:
        """The next frame. Raises ConnectionError when the broker sends anything but a delivery."""
        if kind == METHOD and _METHOD.unpack_from(payload) != _DELIVER:
            raise ConnectionError(f"the broker sent {bytes(payload)!r}")
        if kind == CONTENT_HEADER:
            self._missing = _BODY_SIZE.unpack_from(payload)[2]
            self.whole += not self._missing
        elif kind == CONTENT_BODY:
            self._missing -= len(payload)
            self.whole += not self._missing


def read_count(file: Path) -> int:
    """The number of results acked so far; 0 before the first."""
    content = file.read_bytes() if file.exists() else b""
    return int(_COUNT.unpack(content)[0]) if len(content) == _COUNT.size else 0


def main() -> None:
    """Consume until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.drain", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("queue", nargs="?", default=QUEUE)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(0))
    deliveries, acked = Deliveries(), 0
    count = os.open(given.file, os.O_WRONLY | os.O_CREAT)
    with AmqpClient(given.url, "bench takes results") as client:
        client.call(commands.Basic.Qos(prefetch_count=PREFETCH), commands.Basic.QosOk)
        client.call(commands.Basic.Consume(queue=given.queue), commands.Basic.ConsumeOk)
        os.pwrite(count, _COUNT.pack(0), 0)
        while True:
            for kind, payload in client.take_frames():
                deliveries.take(kind, payload)
            if deliveries.whole > acked:
                acked = deliveries.whole
                client.send(commands.Basic.Ack(acked, multiple=True))
                os.pwrite(count, _COUNT.pack(acked), 0)
            time.sleep(_GATHER)
            client.read(patience=None)


if __name__ == "__main__":
    main()
