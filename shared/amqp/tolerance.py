"""Reads AMQP frames that the library cannot: names that are not UTF-8, impossible times, tables without end.

RabbitMQ passes such properties on as they are. The library takes them for a broken connection and closes it; the message comes
back, and again, until every message that was in hand with it has used up its deliveries. One publisher's mistake must not do that.
"""

import functools
import struct
from collections.abc import Callable
from typing import Any

import pamqp.frame
from pamqp import constants, decode, header
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException

UNREADABLE = "x-unreadable-properties"
"""Header of a message whose own properties could not be read: the reason. Set here, never by RabbitMQ or a publisher."""


def tolerate() -> None:
    """Teach the library, once per process. Done when this package connects."""
    if not hasattr(pamqp.frame.unmarshal, "__wrapped__"):
        decode.METHODS["shortstr"] = _short_string
        pamqp.frame.unmarshal = _tolerant(pamqp.frame.unmarshal)  # type: ignore[assignment] # the same, wrapped


def _short_string(value: bytes) -> tuple[int, str]:
    """As the library's, but for bytes that are not UTF-8: exchange and routing key stand in every delivery."""
    length = value[0]
    return length + 1, value[1 : length + 1].decode("utf-8", "replace")


def _tolerant(unmarshal: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    @functools.wraps(unmarshal)
    def read(data: bytes) -> Any:
        try:
            return unmarshal(data)
        except (PAMQPException, ValueError, OverflowError, OSError, RecursionError, struct.error) as error:
            frame_type, channel, size = pamqp.frame.frame_parts(data)
            if frame_type != constants.FRAME_HEADER or not size:
                raise
            body_size = struct.unpack(">Q", data[constants.FRAME_HEADER_SIZE + 4 : constants.FRAME_HEADER_SIZE + 12])[0]
            properties = Basic.Properties(headers={UNREADABLE: f"{type(error).__name__}: {error}"[:200]})
            return constants.FRAME_HEADER_SIZE + size + 1, channel, header.ContentHeader(0, body_size, properties)

    return read
