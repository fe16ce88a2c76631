"""What the scripted MX does, read from an address or from a script. The language is described in tests.support.mx."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any


class State(StrEnum):
    """Where in a session something happens. ``content`` is the middle of the content, ``message`` the reply to its dot."""

    INTRO = "intro"
    EHLO = "ehlo"
    HELO = "helo"
    STARTTLS = "starttls"
    HANDSHAKE = "handshake"
    AUTH = "auth"
    MAILFROM = "mailfrom"
    RCPTTO = "rcptto"
    DATA = "data"
    CONTENT = "content"
    MESSAGE = "message"
    RSET = "rset"
    QUIT = "quit"


class Ending(Enum):
    """What becomes of the connection after a step."""

    STAY = "stay"
    CLOSE = "close"
    RESET = "reset"
    """A TCP RST."""
    SILENT = "silent"
    """Stays open; nothing is ever answered again."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens in one state of one attempt."""

    reply: bytes | None = None
    """Whole lines with CRLF; None: the usual reply; empty: no reply at all."""
    after: timedelta = timedelta(0)
    """The reply comes so much later."""
    ending: Ending = Ending.STAY
    stored: bool | None = None
    """In state ``message``: does the mail go into the ledger? None: if the reply is positive."""


Plan = Mapping[State, Step]
"""One attempt: the steps that differ from the usual."""

ACCEPT: Plan = {}

_ENHANCED = {
    421: "4.3.2", 450: "4.2.1", 451: "4.3.0", 452: "4.2.2", 454: "4.7.0", 455: "4.5.4",
    550: "5.1.1", 551: "5.1.6", 552: "5.2.2", 553: "5.1.3", 554: "5.7.1", 555: "5.5.4", 556: "5.1.10",
}  # fmt: skip
_TEXTS = {
    421: "Service not available, closing channel", 450: "Mailbox busy", 451: "Local error in processing",
    452: "Insufficient storage", 454: "Temporary authentication failure", 455: "Cannot accommodate parameters",
    550: "No such user here", 551: "User not local", 552: "Mailbox full", 553: "Mailbox name not allowed",
    554: "Transaction failed", 555: "Parameters not recognized", 556: "Domain does not accept mail",
}  # fmt: skip
GARBAGE = b"\x7fThis is no SMTP reply\r\n"


class NotABehaviour(ValueError):
    """A behaviour that cannot be read; the text names it and what was expected."""


def render_reply(text: str) -> bytes:
    """``550 5.1.1 first\\nsecond`` as the lines of one reply (RFC 5321 4.2.1); code and enhanced status on each line."""
    match = re.fullmatch(r"([2-5]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3})(?= |$))?(?: (.*))?", text, re.DOTALL)
    if match is None:
        raise NotABehaviour(f"reply {text!r}: expected a code from 200 to 599 and text, for example '550 5.1.1 No such user'")
    code, enhanced, words = match[1], match[2], match[3] or ""
    lines = words.split("\n")
    marks = ["-"] * (len(lines) - 1) + [" "]
    prefix = f"{enhanced} " if enhanced else ""
    return "".join(f"{code}{mark}{prefix}{line}".rstrip() + "\r\n" for mark, line in zip(marks, lines, strict=True)).encode()


