"""What a rule changes in the mail that it takes (``configuration.rewrite``): checked when the rule is stored, then applied. Pure.

The rule is the operator's and wins where the mail goes: ``smarthost``, ``pool``, ``ips``. It can make a mail safer, never less safe
(``security``), and later, never earlier (``nextattempt``). Its ``tags`` come on top of the mail's own, its ``headers`` are done after
the mail's own.
"""

import ipaddress
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from shared.mail.address import InvalidAddress, domain_to_ascii
from shared.wire.instructions import Instructions, InvalidProperty, Security, parse_instructions
from shared.wire.message import Message
from shared.wire.times import render_time

PROPERTIES = ("smarthost", "pool", "ips", "tags", "security", "headers", "nextattempt")
"""What a rule may set."""
MOST_SECONDS = 10**8
"""Of ``nextattempt``, some three years: as of ``retries``."""
_WHERE = "configuration.rewrite"
MASK = "***"
"""Shown in place of a password."""
_SMARTHOST = ("hostname", "port", "username", "password")
_FROM_WEAK_TO_STRONG = tuple(Security)
_Changes = Mapping[str, Any]


def parse_rewrite(value: Any) -> Mapping[str, Any]:
    """The properties that a rule sets, in the words of a message; ``nextattempt`` may also be a number of seconds.

    They are checked by what checks those of a message. Raises ValueError that names ``configuration.rewrite.<property>``.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{_WHERE}: {value!r:.80}: expected an object")
    if unknown := set(value) - set(PROPERTIES):
        raise ValueError(f"{_WHERE}.{min(map(str, unknown))[:80]}: unknown; expected one of {', '.join(PROPERTIES)}")
    rewrite = {name: value[name] for name in PROPERTIES if value.get(name) is not None}
    seconds = rewrite.get("nextattempt")
    as_message = dict(rewrite)
    if isinstance(seconds, int) and not isinstance(seconds, bool):
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"{_WHERE}.nextattempt: {seconds}: expected seconds from 1 to {MOST_SECONDS}")
        del as_message["nextattempt"]
    try:
        parse_instructions(Message({"id": "rule", "recipient": "anybody@localhost"} | as_message))
    except InvalidProperty as error:
        reason = str(error)
        if reason.startswith("nextattempt: "):
            reason += ", or a number of seconds"
        raise ValueError(f"{_WHERE}.{reason}") from None
    _check_more(rewrite)
    return rewrite


def apply_rewrite(message: Message, rewrite: Mapping[str, Any]) -> Message:
    """The mail as the rule wants it; the same object when that is what it is already.

    A mail with an impossible property stays as it came: its sender refuses it and names the property, which a rewrite might hide.
    """
    if not rewrite:
        return message
    try:
        instructions = parse_instructions(message)
    except InvalidProperty:
        return message
    changes: dict[str, Any] = {}
    for name, value in rewrite.items():
        changes.update(_CHANGES[name](message, instructions, value))
    removed = tuple(name for name, value in changes.items() if value is None and name in message.document)
    changed = {name: value for name, value in changes.items() if value is not None and message.document.get(name) != value}
    return message.with_properties(changed, without=removed) if changed or removed else message


def find_changes(before: Message, after: Message) -> dict[str, Any]:
    """What a rewrite changed, for people: property → new value, None when it was removed. A password is not shown."""
    names = {*before.document, *after.document}
    changed = {name: after.document.get(name) for name in names if before.document.get(name) != after.document.get(name)}
    return {name: mask(name, changed[name]) for name in (*PROPERTIES, "delayed") if name in changed}


def mask(name: str, value: Any) -> Any:
    """The value of a property without the password of a smarthost."""
    if name == "smarthost" and isinstance(value, Mapping) and value.get("password") is not None:
        return {**value, "password": MASK}
    return value


def _check_more(rewrite: Mapping[str, Any]) -> None:
    """What a message may say but a rule better not: it would only show at delivery, for every mail that the rule takes."""
    smarthost = rewrite.get("smarthost", {})
    if unknown := set(smarthost) - set(_SMARTHOST):
        raise ValueError(f"{_WHERE}.smarthost.{min(map(str, unknown))[:80]}: unknown; expected one of {', '.join(_SMARTHOST)}")
    if smarthost.get("password") == MASK:
        raise ValueError(
            f"{_WHERE}.smarthost.password: {MASK!r}: expected the password; this is shown in its place without the scope rules"
        )
    if smarthost and not _is_host(smarthost["hostname"]):
        raise ValueError(f"{_WHERE}.smarthost.hostname: {smarthost['hostname']!r:.80}: expected a host name or an IP address")
    if rewrite.get("ips") == []:
        raise ValueError(f"{_WHERE}.ips: expected one or more IP addresses: with an empty list every mail would fail")
    if rewrite.get("pool") == "":
        raise ValueError(f"{_WHERE}.pool: '': expected the name of a pool")
    following = rewrite.get("nextattempt")
    if isinstance(following, Mapping) and set(following) != {"time"}:
        raise ValueError(f'{_WHERE}.nextattempt: expected {{"time": "YYYY-MM-DD HH:MM:SS"}}, or a number of seconds')


def _is_host(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        try:
            domain_to_ascii(name)
        except InvalidAddress:
            return False
        return not name.startswith("[")
    return True


def _set_smarthost(_: Message, __: Instructions, value: Any) -> _Changes:
    return {"smarthost": value}


def _set_pool(_: Message, __: Instructions, value: Any) -> _Changes:
    # ``ips`` wins over ``pool``: the mail's own would make the rule's pool nothing. A rule's ``ips`` comes after and stays.
    return {"pool": value, "ips": None}


def _set_ips(_: Message, __: Instructions, value: Any) -> _Changes:
    return {"ips": value}


def _add_tags(message: Message, _: Instructions, value: Any) -> _Changes:
    own = message.document.get("tags") or []
    return {"tags": [*own, *(tag for tag in dict.fromkeys(value) if tag not in own)]} if value else {}


def _raise_security(_: Message, instructions: Instructions, value: Any) -> _Changes:
    own, wanted = instructions.security, Security(value)
    is_stronger = own is None or _FROM_WEAK_TO_STRONG.index(own) < _FROM_WEAK_TO_STRONG.index(wanted)
    return {"security": value} if is_stronger else {}


def _put_off(message: Message, instructions: Instructions, value: Any) -> _Changes:
    try:
        # From the moment when the mail was seen first: routed twice after a crash, it is due at the same time.
        wanted = render_time(message.seen + timedelta(seconds=value)) if isinstance(value, int) else value["time"]
    except OverflowError:
        return {}
    own = instructions.not_before
    # As texts of one form times compare as times do.
    if wanted <= render_time(message.seen if own is None else max(own, message.seen)):
        return {}
    return {"nextattempt": {**(message.document.get("nextattempt") or {}), "time": wanted}, "delayed": None}


def _edit_headers(message: Message, _: Instructions, value: Any) -> _Changes:
    combined = combine_edits(message.document.get("headers") or {}, value)
    return {"headers": combined} if combined else {}


_CHANGES: Mapping[str, Callable[[Message, Instructions, Any], _Changes]] = {
    "smarthost": _set_smarthost,
    "pool": _set_pool,
    "ips": _set_ips,
    "tags": _add_tags,
    "security": _raise_security,
    "headers": _edit_headers,
    "nextattempt": _put_off,
}


def combine_edits(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """One property ``headers`` that does what ``first`` and then ``second`` would do. Both are valid (``shared.mail.edits``)."""
    removed, replaced, updated, prepended, appended = _by_operation(first)
    more_removed, more_replaced, more_updated, more_prepended, more_appended = _by_operation(second)
    for name in more_removed:
        _forget(name, replaced, updated, prepended, appended)
    for name, given in more_replaced.items():
        _forget(name, replaced, updated, prepended, appended)
        replaced[name] = given
    for name, given in more_updated.items():
        if _forget(name, replaced, prepended, appended):
            replaced[name] = given  # the first edits have put it there
        updated[name] = given
    removed |= more_removed
    combined = {
        "remove": list(removed),
        "replace": {name: value for name, value in replaced.values()},
        "update": {name: value for name, value in updated.values()},
        "prepend": _joined([*more_prepended, *prepended]),
        "append": _joined([*appended, *more_appended]),
    }
    return {operation: names for operation, names in combined.items() if names}


_Set = dict[str, tuple[str, Any]]
_Added = list[tuple[str, Any]]


def _by_operation(edits: Mapping[str, Any]) -> tuple[dict[str, None], _Set, _Set, _Added, _Added]:
    """Names in lower case to remove, (name as spelled, value) to replace and to update by name in lower case, those to add."""
    given = edits.get("remove") or []
    names = given if isinstance(given, list) else [given]
    added = [(name, value) for key in ("append", "add") for name, value in (edits.get(key) or {}).items()]
    sets = [{name.lower(): (name, value) for name, value in (edits.get(key) or {}).items()} for key in ("replace", "update")]
    return dict.fromkeys(map(str.lower, names)), sets[0], sets[1], list((edits.get("prepend") or {}).items()), added


def _forget(name: str, *edits: _Set | _Added) -> bool:
    """Take out what concerns the header ``name``. Was there anything?"""
    found = False
    for one in edits:
        if isinstance(one, dict):
            found = one.pop(name, None) is not None or found
        else:
            kept = [item for item in one if item[0].lower() != name]
            found = found or len(kept) < len(one)
            one[:] = kept
    return found


def _joined(added: _Added) -> dict[str, Any]:
    """As the property has it: a name once, with a list when there are several values."""
    joined: dict[str, Any] = {}
    for name, value in added:
        values = value if isinstance(value, list) else [value]
        joined[name] = [*joined[name], *values] if name in joined else list(values)
    return {name: values[0] if len(values) == 1 else values for name, values in joined.items()}
