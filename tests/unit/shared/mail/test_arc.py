"""ARC: our chains hold for dkimpy, what is broken is told, and nothing is sealed that must not be."""

import re
from collections.abc import Mapping
from datetime import timedelta

import dkim  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.arc import MOST_SETS, ChainStatus, find_results, read_chain, seal
from shared.mail.arc_chain import fetch_records, key_name, validate_chain
from shared.mail.canonical import SplitContent
from shared.mail.dkim import sign
from shared.mail.tags import parse_tags
from tests.unit.shared.mail.signing_world import MAIL, NOW, RECORDS, RSA, dns, fetch_txt, pem, request, seal_holds_by_the_book

ID = "mx.example.com"


async def add(content: bytes, selector: str = "r", *, status: ChainStatus | None = None, results: str = "spf=pass") -> bytes:
    status = await validate_chain(content, fetch_txt, now=NOW) if status is None else status
    return seal(content, request(selector), now=NOW, authserv_id=ID, results=results, chain_status=status)


async def chain_of(length: int) -> bytes:
    content = sign(MAIL, [request()], now=NOW)
    for number in range(length):
        content = await add(content, "er"[number % 2])
    return content


def dkimpy_says(content: bytes) -> bytes | None:
    status: bytes | None = dkim.arc_verify(content, dnsfunc=dns)[0]
    return status


async def ours(content: bytes) -> ChainStatus:
    return await validate_chain(content, fetch_txt, now=NOW)


async def test_a_mail_without_a_chain() -> None:
    assert await ours(MAIL) is ChainStatus.NONE
    assert read_chain(SplitContent(MAIL)).highest == 0


@pytest.mark.parametrize("selector", ["r", "e", "small"])
async def test_chains_of_one_two_and_three_sets_hold(selector: str) -> None:
    content = sign(MAIL, [request()], now=NOW)
    for number in range(1, 4):
        content = await add(content, selector)
        # dkimpy knows no Ed25519 in ARC.
        assert dkimpy_says(content) == (b"fail" if selector == "e" else b"pass")
        assert all(seal_holds_by_the_book(content, one) for one in range(1, number + 1))
        assert await ours(content) is ChainStatus.PASS
        sealed = parse_tags(SplitContent(content).named(b"arc-seal")[0].raw.partition(b":")[2])
        assert (int(sealed[b"i"]), sealed[b"cv"]) == (number, b"none" if number == 1 else b"pass")
    # RFC 8617 5.1: the set stands on top of the mail, which is not touched.
    assert [field.name for field in SplitContent(content).fields[:3]] == [
        *(b"arc-seal", b"arc-message-signature", b"arc-authentication-results")
    ]
    assert content.endswith(MAIL)


async def test_sealers_with_keys_of_both_kinds_in_one_chain() -> None:
    content = await chain_of(4)
    assert all(seal_holds_by_the_book(content, one) for one in range(1, 5))
    assert not any(seal_holds_by_the_book(content, one, alone=True) for one in range(2, 5))
    assert await ours(content) is ChainStatus.PASS


