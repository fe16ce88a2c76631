"""The report of what became of a mail for one recipient: ``multipart/report`` (RFC 6522) with ``message/delivery-status`` (RFC 3464).

Everything in it that others wrote (the words of a peer, addresses, the mail itself) is hostile text: cleaned and folded where it
stands in a field, in a part of its own where it is content. The same report is always the same bytes.

All of it is 7-bit ASCII, so that it passes every host, but for two cases. A full mail in 8 bits is returned as it is: encoding is
not allowed there (RFC 2046 5.2.1). And to a sender whose own address is not ASCII, who can be reached over SMTPUTF8 only, the global
types of RFC 6533 are sent.
"""

import binascii
import hashlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import StrEnum

from shared.mail.dsn import DsnRequest, encode_utf8_address
from shared.mail.headers import cut_section, parse_header_section

MOST_RETURNED = 1024 * 1024
"""Octets of a mail that is returned in full; of a larger one the header section is."""
MOST_HEADERS = 64 * 1024
"""Octets of a header section that is returned."""
MAX_LINE = 998
"""Octets of a line without its CRLF (RFC 5322 2.1.1)."""

_WIDTH = 76
_MAX_TEXT = 1024
_MOST_OF_FIELD = 900
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]{1,120}@[!-;=?A-~]{1,120}>")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.:\[\]_-]")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_TELLING = (b"subject", b"thread-topic", b"comments", b"keywords", b"content-description")
"""Fields of a sealed mail that say what it is about."""


class Action(StrEnum):
    """What became of the mail (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"
    """Handed to a host that does not promise any notification."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is told, about one recipient."""

    ident: str
    """Of the report: its Message-ID is ``<ident@hostname>``."""
    action: Action
    hostname: str
    """Ours."""
    time: datetime
    """Of the attempt that it is about."""
    arrival: datetime
    """When the mail came to us."""
    reverse_path: str
    """Who is told; a valid address."""
    recipient: str
    """As the mail had it, which may be no address at all."""
    code: int | None = None
    status: str | None = None
    description: str | None = None
    is_quoted: bool = False
    """Code and description are the words of the remote host, not ours."""
    remote_name: str | None = None
    remote_ip: str | None = None
    retry_until: datetime | None = None
    request: DsnRequest | None = None
    returns_all: bool = False
    """The mail is returned, not only its header section."""
    is_sealed: bool = False
    """It must not travel in clear text: of its header section nothing is returned that says what it is about."""

    @property
    def is_global(self) -> bool:
        """It travels over SMTPUTF8."""
        return not self.reverse_path.isascii()


@dataclass(frozen=True, slots=True)
class _Part:
    kind: str
    body: bytes
    encoding: str = "7bit"

    def render(self) -> bytes:
        head = f"Content-Type: {self.kind}\r\nContent-Transfer-Encoding: {self.encoding}\r\n\r\n"
        # The last CRLF belongs to the boundary that follows (RFC 2046 5.1.1).
        return head.encode() + self.body + b"\r\n"


def render_report(report: Report, content: bytes | None) -> bytes:
    """The report as a mail with CRLF line ends. ``content``: of the mail that it is about, None when it is gone."""
    parts = [_render_words(report), _render_machine_part(report)]
    original = None if content is None else _render_original(report, content)
    if original is not None:
        parts.append(original)
    rendered = [part.render() for part in parts]
    boundary = _find_boundary(report.ident, rendered)
    head = "".join(_render_header(report, boundary, parts, _find_message_id(content))).encode()
    body = b"".join(b"--%b\r\n%b" % (boundary.encode(), part) for part in rendered)
    return b"%b\r\n%b--%b--\r\n" % (head, body, boundary.encode())


def _render_header(report: Report, boundary: str, parts: Sequence[_Part], about: str | None) -> Iterator[str]:
    host = _name(report.hostname)
    subject = {
        Action.FAILED: "Undelivered mail: it could not be delivered",
        Action.DELAYED: "Delayed mail: it is still being tried",
        Action.RELAYED: "Mail handed on: no confirmation will follow",
    }[report.action]
    yield f"From: Mail Delivery System <MAILER-DAEMON@{host}>\r\n"
    yield f"To: <{report.reverse_path}>\r\n"
    yield f"Subject: {subject}\r\n"
    yield f"Date: {format_datetime(report.time)}\r\n"
    yield f"Message-ID: <{report.ident}@{host}>\r\n"
    if about is not None:
        yield f"In-Reply-To: {about}\r\nReferences: {about}\r\n"
    yield "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
    yield f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n'
    yield f"Content-Transfer-Encoding: {'8bit' if any(part.encoding == '8bit' for part in parts) else '7bit'}\r\n"


