"""Mail addresses of the envelope: a strict parser for RFC 5321 4.1.2 paths, with RFC 6531's UTF-8.

An address is accepted or refused, never repaired: what is relayed is byte for byte what was given. Lenient parsers that
rewrite odd addresses are how two hops come to disagree about who gets a mail.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NoReturn

import idna

MAX_LOCAL = 64
"""Octets of a local part (RFC 5321 4.5.3.1.1)."""
MAX_DOMAIN = 255
"""Octets of a domain (RFC 5321 4.5.3.1.2), counted as it stands in the DNS."""
MAX_LABEL = 63
"""Octets of one label of a domain (RFC 1035 2.3.4)."""

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
# RFC 6531 3.3 allows every character beyond ASCII; C1 controls, line separators, surrogates and non-characters are left out:
# they break what reads us.
_WIDE = r"\u00a0-\u2027\u202a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@({_LABEL}(?:\.{_LABEL})*)")
_DOT_ATOM = re.compile(rf"[{_ATEXT}{_WIDE}]+(?:\.[{_ATEXT}{_WIDE}]+)*")
_QUOTED = re.compile(rf'"(?:[ !#-\[\]-~{_WIDE}]|\\[ -~])*+"')
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_SHOWN = 80


class InvalidAddress(ValueError):
    """Not an address that SMTP can carry; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """``local@domain``, exactly as it was given."""

    local: str
    """A dot-atom, or a quoted string with its quotes."""
    domain: str
    """A domain name (A-labels or U-labels) or an address literal in brackets.

    "" only for the bare ``postmaster`` of RFC 5321 4.1.1.3.
    """
    is_ascii: bool
    """False: the mail needs SMTPUTF8 on every hop (RFC 6531)."""

    @property
    def address(self) -> str:
        """The address byte for byte as it was given."""
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def is_literal(self) -> bool:
        """The domain is an address literal (``[192.0.2.1]``): there is nothing to look up."""
        return self.domain.startswith("[")

    def __str__(self) -> str:
        return self.address


@lru_cache(maxsize=4096)
def parse_mailbox(text: str) -> Mailbox:
    """``local@domain`` without angle brackets (RFC 5321 Mailbox, RFC 6531). Raises InvalidAddress."""
    plain = _PLAIN.fullmatch(text)
    if plain:
        local, domain = plain.groups()
        if len(local) <= MAX_LOCAL and len(domain) <= MAX_DOMAIN and not domain.rpartition(".")[2].isdecimal():
            return Mailbox(local, domain, True)
    return _parse_carefully(text)


def parse_reverse_path(text: str) -> Mailbox | None:
    """The argument of MAIL FROM with its brackets; None is the null reverse-path ``<>``. Raises InvalidAddress."""
    inner = _unbracket(text)
    return parse_mailbox(inner) if inner else None


def parse_path(text: str) -> Mailbox:
    """The argument of RCPT TO with its brackets; ``<Postmaster>`` needs no domain (RFC 5321 4.1.1.3). Raises InvalidAddress."""
    inner = _unbracket(text)
    if inner.lower() == "postmaster":
        return Mailbox(inner, "", True)
    return parse_mailbox(inner)


def split_path(argument: str) -> tuple[str, str]:
    """Part the argument of MAIL FROM or RCPT TO into (path with its brackets, ESMTP parameters after the space).

    A ``>`` or a space inside a quoted local part belongs to the path. Raises InvalidAddress.
    """
    if not argument.startswith("<"):
        _refuse("expected an address in angle brackets", argument)
    quoted = escaped = False
    for place, char in enumerate(argument):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            path, rest = argument[: place + 1], argument[place + 1 :]
            if rest and not rest.startswith(" "):
                _refuse("expected a space after the closing angle bracket", argument)
            return path, rest.strip(" ")
    _refuse("the angle bracket is not closed", argument)


def split(mailbox: Mailbox) -> dict[str, str]:
    """The form of ``extracted.envelope`` and ``extracted.recipient``: ``{"local": …, "domain": …}``."""
    return {"local": mailbox.local, "domain": mailbox.domain}


def domain_to_ascii(domain: str) -> str:
    """The domain as it stands in the DNS: lower case, U-labels as A-labels (IDNA 2008); an address literal stays as it is.

    Raises InvalidAddress.
    """
    if domain.startswith("["):
        _check_literal(domain)
        return domain
    if not domain:
        _refuse("the domain is missing", domain)
    name = domain.lower() if domain.isascii() else _to_a_labels(domain)
    _check_name(name, domain)
    return name


