"""Peers that never stop talking, by the moment when they begin."""

from __future__ import annotations

from tests.integration.peers.hostile import GREETING, Connection


async def endless_greeting(peer: Connection) -> None:
    """A greeting without end."""
    await peer.babble(b"220-and one more thing\r\n")


async def endless_ehlo(peer: Connection) -> None:
    """Extensions without end."""
    await peer.say(GREETING)
    await peer.hear(b"EHLO")
    await peer.babble(b"250-X-EXTENSION\r\n")


async def endless_mail(peer: Connection) -> None:
    """A reply to MAIL without end."""
    await peer.begin()
    await peer.hear(b"MAIL")
    await peer.babble(b"250-still thinking\r\n")


async def endless_dot(peer: Connection) -> None:
    """A reply to the dot without end."""
    await peer.until_354()
    await peer.hear(b".\r\n")
    await peer.babble(b"250-still thinking\r\n")


async def endless_line(peer: Connection) -> None:
    """One line without end."""
    await peer.say(b"220 ")
    await peer.babble(b"x")


async def endless_empty_lines(peer: Connection) -> None:
    """Lines of nothing."""
    await peer.babble(b"\n")


async def endless_replies(peer: Connection) -> None:
    """A refusal over and over."""
    await peer.begin()
    await peer.hear(b"MAIL")
    await peer.babble(b"550 no\r\n")
