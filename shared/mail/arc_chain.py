"""Is an ARC chain valid? (RFC 8617 5.2). Only so may a seal say ``cv=pass``."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from shared.mail.arc import ArcSet, Chain, ChainStatus, read_chain, render_set
from shared.mail.canonical import Form, SplitContent, canonicalize_field
from shared.mail.dkim import check_algorithm, decode_base64, verify_signature
from shared.mail.signing_keys import PublicKey, parse_key_record
from shared.mail.tags import empty_signature, remove_folding

FetchTxt = Callable[[str], Awaitable[bytes | None]]
"""The strings of the TXT record of a name, joined; None when there is none. What it raises for a failure that may pass propagates."""

_NAME = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,250}[A-Za-z0-9_])?")


async def validate_chain(content: bytes, fetch_txt: FetchTxt, *, now: datetime) -> ChainStatus:
    """The status of the chain of ``content``. At most one look-up per key, all at once, none for a chain that is broken anyway."""
    mail = SplitContent(content)
    chain = read_chain(mail)
    return verify_chain(mail, chain, await fetch_records(chain, fetch_txt), now=now)


async def fetch_records(chain: Chain, fetch_txt: FetchTxt) -> Mapping[str, bytes | None]:
    """The key records that ``verify_chain`` needs."""
    if chain.problem or chain.is_closed:
        return {}
    needed = [one.seal_tags for one in chain.sets] + [one.signature_tags for one in chain.sets[-1:]]
    names = sorted({name for tags in needed if (name := key_name(tags))})
    return dict(zip(names, await asyncio.gather(*map(fetch_txt, names)), strict=True))


def key_name(tags: Mapping[bytes, bytes]) -> str | None:
    """The domain name of the key of a signature (RFC 6376 3.6.2.1); None when it cannot be one."""
    selector, domain = tags[b"s"], tags[b"d"]
    if not (_NAME.fullmatch(selector) and _NAME.fullmatch(domain)):
        return None
    name = f"{selector.decode('ascii')}._domainkey.{domain.decode('ascii')}".lower()
    return name if len(name) <= 253 and ".." not in name else None


def verify_chain(mail: SplitContent, chain: Chain, records: Mapping[str, bytes | None], *, now: datetime) -> ChainStatus:
    """The status of ``chain``, the chain of ``mail``, with the key records of its signers. Never raises."""
    if chain.highest == 0:
        return ChainStatus.NONE
    if chain.problem or chain.is_closed:
        return ChainStatus.FAIL
    try:
        _verify_latest(mail, chain.sets[-1], records, now)
        _verify_seals(chain, records)
    except ValueError:
        return ChainStatus.FAIL
    return ChainStatus.PASS


def _verify_latest(mail: SplitContent, latest: ArcSet, records: Mapping[str, bytes | None], now: datetime) -> None:
    """The newest ARC-Message-Signature holds: the mail is as its signer passed it on."""
    tags = latest.signature_tags
    names = remove_folding(tags[b"h"]).lower().split(b":")
    if b"arc-seal" in names or b"authentication-results" in names:
        raise ValueError("h= names a field that must not be signed")
    expires = tags.get(b"x", b"")
    if expires and not (expires.isdigit() and len(expires) <= 12 and int(expires) > now.timestamp()):
        raise ValueError("the signature has expired")
    verify_signature(mail, latest.signature, tags, _find_key(tags, records))


def _verify_seals(chain: Chain, records: Mapping[str, bytes | None]) -> None:
    """Every ARC-Seal holds. Each covers all sets before it, so the hash is carried along."""
    so_far = hashlib.sha256()
    for one in chain.sets:
        tags = one.seal_tags
        key = _find_key(tags, records)
        check_algorithm(tags, key)
        sealed = so_far.copy()
        for raw in (one.results.raw, one.signature.raw):
            sealed.update(canonicalize_field(raw, Form.RELAXED))
        sealed.update(canonicalize_field(empty_signature(one.seal.raw), Form.RELAXED)[:-2])
        if not key.verify(sealed.digest(), decode_base64(tags[b"b"])):
            raise ValueError("a seal does not match")
        so_far.update(render_set(one))


def _find_key(tags: Mapping[bytes, bytes], records: Mapping[str, bytes | None]) -> PublicKey:
    name = key_name(tags)
    record = records.get(name) if name else None
    if record is None:
        raise ValueError("there is no such key")
    return parse_key_record(record)
