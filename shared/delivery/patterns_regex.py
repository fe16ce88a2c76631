"""Regular expressions of users that a hostile peer's text cannot turn against us.

Python's ``re`` has no time limit and holds up the whole process while it works, so an expression that may be slow is refused when
it is read: repeats inside repeats (exponential), and whatever is slow on texts made to hurt it (measured).
"""

import re
import time
from dataclasses import dataclass

from shared.wire.result import MAX_DESCRIPTION

MOST_REPEATS = 4
"""Repeats (``*``, ``+``, ``{2,3}``) in one expression."""
MOST_OPTIONS = 10
"""Options (``?``) in one expression; a group of choices counts as the logarithm of their number."""
MOST_FIXED = 4
"""How often, ``{4}``, a group that has repeats or choices in it may be repeated, one such group in an expression."""
LONGEST_SEARCH = 0.05
"""Seconds that a search in a text of MAX_DESCRIPTION characters may take."""

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|[*+]|\{\d*,\d*\}|\{\d+\}|.", re.DOTALL)
_REPEATS = ("*", "+")
_LITERAL = re.compile(r"[A-Za-z0-9 .,:;@<>=_-]")


def compile_regex(text: str) -> re.Pattern[str]:
    """The expression, case-insensitive. Raises ValueError that says what is wrong with it."""
    try:
        compiled = re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError) as error:
        raise ValueError(str(error)) from None
    _check_repeats(text)
    _check_cost(compiled)
    return compiled


@dataclass(slots=True)
class _Group:
    """A group that is being read."""

    choices: int = 0
    is_open: bool = False
    """There is a repeat, an option or a choice in it: there may be many ways to match the same text."""


def _check_repeats(text: str) -> None:
    """Not many ways to match the same text: (a+)+ takes for ever on aaaaaaaaaaaaaaaaaaaaaaaaaaaa!"""
    groups = [_Group()]
    repeats = options = fixed = 0
    last: _Group | None = None
    """The group that has just ended."""
    previous = ""
    for piece in _TOKEN.findall(text):
        is_count = piece[0] == "{" and len(piece) > 1
        is_fixed = is_count and "," not in piece
        is_repeat = piece in _REPEATS or (is_count and not is_fixed)
        is_option = piece == "?" and previous not in ("(", "?", *_REPEATS) and previous[:1] != "{"
        if last is not None and last.is_open and (is_repeat or is_fixed):
            fixed += 1
            if not is_fixed or int(piece[1:-1]) > MOST_FIXED or fixed > 1:
                raise ValueError("a repeat, option or choice inside a repeated group may take for ever")
        last = None
        repeats += is_repeat
        options += is_option
        groups[-1].choices += piece == "|"
        groups[-1].is_open |= is_repeat or is_option or piece == "|"
        if piece == "(":
            groups.append(_Group())
        elif piece == ")" and len(groups) > 1:
            last = groups.pop()
            options += last.choices.bit_length()
            groups[-1].is_open |= last.is_open
        previous = piece
    if repeats > MOST_REPEATS or options > MOST_OPTIONS:
        found = f"{repeats} repeats and {options} options or choices: at most {MOST_REPEATS} and {MOST_OPTIONS}"
        raise ValueError(f"{found}; 'text' with * is always fast")


def _check_cost(compiled: re.Pattern[str]) -> None:
    """Searches in ever longer texts made of the expression's own characters, until one takes too long."""
    own = "".join(dict.fromkeys(_LITERAL.findall(compiled.pattern)))[:24]
    units = dict.fromkeys(
        ["a", "0", " ", "a ", "aA0 ", ".", *own, own or "x", "".join(_LITERAL.findall(compiled.pattern)) or "x"]
    )
    for unit in units:
        length = 16
        while length <= MAX_DESCRIPTION:
            probe = (unit * length)[:length]
            started = time.thread_time()
            compiled.search(probe)
            compiled.search(probe[:-1] + "\x01")
            took = time.thread_time() - started
            if took > LONGEST_SEARCH or (took > LONGEST_SEARCH / 8 and length < MAX_DESCRIPTION / 2):
                raise ValueError(f"slow: {took * 1000:.0f} ms for {length} characters; 'text' with * is always fast")
            length *= 2
