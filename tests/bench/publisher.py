"""Publishes mail as JSON to the exchange ``outbox``, confirmed: the load of (b), (d) and (e). Run as a process of its own.

    python -m tests.bench.publisher URL --messages 10000 --size 5000 --domain b.example --window 500

``--domains N`` writes to N domains below that one in turn, ``--large OCTETS`` makes the mail in the middle so large.

Prints ``{"began": …, "ended": …, "cpu": …, "refused": …}``: unix seconds of the first publish and of the last confirm,
seconds of CPU between them, and how many messages came back or were not taken by the broker. Everything that can be
made before is made before; while it runs it fills in the recipient and counts confirms.
"""

import argparse
import json
import signal
import struct
import time
from collections.abc import Callable

from pamqp import commands

from tests.bench.amqp import METHOD, AmqpClient, render_body, render_publication

EXCHANGE = "outbox"
SENDER = "news@shop.example"
BLANK = "#######"
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


def name_domain(index: int, parent: str) -> str:
    """One of many domains; ``index`` from 0."""
    return f"d{index:04}.{parent}"


def render_content(size: int, domain: str, sender: str = SENDER) -> str:
    """A mail as smtp-source makes it: a few headers and ``size`` octets of text."""
    headers = (
        f"From: <{sender}>\r\nTo: <r{BLANK}@{domain}>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000 (UTC)\r\n"
        f"Message-Id: <{BLANK}.{domain}@bench.example>\r\n\r\n"
    )
    line = "X" * 78 + "\r\n"
    return headers + (line * (size // len(line) + 1))[: size - 2] + "\r\n"


def render_template(size: int, domain: str, sender: str = SENDER) -> list[bytes]:
    """All frames of a message, cut where its number goes."""
    document = {"envelope": sender, "recipient": f"r{BLANK}@{domain}", "mime": render_content(size, domain, sender)}
    # No blanks, as JavaScript's JSON.stringify writes it.
    body = json.dumps(document, separators=(",", ":")).encode()
    return (render_publication(EXCHANGE, "", len(body)) + render_body(body)).split(BLANK.encode())


def render_number(template: list[bytes], number: int) -> bytes:
    """All frames of message ``number``."""
    return f"{number:0{len(BLANK)}}".encode().join(template)


class Mails:
    """The mails of one run, by number."""

    def __init__(self, messages: int, size: int, domain: str, *, domains: int = 0, sender: str = SENDER, large: int = 0) -> None:
        """``domains``: how many below ``domain``; 0 = that one alone. ``large``: octets of text in the mail in the middle."""
        names = [name_domain(index, domain) for index in range(domains)] or [domain]
        self._templates = [render_template(size, name, sender) for name in names]
        self._middle = (messages + 1) // 2 if large else 0
        self._large = render_template(large, domain, sender) if large else []

    def render(self, number: int) -> bytes:
        """All frames of mail ``number``, from 1."""
        if number == self._middle:
            return render_number(self._large, number)
        return render_number(self._templates[(number - 1) % len(self._templates)], number)


def publish(client: AmqpClient, render: Callable[[int], bytes], messages: int, window: int) -> int:
    """Publish ``messages``, at most ``window`` of them unconfirmed; how many were refused."""
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    unconfirmed = Unconfirmed()
    while unconfirmed.sent < messages or unconfirmed:
        left = messages - unconfirmed.sent
        burst = min(_BURST, left)
        if burst and len(unconfirmed) + burst <= window:
            first = unconfirmed.sent + 1
            client.write(b"".join(render(number) for number in range(first, first + burst)))
            unconfirmed.add(burst)
            continue
        client.read()
        for kind, payload in client.take_frames():
            if kind == METHOD:
                unconfirmed.take(payload)
    return unconfirmed.refused


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The arguments of every publisher of mail."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("url")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--size", type=int, required=True, help="octets of text")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--window", type=int, default=500, help="publishes in flight")
    return parser


def run(given: argparse.Namespace, render: Callable[[int], bytes]) -> None:
    """Publish what ``render`` makes of each number, then tell when."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    with AmqpClient(given.url, "bench publishes") as client:
        began, used = time.time(), time.process_time()
        refused = publish(client, render, given.messages, max(given.window, _BURST))
        told = {"began": began, "ended": time.time(), "cpu": time.process_time() - used, "refused": refused}
        print(json.dumps(told))


def main() -> None:
    """The mails of (b), (d) and (e)."""
    parser = make_parser("tests.bench.publisher", __doc__)
    parser.add_argument("--sender", default=SENDER, help="reverse-path and From")
    parser.add_argument("--domains", type=int, default=0, help="so many domains below that one")
    parser.add_argument("--large", type=int, default=0, help="octets of text in the mail in the middle")
    given = parser.parse_args()
    options = {"domains": given.domains, "sender": given.sender, "large": given.large}
    run(given, Mails(given.messages, given.size, given.domain, **options).render)


if __name__ == "__main__":
    main()