async def test_a_chain_that_dkimpy_made_holds() -> None:
    results = b"Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=a@example.com\r\n" + MAIL
    made = dkim.arc_sign(results, b"r", b"example.com", pem(RSA).encode(), ID.encode(), timestamp=int(NOW.timestamp()))
    content = b"".join(line.rstrip(b"\r\n") + b"\r\n" for line in made) + results
    assert await ours(content) is ChainStatus.PASS
    assert dkimpy_says(await add(content)) == b"pass"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"friend", b"fiend"),
        (b"Subject:   odd", b"Subject: old"),
        (b"spf=pass", b"spf=fail"),
        (b"\r\nTo: Joe", b"\r\nFrom: second@example.com\r\nTo: Joe"),
        (b"ARC-Seal: i=1; a=ed25519-sha256; cv=none", b"ARC-Seal: i=1; a=ed25519-sha256; cv=pass"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=3;"),
        (b"ARC-Seal: i=1;", b"X-Seal: i=1;"),
        (b"ARC-Seal: i=1;", b"ARC-Seal: i=1; h=from;"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: j=1;"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: i=2;"),
        (b"ARC-Message-Signature: i=2; a=rsa-sha256;", b"ARC-Message-Signature: i=2; a=rsa-sha1;"),
        (b"ARC-Message-Signature: i=2; a=rsa-sha256;", b"ARC-Message-Signature: i=2;"),
        (b"ARC-Message-Signature: i=2; a=rsa-sha256;", b"ARC-Message-Signature: i=2; a=ed25519-sha256;"),
        (b"d=example.com; s=e;", b"d=example.net; s=e;"),
        (b"; s=r;", b"; s=r.;"),
        (b"; s=r;", b"; s=\xff;"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2; x;"),
    ],
)
async def test_a_chain_that_was_tampered_with_fails(old: bytes, new: bytes) -> None:
    content = await chain_of(2)
    content = re.sub(rb"s=r;\r\n t=", b"s=r; t=", content) if old == b"; s=r;" else content
    assert old in content
    changed = content.replace(old, new)
    assert await ours(changed) is ChainStatus.FAIL
    # The failure is sealed: over the new set alone, for all to see.
    sealed = await add(changed)
    tags = parse_tags(SplitContent(sealed).named(b"arc-seal")[0].raw.partition(b":")[2])
    assert tags[b"cv"] == b"fail"
    assert dkimpy_says(sealed) != b"pass"
    assert await ours(sealed) is ChainStatus.FAIL


async def test_a_closed_chain_is_not_sealed_on() -> None:
    failed = await add((await chain_of(2)).replace(b"friend", b"fiend"))
    assert read_chain(SplitContent(failed)).is_closed
    assert await add(failed) is failed
    assert seal_holds_by_the_book(failed, 3, alone=True)
    asked = []

    async def remember(name: str) -> bytes | None:
        asked.append(name)
        return RECORDS.get(name)

    assert await validate_chain(failed, remember, now=NOW) is ChainStatus.FAIL
    assert asked == []


async def test_a_chain_may_have_fifty_sets() -> None:
    content = MAIL
    for _ in range(MOST_SETS):
        content = await add(content, "e")
    assert await ours(content) is ChainStatus.PASS
    assert await add(content) is content
    assert await ours(content.replace(b" i=50;", b" i=51;")) is ChainStatus.FAIL


async def test_keys_are_asked_for_once_and_must_be_there() -> None:
    content = await chain_of(3)
    asked = []

    async def remember(name: str) -> bytes | None:
        asked.append(name)
        return RECORDS.get(name)

    assert await validate_chain(content, remember, now=NOW) is ChainStatus.PASS
    assert asked == ["e._domainkey.example.com", "r._domainkey.example.com"]

    async def nothing(name: str) -> bytes | None:
        return None

    async def wrong(name: str) -> bytes | None:
        return RECORDS["small._domainkey.example.com"]

    async def broken(name: str) -> bytes | None:
        raise TimeoutError

    assert await validate_chain(content, nothing, now=NOW) is ChainStatus.FAIL
    assert await validate_chain(content, wrong, now=NOW) is ChainStatus.FAIL
    with pytest.raises(TimeoutError):
        await validate_chain(content, broken, now=NOW)


async def test_an_expired_signature_fails() -> None:
    wanted = request("e", expire=60)
    content = seal(MAIL, wanted, now=NOW, authserv_id=ID, results="none", chain_status=ChainStatus.NONE)
    assert await ours(content) is ChainStatus.PASS
    assert await validate_chain(content, fetch_txt, now=NOW + timedelta(seconds=60)) is ChainStatus.FAIL


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({b"s": b"S1", b"d": b"Example.COM"}, "s1._domainkey.example.com"),
        ({b"s": b"a.b", b"d": b"x"}, "a.b._domainkey.x"),
        ({b"s": b"a..b", b"d": b"x"}, None),
        ({b"s": b"", b"d": b"x"}, None),
        ({b"s": b"a", b"d": b"\xc3\xbc.example"}, None),
        ({b"s": b"a", b"d": b"x y"}, None),
        ({b"s": b"a", b"d": b"x" * 250}, None),
    ],
)
def test_names_of_keys(tags: Mapping[bytes, bytes], name: str | None) -> None:
    assert key_name(tags) == name


