"""Structured mail, the one place where ``mime`` as an object becomes a message (RFC 5322, MIME).

``from`` ``to`` ``cc`` ``bcc`` ``replyTo`` (string, ``{name, address}`` or a list), ``subject``, ``text``, ``content`` (HTML), ``headers``,
``attachments`` [``{data (base64), name, type, content-id}``]: one with a ``content-id`` is an image of the HTML, which shows it by
``<img src="cid:…">`` (RFC 2392), and travels with it (``multipart/related``, RFC 2387). Refused with a clear error, as not built yet:
responsive layouts (``content`` as ``{"blocks": …}``) and attachments by ``url``.
"""

import base64
import binascii
import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from email.header import Header
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

from shared.mail.address import InvalidAddress, Mailbox, domain_to_ascii, parse_mailbox
from shared.mail.html_text import render_text

_IDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}", re.ASCII)
PROPERTIES = frozenset(["from", "to", "cc", "bcc", "replyTo", "subject", "text", "content", "headers", "attachments"])
"""What a structured mail may hold."""
MAX_ADDRESSES = 1000
MAX_HEADERS = 200
MAX_VALUE = 16 * 1024
"""Characters of one header value, the subject included."""

_POLICY = SMTP.clone(cte_type="7bit")  # no 8BITMIME is asked of any hop
_LINE = 78
_MAX_LINE = 998
_NAME = re.compile(r"[!-9;-~]{1,76}")
_TYPE = re.compile(r"([\w!#$&^.+-]{1,127})/([\w!#$&^.+-]{1,127})(?:;\s*charset=\"?([\w.:+-]{1,40})\"?)?", re.ASCII)
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,150}(?:@[A-Za-z0-9.-]{1,100})?", re.ASCII)
_ATTACHMENT = ("data", "name", "type", "content-id")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_NAMED = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*+)"|([^"<>,]*?))\s*<([^<>]+)>\s*', re.DOTALL)
_LIST_ITEM = re.compile(r'(?:[^",<]|"(?:[^"\\]|\\.)*+"|<(?:[^<>"]|"(?:[^"\\]|\\.)*+")*+>)++(?=,|\Z)', re.DOTALL)
# Fields that have a property of their own, and those that MIME needs for itself.
_RESERVED = {"from": "from", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "replyTo", "subject": "subject"}


class StructuredMailError(ValueError):
    """The structured mail cannot become a message; the text names the property, its value and what was expected."""


def render_mail(mail: Mapping[str, Any], *, now: datetime, message_id_domain: str, ident: str | None = None) -> bytes:
    """The whole message with CRLF line ends, in 7 bits (but for addresses that are not ASCII left of the @, RFC 6532).

    Date and Message-ID are added unless ``headers`` has them. Bcc never shows. ``ident`` stands in Message-ID and boundaries: the
    same mail with the same ``now`` and ``ident`` is the same bytes each time. Raises StructuredMailError.
    """
    ident = ident if ident and _IDENT.fullmatch(ident) else str(uuid4())
    unknown = sorted(set(mail) - PROPERTIES)
    if unknown:
        raise StructuredMailError(
            f"mime.{unknown[0][:40]}: not a property of structured mail; expected {', '.join(sorted(PROPERTIES))}"
        )
    fields = list(_render_fields(mail))
    present = {name.lower() for name, _ in fields}
    if "date" not in present:
        fields.append(("Date", format_datetime(now)))
    if "message-id" not in present:
        fields.append(("Message-ID", f"<{ident}@{message_id_domain}>"))
    header = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
    return header + _render_body(mail, ident)


def ion_to_structured(action: Mapping[str, Any], sender: str) -> dict[str, Any]:
    """ion's ``{"action":"send","recipient","subject","body_text","body_html"}`` as a structured mail from ``sender``.

    The reverse-path is ``sender`` too, RCPT TO is ``recipient``: the caller's part. Raises StructuredMailError.
    """
    if action.get("action") != "send":
        raise StructuredMailError(f"action: {_shown(action.get('action'))}: expected send")
    if not sender:
        raise StructuredMailError("actions-sender is not set: there is no From for mail of the actions queue")
    for name in ("recipient", "subject", "body_text", "body_html"):
        if action.get(name) is not None and not isinstance(action[name], str):
            raise StructuredMailError(f"{name}: {_shown(action[name])}: expected a string")
    recipient = action.get("recipient")
    if not recipient:
        raise StructuredMailError("recipient: missing; expected an address")
    if not action.get("body_text") and not action.get("body_html"):
        raise StructuredMailError("body_text and body_html: both are missing")
    mail = {"from": sender, "to": {"address": _mailbox(recipient, "recipient").address}, "subject": action.get("subject") or ""}
    bodies = {"text": action.get("body_text"), "content": action.get("body_html")}
    return mail | {name: value for name, value in bodies.items() if value}


