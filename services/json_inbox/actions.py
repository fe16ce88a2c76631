"""Actions, from the queue ``actions`` and from ``POST /v1/actions``: send a mail, redrive what is parked."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.json_inbox.inbox import Inbox
from services.json_inbox.intake import Door, InvalidItem, submit
from shared.acceptance import PayloadStore, Submission, prepare
from shared.amqp.frame import Frame
from shared.log import get_logger
from shared.mail.address import InvalidAddress, parse_mailbox
from shared.mail.structured import StructuredMailError, ion_to_structured, render_mail
from shared.wire.document import parse_document
from shared.wire.publication import EVENT, Publication, Step

log = get_logger()

CHANNEL = "actions"
ACTIONS = ("send", "redrive")


@dataclass(frozen=True, slots=True)
class Redrive:
    """``{"action": "redrive"}``: put what is parked in ``dead`` back where it was."""

    limit: int | None
    """At most so many; None: all that are there now."""
    reason: str | None
    """Only messages whose reason contains this text."""
    dry_run: bool


RunRedrive = Callable[[Redrive], Awaitable[int]]
"""Redrives and returns how many messages went back. Raises Unavailable."""


class Actions:
    """The handler of the queue ``actions``."""

    def __init__(self, inbox: Inbox, store: PayloadStore, run_redrive: RunRedrive) -> None:
        self._inbox = inbox
        self._store = store
        self._run_redrive = run_redrive

    async def handle(self, frame: Frame) -> Step:
        """Do what one action says. Raises BadMessage (parked with the reason) or Unavailable."""
        door = self._inbox.open_door("", channel=CHANNEL)
        action = self.parse(parse_document(frame.body, frame.encoding), door)
        if isinstance(action, Redrive):
            await self.redrive(action)
            return Step()
        return await self._send(action)

    def parse(self, document: Mapping[str, Any], door: Door) -> Submission | Redrive:
        """The action in ``document``; ``door``: where its mail comes in. Raises InvalidItem that names the property."""
        name = document.get("action")
        if name == "redrive":
            return parse_redrive(document)
        if name == "send":
            return self._parse_send(document, door)
        shown = "missing" if name is None else repr(str(name)[:80])
        raise _invalid("action", f"{shown}; expected one of {', '.join(ACTIONS)}")

    async def redrive(self, action: Redrive) -> int:
        """How many messages went back. Raises Unavailable."""
        count = await self._run_redrive(action)
        log.info("redriven", messages=count, dry_run=action.dry_run, reason=action.reason)
        return count

    def _parse_send(self, document: Mapping[str, Any], door: Door) -> Submission:
        sender = self._inbox.settings.actions_sender
        if not sender:
            raise _invalid("action", "send: refused, because the setting actions-sender is not set")
        recipient = document.get("recipient")
        try:
            address = parse_mailbox(recipient if isinstance(recipient, str) else "").address
        except InvalidAddress as error:
            raise _invalid("recipient", f"{str(recipient)[:80]!r}: {error}") from None
        try:
            mail = ion_to_structured(document, sender)
            content = render_mail(mail, now=door.now, message_id_domain=door.hostname, ident=door.name(0))
        except StructuredMailError as error:
            raise InvalidItem(str(error).partition(":")[0], str(error)) from None
        return submit(content, sender, [address], {}, door)

    async def _send(self, submission: Submission) -> Step:
        """Store the content if it is large; what to publish."""
        settings = self._inbox.settings
        prepared = prepare(submission, datetime.now(UTC), settings.inbox_threshold, settings.rabbitmq_inbox)
        if prepared.key is not None:
            await self._store.store(prepared.key, prepared.content)
        publications = []
        for ready in prepared.mails:
            publications.append(Publication(ready.key, ready.mail))
            publications.append(Publication(settings.rabbitmq_record, ready.record, headers={EVENT: "accepted"}))
        return Step(tuple(publications))


def parse_redrive(document: Mapping[str, Any]) -> Redrive:
    """The options of a redrive. Raises InvalidItem."""
    limit, reason, dry_run = document.get("limit"), document.get("reason"), document.get("dry-run", False)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise _invalid("limit", f"{str(limit)[:80]!r}: expected a whole number from 1")
    if reason is not None and (not isinstance(reason, str) or not reason):
        raise _invalid("reason", f"{str(reason)[:80]!r}: expected a text that the reason must contain")
    if not isinstance(dry_run, bool):
        raise _invalid("dry-run", f"{str(dry_run)[:80]!r}: expected true or false")
    return Redrive(limit, reason, dry_run)


def _invalid(field: str, reason: str) -> InvalidItem:
    return InvalidItem(field, f"{field}: {reason}")