def _parse_carefully(text: str) -> Mailbox:
    """The whole grammar, with an explanation for what is refused."""
    if not text:
        _refuse("the address is empty", text)
    if len(text) > 4 * (MAX_LOCAL + MAX_DOMAIN):
        _refuse("the address is too long", text)
    control = _CONTROL.search(text)
    if control:
        _refuse(f"control or reserved character U+{ord(control[0]):04X}", text)
    local, domain = _part(text)
    if not local:
        _refuse("the local part is missing", text)
    if not (_DOT_ATOM.fullmatch(local) or _QUOTED.fullmatch(local)):
        _refuse(_explain_local(local), text)
    if len(local.encode()) > MAX_LOCAL:
        _refuse(f"the local part is longer than {MAX_LOCAL} octets", text)
    if domain.startswith("["):
        _check_literal(domain)
    else:
        domain_to_ascii(domain)
    return Mailbox(local, domain, text.isascii())


def _part(text: str) -> tuple[str, str]:
    """Local part and domain at the one @ that is not quoted."""
    if text.startswith("@"):
        _refuse("source routes are not accepted" if ":" in text else "the local part is missing", text)
    if not text.startswith('"'):
        local, at, domain = text.partition("@")
    else:
        quoted = _QUOTED.match(text)
        if not quoted:
            _refuse("the quoted local part is not closed or holds a character that needs a backslash", text)
        local, at, domain = quoted[0], text[quoted.end() : quoted.end() + 1], text[quoted.end() + 1 :]
        if at and at != "@":
            _refuse("expected @ after the quoted local part", text)
    if not at:
        _refuse("expected local-part@domain, there is no @", text)
    return local, domain


def _explain_local(local: str) -> str:
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return "a dot at the start, at the end or twice in a row of the local part (it would have to be quoted)"
    bad = re.search(rf"[^.{_ATEXT}{_WIDE}]", local)
    return f"character {bad[0]!r} in the local part (it would have to be quoted)" if bad else "the local part is malformed"


def _to_a_labels(domain: str) -> str:
    if re.search("[\u3002\uff0e\uff61]", domain):
        _refuse("a dot of another script in the domain", domain)
    if len(domain) > MAX_DOMAIN:
        _refuse(f"the domain is longer than {MAX_DOMAIN} octets", domain)
    try:
        # Case and composition are folded, nothing else: mapping more (UTS 46) would make one domain of two that look different.
        return idna.encode(unicodedata.normalize("NFC", domain.lower()), std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        # The library's sentence has the domain in it.
        _refuse(f"the domain is no internationalized domain name ({ascii(str(error))[1:-1]})", domain)


def _check_name(name: str, shown: str) -> None:
    """``name`` (ASCII) is a domain name by RFC 5321 4.1.2 and RFC 1035 2.3.4."""
    if len(name) > MAX_DOMAIN:
        _refuse(f"the domain is longer than {MAX_DOMAIN} octets", shown)
    labels = name.split(".")
    if labels[-1] == "" and len(labels) > 1:
        _refuse("a dot at the end of the domain", shown)
    if "" in labels:
        _refuse("an empty label in the domain", shown)
    if any(len(label) > MAX_LABEL for label in labels):
        _refuse(f"a label of the domain is longer than {MAX_LABEL} octets", shown)
    if "@" in name:
        _refuse("more than one @", shown)
    if not _DOMAIN.fullmatch(name):
        _refuse("the domain may hold letters, digits and hyphens only, a hyphen neither first nor last in a label", shown)
    if labels[-1].isdecimal():
        _refuse("the domain ends in a number (an IP address stands in brackets: [192.0.2.1])", shown)


def _check_literal(domain: str) -> None:
    """An address literal of RFC 5321 4.1.3: IPv4, or ``IPv6:`` and an IPv6 address without a zone."""
    inner = domain[1:-1]
    if not domain.endswith("]"):
        _refuse("the address literal is not closed", domain)
    try:
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:
                raise AddressValueError("zone")
            IPv6Address(inner[5:])
        else:
            IPv4Address(inner)
    except ValueError:
        _refuse("the address literal is neither [IPv4 address] nor [IPv6:IPv6 address]", domain)


def _unbracket(text: str) -> str:
    if len(text) < 2 or text[0] != "<" or text[-1] != ">":
        _refuse("expected an address in angle brackets", text)
    return text[1:-1]


def _refuse(why: str, text: str) -> NoReturn:
    shown = ascii(text[:_SHOWN] + ("…" if len(text) > _SHOWN else ""))
    raise InvalidAddress(f"{why}: {shown}")