async def test_no_look_ups_for_a_broken_structure() -> None:
    content = (await chain_of(2)).replace(b"ARC-Seal: i=2;", b"X: i=2;")
    chain = read_chain(SplitContent(content))
    assert chain.problem == "instance 2 is not complete"
    assert await fetch_records(chain, fetch_txt) == {}


def test_the_status_must_suit_the_mail() -> None:
    for status in (ChainStatus.PASS, ChainStatus.FAIL):
        with pytest.raises(ValueError, match="0 ARC sets"):
            seal(MAIL, request(), now=NOW, authserv_id=ID, results="none", chain_status=status)
    with pytest.raises(ValueError, match="1 ARC sets"):
        seal(b"ARC-Seal: x\r\n" + MAIL, request(), now=NOW, authserv_id=ID, results="none", chain_status=ChainStatus.PASS)


@pytest.mark.parametrize(
    ("header", "results"),
    [
        (b"", "none"),
        (b"Authentication-Results: mx.example.com; none\r\n", "none"),
        (b"Authentication-Results: other.example; spf=pass\r\n", "none"),
        (b"Authentication-Results: MX.example.com 1; spf=pass smtp.mailfrom=a@b\r\n", "spf=pass smtp.mailfrom=a@b"),
        (b"Authentication-Results: mx.example.com;\r\n\tspf=pass;\r\n dkim=fail\r\n", "spf=pass; dkim=fail"),
        (
            b"Authentication-Results: mx.example.com; a=pass\r\nAuthentication-Results: mx.example.com; b=pass;\r\n",
            "a=pass; b=pass",
        ),
        (b"Authentication-Results:\r\n", "none"),
        (b"Authentication-Results: mx.example.com; a=pass (\xff)\r\n", "a=pass (\udcff)"),
    ],
)
async def test_results_are_those_of_our_own_name(header: bytes, results: str) -> None:
    found = find_results(SplitContent(header + MAIL), ID)
    assert found.replace(";\t", "; ") == results
    sealed = await add(header + MAIL, results=found)
    assert await ours(sealed) is ChainStatus.PASS
    assert dkimpy_says(sealed) == b"pass"


async def test_long_results_are_folded() -> None:
    sealed = await add(MAIL, results="; ".join(["dkim=pass header.d=example.com"] * 100))
    assert max(map(len, sealed.split(b"\r\n"))) <= 80
    assert await ours(sealed) is ChainStatus.PASS
    assert dkimpy_says(sealed) == b"pass"


async def test_line_ends_in_results_are_no_way_into_the_header() -> None:
    sealed = await add(MAIL, results="spf=pass\r\nX-Evil: yes\r\n\r\n")
    assert SplitContent(sealed).named(b"x-evil") == []
    assert sealed.endswith(b"ARC-Authentication-Results: i=1; mx.example.com; spf=pass X-Evil: yes\r\n" + MAIL)
    assert await ours(sealed) is ChainStatus.PASS


ARC_LINES = st.lists(
    st.tuples(
        st.sampled_from([b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b"arc-seal "]),
        st.one_of(
            st.binary(max_size=30).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
            st.sampled_from(
                [b" i=1; a=rsa-sha256; cv=none; d=x; s=y; b=A; bh=A; h=from", b" i=99", b" i=2; cv=fail", b"i=1; b", b""]
            ),
        ),
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=200, deadline=None)
@given(lines=ARC_LINES)
async def test_garbage_is_a_failed_chain_and_nothing_worse(lines: list[tuple[bytes, bytes]]) -> None:
    content = b"".join(b"%s:%s\r\n" % line for line in lines) + MAIL
    assert await ours(content) is ChainStatus.FAIL
    assert (await add(content, "e")).endswith(content)