def _find_boundary(ident: str, parts: Sequence[bytes]) -> str:
    """Derived from the id, and in none of the parts: a mail cannot end the part that it is returned in."""
    number = 0
    while True:
        boundary = "=_" + hashlib.sha256(f"{ident}:{number}".encode()).hexdigest()[:40]
        if not any(boundary.encode() in part for part in parts):
            return boundary
        number += 1


def _find_message_id(content: bytes | None) -> str | None:
    """The Message-ID of the mail, when it is one (RFC 5322 3.6.4)."""
    if content is None:
        return None
    found = [value for name, value in parse_header_section(content) if name.lower() == "message-id"]
    return found[0] if len(found) == 1 and _MESSAGE_ID.fullmatch(found[0]) else None


# --- for people

_ADVICE = {  # by the subject of the status (RFC 3463 3)
    "1": "Please check the address for mistakes. If it is right, ask the recipient for the current one in another way.",
    "2": "The mailbox takes no mail at present, or not this one. Please reach the recipient in another way, and try again later.",
    "3": "The mail may be too large, or of a kind that the host does not take. Please send it again smaller, or in another way.",
    "4": "The mail did not find its way in time. Please try again later, and tell the postmaster of the domain if it happens again.",
    "6": "The host cannot take a mail of this kind. Please send it again in another form, for example as plain text.",
    "7": "The mail was refused by a rule. Please pass this report to your own mail administrators, or to the recipient's.",
}


def _render_words(report: Report) -> _Part:
    recipient = _clean(report.recipient, 320) or "(none was given)"
    told = {
        Action.FAILED: "Your mail could not be delivered to this recipient, and will not be tried again:",
        Action.DELAYED: "Your mail could not yet be delivered to this recipient. It is still being tried:",
        Action.RELAYED: "Your mail was handed to the next host for this recipient:",
    }[report.action]
    paragraphs = [f"This is the mail system at {_name(report.hostname)}.", told, f"    <{recipient}>"]
    paragraphs += _render_reason(report)
    paragraphs.append(_advise(report))
    paragraphs.append("The following parts tell the same to programs, and show which mail it was about.")
    text = "\r\n\r\n".join(paragraphs) + "\r\n"
    if text.isascii():
        return _Part("text/plain; charset=us-ascii", text.encode())
    return _Part("text/plain; charset=utf-8", _quote(text.encode()), "quoted-printable")


def _render_reason(report: Report) -> Iterator[str]:
    said = " ".join(word for word in (str(report.code or ""), _clean(report.description)) if word)
    host = _render_host(report)
    if said:
        yield f"The host {host} answered:" if report.is_quoted and host else "The reason:"
        yield textwrap.fill(said, _WIDTH, initial_indent="    ", subsequent_indent="    ").replace("\n", "\r\n")
    elif host:
        yield f"The host was {host}."


def _render_host(report: Report) -> str:
    address = f"[{_name(report.remote_ip)}]" if report.remote_ip else ""
    return " ".join(word for word in (_name(report.remote_name) if report.remote_name else "", address) if word)


def _advise(report: Report) -> str:
    if report.action is Action.RELAYED:
        return _wrap("That host does not confirm deliveries: you may hear nothing more, also when the mail arrives.")
    if report.action is Action.DELAYED:
        until = f" until {format_datetime(report.retry_until)}" if report.retry_until else ""
        return _wrap(f"You need not do anything: it will be tried again{until}. You will be told if that fails.")
    general = "If it is not clear what went wrong, please pass this report to your mail administrators."
    return _wrap(_ADVICE.get(_find_status(report)[2], general))


def _wrap(text: str) -> str:
    return textwrap.fill(text, _WIDTH).replace("\n", "\r\n")


# --- for programs


def _render_machine_part(report: Report) -> _Part:
    request = report.request or DsnRequest()
    about_mail = [
        ("Reporting-MTA", f"dns; {_name(report.hostname)}"),
        ("Original-Envelope-Id", request.envelope_id),
        ("Arrival-Date", format_datetime(report.arrival)),
    ]
    about_recipient = [
        ("Original-Recipient", _type_original(request.original_recipient, report)),
        ("Final-Recipient", _type_address(_clean(report.recipient, 320) or "unknown", report)),
        ("Action", str(report.action)),
        ("Status", _find_status(report)),
        ("Remote-MTA", _type_host(report)),
        ("Diagnostic-Code", _render_diagnostic(report)),
        ("Last-Attempt-Date", format_datetime(report.time)),
        ("Will-Retry-Until", format_datetime(report.retry_until) if report.retry_until else None),
    ]
    blocks = ["".join(_field(name, value) for name, value in block if value) for block in (about_mail, about_recipient)]
    body = "\r\n".join(blocks).encode()
    if report.is_global:
        return _Part("message/global-delivery-status", body, "7bit" if body.isascii() else "8bit")
    return _Part("message/delivery-status", body)


