"""The zone server, asked by dnspython over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import pytest

from tests.support.dns_zone import NotAZone, ZoneServer, parse_zone_file

ZONE = {
    "good.example": {"MX": [(10, "mx1.good.example"), (20, "mx2.good.example")], "TTL": 30},
    "mx1.good.example": {"A": "127.0.1.1", "AAAA": ["::1"]},
    "mx2.good.example": {"A": ["127.0.1.2", "127.0.1.3"]},
    "nullmx.example": {"MX": "0 ."},
    "alias.example": {"CNAME": "second.example"},
    "second.example": {"CNAME": "good.example"},
    "loop.example": {"CNAME": "loop.example"},
    "text.example": {"TXT": '"v=spf1 -all" "second string"'},
    "*.many.example": {"MX": "10 mx1.good.example"},
    "fixed.many.example": {"A": "127.0.1.1"},
    "deep.er.example": {"A": "127.0.0.9"},
    "big.example": {"MX": [(number, f"mail-exchanger-number-{number}.big.example") for number in range(50)]},
    "broken.example": "SERVFAIL",
    "closed.example": "REFUSED",
    "silent.example": "SILENT",
    "half.example": {"MX": "SERVFAIL", "A": "127.0.1.1"},
    "slow.example": {"DELAY": 0.1, "A": "127.0.1.1"},
}


@pytest.fixture
async def server() -> AsyncIterator[ZoneServer]:
    """Serves ZONE."""
    async with ZoneServer(ZONE) as running:
        yield running


async def ask(server: ZoneServer, name: str, kind: str, *, edns: int | bool = False) -> dns.message.Message:
    """One question by UDP."""
    return await dns.asyncquery.udp(dns.message.make_query(name, kind, use_edns=edns), server.host, 5, server.port)


def texts(response: dns.message.Message) -> list[str]:
    """The answer section, a record each; sorted and in lower case, since the server shuffles and names compress to the question."""
    return [f"{rrset.name} {rrset.ttl} {record}".lower() for rrset in response.answer for record in sorted(rrset)]


async def test_it_answers_with_authority(server: ZoneServer) -> None:
    response = await ask(server, "Good.Example", "MX")
    assert response.flags & dns.flags.AA
    assert texts(response) == ["good.example. 30 10 mx1.good.example.", "good.example. 30 20 mx2.good.example."]
    assert texts(await ask(server, "mx1.good.example", "AAAA")) == ["mx1.good.example. 60 ::1"]
    assert len(texts(await ask(server, "mx2.good.example", "A"))) == 2
    assert texts(await ask(server, "text.example", "TXT")) == ['text.example. 60 "v=spf1 -all" "second string"']
    assert texts(await ask(server, "nullmx.example", "MX")) == ["nullmx.example. 60 0 ."]
    assert server.queries["good.example", "MX"] == 1
    assert server.query_count == 5


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("unknown.example", "MX", "NXDOMAIN"),
        ("unknown", "MX", "NXDOMAIN"),
        ("x.good.example", "A", "NXDOMAIN"),
        ("good.example", "A", "NOERROR"),
        ("er.example", "A", "NOERROR"),
        ("example", "A", "NOERROR"),
        ("many.example", "MX", "NOERROR"),
        ("fixed.many.example", "MX", "NOERROR"),
        ("x.fixed.many.example", "MX", "NXDOMAIN"),
        ("loop.example", "A", "NOERROR"),
        ("broken.example", "MX", "SERVFAIL"),
        ("closed.example", "A", "REFUSED"),
        ("half.example", "MX", "SERVFAIL"),
        ("half.example", "A", "NOERROR"),
    ],
)
async def test_what_there_is_not(server: ZoneServer, name: str, kind: str, rcode: str) -> None:
    response = await ask(server, name, kind)
    assert dns.rcode.to_text(response.rcode()) == rcode
    found = name == "half.example" and kind == "A"
    assert bool(response.answer) == (found or name == "loop.example")
    negative = rcode in ("NXDOMAIN", "NOERROR") and not found
    assert bool(response.authority) == negative, "an SOA for the negative TTL"


async def test_aliases_are_followed_and_wildcards_cover_what_is_below(server: ZoneServer) -> None:
    assert texts(await ask(server, "alias.example", "MX")) == [
        "alias.example. 60 second.example.",
        "second.example. 60 good.example.",
        "good.example. 30 10 mx1.good.example.",
        "good.example. 30 20 mx2.good.example.",
    ]
    for name in ("a.many.example", "b.c.many.example"):
        assert texts(await ask(server, name, "MX")) == [f"{name}. 60 10 mx1.good.example."]


async def test_a_large_answer_is_truncated_by_udp_and_whole_by_tcp_or_edns(server: ZoneServer) -> None:
    small = await ask(server, "big.example", "MX")
    assert small.flags & dns.flags.TC
    query = dns.message.make_query("big.example", "MX")
    whole, used_tcp = await dns.asyncquery.udp_with_fallback(query, server.host, 5, server.port)
    assert (used_tcp, len(texts(whole))) == (True, 50)
    query = dns.message.make_query("big.example", "MX", use_edns=0, payload=4096)
    response = await dns.asyncquery.udp(query, server.host, 5, server.port)
    assert len(texts(response)) == 50


async def test_silence(server: ZoneServer) -> None:
    query = dns.message.make_query("silent.example", "MX")
    with pytest.raises(dns.exception.Timeout):
        await dns.asyncquery.udp(query, server.host, 0.2, server.port)
    assert server.queries["silent.example", "MX"] == 1


async def test_a_slow_name_holds_up_nobody_else(server: ZoneServer) -> None:
    slow = asyncio.create_task(ask(server, "slow.example", "A"))
    await ask(server, "mx1.good.example", "A")
    assert not slow.done()
    assert len(texts(await slow)) == 1


async def test_bytes_that_are_no_dns_are_ignored(server: ZoneServer) -> None:
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"\x00\x05hello")
    loop = asyncio.get_running_loop()
    udp, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(server.host, server.port))
    udp.sendto(b"hello")
    assert texts(await ask(server, "mx1.good.example", "A"))
    udp.close()
    writer.close()
    await writer.wait_closed()


async def test_names_come_and_go_while_it_runs(server: ZoneServer) -> None:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [server.host], server.port
    with pytest.raises(dns.resolver.NXDOMAIN):
        await resolver.resolve("new.example", "MX")
    server.put("new.example", {"MX": "10 mx1.good.example"})
    assert [str(record) for record in await resolver.resolve("new.example", "MX")] == ["10 mx1.good.example."]
    server.put("new.example", "SERVFAIL")
    with pytest.raises(dns.resolver.NoNameservers):
        await resolver.resolve("new.example", "MX")
    server.remove("new.example")
    with pytest.raises(dns.resolver.NXDOMAIN):
        await resolver.resolve("new.example", "MX")


async def test_zone_files(tmp_path: Path) -> None:
    as_json = tmp_path / "zone.json"
    as_json.write_text(json.dumps(ZONE))
    as_text = tmp_path / "zone.txt"
    as_text.write_text(
        "; a comment\ngood.example. 30 IN MX 10 mx1.good.example.\n 30 IN MX 20 mx2.good.example.\n"
        "mx1.good.example. A 127.0.1.1\n!SERVFAIL broken.example\n!SILENT silent.example.\n"
    )
    for path in (as_json, as_text):
        async with ZoneServer(parse_zone_file(path)) as server:
            assert len(texts(await ask(server, "good.example", "MX"))) == 2, path
            assert texts(await ask(server, "mx1.good.example", "A")) == ["mx1.good.example. 60 127.0.1.1"]
            assert (await ask(server, "broken.example", "A")).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("zone.json", "[]", "expected an object"),
        ("zone.json", '{"a.example": "BROKEN"}', "'BROKEN' is none of"),
        ("zone.json", '{"a.example": 5}', "expected an object of record types"),
        ("zone.json", '{"a.example": {"A": "somewhere"}}', "'a.example', A 'somewhere'"),
        ("zone.json", '{"a.example": {"NONSENSE": "x"}}', "NONSENSE"),
        ("zone.json", '{"a.example": {"TTL": "x"}}', "TTL 'x'"),
        ("zone.txt", "good.example. MX mx1\n", "zone"),
        ("zone.txt", "!BROKEN a.example\n", "'BROKEN' is none of"),
    ],
)
def test_a_zone_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(NotAZone, match=reason) as caught:
        parse_zone_file(path)
    assert str(path) in str(caught.value)
