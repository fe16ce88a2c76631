"""Work of a thread that can be cut off: once nobody waits for it any more, its connection is shut down, and the thread is free.

The time limits of a socket do not do for that: they begin anew with every octet that comes, and with every piece that is taken.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from shared.trouble import Unavailable

T = TypeVar("T")

_here = threading.local()


class Errand:
    """One piece of work, and the connection that it uses just now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut_off = False

    def run(self, work: Callable[..., T], *args: object) -> T:
        """What ``work`` returns or raises; called in the thread that does it."""
        _here.errand = self
        try:
            return work(*args)
        finally:
            _here.errand = None
            with self._lock:
                self._socket = None

    def cut_off(self) -> None:
        """Whatever it sends or reads now ends with an error or too early, and it gets no other connection. Nothing when it has ended."""
        with self._lock:
            self._is_cut_off = True
            if self._socket is not None:
                with suppress(OSError):
                    # Not the method of a TLS socket: that would send what follows in the clear.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def use(self, peer: socket.socket | None) -> None:
        """From now on it talks over this one; None: it is about to connect. Raises Unavailable when it was cut off."""
        with self._lock:
            if self._is_cut_off:
                raise Unavailable("cut off: nobody waits for it any more")
            self._socket = peer


def use_socket(peer: socket.socket | None) -> None:
    """``Errand.use`` for what this thread is doing; nothing outside of an errand."""
    errand: Errand | None = getattr(_here, "errand", None)
    if errand is not None:
        errand.use(peer)
