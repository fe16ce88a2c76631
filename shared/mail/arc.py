"""ARC seals (RFC 8617): the chain that a mail carries, and the set that we add to it."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.mail.canonical import Form, HeaderField, SplitContent, canonicalize_field
from shared.mail.dkim import choose_headers, complete, render_names
from shared.mail.signing import SigningRequest
from shared.mail.tags import WIDTH, parse_tags, render_tags

MOST_SETS = 50
"""Instances of a chain (RFC 8617 4.2.1)."""
MOST_OCTETS = 256 * 1024
"""Octets of all ARC fields of a mail; a chain beyond is not believed."""

RESULTS = b"arc-authentication-results"
SIGNATURE = b"arc-message-signature"
SEAL = b"arc-seal"

_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,3})[ \t\r\n]*(?:;|\Z)")
_SIGNATURE_TAGS = frozenset([b"i", b"a", b"b", b"bh", b"d", b"h", b"s"])
_SEAL_TAGS = frozenset([b"i", b"a", b"b", b"cv", b"d", b"s"])


class ChainStatus(StrEnum):
    """``cv=``: what became of the chain that a mail came with (RFC 8617 4.4)."""

    NONE = "none"
    """There was no chain."""
    PASS = "pass"  # noqa: S105 - a word of the RFC
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class ArcSet:
    """The three fields of one instance."""

    results: HeaderField
    signature: HeaderField
    signature_tags: Mapping[bytes, bytes]
    seal: HeaderField
    seal_tags: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain of a mail, by the look of it: no signature was checked."""

    sets: tuple[ArcSet, ...]
    """From instance 1 on; empty when there is no chain, or when it is broken."""
    highest: int
    """The highest instance that any ARC field names; 0 when there is no ARC field."""
    is_closed: bool
    """The latest seal says ``cv=fail``: nobody may seal it on."""
    problem: str
    """What is wrong with its structure; "" when nothing is."""


class _Broken(ValueError):
    """The structure of a chain is wrong; the text says how."""


def read_chain(mail: SplitContent) -> Chain:
    """The structural part of RFC 8617 5.2, steps 1 to 3. Never raises."""
    found = {kind: mail.named(kind) for kind in (RESULTS, SIGNATURE, SEAL)}
    fields = [field for same in found.values() for field in same]
    if not fields:
        return Chain((), 0, False, "")
    numbered = [(_instance(field), field) for field in fields]
    highest = max(1, *(number for number, _ in numbered))
    is_closed = any(number == highest and field.name == SEAL and _says_fail(field) for number, field in numbered)
    try:
        if sum(len(field.raw) for field in fields) > MOST_OCTETS:
            raise _Broken("the ARC fields are too long")
        return Chain(_order(numbered, highest), highest, is_closed, "")
    except ValueError as error:
        return Chain((), highest, is_closed, str(error))


def find_results(mail: SplitContent, authserv_id: str) -> str:
    """What our own Authentication-Results fields say (RFC 8601), without the authserv-id; ``none`` when there are none.

    Octets that are not UTF-8 are surrogates, as ``seal`` wants them.
    """
    said = []
    for field in mail.named(b"authentication-results"):
        value = field.raw.partition(b":")[2].replace(b"\r\n", b"").decode("utf-8", "surrogateescape")
        head, _, results = value.partition(";")
        # The authserv-id may be followed by a version (RFC 8601 2.2).
        if (
            head.split()[:1]
            and head.split()[0].lower() == authserv_id.lower()
            and results.strip(" \t;").lower() not in ("", "none")
        ):
            said.append(results.strip(" \t;"))
    return "; ".join(said) or "none"


def seal(
    content: bytes, request: SigningRequest, *, now: datetime, authserv_id: str, results: str, chain_status: ChainStatus
) -> bytes:
    """``content`` with one more ARC set on top (RFC 8617 5.1).

    ``results`` is what follows the authserv-id in ARC-Authentication-Results (``find_results``). ``chain_status`` is what
    ``shared.mail.arc_chain`` found about the chain that is there. Unchanged is a mail whose chain is closed or full.
    The canonicalization is always relaxed. Raises ValueError when ``chain_status`` contradicts the mail.
    """
    mail = SplitContent(content)
    chain = read_chain(mail)
    if chain.is_closed or chain.highest >= MOST_SETS:
        return content
    if (chain.highest == 0) != (chain_status is ChainStatus.NONE) or (chain.problem and chain_status is not ChainStatus.FAIL):
        raise ValueError(f"cv={chain_status} for a mail with {chain.highest} ARC sets")
    instance = str(chain.highest + 1)
    said = _render_results(instance, authserv_id, results)
    signature = _render_signature(mail, request, instance, now)
    seal_tags = [
        ("i", instance),
        ("a", str(request.key.algorithm)),
        ("cv", str(chain_status)),
        ("d", request.domain),
        ("s", request.selector),
        ("t", str(int(now.timestamp()))),
    ]
    # A chain that failed is left out: the new set is sealed as if it were the only one (RFC 8617 5.1.2).
    earlier = chain.sets if chain_status is ChainStatus.PASS else ()
    hashed = b"".join(render_set(one) for one in earlier) + b"".join(
        canonicalize_field(raw[:-2], Form.RELAXED) for raw in (said, signature)
    )
    return complete(render_tags("ARC-Seal", seal_tags), hashed, Form.RELAXED, request.key) + signature + said + content


