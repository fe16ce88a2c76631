"""Is a mail a report that a machine wrote for a machine, and which? Pure, and bounded: only the beginning of a mail is looked at.

What counts is how the mail as a whole is built. A person who forwards a bounce attaches the report or quotes it, and a vacation
reply is plain text: neither is a report.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.mail.headers import cut_section, decode_words, parse_header_section

LOOKED_AT = 64 * 1024
"""Octets behind the header section in which the parts of a mail are looked for."""
MAX_PARTS = 20
MAX_VALUE = 4096
"""Characters of a Content-Type that are read."""


class Report(StrEnum):
    """The kinds of reports."""

    DSN = "dsn"
    """Delivery status notification, a bounce or a receipt (RFC 3464, RFC 6533)."""
    MDN = "mdn"
    """Message disposition notification, a read receipt (RFC 8098)."""
    ARF = "arf"
    """Feedback report, a complaint (RFC 5965, RFC 6591)."""
    TLS = "tls"
    """SMTP TLS report (RFC 8460)."""
    DMARC = "dmarc"
    """DMARC aggregate report (RFC 7489 7.2.1.1)."""


_BY_REPORT_TYPE = {
    "delivery-status": Report.DSN,
    "disposition-notification": Report.MDN,
    "feedback-report": Report.ARF,
    "tlsrpt": Report.TLS,
}
"""Parameter ``report-type`` of multipart/report (RFC 6522)."""
_BY_PART = {
    "message/delivery-status": Report.DSN,
    "message/global-delivery-status": Report.DSN,
    "message/disposition-notification": Report.MDN,
    "message/global-disposition-notification": Report.MDN,
    "message/feedback-report": Report.ARF,
    "application/tlsrpt+gzip": Report.TLS,
    "application/tlsrpt+json": Report.TLS,
}
_PACKED = frozenset(
    ["application/gzip", "application/x-gzip", "application/zip", "application/x-zip-compressed", "application/x-zip",
     "application/xml", "text/xml"]
)  # fmt: skip
_ENDINGS = (".xml", ".gz", ".zip")
# RFC 7489 7.2.1.1 gives the whole subject; some receivers put a tag before it.
_SUBJECT = re.compile(r"(?:\[[^\]]{0,40}\]\s*)?Report domain:\s*\S", re.IGNORECASE)
_PARAMETER = re.compile(r';\s*([!#$%&\'*+.^_`|~\w-]+)\s*=\s*("(?:[^"\\]|\\.)*+"|[^\s;"]++)', re.ASCII)
_DELIMITER = re.compile(rb"^--([^\r\n]{1,80})\r?\n", re.MULTILINE)
_COMMENT = re.compile(r"\([^()]*+\)")


def find_report(content: bytes) -> Report | None:
    """The kind of report that ``content`` is (its beginning will do), or None. Never raises."""
    fields = _fields(content)
    top = _read_part(fields)
    if top.kind == "multipart/report":
        named = _BY_REPORT_TYPE.get(top.parameters.get("report-type", "").lower())
        return named or next((_BY_PART[part.kind] for part in _parts(content, top) if part.kind in _BY_PART), None)
    if not _SUBJECT.match(decode_words(fields.get("subject", ""))):
        return None
    for part in (top, *_parts(content, top)):
        if _BY_PART.get(part.kind) is Report.TLS:
            return Report.TLS
        if part.kind in _PACKED or (part.kind == "application/octet-stream" and part.name.lower().endswith(_ENDINGS)):
            return Report.TLS if "tls-report-domain" in fields else Report.DMARC
    return None


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """(``type/subtype`` in lower case, parameters by lower-case name) of a Content-Type (RFC 2045 5.1), leniently; ("", {}) for none."""
    value = _COMMENT.sub("", value[:MAX_VALUE]) if "(" in value else value[:MAX_VALUE]
    kind = value.partition(";")[0].strip().lower()
    parameters: dict[str, str] = {}
    for name, text in _PARAMETER.findall(value):
        parameters.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text)
    return kind, parameters


@dataclass(frozen=True, slots=True)
class _Part:
    kind: str
    parameters: Mapping[str, str]
    name: str
    """Of its file."""


def _fields(content: bytes) -> dict[str, str]:
    """The first field of each name, in lower case."""
    fields: dict[str, str] = {}
    for name, value in parse_header_section(content):
        fields.setdefault(name.lower(), value)
    return fields


def _read_part(fields: Mapping[str, str]) -> _Part:
    kind, parameters = parse_content_type(fields.get("content-type", ""))
    _, disposition = parse_content_type(fields.get("content-disposition", ""))
    return _Part(kind, parameters, disposition.get("filename") or parameters.get("name", ""))


def _parts(content: bytes, top: _Part) -> Iterator[_Part]:
    """The parts of a multipart in order, those of nested multiparts too. A mail that is attached is one part."""
    section = len(cut_section(content))
    body = content[section : section + LOOKED_AT]
    boundaries = {top.parameters.get("boundary", "")} - {""}
    found = 0
    for line in _DELIMITER.finditer(body):
        if line[1].decode("latin-1").rstrip(" \t") not in boundaries:
            continue
        part = _read_part(_fields(body[line.end() : line.end() + MAX_VALUE]))
        yield part
        if part.kind.startswith("multipart/") and part.parameters.get("boundary"):
            boundaries.add(part.parameters["boundary"])
        found += 1
        if found == MAX_PARTS:
            return
