"""Publishes mail as JSON to the exchange ``outbox``, confirmed: the load of (b). Run as a process of its own.

    python -m tests.bench.publisher URL --messages 10000 --size 5000 --domain b.example --window 500

Prints ``{"began": …, "ended": …, "cpu": …, "refused": …}``: unix seconds of the first publish and of the last confirm,
seconds of CPU between them, and how many messages came back or were not taken by the broker. Everything that can be
made before is made before; while it runs it fills in the recipient and counts confirms.
"""

import argparse
import json
import signal
import struct
import time

from pamqp import commands

from tests.bench.amqp import METHOD, AmqpClient, render_body, render_publication

EXCHANGE = "outbox"
SENDER = "news@shop.example"
_BLANK = "#######"
"""Stands where the number of a message goes."""
_BURST = 50
"""Messages written with one call."""
_METHOD = struct.Struct(">HH")
_ACK, _NACK, _RETURN = (60, 80), (60, 120), (60, 50)
_TAG_AND_BITS = struct.Struct(">QB")


class Unconfirmed:
    """The publishes that the broker has not confirmed yet."""

    def __init__(self) -> None:
        self.sent = 0
        self.refused = 0
        self._open: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, count: int) -> None:
        """So many were published."""
        self._open.update(range(self.sent + 1, self.sent + count + 1))
        self.sent += count

    def take(self, method: memoryview) -> None:
        """What the broker says: a confirm, a refusal or a message that came back."""
        what = _METHOD.unpack_from(method)
        if what == _RETURN:  # its confirm follows
            self.refused += 1
            return
        if what not in (_ACK, _NACK):
            raise ConnectionError(f"the broker sent method {what}: {bytes(method)!r}")
        tag, bits = _TAG_AND_BITS.unpack_from(method, _METHOD.size)
        done = {one for one in self._open if one <= tag} if bits & 1 else {tag} & self._open
        self._open -= done
        if what == _NACK:
            self.refused += len(done)


def render_content(size: int, domain: str) -> str:
    """A mail as smtp-source makes it: a few headers and ``size`` octets of text."""
    headers = (
        f"From: <{SENDER}>\r\nTo: <r{_BLANK}@{domain}>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000 (UTC)\r\n"
        f"Message-Id: <{_BLANK}.{domain}@bench.example>\r\n\r\n"
    )
    line = "X" * 78 + "\r\n"
    return headers + (line * (size // len(line) + 1))[: size - 2] + "\r\n"


def render_template(size: int, domain: str) -> list[bytes]:
    """All frames of a message, cut where its number goes."""
    document = {"envelope": SENDER, "recipient": f"r{_BLANK}@{domain}", "mime": render_content(size, domain)}
    # No blanks, as JavaScript's JSON.stringify writes it.
    body = json.dumps(document, separators=(",", ":")).encode()
    return (render_publication(EXCHANGE, "", len(body)) + render_body(body)).split(_BLANK.encode())


def render_number(template: list[bytes], number: int) -> bytes:
    """All frames of message ``number``."""
    return f"{number:0{len(_BLANK)}}".encode().join(template)


def publish(client: AmqpClient, template: list[bytes], messages: int, window: int) -> int:
    """Publish ``messages``, at most ``window`` of them unconfirmed; how many were refused."""
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    unconfirmed = Unconfirmed()
    while unconfirmed.sent < messages or unconfirmed:
        left = messages - unconfirmed.sent
        burst = min(_BURST, left)
        if burst and len(unconfirmed) + burst <= window:
            first = unconfirmed.sent + 1
            client.write(b"".join(render_number(template, number) for number in range(first, first + burst)))
            unconfirmed.add(burst)
            continue
        client.read()
        for kind, payload in client.take_frames():
            if kind == METHOD:
                unconfirmed.take(payload)
    return unconfirmed.refused


def main() -> None:
    """Publish, then tell when."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.publisher", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--size", type=int, required=True, help="octets of text")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--window", type=int, default=500, help="publishes in flight")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    template = render_template(given.size, given.domain)
    with AmqpClient(given.url, "bench publishes") as client:
        began, used = time.time(), time.process_time()
        refused = publish(client, template, given.messages, max(given.window, _BURST))
        told = {"began": began, "ended": time.time(), "cpu": time.process_time() - used, "refused": refused}
        print(json.dumps(told))


if __name__ == "__main__":
    main()
