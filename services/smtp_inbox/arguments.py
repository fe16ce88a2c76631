"""The arguments of EHLO, MAIL, RCPT and BDAT, read strictly. Pure. What is wrong is a ``Refusal``: the reply to send."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.mail.address import InvalidAddress, Mailbox, parse_path, parse_reverse_path, split_path
from shared.mail.dsn import (
    MAX_ENVELOPE_ID,
    MAX_ORIGINAL_RECIPIENT,
    Notify,
    decode_original_recipient,
    decode_xtext,
    parse_dsn_request,
    parse_notify,
    parse_returned,
)

MAX_PATH = 256
"""Octets of a path with its brackets (RFC 5321 4.5.3.1.3)."""

_HELO = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,253})|\[[A-Za-z0-9:.\-]{1,253}\]")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")
_CHUNK = re.compile(r"([0-9]{1,20})(?: +([Ll][Aa][Ss][Tt]))?")


class Refusal(Exception):
    """The argument is refused; ``str()`` is the reply. Caught where the reply is made, never further away."""


@dataclass(frozen=True, slots=True)
class MailArgument:
    """What MAIL FROM says."""

    reverse_path: str
    """"" is the null reverse-path."""
    smtputf8: bool
    size: int
    """As announced; 0: not announced."""
    dsn: Mapping[str, Any] = field(default_factory=dict)
    """``ret`` and ``envid`` of the property ``dsn``, those that were given (RFC 3461 4.3, 4.4)."""


@dataclass(frozen=True, slots=True)
class RcptArgument:
    """What RCPT TO says."""

    recipient: str
    """Byte for byte."""
    dsn: Mapping[str, Any] = field(default_factory=dict)
    """``notify`` and ``orcpt`` of the property ``dsn``, those that were given (RFC 3461 4.1, 4.2)."""

    @property
    def is_routed(self) -> bool:
        """The local part could name another host to a server that still reads such forms: ``a%b@c``, ``b!a@c``, ``"a@b"@c``.

        We never read it so, but mail for ``c`` may go on to a server that does.
        """
        local = self.recipient.rpartition("@")[0]
        return any(sign in local for sign in "%!@")


@dataclass(frozen=True, slots=True)
class ChunkArgument:
    """What BDAT says."""

    size: int
    """Octets that follow the command."""
    is_last: bool


def parse_helo(argument: str) -> str:
    """The name in EHLO or HELO: a domain (an underscore is forgiven) or an address literal. Raises Refusal."""
    name = argument.strip(" ")
    if not _HELO.fullmatch(name):
        raise Refusal("501 5.5.4 Expected a domain name or an address literal")
    return name


def parse_mail(argument: str, *, extended: bool, max_size: int, has_auth: bool = False) -> MailArgument:
    """``FROM:<reverse-path> parameters`` (RFC 5321 4.1.1.2). Raises Refusal.

    ``has_auth``: AUTH exists here, so its parameter may come (RFC 4954 5). Who submitted the mail first is not our concern.
    """
    path, parameters = _split(argument, "FROM:", "MAIL FROM:<reverse-path>", extended)
    _check_length(path, "5.1.7")
    smtputf8 = _flag(parameters, "SMTPUTF8")
    _check_body(parameters)
    size = _parse_size(parameters, max_size)
    if has_auth and parameters.pop("AUTH", "<>") is None:
        raise Refusal("501 5.5.4 AUTH= is a mailbox as xtext, or <>")
    dsn = _parse_mail_dsn(parameters)
    _check_empty(parameters)
    try:
        mailbox = parse_reverse_path(path)
    except InvalidAddress as error:
        raise Refusal(f"553 5.1.7 Reverse-path: {error}") from None
    if mailbox is not None:
        _check_utf8(mailbox, smtputf8)
    return MailArgument(mailbox.address if mailbox else "", smtputf8, size, dsn)


def parse_rcpt(argument: str, *, extended: bool, smtputf8: bool) -> RcptArgument:
    """``TO:<forward-path> parameters`` (RFC 5321 4.1.1.3). Raises Refusal."""
    path, parameters = _split(argument, "TO:", "RCPT TO:<forward-path>", extended)
    _check_length(path, "5.1.3")
    dsn = _parse_rcpt_dsn(parameters, smtputf8)
    _check_empty(parameters)
    try:
        mailbox = parse_path(path)
    except InvalidAddress as error:
        raise Refusal(f"553 5.1.3 Recipient: {error}") from None
    _check_utf8(mailbox, smtputf8)
    if not mailbox.domain:
        raise Refusal("550 5.1.1 There is no local postmaster here: give the address with its domain")
    return RcptArgument(mailbox.address, dsn)


def parse_chunk(argument: str) -> ChunkArgument:
    """``size [LAST]`` (RFC 3030 2). Raises Refusal: where the chunk ends is not known then."""
    match = _CHUNK.fullmatch(argument)
    if match is None:
        raise Refusal("501 5.5.4 Syntax: BDAT size [LAST]")
    return ChunkArgument(int(match[1]), match[2] is not None)


def _split(argument: str, keyword: str, syntax: str, extended: bool) -> tuple[str, dict[str, str | None]]:
    if argument[: len(keyword)].upper() != keyword:
        raise Refusal(f"501 5.5.4 Syntax: {syntax}")
    try:
        path, rest = split_path(argument[len(keyword) :].lstrip(" "))
    except InvalidAddress as error:
        raise Refusal(f"501 5.5.4 Syntax: {syntax} ({error})") from None
    if rest and not extended:
        raise Refusal("501 5.5.4 Parameters need EHLO")
    return path, _parse_parameters(rest) if rest else {}


def _check_length(path: str, status: str) -> None:
    if len(path.encode()) > MAX_PATH:
        raise Refusal(f"501 {status} Path longer than {MAX_PATH} octets")


def _parse_parameters(text: str) -> dict[str, str | None]:
    """Keywords in upper case; values exactly as given (ENVID and ORCPT are case-sensitive)."""
    parameters: dict[str, str | None] = {}
    for word in text.split(" "):
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise Refusal("501 5.5.4 Malformed parameter")
        keyword = match[1].upper()
        if keyword in parameters:
            raise Refusal(f"501 5.5.4 Parameter {keyword[:40]} given twice")
        parameters[keyword] = match[2]
    return parameters


def _flag(parameters: dict[str, str | None], keyword: str) -> bool:
    if keyword not in parameters:
        return False
    if parameters.pop(keyword) is not None:
        raise Refusal(f"501 5.5.4 {keyword} takes no value")
    return True


def _check_body(parameters: dict[str, str | None]) -> None:
    body = (parameters.pop("BODY") or "") if "BODY" in parameters else "7BIT"
    if body.upper() not in ("7BIT", "8BITMIME"):
        raise Refusal("501 5.5.4 BODY is 7BIT or 8BITMIME")


def _parse_size(parameters: dict[str, str | None], max_size: int) -> int:
    digits = (parameters.pop("SIZE") or "") if "SIZE" in parameters else "0"
    # RFC 1870 6: at most 20 digits.
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise Refusal("501 5.5.4 SIZE is a number of octets")
    if int(digits) > max_size:
        raise Refusal(f"552 5.3.4 Larger than {max_size} octets")
    return int(digits)


def _parse_mail_dsn(parameters: dict[str, str | None]) -> dict[str, Any]:
    """RET and ENVID (RFC 3461 4.3, 4.4)."""
    dsn: dict[str, Any] = {}
    if "RET" in parameters:
        dsn["ret"] = str(_read("RET", "FULL or HDRS", parse_returned, parameters.pop("RET"), "RET"))
    if "ENVID" in parameters:
        dsn["envid"] = _read("ENVID", f"xtext of at most {MAX_ENVELOPE_ID} characters", _read_envid, parameters.pop("ENVID"))
    return dsn


def _parse_rcpt_dsn(parameters: dict[str, str | None], smtputf8: bool) -> dict[str, Any]:
    """NOTIFY and ORCPT (RFC 3461 4.1, 4.2)."""
    dsn: dict[str, Any] = {}
    if "NOTIFY" in parameters:
        form = "NEVER, or SUCCESS, FAILURE, DELAY with commas"
        asked = _read("NOTIFY", form, parse_notify, parameters.pop("NOTIFY"), "NOTIFY")
        dsn["notify"] = [str(word) for word in Notify if word in asked]
    if "ORCPT" in parameters:
        value = parameters.pop("ORCPT")
        if value and not value.isascii() and not smtputf8:
            raise Refusal("553 5.6.7 A non-ASCII ORCPT needs SMTPUTF8")
        form = f"type;address as xtext, of at most {MAX_ORIGINAL_RECIPIENT} characters"
        dsn["orcpt"] = _read("ORCPT", form, _read_orcpt, value)
    return dsn


def _read(keyword: str, form: str, read: Callable[..., Any], value: str | None, *more: str) -> Any:
    try:
        return read(value or "", *more)
    except ValueError:
        raise Refusal(f"501 5.5.4 {keyword} is {form}") from None


def _read_envid(value: str) -> str:
    if len(value) > MAX_ENVELOPE_ID:
        raise ValueError("too long")
    envid = decode_xtext(value)
    # What is accepted here must be accepted by whoever reads the property ``dsn``.
    parse_dsn_request({"envid": envid})
    return envid


def _read_orcpt(value: str) -> str:
    if len(value) > MAX_ORIGINAL_RECIPIENT:
        raise ValueError("too long")
    orcpt = decode_original_recipient(value)
    parse_dsn_request({"orcpt": orcpt})
    return orcpt


def _check_empty(parameters: dict[str, str | None]) -> None:
    if parameters:
        raise Refusal(f"555 5.5.4 Parameter not offered: {' '.join(sorted(parameters))[:100]}")


def _check_utf8(mailbox: Mailbox, smtputf8: bool) -> None:
    if not mailbox.is_ascii and not smtputf8:
        raise Refusal("553 5.6.7 A non-ASCII address needs SMTPUTF8")


def expect_nothing(argument: str) -> None:
    """For commands without an argument. Raises Refusal."""
    if argument:
        raise Refusal("501 5.5.4 This command takes no argument")