def _render_fields(mail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    authors = _parse_people(mail.get("from"), "from")
    if len(authors) != 1:
        raise StructuredMailError(f"mime.from: {_shown(mail.get('from'))}: expected one address")
    yield "From", _render_people(authors)
    for name, field in (("to", "To"), ("cc", "Cc"), ("replyTo", "Reply-To")):
        people = _parse_people(mail.get(name), name)
        if people:
            yield field, _render_people(people)
    _parse_people(mail.get("bcc"), "bcc")
    subject = mail.get("subject")
    if subject is not None:
        yield "Subject", _render_value("Subject", _text(subject, "subject"))
    yield from _render_headers(mail.get("headers"))


def _render_headers(headers: Any) -> Iterator[tuple[str, str]]:
    if headers is None:
        return
    if not isinstance(headers, Mapping) or len(headers) > MAX_HEADERS:
        raise StructuredMailError(f"mime.headers: {_shown(headers)}: expected an object of at most {MAX_HEADERS} names")
    for name, given in headers.items():
        where = f"headers.{name[:40]}"
        if not _NAME.fullmatch(name):
            raise StructuredMailError(f"mime.headers: {_shown(name)}: not the name of a header field")
        lower = name.lower()
        if lower in _RESERVED:
            raise StructuredMailError(f"mime.{where}: give it as the property {_RESERVED[lower]}")
        if lower.startswith("content-") or lower == "mime-version":
            raise StructuredMailError(f"mime.{where}: the conversion to MIME writes this header itself")
        for value in given if isinstance(given, list) else [given]:
            yield name, _render_value(name, _text(value, where))


def _render_value(name: str, value: str) -> str:
    """The value folded; what is not ASCII, or has a word too long for a line, becomes encoded words (RFC 2047)."""
    limit = _MAX_LINE - len(name) - 2
    if not value.isascii() or any(len(word) > limit for word in value.split(" ")):
        return Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
    return _fold(value.split(" "), len(name) + 2)


def _fold(words: Sequence[str], start: int) -> str:
    """Words joined by spaces, lines of 78 where that goes. Never a line of white space alone."""
    lines = [words[0]]
    length = start + len(words[0])
    for word in words[1:]:
        if length + 1 + len(word) > _LINE and word.strip() and lines[-1].strip():
            lines.append(word)
            length = 1 + len(word)
        else:
            lines[-1] += " " + word
            length += 1 + len(word)
    return "\r\n ".join(lines)


def _parse_people(given: Any, where: str) -> list[tuple[str, Mailbox]]:
    """(display name, mailbox) of a string, ``{name, address}``, or a list of either."""
    people: list[tuple[str, Mailbox]] = []
    if given is None:
        return people
    for number, item in enumerate(given if isinstance(given, list) else [given]):
        place = f"{where}[{number}]" if isinstance(given, list) else where
        if isinstance(item, str):
            people += _parse_list(item, place)
        elif isinstance(item, Mapping) and set(item) <= {"name", "address"}:
            name = _text(item.get("name") or "", f"{place}.name")
            people.append((name, _mailbox(item.get("address"), f"mime.{place}.address")))
        else:
            raise StructuredMailError(f"mime.{place}: {_shown(item)}: expected a string, or an object with name and address")
    if len(people) > MAX_ADDRESSES:
        raise StructuredMailError(f"mime.{where}: more than {MAX_ADDRESSES} addresses")
    return people


def _parse_list(text: str, where: str) -> Iterator[tuple[str, Mailbox]]:
    """``Jane Doe <jane@example.org>, joe@example.org``."""
    _text(text, where)
    place = 0
    while place <= len(text):
        item = _LIST_ITEM.match(text, place)
        if item is None:
            raise StructuredMailError(f"mime.{where}: {_shown(text)}: expected addresses such as Jane Doe <jane@example.org>")
        place = item.end() + 1
        piece = item[0].strip(" \t")
        named = _NAMED.fullmatch(piece)
        if named is None:
            yield "", _mailbox(piece, f"mime.{where}")
        else:
            quoted, plain, address = named.groups()
            yield re.sub(r"\\(.)", r"\1", quoted) if quoted else (plain or ""), _mailbox(address, f"mime.{where}")


def _mailbox(given: Any, where: str) -> Mailbox:
    if not isinstance(given, str):
        raise StructuredMailError(f"{where}: {_shown(given)}: expected an address")
    try:
        return parse_mailbox(given.strip(" "))
    except InvalidAddress as error:
        raise StructuredMailError(f"{where}: {error}") from None


def _render_people(people: Sequence[tuple[str, Mailbox]]) -> str:
    rendered = []
    for name, mailbox in people:
        # A domain has a form that every hop understands; a local part beyond ASCII has none.
        domain = mailbox.domain if mailbox.domain.isascii() else domain_to_ascii(mailbox.domain)
        address = f"{mailbox.local}@{domain}"
        rendered.append(f"{_render_phrase(name)} <{address}>" if name else address)
    return ",\r\n ".join(rendered)


def _render_phrase(name: str) -> str:
    if not name.isascii() or "=?" in name or len(name) > 60:
        return Header(name, "utf-8", maxlinelen=70).encode(linesep="\r\n")
    if _ATOMS.fullmatch(name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _render_body(mail: Mapping[str, Any], ident: str) -> bytes:
    """The MIME headers, the empty line and the body."""
    body = EmailMessage(policy=_POLICY)
    text, html = mail.get("text"), mail.get("content")
    if isinstance(html, Mapping):
        raise StructuredMailError("mime.content: responsive layouts (blocks) are not built yet; expected a string of HTML")
    for value, name in ((text, "text"), (html, "content")):
        if value is not None:
            _body_text(value, name)
    if html is None:
        body.set_content(text or "")
    else:
        body.set_content(render_text(html) if text is None else text)
        body.add_alternative(html, subtype="html")
    attachments = mail.get("attachments")
    if attachments is not None and not isinstance(attachments, list):
        raise StructuredMailError(f"mime.attachments: {_shown(attachments)}: expected a list")
    _attach_all(body, attachments or [], has_html=html is not None)
    for number, part in enumerate(part for part in body.walk() if part.is_multipart()):
        part.set_boundary(f"=_{number}_{ident}")
    return bytes(body.as_bytes())


def _attach_all(body: EmailMessage, attachments: Sequence[Any], *, has_html: bool) -> None:
    shown: set[str] = set()
    files = []
    for number, attachment in enumerate(attachments):
        where = f"attachments[{number}]"
        ident = _content_id(attachment, where)
        if ident is None:
            files.append((attachment, where))
            continue
        if not has_html:
            raise StructuredMailError(f"mime.{where}.content-id: there is no HTML (content) that could show it")
        if ident in shown:
            raise StructuredMailError(f"mime.{where}.content-id: {_shown(ident)}: another attachment has it")
        shown.add(ident)
        _, page = body.iter_parts()
        _attach(page, attachment, where, cid=f"<{ident}>")
        page.set_param("type", "text/html")
    # First what belongs to the HTML: with the first file the whole body becomes one part among others.
    for attachment, where in files:
        _attach(body, attachment, where)


def _content_id(attachment: Any, where: str) -> str | None:
    """The ``content-id`` of an attachment, without angle brackets; None when it has none."""
    if not isinstance(attachment, Mapping):
        raise StructuredMailError(f"mime.{where}: {_shown(attachment)}: expected an object with {', '.join(_ATTACHMENT)}")
    given = attachment.get("content-id")
    if given is None:
        return None
    ident = given.removeprefix("<").removesuffix(">") if isinstance(given, str) else ""
    if not _CONTENT_ID.fullmatch(ident):
        raise StructuredMailError(f"mime.{where}.content-id: {_shown(given)}: expected an id such as logo or logo@example.org")
    return ident


def _attach(body: MIMEPart, attachment: Mapping[str, Any], where: str, *, cid: str | None = None) -> None:
    """Attach a file, or with ``cid`` an image to the part that shows it."""
    unknown = sorted(set(attachment) - set(_ATTACHMENT))
    if "url" in attachment:
        raise StructuredMailError(f"mime.{where}.url: attachments by URL are not built yet; expected data (base64)")
    if unknown:
        raise StructuredMailError(
            f"mime.{where}.{unknown[0][:40]}: not a property of an attachment; expected {', '.join(_ATTACHMENT)}"
        )
    name = _text(attachment.get("name") or "", f"{where}.name")
    given = attachment.get("type") or mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = _TYPE.fullmatch(given) if isinstance(given, str) else None
    if kind is None:
        raise StructuredMailError(f"mime.{where}.type: {_shown(given)}: expected a media type such as application/pdf")
    main, sub, charset = kind.groups()
    if main.lower() in ("multipart", "message"):
        raise StructuredMailError(f"mime.{where}.type: {_shown(given)}: attached messages are not built yet")
    params = {"charset": charset} if charset else None
    data = _data(attachment.get("data"), where)
    if cid is None:
        body.add_attachment(data, maintype=main, subtype=sub, filename=name or None, params=params)
        return
    body.add_related(data, maintype=main, subtype=sub, filename=name or None, params=params, cid=cid, disposition="inline")


def _data(given: Any, where: str) -> bytes:
    if not isinstance(given, str) or not given.isascii():
        raise StructuredMailError(f"mime.{where}.data: {_shown(given)}: expected a base64 string")
    try:
        return base64.b64decode("".join(given.split()), validate=True)
    except binascii.Error as error:
        raise StructuredMailError(f"mime.{where}.data: not base64: {error}") from None


def _text(given: Any, where: str) -> str:
    """A string that can stand in a header: CR, LF and other control characters would let a value become another header."""
    if not isinstance(given, str) or len(given) > MAX_VALUE:
        raise StructuredMailError(f"mime.{where}: {_shown(given)}: expected a string of at most {MAX_VALUE} characters")
    bad = _CONTROL.search(given)
    if bad:
        raise StructuredMailError(
            f"mime.{where}: {_shown(given)}: control character U+{ord(bad[0]):04X}; a header value is one line"
        )
    return given


def _body_text(given: Any, where: str) -> None:
    if not isinstance(given, str):
        raise StructuredMailError(f"mime.{where}: {_shown(given)}: expected a string")
    bad = re.search("[\0\ud800-\udfff]", given)
    if bad:
        raise StructuredMailError(f"mime.{where}: character U+{ord(bad[0]):04X} cannot be mailed")


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = ascii(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:80] + "…"
