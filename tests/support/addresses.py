"""Socket addresses as ``host:port`` text."""

from __future__ import annotations

from collections.abc import Sequence


def parse_address(text: str) -> tuple[str, int]:
    """``127.0.0.1:2525`` or ``[::1]:2525`` as (host, port); port 0 asks the kernel for a free one.

    Raises ValueError naming the text and the form that was expected.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"address {text!r}: expected host:port, for example 127.0.0.1:2525")
    return host, int(port)


def render_address(address: Sequence[object]) -> str:
    """(host, port, …) as the socket module gives it, as ``host:port``."""
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
