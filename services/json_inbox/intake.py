"""From the body of a request to mails: what is wrong with one is found here, before anything is stored or published. Pure."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4, uuid5

from shared.acceptance import Origin, Recipient, Submission
from shared.mail.address import InvalidAddress, parse_mailbox
from shared.mail.received import render_received
from shared.mail.structured import StructuredMailError, render_mail
from shared.storage.keys import InvalidKey, check_key
from shared.storage.tokens import SCOPES
from shared.trouble import BadMessage
from shared.wire.document import WireError, parse_json, render_document
from shared.wire.instructions import InvalidProperty, parse_instructions
from shared.wire.message import OURS, PAYLOAD, Message, render_inline_content

ENVELOPE = ("recipient", "recipients", *PAYLOAD)
"""Properties that become something else on the way in."""
ROUTE = ("smarthost", "queues", "ips", "key")
"""Properties that say where mail goes or what is read: they need the scope ``route``."""
WRITTEN_HERE = OURS | {"received", "hostname", "http", "connection"}
"""Properties that only our processes write: from a client they are dropped, and the mail starts a new life."""


class InvalidItem(BadMessage):
    """A message that cannot be accepted."""

    status = 422

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


class ForbiddenItem(InvalidItem):
    """A message that this token may not send."""

    status = 403


class TooLargeItem(InvalidItem):
    """A message that can neither be stored nor ride in a message of RabbitMQ."""

    status = 413


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message of a request that cannot be accepted."""

    index: int
    """Its place in the list or among the lines, from 0."""
    field: str | None
    reason: str
    status: int = 422

    def to_document(self) -> dict[str, Any]:
        """As it stands in ``errors``."""
        status = None if self.status == InvalidItem.status else self.status
        told = {"index": self.index, "field": self.field, "reason": self.reason, "status": status}
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
    token: str | None = None
    """Name of the token that the request carried."""
    scopes: frozenset[str] = frozenset(SCOPES)
    """What its sender may do."""
    key_prefix: str = ""
    """``client-key-prefix``: keys of the message store that a message may name; "" = none."""
    max_carried: int | None = None
    """Octets of a message of RabbitMQ, when content is never stored and must ride in it; None: what is too large is stored."""
    client: str = ""
    """By what its sender is known when the same request comes again: its token, else its address; "" = not at all."""
    digest: str = ""
    """Of the body of the request."""
    seed: UUID | None = None
    """Ids are derived from it, so that a request that is asked again makes the same mails; None: they are new."""

    def name(self, *place: int) -> str:
        """An id for what stands at this place of the request: the index of the message, the index of the recipient in it."""
        return str(uuid4() if self.seed is None else uuid5(self.seed, "/".join(map(str, place))))

    def name_origin(self, index: int) -> Origin | None:
        """By what the mail at ``index`` is known again: not its content alone, for a request may well send the same mail twice."""
        return Origin(self.client, f"{self.digest}/{index}") if self.client and self.digest else None


def digest_body(raw: bytes) -> str:
    """What makes two bodies the same."""
    return sha256(raw).hexdigest()


def parse_items(raw: bytes, *, by_line: bool) -> tuple[list[Any], bool]:
    """The items of a body, and whether it is a list (or lines). An item that is a WireError could not be read.

    Raises WireError when the body as a whole is not JSON.
    """
    if by_line:
        return [parse_line(line) for line in raw.split(b"\n") if line.strip()], True
    value = parse_json(raw)
    return (value, True) if isinstance(value, list) else ([value], False)


def parse_submission(item: Any, door: Door, index: int = 0) -> Submission:
    """The mail that ``item``, the one at ``index`` of its request, describes, with all its recipients. Raises InvalidItem."""
    document = _check_object(item)
    _check_route(document, door.scopes)
    recipients = parse_recipients(document)
    properties = {name: value for name, value in document.items() if name not in ENVELOPE and name not in WRITTEN_HERE}
    reverse_path = check_properties(properties, recipients[0], door.reserved)
    content = parse_content(document, door, index)
    return submit(content, reverse_path, recipients, properties, door, index, key=document.get("key") or "")