def _find_status(report: Report) -> str:
    """The enhanced status (RFC 3463), of the class that the action has."""
    given = report.status if report.status and _STATUS.fullmatch(report.status) else None
    match report.action:
        case Action.RELAYED:
            return "2" + given[1:] if given else "2.0.0"
        case Action.DELAYED:
            return "4" + given[1:] if given else "4.0.0"
        case _:
            return given if given and given[0] != "2" else "5.0.0"


def _render_diagnostic(report: Report) -> str | None:
    words = _clean(report.description)
    if not words and report.code is None:
        return None
    text = _ascii(words, report)
    return f"smtp; {report.code} {text}".rstrip() if report.is_quoted else f"x-mailwarren; {text}"


def _type_host(report: Report) -> str | None:
    if report.remote_name:
        return f"dns; {_name(report.remote_name)}"
    return f"dns; [{_name(report.remote_ip)}]" if report.remote_ip else None


def _type_original(original: str | None, report: Report) -> str | None:
    if original is None:
        return None
    kind, _, address = original.partition(";")
    return f"{kind}; {address if address.isascii() or report.is_global else encode_utf8_address(address)}"


def _type_address(address: str, report: Report) -> str:
    """With its type (RFC 3464 2.3.2, RFC 6533 3)."""
    if address.isascii():
        return f"rfc822; {address}"
    return f"utf-8; {address if report.is_global else encode_utf8_address(address)}"


def _field(name: str, value: str) -> str:
    """One line where every space counts (ids, addresses: they are short enough); the diagnostic text is folded."""
    if name != "Diagnostic-Code":
        return f"{name}: {value[:_MOST_OF_FIELD]}\r\n"
    return f"{name}: " + "\r\n ".join(textwrap.wrap(value, _WIDTH - len(name), break_on_hyphens=False)) + "\r\n"


def _ascii(text: str, report: Report) -> str:
    """Where only ASCII may stand, as RFC 6533 writes other characters."""
    return text if report.is_global else "".join(char if char.isascii() else f"\\x{{{ord(char):02X}}}" for char in text)


def _clean(text: str | None, limit: int = _MAX_TEXT) -> str:
    """One line of printable characters."""
    kept = "".join(" " if char.isspace() else char for char in (text or "")[: 4 * limit] if char.isprintable() or char.isspace())
    return " ".join(kept.split())[:limit]


def _name(text: str) -> str:
    """A host name or address, whatever its owner calls itself."""
    return _NOT_IN_NAMES.sub("", text)[:255] or "unknown"


# --- the mail itself


def _render_original(report: Report, content: bytes) -> _Part | None:
    section = _cut_fields(content, without=_TELLING if report.is_sealed else ())
    if not section:
        return None
    if report.returns_all and not report.is_sealed and len(content) <= MOST_RETURNED and _is_sendable(content):
        encoding = "7bit" if content.isascii() else "8bit"
        if cut_section(content).isascii():
            return _Part("message/rfc822", content, encoding)
        if report.is_global and _is_utf8(cut_section(content)):
            return _Part("message/global", content, encoding)
    if report.is_global and _is_sendable(section) and _is_utf8(section):
        return _Part("message/global-headers", section, "7bit" if section.isascii() else "8bit")
    if section.isascii() and _is_sendable(section):
        return _Part("text/rfc822-headers; charset=us-ascii", section)
    charset = "utf-8" if _is_utf8(section) else "iso-8859-1"
    return _Part(f"text/rfc822-headers; charset={charset}", _quote(section), "quoted-printable")


def _cut_fields(content: bytes, *, without: Sequence[bytes]) -> bytes:
    """The header fields at the top, and nothing that is none: content without an empty line must not come back as its header."""
    kept: list[bytes] = []
    size = 0
    is_kept = False
    for number, line in enumerate(cut_section(content).removesuffix(b"\r").split(b"\r\n")):
        if number == 0 and line.startswith(b"From "):
            continue  # an mbox line
        if line[:1] in (b" ", b"\t") and number:
            pass  # goes with its field
        elif _FIELD.match(line):
            is_kept = line.partition(b":")[0].rstrip(b" \t").lower() not in without
        else:
            break
        if is_kept:
            size += len(line) + 2
            if size > MOST_HEADERS:
                break
            kept += (line, b"\r\n")
    return b"".join(kept)


def _is_sendable(content: bytes) -> bool:
    """No NUL, no line end alone, no line that is too long for SMTP."""
    if b"\0" in content:
        return False
    lines = content.split(b"\r\n")
    return all(len(line) <= MAX_LINE and b"\r" not in line and b"\n" not in line for line in lines)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _quote(text: bytes) -> bytes:
    """Quoted-printable (RFC 2045 6.7), the line ends kept."""
    lines = [binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in text.split(b"\r\n")]
    return b"\r\n".join(lines)