def render_set(one: ArcSet) -> bytes:
    """The fields of a set as a later seal hashes them (RFC 8617 5.1.1)."""
    return b"".join(canonicalize_field(field.raw, Form.RELAXED) for field in (one.results, one.signature, one.seal))


def _render_results(instance: str, authserv_id: str, results: str) -> bytes:
    lines, line = [], f"ARC-Authentication-Results: i={instance}; {authserv_id};"
    # Folded at white space, which is what it stands for; line ends in it are white space too.
    for word in re.split("[ \t\r\n]+", results.strip(" \t\r\n")):
        if len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\r\n".join([*lines, line, ""]).encode("utf-8", "surrogateescape")


def _render_signature(mail: SplitContent, request: SigningRequest, instance: str, now: datetime) -> bytes:
    names = choose_headers(mail, request, also=[b"dkim-signature"])
    tags = [
        ("i", instance),
        ("a", str(request.key.algorithm)),
        ("c", "relaxed/relaxed"),
        ("d", request.domain),
        ("s", request.selector),
        ("t", str(int(now.timestamp()))),
    ]
    expires_at = request.expires_at(now)
    if expires_at is not None:
        tags.append(("x", str(int(expires_at.timestamp()))))
    tags.append(("h", render_names(names)))
    tags.append(("bh", base64.b64encode(mail.hash_body(Form.RELAXED)).decode("ascii")))
    unsigned = render_tags("ARC-Message-Signature", tags)
    return complete(unsigned, mail.render_header(names, Form.RELAXED), Form.RELAXED, request.key)


def _instance(field: HeaderField) -> int:
    """0 when the field names none. It comes first in ARC-Authentication-Results, anywhere in the others."""
    value = field.raw.partition(b":")[2]
    if field.name == RESULTS:
        found = _INSTANCE.match(value)
        return int(found[1]) if found else 0
    try:
        number = parse_tags(value).get(b"i", b"")
    except ValueError:
        return 0
    return int(number) if number.isdigit() and len(number) <= 3 else 0


def _says_fail(field: HeaderField) -> bool:
    try:
        return parse_tags(field.raw.partition(b":")[2]).get(b"cv", b"").lower() == b"fail"
    except ValueError:
        return False


def _order(numbered: list[tuple[int, HeaderField]], highest: int) -> tuple[ArcSet, ...]:
    """The sets in order. Raises ValueError when they are no chain (RFC 8617 5.2, step 3)."""
    if highest > MOST_SETS:
        raise _Broken(f"more than {MOST_SETS} sets")
    placed: dict[tuple[int, bytes], HeaderField] = {}
    for number, field in numbered:
        if number < 1:
            raise _Broken("an ARC field without an instance")
        if (number, field.name) in placed:
            raise _Broken(f"instance {number} has two {field.name.decode()}")
        placed[number, field.name] = field
    sets = []
    for number in range(1, highest + 1):
        fields = [placed.get((number, kind)) for kind in (RESULTS, SIGNATURE, SEAL)]
        results, signature, sealing = fields
        if results is None or signature is None or sealing is None:
            raise _Broken(f"instance {number} is not complete")
        sets.append(_read_set(results, signature, sealing, number))
    return tuple(sets)


def _read_set(results: HeaderField, signature: HeaderField, sealing: HeaderField, number: int) -> ArcSet:
    signature_tags = parse_tags(signature.raw.partition(b":")[2])
    seal_tags = parse_tags(sealing.raw.partition(b":")[2])
    if not (signature_tags.keys() >= _SIGNATURE_TAGS and seal_tags.keys() >= _SEAL_TAGS):
        raise _Broken(f"instance {number} lacks a tag")
    if b"h" in seal_tags:
        raise _Broken(f"the seal of instance {number} has h=")
    expected = b"none" if number == 1 else b"pass"
    if seal_tags[b"cv"].lower() != expected:
        raise _Broken(f"the seal of instance {number} says cv={seal_tags[b'cv'][:10].decode('latin-1')}")
    return ArcSet(results, signature, signature_tags, sealing, seal_tags)
