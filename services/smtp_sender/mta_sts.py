"""MTA-STS (RFC 8461): the TXT record that says there is a policy, and the policy. Pure; ``mta_sts_client`` fetches them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

LONGEST_AGE = timedelta(seconds=31_557_600)
"""RFC 8461 3.2: about a year."""
MOST_PATTERNS = 64
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]*:[ \t]*(.*?)[ \t]*")


class Mode(StrEnum):
    """What to do about a host that does not fulfil the policy."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class InvalidPolicy(ValueError):
    """The policy cannot be read, or is no policy; internal to MTA-STS, where it means: there is none."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A domain's policy."""

    mode: Mode
    max_age: timedelta
    patterns: tuple[str, ...]
    """Names of MX hosts, lower case; ``*.`` in front stands for exactly one label."""

    def names(self, host: str) -> bool:
        """Is ``host`` one of the MX hosts meant (RFC 8461 4.1)?"""
        name = host.rstrip(".").lower()
        return name in self.patterns or ("." in name and "*." + name.partition(".")[2] in self.patterns)


def parse_record(texts: Sequence[bytes]) -> str | None:
    """The policy's id, of the TXT records at ``_mta-sts.DOMAIN``; None: there is no policy (RFC 8461 3.1)."""
    records = [text for text in texts if re.match(rb"v=STSv1[ \t]*(?:;|$)", text)]
    if len(records) != 1 or not records[0].isascii():
        return None
    fields = [field.strip(" \t") for field in records[0].decode("ascii").split(";")[1:]]
    ids = [value.strip(" \t") for name, _, value in (field.partition("=") for field in fields) if name.strip(" \t") == "id"]
    return ids[0] if len(ids) == 1 and _ID.fullmatch(ids[0]) else None


def parse_policy(body: bytes) -> StsPolicy:
    """The policy in the file ``mta-sts.txt`` (RFC 8461 3.2). Raises InvalidPolicy.

    Unknown fields mean nothing; of a repeated field that is not ``mx`` the first counts.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidPolicy("it is not UTF-8") from None
    first: dict[str, str] = {}
    patterns: list[str] = []
    for line in re.split(r"\r?\n", text):
        if not line.strip(" \t"):
            continue
        field = _FIELD.fullmatch(line)
        if field is None:
            raise InvalidPolicy(f"a line is no field: {line[:80]!r}")
        if field[1] == "mx":
            patterns.append(field[2])
        else:
            first.setdefault(field[1], field[2])
    return _build(first, patterns)


def _build(fields: dict[str, str], patterns: Sequence[str]) -> StsPolicy:
    if fields.get("version") != "STSv1":
        raise InvalidPolicy(f"version: expected STSv1, found {fields.get('version', 'nothing')[:80]!r}")
    age = fields.get("max_age", "")
    if not re.fullmatch(r"[0-9]{1,10}", age):
        raise InvalidPolicy(f"max_age: expected seconds, found {age[:80]!r}")
    try:
        mode = Mode(fields.get("mode", ""))
    except ValueError:
        raise InvalidPolicy(f"mode: expected enforce, testing or none, found {fields.get('mode', '')[:80]!r}") from None
    if not patterns and mode is not Mode.NONE:
        raise InvalidPolicy("mx: there is none")
    if len(patterns) > MOST_PATTERNS:
        raise InvalidPolicy(f"mx: more than {MOST_PATTERNS}")
    for pattern in patterns:
        if len(pattern) > 255 or not _PATTERN.fullmatch(pattern):
            raise InvalidPolicy(f"mx: {pattern[:80]!r} is no name and no wildcard")
    return StsPolicy(mode, min(timedelta(seconds=int(age)), LONGEST_AGE), tuple(pattern.lower() for pattern in patterns))