def submit(
    content: bytes,
    reverse_path: str,
    recipients: Sequence[str],
    properties: Mapping[str, Any],
    door: Door,
    index: int = 0,
    *,
    key: str = "",
) -> Submission:
    """A submission with the Received header that a gateway into Internet mail must prepend (RFC 5321 3.7.2).

    ``key``: the content lies in the message store under this key of the client, and nothing can be prepended.
    """
    received = b"" if key else _render_trace(recipients, door)
    _check_room(content, door.max_carried)
    return Submission(
        channel=door.channel,
        reverse_path=reverse_path,
        recipients=[Recipient(address, id=door.name(index, place)) for place, address in enumerate(recipients)],
        content=received + content,
        source={"http": {"token": door.token, "remote-ip": door.remote_ip}} if door.remote_ip else {},
        hostname=door.hostname,
        properties=properties,
        transaction=door.name(index),
        origin=door.name_origin(index),
        key=key,
    )


def _check_room(content: bytes, most: int | None) -> None:
    # In JSON an octet may become six.
    if most is None or len(content) * 6 <= most:
        return
    size = len(render_document(render_inline_content(content)))
    if size > most:
        raise TooLargeItem(
            "mime", f"mime: {len(content)} octets, in the message {size}: expected at most {most} in it (storage-max-message)"
        )


def _render_trace(recipients: Sequence[str], door: Door) -> bytes:
    return render_received(
        helo=None,
        remote_ip=door.remote_ip,
        by=door.hostname,
        ident=door.trace,
        now=door.now,
        protocol="HTTP" if door.remote_ip else "AMQP",
        recipient=recipients[0] if len(recipients) == 1 else None,
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


def parse_content(document: Mapping[str, Any], door: Door, index: int = 0) -> bytes:
    """The RFC 5322 message in ``mime`` (text or structured mail) or ``mime64``; empty when ``key`` says where it lies.

    Raises InvalidItem.
    """
    mime, mime64, key = (document.get(name) for name in PAYLOAD)
    given = [name for name in PAYLOAD if document.get(name) is not None]
    if len(given) > 1:
        raise InvalidItem(given[1], f"{given[1]}: expected one of mime, mime64 and key, not {given[0]} as well")
    if key is not None:
        _check_key(key, door.key_prefix)
        return b""
    if isinstance(mime, dict):
        try:
            return render_mail(mime, now=door.now, message_id_domain=door.hostname, ident=door.name(index))
        except StructuredMailError as error:
            raise InvalidItem(str(error).partition(":")[0], str(error)) from None
    if mime64 is not None:
        return _decode(mime64)
    if not isinstance(mime, str) or not mime:
        raise InvalidItem("mime", f"mime: {_show(mime)}: expected the message as a text (RFC 5322) or a structured mail")
    return mime.encode()


def _check_route(document: Mapping[str, Any], scopes: frozenset[str]) -> None:
    if "route" in scopes:
        return
    for name in ROUTE:
        if document.get(name) is not None:
            raise ForbiddenItem(name, f"{name}: the token needs the scope 'route' for it")


def _check_key(key: Any, prefix: str) -> None:
    if not prefix:
        raise InvalidItem("key", f"key: {_show(key)}: none is allowed here (client-key-prefix); give mime or mime64")
    try:
        is_one = isinstance(key, str) and key.startswith(prefix) and bool(check_key(key))
    except InvalidKey:
        is_one = False
    if not is_one:
        raise InvalidItem("key", f"key: {_show(key)}: expected a key of the message store that begins with {prefix!r}")


def parse_line(line: bytes) -> Any:
    """The value in a line, or the WireError that says why it cannot be read."""
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
