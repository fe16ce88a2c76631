"""Many sockets in one thread, each with something to say: what the bench's own SMTP and HTTP clients are made of."""

import json
import selectors
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

_READ = 64 * 1024


class Talker(ABC):
    """One connection: says ``said``, hears replies, and says more."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.said: memoryview = memoryview(b"")
        """What is still to be sent."""
        self.heard = bytearray()
        self.is_over = False

    def say(self, octets: bytes) -> None:
        """Send this next; nothing else may be on its way."""
        self.said = memoryview(octets)

    @abstractmethod
    def hear(self) -> None:
        """Something was added to ``heard``: take what is whole, and go on. Sets ``is_over`` at the end."""

    def hang_up(self) -> None:
        """The other side closed the connection."""
        raise ConnectionError(f"the server closed the connection after {bytes(self.heard[-200:])!r}")


def drive(talkers: Sequence[Talker]) -> None:
    """Until all are over. Raises ConnectionError, or TimeoutError when nobody says anything for a minute."""
    with selectors.DefaultSelector() as selector:
        for talker in talkers:
            selector.register(talker.socket, selectors.EVENT_READ, talker)
            _write(talker, selector)
        left = sum(not talker.is_over for talker in talkers)
        while left:
            events = selector.select(60)
            if not events:
                raise TimeoutError("no reply within a minute")
            for key, mask in events:
                talker = key.data
                if mask & selectors.EVENT_READ:
                    _read(talker)
                if talker.is_over:
                    selector.unregister(talker.socket)
                    talker.socket.close()
                    left -= 1
                else:
                    _write(talker, selector)


def tell(began: float, used: float, refused: int) -> None:
    """Print what ``tests.bench.load.Load`` reads. ``used``: ``time.process_time()`` at the start."""
    print(json.dumps({"began": began, "ended": time.time(), "cpu": time.process_time() - used, "refused": refused}))


def _read(talker: Talker) -> None:
    try:
        octets = talker.socket.recv(_READ)
    except BlockingIOError:
        return
    except ConnectionResetError:
        octets = b""
    if octets:
        talker.heard += octets
        talker.hear()
    else:
        talker.hang_up()


def _write(talker: Talker, selector: selectors.BaseSelector) -> None:
    while talker.said:
        try:
            talker.said = talker.said[talker.socket.send(talker.said) :]
        except BlockingIOError:
            break
        except (BrokenPipeError, ConnectionResetError):
            talker.said = memoryview(b"")  # why, its reader hears
    mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if talker.said else 0)
    if selector.get_key(talker.socket).events != mask:
        selector.modify(talker.socket, mask, talker)
