"""Was 250 read? A client that could not read it sends the mail again, and shall then not make a second copy of it.

All that can be known is whether the other side's system has taken our octets (an acknowledgement of TCP). What is in doubt counts as
read: to remember a mail wrongly could swallow another one, which is worse than a duplicate.
"""

import array
import asyncio
import fcntl
import termios
from typing import TYPE_CHECKING, Any

from services.smtp_inbox.connection import Gone
from services.smtp_inbox.taking import Taken

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation

PATIENCE = 5.0
"""Seconds to wait for the acknowledgement of a client that has closed its side already: it may have gone, or be listening still."""


async def see_off(conversation: "Conversation", taken: Taken) -> None:
    """Send the replies to a mail, and see whether they were read: now, or when the client says something or leaves. Raises Gone."""
    if not taken.accepted:
        return
    try:
        await conversation.flush()
    except Gone:
        taken.count_unread()
        raise
    if conversation.transport.is_closing() or (conversation.has_said_all and not await wait_until_read(conversation.transport)):
        taken.count_unread()
    else:
        conversation.unread = taken


def is_unread(transport: Any, error: BaseException | None = None) -> bool:
    """The last that was written has not arrived. ``error``: why the connection has ended, if it has."""
    if isinstance(error, ConnectionResetError):
        # Some close so after they have read all: what is not acknowledged then says nothing.
        return bool(transport.get_write_buffer_size() > 0)
    # A broken pipe: the other side had ended the connection before we wrote.
    return isinstance(error, BrokenPipeError) or transport.get_write_buffer_size() > 0 or _count_unacknowledged(transport) > 0


async def wait_until_read(transport: Any, patience: float = PATIENCE) -> bool:
    """For a client that says nothing more: has it taken our last words?"""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while is_unread(transport):
        if transport.is_closing() or loop.time() > deadline:
            return False
        await asyncio.sleep(0.02)
    return not transport.is_closing()


def _count_unacknowledged(transport: Any) -> int:
    """Octets that the other side's TCP has not acknowledged (SIOCOUTQ of tcp(7)); 0 when that cannot be known."""
    socket = transport.get_extra_info("socket")
    octets = array.array("i", [0])
    try:
        fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, octets)
    except (OSError, ValueError, AttributeError):
        return 0
    return octets[0]
