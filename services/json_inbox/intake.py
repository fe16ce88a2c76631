"""From the body of a request to mails: what is wrong with one is found here, before anything is stored or published. Pure."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.acceptance import Recipient, Submission
from shared.mail.address import InvalidAddress, parse_mailbox
from shared.mail.received import render_received
from shared.mail.structured import StructuredMailError, render_mail
from shared.trouble import BadMessage
from shared.wire.document import WireError, parse_json
from shared.wire.instructions import InvalidProperty, parse_instructions
from shared.wire.message import OURS, PAYLOAD, Message

ENVELOPE = ("recipient", "recipients", *PAYLOAD)
"""Properties that become something else on the way in."""
WRITTEN_HERE = OURS | {"received", "hostname", "http", "connection"}
"""Properties that only our processes write: from a client they are dropped, and the mail starts a new life."""


class InvalidItem(BadMessage):
    """A message that cannot be accepted."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message of a request that cannot be accepted."""

    index: int
    """Its place in the list or among the lines, from 0."""
    field: str | None
    reason: str

    def to_document(self) -> dict[str, Any]:
        """As it stands in ``errors``."""
        told = {"index": self.index, "field": self.field, "reason": self.reason}
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Door:
    """What a mail is told about where it came in."""

    remote_ip: str
    """"" when nobody connected: the mail came as an action over AMQP."""
    hostname: str
    """Our own name."""
    reserved: frozenset[str]
    """Routing keys that lead into our own queues: a message may not name them."""
    now: datetime
    trace: str
    """Names this request in Received and in the log."""
    channel: str = "json"


def parse_items(raw: bytes, *, by_line: bool) -> tuple[list[Any], bool]:
    """The items of a body, and whether it is a list (or lines). An item that is a WireError could not be read.

    Raises WireError when the body as a whole is not JSON.
    """
    if by_line:
        return [_parse_line(line) for line in raw.split(b"\n") if line.strip()], True
    value = parse_json(raw)
    return (value, True) if isinstance(value, list) else ([value], False)


def parse_submission(item: Any, door: Door) -> Submission:
    """The mail that ``item`` describes, with all its recipients. Raises InvalidItem."""
    document = _check_object(item)
    recipients = parse_recipients(document)
    properties = {name: value for name, value in document.items() if name not in ENVELOPE and name not in WRITTEN_HERE}
    reverse_path = check_properties(properties, recipients[0], door.reserved)
    content = parse_content(document, door)
    return submit(content, reverse_path, recipients, properties, door)


def submit(content: bytes, reverse_path: str, recipients: Sequence[str], properties: Mapping[str, Any], door: Door) -> Submission:
    """A submission with the Received header that a gateway into Internet mail must prepend (RFC 5321 3.7.2)."""
    received = render_received(
        helo=None,
        remote_ip=door.remote_ip,
        by=door.hostname,
        ident=door.trace,
        now=door.now,
        protocol="HTTP" if door.remote_ip else "AMQP",
        recipient=recipients[0] if len(recipients) == 1 else None,
    )
    return Submission(
        channel=door.channel,
        reverse_path=reverse_path,
        recipients=[Recipient(address) for address in recipients],
        content=received + content,
        source={"http": {"token": None, "remote-ip": door.remote_ip}} if door.remote_ip else {},
        hostname=door.hostname,
        properties=properties,
    )


def parse_recipients(document: Mapping[str, Any]) -> list[str]:
    """``recipient``, or the list ``recipients``: each a valid address. Raises InvalidItem."""
    if "recipients" not in document:
        return [_check_address("recipient", document.get("recipient"))]
    if "recipient" in document:
        raise InvalidItem("recipients", "recipients: expected either recipient or recipients, not both")
    addresses = document["recipients"]
    if not isinstance(addresses, list) or not addresses:
        raise InvalidItem("recipients", f"recipients: {_show(addresses)}: expected a list of one or more addresses")
    return [_check_address(f"recipients[{index}]", address) for index, address in enumerate(addresses)]


def check_properties(properties: Mapping[str, Any], recipient: str, reserved: frozenset[str]) -> str:
    """The reverse-path, once every property is found to be possible. Raises InvalidItem."""
    message = Message({**properties, "recipient": recipient})
    try:
        instructions = parse_instructions(message)
    except InvalidProperty as error:
        raise InvalidItem(str(error).partition(":")[0], str(error)) from None
    for name, key in instructions.queues.items():
        if key in reserved:
            field = f"queues.{name}"
            raise InvalidItem(field, f"{field}: {key!r}: this key leads into a queue of the pipeline itself")
    ident = properties.get("message-id")
    if ident is not None and not (isinstance(ident, str) and 0 < len(ident) <= 998 and ident.isprintable()):
        raise InvalidItem("message-id", f"message-id: {_show(ident)}: expected a text of 1 to 998 characters")
    return message.reverse_path


def parse_content(document: Mapping[str, Any], door: Door) -> bytes:
    """The RFC 5322 message in ``mime`` (text or structured mail) or ``mime64``. Raises InvalidItem."""
    if "key" in document:
        raise InvalidItem("key", "key: mail that lies in the message store is not accepted over HTTP yet; give mime or mime64")
    mime, mime64 = document.get("mime"), document.get("mime64")
    if mime is not None and mime64 is not None:
        raise InvalidItem("mime64", "mime64: expected either mime or mime64, not both")
    if isinstance(mime, dict):
        try:
            return render_mail(mime, now=door.now, message_id_domain=door.hostname)
        except StructuredMailError as error:
            raise InvalidItem(str(error).partition(":")[0], str(error)) from None
    if mime64 is not None:
        return _decode(mime64)
    if not isinstance(mime, str) or not mime:
        raise InvalidItem("mime", f"mime: {_show(mime)}: expected the message as a text (RFC 5322) or a structured mail")
    return mime.encode()


def _parse_line(line: bytes) -> Any:
    try:
        return parse_json(line)
    except WireError as error:
        return error


def _check_object(item: Any) -> Mapping[str, Any]:
    if isinstance(item, WireError):
        raise InvalidItem(None, str(item))
    if not isinstance(item, dict):
        raise InvalidItem(None, f"{_show(item)}: expected an object")
    return item


def _check_address(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidItem(field, f"{field}: {_show(value)}: expected a mail address")
    try:
        return parse_mailbox(value).address
    except InvalidAddress as error:
        raise InvalidItem(field, f"{field}: {_show(value)}: {error}") from None


def _decode(mime64: Any) -> bytes:
    try:
        content = base64.b64decode(mime64, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidItem("mime64", f"mime64: {_show(mime64)}: expected the message in base64") from None
    if not content:
        raise InvalidItem("mime64", "mime64: expected a message, not nothing")
    return content


def _show(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:80]


def count_recipients(submissions: Iterable[Submission]) -> int:
    """How many messages the submissions make."""
    return sum(len(submission.recipients) for submission in submissions)
