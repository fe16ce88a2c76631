"""Where a mail goes, asked of a real name server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from services.smtp_sender.route import MOST_ADDRESSES, MOST_NAMES, Host, Resolver
from services.smtp_sender.session import Ending
from shared.trouble import Unavailable
from shared.wire.result import Result, State
from tests.support.dns_zone import ZoneServer
from tests.support.waiting import free_ports

ZONE: Mapping[str, Any] = {
    "two.example": {"MX": [(20, "mx2.two.example"), (10, "mx1.two.example")]},
    "mx1.two.example": {"A": "198.51.100.1", "AAAA": "2001:db8::1"},
    "mx2.two.example": {"A": "198.51.100.2"},
    "plain.example": {"A": "198.51.100.3"},
    "six.example": {"AAAA": "2001:db8::6"},
    "nothing.example": {"TXT": "no mail here"},
    "null.example": {"MX": "0 ."},
    "alias.example": {"CNAME": "two.example"},
    "mxalias.example": {"MX": "10 alias-host.example"},
    "alias-host.example": {"CNAME": "mx2.two.example"},
    "broken.example": "SERVFAIL",
    "closed.example": "REFUSED",
    "silent.example": "SILENT",
    "nohost.example": {"MX": [(10, "gone.example"), (20, "nothing.example")]},
    "halfhost.example": {"MX": [(10, "gone.example"), (20, "mx2.two.example")]},
    "brokenhost.example": {"MX": [(10, "gone.example"), (20, "broken.example")]},
    "many.example": {"MX": [(number, f"m{number}.many.example") for number in range(50)]},
    **{f"m{number}.many.example": {"A": f"198.51.100.{number}"} for number in range(50)},
    "lost.example": {"MX": [(number, f"gone{number}.example") for number in range(50)]},
    "equal.example": {"MX": [(10, f"m{number}.many.example") for number in range(8)]},
    "half-a.example": {"A": "SERVFAIL", "AAAA": "2001:db8::7"},
    "short.example": {"A": "198.51.100.9", "TTL": 1},
}


async def find(domain: str, *, zone: Mapping[str, Any] = ZONE) -> list[Host] | Ending:
    async with ZoneServer(zone) as dns:
        return await Resolver((dns.address,), 1.0).find_hosts(domain)


async def found(domain: str) -> list[tuple[str, str]]:
    hosts = await find(domain)
    assert isinstance(hosts, list), hosts
    return [(host.name, host.address) for host in hosts]


async def test_by_preference_with_all_addresses() -> None:
    assert await found("two.example") == [
        ("mx1.two.example", "198.51.100.1"),
        ("mx1.two.example", "2001:db8::1"),
        ("mx2.two.example", "198.51.100.2"),
    ]


async def test_without_mx_the_domain_itself() -> None:
    assert await found("plain.example") == [("plain.example", "198.51.100.3")]
    assert await found("six.example") == [("six.example", "2001:db8::6")]
    assert await found("half-a.example") == [("half-a.example", "2001:db8::7")]


async def test_aliases() -> None:
    assert [address for _, address in await found("alias.example")] == ["198.51.100.1", "2001:db8::1", "198.51.100.2"]
    assert await found("mxalias.example") == [("alias-host.example", "198.51.100.2")]


async def test_an_exchanger_without_an_address_is_passed_over() -> None:
    assert await found("halfhost.example") == [("mx2.two.example", "198.51.100.2")]


@pytest.mark.parametrize(
    ("domain", "result", "code", "status", "text"),
    [
        ("gone.example", Result.ERROR, 554, "5.1.2", "gone.example does not exist"),
        ("null.example", Result.ERROR, 556, "5.1.10", "accepts no mail (null MX)"),
        ("nothing.example", Result.ERROR, 554, "5.1.2", "has no MX, no A and no AAAA record"),
        ("nohost.example", Result.ERROR, 554, "5.4.4", "no mail exchanger of nohost.example has an address"),
        ("lost.example", Result.ERROR, 554, "5.4.4", "no mail exchanger of lost.example has an address"),
        ("a..b", Result.ERROR, 554, "5.1.2", "no name that DNS can hold"),
        (".".join(["x" * 60] * 5), Result.ERROR, 554, "5.1.2", "no name that DNS can hold"),
        ("x" * 64 + ".example", Result.ERROR, 554, "5.1.2", "no name that DNS can hold"),
        ("broken.example", Result.TIMEOUT, None, None, "SERVFAIL"),
        ("closed.example", Result.TIMEOUT, None, None, "answer with a failure"),
        ("silent.example", Result.TIMEOUT, None, None, "no answer"),
        ("brokenhost.example", Result.TIMEOUT, None, None, "SERVFAIL"),
    ],
)
async def test_no_way(domain: str, result: Result, code: int | None, status: str | None, text: str) -> None:
    ending = await find(domain)
    assert isinstance(ending, Ending)
    assert (ending.state, ending.result, ending.code, ending.status) == (State.DNS, result, code, status)
    assert ending.text is not None
    assert text in ending.text


def count_of_addresses(dns: ZoneServer) -> int:
    return sum(count for (_, kind), count in dns.queries.items() if kind in ("A", "AAAA"))


async def test_a_domain_with_many_exchangers_costs_a_few_questions() -> None:
    async with ZoneServer(ZONE) as dns:
        resolver = Resolver((dns.address,), 1.0)
        hosts = await resolver.find_hosts("many.example")
        assert isinstance(hosts, list)
        assert [host.name for host in hosts] == [f"m{number}.many.example" for number in range(MOST_ADDRESSES)]
        assert count_of_addresses(dns) == 2 * MOST_ADDRESSES
        await resolver.find_hosts("lost.example")
        assert count_of_addresses(dns) == 2 * MOST_ADDRESSES + 2 * MOST_NAMES


async def test_equal_preferences_are_shuffled() -> None:
    async with ZoneServer(ZONE) as dns:
        resolver = Resolver((dns.address,), 1.0)
        firsts = set()
        for _ in range(60):
            hosts = await resolver.find_hosts("equal.example")
            assert isinstance(hosts, list)
            firsts.add(hosts[0].name)
    assert len(firsts) >= 4


async def test_answers_are_kept_the_negative_ones_too() -> None:
    async with ZoneServer(ZONE) as dns:
        resolver = Resolver((dns.address,), 1.0)
        for _ in range(5):
            await resolver.find_hosts("two.example")
            await resolver.find_hosts("gone.example")
            await resolver.find_hosts("null.example")
        assert dns.queries["two.example", "MX"] == 1
        assert dns.queries["gone.example", "MX"] == 1
        assert dns.queries["null.example", "MX"] == 1


async def test_no_resolver_at_all_is_our_own_trouble() -> None:
    [port] = free_ports(1)
    with pytest.raises(Unavailable, match="no resolver answers"):
        await Resolver((f"127.0.0.1:{port}",), 0.5).find_hosts("two.example")


async def test_a_resolver_that_cannot_be_reached_is_our_own_trouble() -> None:
    """The kernel refuses to send: dnspython gives up at once, which must not look like SERVFAIL."""
    with pytest.raises(Unavailable, match="no resolver answers"):
        await Resolver(("255.255.255.255",), 0.5).find_hosts("two.example")


async def test_a_resolver_that_is_silent_about_everything_is_our_own_trouble() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no resolver answers"):
        await find("two.example", zone={"two.example": "SILENT", ".": "SILENT"})
    assert time.monotonic() - began < 8


async def test_the_second_resolver_answers() -> None:
    [port] = free_ports(1)
    async with ZoneServer(ZONE) as dns:
        hosts = await Resolver((f"127.0.0.1:{port}", dns.address), 1.0).find_hosts("plain.example")
    assert hosts == [Host("plain.example", "198.51.100.3")]
