"""Where a mail goes, asked of a real name server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from services.smtp_sender.lookup import BRIEF, HITS, LOOKUPS
from services.smtp_sender.route import MOST_ADDRESSES, MOST_NAMES, Host, Resolver
from services.smtp_sender.session import Ending
from shared.trouble import Unavailable
from shared.wire.result import Result, State
from tests.support.dns_zone import NEGATIVE_TTL, ZoneServer
from tests.support.waiting import free_ports, until

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


# --- how often is asked


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_thousand_mails_at_once_are_one_question() -> None:
    zone = {**ZONE, "mx1.two.example": {"A": "198.51.100.1", "DELAY": 0.1}}
    async with ZoneServer(zone) as dns:
        resolver = Resolver((dns.address,), 1.0)
        asked = LOOKUPS._value.get()
        answers = await asyncio.gather(*(resolver.find_hosts("two.example") for _ in range(1000)))
        assert all(answer == answers[0] for answer in answers)
        assert len(answers[0] if isinstance(answers[0], list) else []) == 2
        assert dict(dns.queries) == {
            ("two.example", "MX"): 1,
            ("mx1.two.example", "A"): 1,
            ("mx1.two.example", "AAAA"): 1,
            ("mx2.two.example", "A"): 1,
            ("mx2.two.example", "AAAA"): 1,
        }
        assert LOOKUPS._value.get() - asked == 5
        hits = HITS._value.get()
        await resolver.find_hosts("two.example")
        assert HITS._value.get() - hits == 5


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    async with ZoneServer({"x.example": {"A": "198.51.100.1", "DELAY": 0.2}}) as dns:
        resolver = Resolver((dns.address,), 1.0)
        first = asyncio.create_task(resolver.find_addresses("x.example"))
        second = asyncio.create_task(resolver.find_addresses("x.example"))
        await until(lambda: dns.queries["x.example", "A"], every=0.001)
        first.cancel()
        assert await second == [Host("x.example", "198.51.100.1")]
        assert dns.queries["x.example", "A"] == 1


@pytest.mark.parametrize(
    ("domain", "holds"),
    [
        ("plain.example", 60),
        ("short.example", 1),
        ("gone.example", NEGATIVE_TTL),
        ("nothing.example", NEGATIVE_TTL),
        ("broken.example", BRIEF),
        ("closed.example", BRIEF),
    ],
)
async def test_how_long_an_answer_holds(domain: str, holds: float) -> None:
    """Its TTL; that there is none, as long as the SOA says (RFC 2308); that the domain is broken, a moment."""
    clock = Clock()
    async with ZoneServer(ZONE) as dns:
        resolver = Resolver((dns.address,), 1.0, clock=clock)
        await resolver.find_addresses(domain)
        asked = dns.queries[domain, "A"]
        clock.now += holds - 0.1
        await resolver.find_addresses(domain)
        assert dns.queries[domain, "A"] == asked
        clock.now += 0.2
        await resolver.find_addresses(domain)
        assert dns.queries[domain, "A"] == 2 * asked


async def test_silence_about_one_name_is_remembered_for_a_moment() -> None:
    clock = Clock()
    async with ZoneServer(ZONE) as dns:
        resolver = Resolver((dns.address,), 0.3, clock=clock)
        first = await resolver.find_hosts("silent.example")
        asked = dns.queries["silent.example", "MX"]
        assert await resolver.find_hosts("silent.example") == first
        assert dns.queries["silent.example", "MX"] == asked
        dns.put("silent.example", {"MX": "10 mx2.two.example"})
        clock.now += BRIEF
        assert await resolver.find_hosts("silent.example") == [Host("mx2.two.example", "198.51.100.2")]


async def test_that_no_resolver_answers_is_not_remembered() -> None:
    [port] = free_ports(1)
    resolver = Resolver((f"127.0.0.1:{port}",), 0.5)
    with pytest.raises(Unavailable):
        await resolver.find_hosts("plain.example")
    async with ZoneServer(ZONE, listen=(f"127.0.0.1:{port}",)):
        assert await resolver.find_hosts("plain.example") == [Host("plain.example", "198.51.100.3")]


async def test_names_are_the_same_in_any_case() -> None:
    async with ZoneServer(ZONE) as dns:
        resolver = Resolver((dns.address,), 1.0)
        await resolver.find_hosts("PLAIN.example")
        await resolver.find_hosts("plain.EXAMPLE")
        assert dns.queries["plain.example", "MX"] == 1


async def test_a_domain_that_is_known_costs_little() -> None:
    """It is asked for with every mail: less than 50 µs (about 20 when nothing else runs; the best of many counts)."""
    async with ZoneServer(ZONE) as dns:
        resolver = Resolver((dns.address,), 1.0)
        best = 1.0
        for _ in range(50):
            began = time.perf_counter()
            for _ in range(100):
                await resolver.find_hosts("two.example")
            best = min(best, (time.perf_counter() - began) / 100)
    assert best < 50e-6


async def test_what_a_resolver_says_about_dnssec_is_believed_only_on_demand() -> None:
    """The zone server never says AD; ``test_dane`` asks a resolver that does."""
    async with ZoneServer(ZONE) as dns:
        hosts = await Resolver((dns.address,), 1.0, validates=True).find_hosts("plain.example")
    assert hosts == [Host("plain.example", "198.51.100.3")]
