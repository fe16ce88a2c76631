"""Contents that a server may spoil; each has its name in ``X-Token``."""

from __future__ import annotations

import random
from collections.abc import Mapping

_RANDOM = random.Random(5)
_BINARY = bytes(byte for byte in range(1, 256) if byte not in b"\r\n")

BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "plain": b"hello\r\n",
    "dots": b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
    "no-last-line-end": b"first\r\nlast",
    "empty-lines": b"\r\n" * 50,
    "mbox-lines": b"From nobody\r\n>From nobody\r\nSubject: not a field\r\n",
    "white-space": b" \t \r\n  trailing  \r\n\t\r\n",
    "longest-line": b"x" * 998 + b"\r\n" + b"." * 998 + b"\r\n",
    "utf-8": "Grüße, 你好, 🙂\r\n".encode(),
    "every-byte": _BINARY + b"\r\n",
    "commands": b"QUIT\r\nRSET\r\nMAIL FROM:<x@x.example>\r\n250 ok\r\n",
    "large": b"".join(bytes(_RANDOM.choices(range(32, 127), k=76)) + b"\r\n" for _ in range(2_500)),
}


def render(name: str, body: bytes) -> bytes:
    """A whole mail."""
    return f"From: r@a.example\r\nTo: good@x.example\r\nX-Token: {name}.\r\nSubject: {name}\r\n\r\n".encode() + body