def _refusal(code: int, state: State) -> bytes:
    enhanced = _ENHANCED.get(code, f"{code // 100}.0.0")
    if code == 550 and state is not State.RCPTTO:
        enhanced = "5.1.8" if state is State.MAILFROM else "5.7.1"
    default = {2: "Ok", 3: "Go on", 4: "Try again later", 5: "Refused"}[code // 100]
    return render_reply(f"{code} {enhanced if code >= 400 else '2.0.0'} {_TEXTS.get(code, default)}")


def _code(text: str) -> int:
    if not re.fullmatch(r"[2-5]\d\d", text):
        raise ValueError(f"{text!r} is not a reply code from 200 to 599")
    return int(text)


def _times(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is not a number of attempts")
    return int(text)


def _seconds(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)?", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 5, 0.5 or 200ms")
    return timedelta(seconds=float(match[1]) / (1000 if match[2] == "ms" else 1))


def _state(text: str) -> tuple[State, bool | None]:
    """The state, and whether the mail is stored: ``stored`` is the state ``message`` with the mail in the ledger."""
    if text == "stored":
        return State.MESSAGE, True
    return State(text), None


def _repeated(plan: Plan, times: int | None) -> Sequence[Plan]:
    return (plan,) if times is None else (*[plan] * times, ACCEPT)


def _parse_ok() -> Sequence[Plan]:
    return (ACCEPT,)


def _parse_grey(times: str = "1") -> Sequence[Plan]:
    return _repeated({State.RCPTTO: Step(render_reply("451 4.7.1 Greylisted, try again later"))}, _times(times))


def _parse_tempfail(code: str = "451") -> Sequence[Plan]:
    if not code.startswith("4"):
        raise ValueError(f"{code!r} is not a temporary code")
    return ({State.RCPTTO: Step(_refusal(_code(code), State.RCPTTO))},)


def _parse_reject(code: str = "550") -> Sequence[Plan]:
    return ({State.RCPTTO: Step(_refusal(_code(code), State.RCPTTO))},)


def _parse_fail(state: str, code: str, times: str | None = None) -> Sequence[Plan]:
    where, stored = _state(state)
    return _repeated({where: Step(_refusal(_code(code), where), stored=stored)}, _times(times))


def _parse_c421(state: str = "rcptto", times: str | None = None) -> Sequence[Plan]:
    where, stored = _state(state)
    return _repeated({where: Step(_refusal(421, where), ending=Ending.CLOSE, stored=stored)}, _times(times))


def _wordless(ending: Ending) -> Callable[..., Sequence[Plan]]:
    def parse(state: str, times: str | None = None) -> Sequence[Plan]:
        where, stored = _state(state)
        return _repeated({where: Step(b"", ending=ending, stored=bool(stored))}, _times(times))

    return parse


def _parse_garbage(state: str, times: str | None = None) -> Sequence[Plan]:
    where, stored = _state(state)
    return _repeated({where: Step(GARBAGE, stored=bool(stored))}, _times(times))


def _parse_slow(seconds: str = "1", state: str = "message", times: str | None = None) -> Sequence[Plan]:
    return _repeated({_state(state)[0]: Step(after=_seconds(seconds))}, _times(times))


def _parse_multi(code: str = "250", state: str | None = None) -> Sequence[Plan]:
    number = _code(code)
    where = _state(state)[0] if state else (State.MESSAGE if number < 400 else State.RCPTTO)
    enhanced = _ENHANCED.get(number, f"{number // 100}.0.0")
    return ({where: Step(render_reply(f"{number} {enhanced} first line\nsecond line\nthe last of three lines"))},)


_VERBS: Mapping[str, tuple[Callable[..., Sequence[Plan]], str]] = {
    "ok": (_parse_ok, "ok"),
    "grey": (_parse_grey, "grey[-times]"),
    "tempfail": (_parse_tempfail, "tempfail[-4xx]"),
    "reject": (_parse_reject, "reject[-code]"),
    "fail": (_parse_fail, "fail-state-code[-times]"),
    "c421": (_parse_c421, "c421[-state[-times]]"),
    "drop": (_wordless(Ending.CLOSE), "drop-state[-times]"),
    "reset": (_wordless(Ending.RESET), "reset-state[-times]"),
    "silent": (_wordless(Ending.SILENT), "silent-state[-times]"),
    "garbage": (_parse_garbage, "garbage-state[-times]"),
    "slow": (_parse_slow, "slow[-seconds[-state[-times]]]"),
    "multi": (_parse_multi, "multi[-code[-state]]"),
}


@lru_cache(maxsize=4096)
def _parse_words(words: str) -> Sequence[Plan]:
    verb, *arguments = words.split("-")
    if verb not in _VERBS:
        return (ACCEPT,)
    parse, form = _VERBS[verb]
    try:
        return parse(*arguments)
    except (ValueError, TypeError) as error:
        reason = "" if isinstance(error, TypeError) else f" ({error})"
        raise NotABehaviour(f"behaviour {words!r}: expected {form}, state one of {' '.join(State)} stored{reason}") from None


def parse_behaviour(local_part: str) -> Sequence[Plan]:
    """The attempts that a local part (or any text in the language) asks for; the last one repeats.

    Case does not matter and everything after ``+`` is free. Text that begins with no known word accepts. Raises
    NotABehaviour for a known word with arguments that cannot be read.
    """
    return _parse_words(local_part.partition("+")[0].lower())


class Script:
    """Behaviour by address, for what the language cannot say.

    ``recipients`` and ``reverse_paths`` map an address, ``*@domain`` or ``*`` to the list of its attempts, the last one
    repeats. An attempt is text in the language (``"grey-2"`` stands for three attempts), a reply (``"550 5.1.1 Who?"``,
    given to RCPT, or to MAIL in ``reverse_paths``), an object
    ``{"state": "message", "reply": "452 4.2.2 Full\\nsorry", "after": seconds, "ending": "close", "stored": true}``,
    a list of such objects, or a Plan. Addresses without an entry follow the language. Raises NotABehaviour.
    """

    def __init__(
        self,
        recipients: Mapping[str, Sequence[object]] | None = None,
        reverse_paths: Mapping[str, Sequence[object]] | None = None,
    ) -> None:
        self._recipients = _read_entries(recipients or {}, State.RCPTTO)
        self._reverse_paths = _read_entries(reverse_paths or {}, State.MAILFROM)

    @classmethod
    def from_file(cls, path: Path) -> Script:
        """A JSON file: ``{"recipients": {…}, "reverse_paths": {…}}``. Raises NotABehaviour naming the file."""
        try:
            entries = json.loads(path.read_text("utf-8"))
            if not isinstance(entries, dict) or entries.keys() - {"recipients", "reverse_paths"}:
                raise NotABehaviour('expected an object with the keys "recipients" and "reverse_paths" only')
            return cls(**entries)
        except ValueError as error:
            raise NotABehaviour(f"script {path}: {error}") from None

    def attempts_for_recipient(self, address: str) -> Sequence[Plan]:
        """The attempts for a recipient in lower case. Raises NotABehaviour."""
        return _look_up(self._recipients, address)

    def attempts_for_reverse_path(self, address: str) -> Sequence[Plan]:
        """The attempts for a reverse-path in lower case. Raises NotABehaviour."""
        return _look_up(self._reverse_paths, address)


def _look_up(entries: Mapping[str, Sequence[Plan]], address: str) -> Sequence[Plan]:
    local_part, _, domain = address.rpartition("@")
    if entries:
        for key in (address, f"*@{domain}", "*"):
            if key in entries:
                return entries[key]
    return parse_behaviour(local_part or domain)


def _read_entries(entries: Mapping[str, Sequence[object]], state: State) -> dict[str, Sequence[Plan]]:
    read: dict[str, Sequence[Plan]] = {}
    for address, attempts in entries.items():
        if isinstance(attempts, str) or not isinstance(attempts, Sequence) or not attempts:
            raise NotABehaviour(f"script for {address!r}: expected a list of attempts, found {attempts!r}")
        read[address.lower()] = tuple(plan for attempt in attempts for plan in _read_attempt(attempt, state))
    return read


def _read_attempt(attempt: object, state: State) -> Sequence[Plan]:
    if isinstance(attempt, str):
        if re.match(r"\d\d\d(\s|$)", attempt):
            return ({state: Step(render_reply(attempt))},)
        if attempt.partition("-")[0].partition("+")[0].lower() not in _VERBS:
            raise NotABehaviour(f"attempt {attempt!r}: expected a reply or one of {' '.join(_VERBS)}")
        return parse_behaviour(attempt)
    if isinstance(attempt, Mapping) and attempt and all(isinstance(key, State) for key in attempt):
        return (attempt,)
    if isinstance(attempt, Mapping):
        return (dict([_read_step(attempt)]),)
    if isinstance(attempt, list) and all(isinstance(one, Mapping) for one in attempt):
        return (dict(_read_step(one) for one in attempt),)
    raise NotABehaviour(f"attempt {attempt!r}: expected text, an object or a list of objects")


def _read_step(fields: Mapping[str, Any]) -> tuple[State, Step]:
    try:
        if unknown := fields.keys() - {"state", "reply", "after", "ending", "stored"}:
            raise ValueError(f"unknown {' '.join(sorted(unknown))}")
        reply = fields.get("reply")
        return State(fields["state"]), Step(
            reply if reply is None else render_reply(reply) if reply else b"",
            timedelta(seconds=float(fields.get("after", 0))),
            Ending(fields.get("ending", "stay")),
            fields.get("stored"),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise NotABehaviour(f"step {dict(fields)!r}: {type(error).__name__} {error}; expected state and reply, …") from None


class Playbook:
    """The script plus what has happened: how many attempts every address has had, over all connections."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.attempts: Counter[str] = Counter()
        """RCPT commands per recipient, of those whose behaviour changes with the attempt."""
        self._mail_attempts: Counter[str] = Counter()

    def next_for_recipient(self, address: str) -> Plan:
        """The plan of the recipient's next attempt; counts it. Raises NotABehaviour."""
        address = address.lower()
        return _next(self.script.attempts_for_recipient(address), self.attempts, address)

    def next_for_reverse_path(self, address: str) -> Plan:
        """The plan of the reverse-path's next attempt (only its step ``mailfrom`` counts). Raises NotABehaviour."""
        address = address.lower()
        return _next(self.script.attempts_for_reverse_path(address), self._mail_attempts, address)


def _next(attempts: Sequence[Plan], counts: Counter[str], address: str) -> Plan:
    if len(attempts) == 1:  # the bench's recipients must not fill the memory
        return attempts[0]
    count = counts[address]
    counts[address] += 1
    return attempts[min(count, len(attempts) - 1)]
