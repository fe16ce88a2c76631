"""The mail that ``send`` and ``rules test`` talk about: from options, a message file, or a JSON message."""

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.cli.given import read_bytes
from shared.mail.address import InvalidAddress, parse_mailbox
from shared.mail.headers import parse_addresses, parse_extract
from shared.mail.structured import StructuredMailError, render_mail
from shared.trouble import BadSetting
from shared.wire.document import WireError, parse_document
from shared.wire.message import render_inline_content

DEFAULT_SENDER = "test@localhost.localdomain"
"""Envelope sender of a test mail when nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail to be handed in."""

    reverse_path: str
    recipients: Sequence[str]
    content: bytes
    documents: Sequence[Mapping[str, Any]] | None = None
    """JSON messages as they were given; then the rest is empty."""

    @property
    def message_id(self) -> str:
        """The Message-ID header without its brackets; "" when there is none."""
        value = parse_extract(self.content)["headers"].get("message-id", "")
        return str(value[0] if isinstance(value, list) else value).strip("<> ")

    def to_submission(self) -> dict[str, Any]:
        """One message for all recipients, as the HTTP inbox takes it."""
        document: dict[str, Any] = {"envelope": self.reverse_path, "recipients": list(self.recipients)}
        return document | render_inline_content(self.content)

    def to_documents(self) -> list[Mapping[str, Any]]:
        """One message per recipient, as the exchange ``outbox`` takes it."""
        if self.documents is not None:
            return list(self.documents)
        common: dict[str, Any] = {"envelope": self.reverse_path, **render_inline_content(self.content)}
        if self.message_id:
            common["message-id"] = self.message_id
        return [{**common, "recipient": recipient} for recipient in self.recipients]


def read_draft(
    file: Path | None,
    reverse_path: str | None,
    recipients: Sequence[str],
    *,
    subject: str | None,
    text: str | None,
    html: str | None,
    now: datetime,
) -> Draft:
    """The mail that the options describe. Raises BadSetting that names what is wrong or missing."""
    described = subject is not None or text is not None or html is not None
    if file is not None and described:
        raise BadSetting("either FILE or --subject, --text, --html, not both")
    content, source = (b"", "") if file is None and (described or not _is_piped()) else read_bytes(file, "a message")
    if source and not (file is None and recipients and not content.strip()):
        if content.lstrip()[:1] in (b"{", b"[") or (file is not None and file.suffix == ".json"):
            if reverse_path is not None or recipients:
                raise BadSetting(f"{source}: a JSON message says itself from whom (envelope) and to whom (recipient)")
            return Draft("", (), b"", parse_documents(content, source))
        return _from_message(content, source, reverse_path, recipients)
    return _from_options(reverse_path, recipients, subject, text, html, now)


def parse_documents(content: bytes, source: str) -> list[Mapping[str, Any]]:
    """The JSON message in a file, or a list of them. Raises BadSetting."""
    try:
        if content.lstrip()[:1] == b"[":
            # Not orjson: it would turn a 20-digit number into a float before the strict parser sees it.
            return [parse_document(json.dumps(item).encode()) for item in json.loads(content)]
        return [parse_document(content)]
    except (WireError, ValueError) as error:
        raise BadSetting(f"{source}: {error}") from None


def _from_message(content: bytes, source: str, reverse_path: str | None, recipients: Sequence[str]) -> Draft:
    if not content.strip():
        raise BadSetting(f"{source} is empty: expected a message with headers, or a JSON message")
    extract = parse_extract(content)
    if not extract["headers"]:
        raise BadSetting(f"{source}: no header: expected a message such as 'Subject: Hi', an empty line, text")
    named = [*extract["to"], *parse_addresses(_values(extract["headers"].get("cc")))]
    found = list(recipients) or named
    if not found:
        raise BadSetting(f"{source}: nobody to send it to: give --to, the message has no To")
    sender = str(extract["from"]) if reverse_path is None else reverse_path
    lines = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return Draft(_check_sender(sender), [_check("--to", item) for item in found], lines)


def _from_options(
    reverse_path: str | None,
    recipients: Sequence[str],
    subject: str | None,
    text: str | None,
    html: str | None,
    now: datetime,
) -> Draft:
    if not recipients:
        raise BadSetting("--to is missing: who shall get the mail?")
    sender = _check_sender(DEFAULT_SENDER if reverse_path is None else reverse_path)
    mail: dict[str, Any] = {
        "from": sender or DEFAULT_SENDER,
        "to": [_check("--to", item) for item in recipients],
        "subject": "Test mail from mailwarren" if subject is None else subject,
        "text": text if text is not None or html is not None else f"This is a test mail, written {now:%Y-%m-%d %H:%M:%S} UTC.\n",
        "content": html,
    }
    given = {name: value for name, value in mail.items() if value is not None}
    try:
        content = render_mail(given, now=now, message_id_domain=(sender or DEFAULT_SENDER).rpartition("@")[2])
    except StructuredMailError as error:
        raise BadSetting(str(error)) from None
    return Draft(sender, list(recipients), content)


def _check_sender(text: str) -> str:
    return "" if text in ("", "<>") else _check("--from", text)


def _check(option: str, text: str) -> str:
    try:
        return parse_mailbox(text).address
    except InvalidAddress as error:
        raise BadSetting(f"{option} {text!r}: {error}") from None


def _values(value: Any) -> list[str]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _is_piped() -> bool:
    """A file or a pipe on standard input: not a terminal, nor the nothing that cron and services give."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)
