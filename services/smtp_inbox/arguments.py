"""The arguments of EHLO, MAIL and RCPT, read strictly. Pure. What is wrong is a ``Refusal``: the reply to send."""

import re
from dataclasses import dataclass

from shared.mail.address import InvalidAddress, Mailbox, parse_path, parse_reverse_path, split_path

_HELO = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,253})|\[[A-Za-z0-9:.\-]{1,253}\]")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")


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


def parse_helo(argument: str) -> str:
    """The name in EHLO or HELO: a domain (an underscore is forgiven) or an address literal. Raises Refusal."""
    name = argument.strip(" ")
    if not _HELO.fullmatch(name):
        raise Refusal("501 5.5.4 Expected a domain name or an address literal")
    return name


def parse_mail(argument: str, *, extended: bool, max_size: int) -> MailArgument:
    """``FROM:<reverse-path> parameters`` (RFC 5321 4.1.1.2). Raises Refusal."""
    path, parameters = _split(argument, "FROM:", "MAIL FROM:<reverse-path>", extended)
    smtputf8 = _flag(parameters, "SMTPUTF8")
    _check_body(parameters)
    size = _parse_size(parameters, max_size)
    _check_empty(parameters)
    try:
        mailbox = parse_reverse_path(path)
    except InvalidAddress as error:
        raise Refusal(f"553 5.1.7 Reverse-path: {error}") from None
    if mailbox is not None:
        _check_utf8(mailbox, smtputf8)
    return MailArgument(mailbox.address if mailbox else "", smtputf8, size)


def parse_rcpt(argument: str, *, extended: bool, smtputf8: bool) -> str:
    """``TO:<forward-path>`` (RFC 5321 4.1.1.3): the recipient, byte for byte. Raises Refusal."""
    path, parameters = _split(argument, "TO:", "RCPT TO:<forward-path>", extended)
    _check_empty(parameters)
    try:
        mailbox = parse_path(path)
    except InvalidAddress as error:
        raise Refusal(f"553 5.1.3 Recipient: {error}") from None
    _check_utf8(mailbox, smtputf8)
    if not mailbox.domain:
        raise Refusal("550 5.1.1 There is no local postmaster here: give the address with its domain")
    return mailbox.address


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
