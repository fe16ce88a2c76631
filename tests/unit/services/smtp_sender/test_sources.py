"""Where a mail is sent from: addresses of the message, of a pool, of the settings; their order; their names for EHLO."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.smtp_sender.pool_book import PoolBook
from services.smtp_sender.session import Ending
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.sources import KNOWN_FOR, MOST_KNOWN, LocalAddresses, Origin, Sources, order_sources
from shared.delivery.pools import Source
from shared.settings import load
from shared.trouble import BadSetting, Unavailable
from shared.wire.message import Message
from shared.wire.result import Result, State

OURS = {"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"}


def message(ident: str = "id-1", *results: dict[str, Any]) -> Message:
    """One with these attempts behind it."""
    return Message({"id": ident, "recipient": "a@b.example", "results": list(results)})


@pytest.fixture
def pools(tmp_path: Path) -> Path:
    """A file of pools."""
    path = tmp_path / "pools.toml"
    path.write_text(
        """
        [pool.bulk]
        ips = ["192.0.2.2", "192.0.2.3", "198.51.100.1"]
        helo = "bulk.example"
        [pool.news.ips]
        "192.0.2.1" = "news1.example"
        "192.0.2.2" = ""
        [pool.elsewhere]
        ips = ["198.51.100.1"]
        """
    )
    return path


def origin(pools: Path, **settings: Any) -> Origin:
    """With the addresses ``OURS``."""
    given = ServiceSettings.model_validate({"pools_file": str(pools)} | settings)
    return Origin(given, PoolBook(given), check=OURS.__contains__)


async def found(one: Origin, *, ips: list[str] | None = None, pool: str | None = None, mail: Message | None = None) -> Sources:
    """The sources, which there must be."""
    sources = await one.find(mail or message(), ips=ips, pool=pool)
    assert isinstance(sources, Sources), sources
    return sources


async def test_ips_win_over_the_pool_and_the_pool_over_the_default(pools: Path) -> None:
    one = origin(pools, smtp_default_ips="192.0.2.1")
    assert await found(one, ips=["192.0.2.1", "203.0.113.9"], pool="bulk") == Sources((Source("192.0.2.1"),), is_named=True)
    bulk = await found(one, pool="bulk")
    assert {source.address for source in bulk.addresses} == {"192.0.2.2", "192.0.2.3"}
    assert not bulk.is_named
    assert await found(one) == Sources((Source("192.0.2.1"),), is_named=False)
    assert await found(origin(pools)) == Sources((Source(None),), is_named=False)


async def test_default_addresses_that_are_gone_are_left_to_bind(pools: Path) -> None:
    one = origin(pools, smtp_default_ips="192.0.2.1,198.51.100.7")
    assert [source.address for source in (await found(one)).addresses] == ["192.0.2.1"]
    gone = origin(pools, smtp_default_ips="198.51.100.7")
    assert [source.address for source in (await found(gone)).addresses] == ["198.51.100.7"]


@pytest.mark.parametrize(
    ("ips", "pool", "state", "told"),
    [
        ([], None, State.PROCESS, "ips: an empty list: none of them is an address of this host"),
        (["198.51.100.1", "::"], "bulk", State.PROCESS, "ips: 198.51.100.1, ::: none of them is an address of this host"),
        (None, "typo", State.PROCESS, "pool: 'typo' is not known here; 3 others are"),
        (None, "", State.PROCESS, "pool: '' is not known here; 3 others are"),
        (None, "elsewhere", State.BIND, "pool: 'elsewhere' has no address of this host"),
    ],
)
async def test_none_that_can_be_used(pools: Path, ips: list[str] | None, pool: str | None, state: State, told: str) -> None:
    ending = await origin(pools).find(message(), ips=ips, pool=pool)
    assert isinstance(ending, Ending)
    assert (ending.state, ending.result, ending.text) == (state, Result.ERROR, told)


async def test_pools_that_were_never_seen_hold_the_mail(pools: Path, tmp_path: Path) -> None:
    nowhere = {"db_uri": "postgresql://nobody@127.0.0.1:1/nothing", "pools_snapshot": tmp_path / "pools.json"}
    one = origin(pools, **nowhere)
    with pytest.raises(Unavailable, match="the pools were never seen"):
        await one.find(message(), ips=None, pool="typo")
    assert await found(one, pool="news")
    assert await found(one, ips=["192.0.2.1"], pool="typo")
    assert await found(one)


async def test_the_name_for_ehlo(pools: Path) -> None:
    names = "192.0.2.1=one.example, 192.0.2.2=two.example,2001:DB8:0::1=[IPv6:2001:db8::1]"
    one = origin(pools, smtp_helo_names=names, smtp_default_ips="192.0.2.3")
    assert set((await found(one, pool="news")).addresses) == {
        Source("192.0.2.1", "news1.example"),
        Source("192.0.2.2", "two.example"),
    }
    assert {source.helo for source in (await found(one, pool="bulk")).addresses} == {"bulk.example"}
    assert (await found(one, ips=["2001:db8::1"])).addresses == (Source("2001:db8::1", "[IPv6:2001:db8::1]"),)
    assert (await found(one)).addresses == (Source("192.0.2.3"),)


# --- order


SOURCES = [Source(address) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2")]


def test_the_order_is_fair_and_always_the_same() -> None:
    orders = [order_sources(SOURCES, ident=f"id-{number}", attempt=1) for number in range(5000)]
    assert orders == [order_sources(SOURCES, ident=f"id-{number}", attempt=1) for number in range(5000)]
    assert all(set(order) == set(SOURCES) for order in orders)
    firsts = Counter(order[0].address for order in orders)
    assert min(firsts.values()) > 850
    # Also among those of one family, and when the first cannot be used.
    seconds = Counter(order[1].address for order in orders if order[0].address == "192.0.2.1")
    assert min(seconds.values()) > 150
    fours = Counter(next(source.address for source in order if ":" not in str(source.address)) for order in orders)
    assert min(fours.values()) > 1500


def test_another_attempt_goes_another_way() -> None:
    ways = {order_sources(SOURCES, ident="id-1", attempt=attempt)[0] for attempt in range(1, 40)}
    assert ways == set(SOURCES)


def test_a_greylisted_mail_comes_again_from_where_it_came() -> None:
    for number in range(50):
        ordered = order_sources(SOURCES, ident=f"id-{number}", attempt=2, first="192.0.2.2")
        assert ordered[0].address == "192.0.2.2"
        assert set(ordered) == set(SOURCES)
        gone = order_sources(SOURCES, ident=f"id-{number}", attempt=2, first="198.51.100.1")
        assert gone == order_sources(SOURCES, ident=f"id-{number}", attempt=2)


async def test_the_last_result_tells_where_it_came_from(pools: Path) -> None:
    one = origin(pools, smtp_default_ips="192.0.2.1,192.0.2.2,192.0.2.3")
    for number in range(20):
        grey = {"greylisted": True, "from": "192.0.2.3"}
        again = await found(one, mail=message(f"id-{number}", {"from": "192.0.2.1"}, grey))
        assert again.addresses[0].address == "192.0.2.3"
    firsts = {(await found(one, mail=message(f"id-{n}", {"from": "192.0.2.3"}))).addresses[0].address for n in range(50)}
    assert len(firsts) == 3


async def test_an_address_named_twice_is_tried_once(pools: Path) -> None:
    assert len((await found(origin(pools), ips=["192.0.2.1", "192.0.2.1"])).addresses) == 1


# --- which are local


def test_what_is_local_is_asked_every_30_seconds() -> None:
    now = 1000.0
    asked: list[str] = []
    ours = {"192.0.2.1"}

    def check(address: str) -> bool:
        asked.append(address)
        return address in ours

    known = LocalAddresses(check, clock=lambda: now)
    for _ in range(3):
        assert known.contains("192.0.2.1")
        assert not known.contains("192.0.2.2")
    assert asked == ["192.0.2.1", "192.0.2.2"]
    ours.add("192.0.2.2")
    now += KNOWN_FOR - 0.1
    assert not known.contains("192.0.2.2")
    now += 0.1
    assert known.contains("192.0.2.2")


def test_what_is_remembered_is_bounded() -> None:
    known = LocalAddresses(lambda address: False, clock=lambda: 0.0)
    for number in range(MOST_KNOWN + 10):
        known.contains(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
    assert len(known._known) <= MOST_KNOWN


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1"])
def test_what_is_nobodys_address(address: str) -> None:
    assert not LocalAddresses(lambda _: True).contains(address)


def test_a_family_that_this_system_does_not_have() -> None:
    def check(address: str) -> bool:
        raise OSError(97, "Address family not supported by protocol")

    assert not LocalAddresses(check).contains("2001:db8::1")


# --- settings and the file


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("smtp-helo-names", "192.0.2.1", "expected NAME=VALUE,NAME=VALUE, each name once"),
        ("smtp-helo-names", "192.0.2.1=a.example,192.0.2.1=b.example", "each name once"),
        ("smtp-helo-names", "mail.example=a.example", "'mail.example': expected an IP address of a host"),
        ("smtp-helo-names", "192.0.2.1=", "'': expected a host name"),
        ("smtp-helo-names", "192.0.2.1=a b", "'a b': expected a host name"),
        ("smtp-helo-names", "192.0.2.1=größe.example", "in ASCII"),
        ("smtp-helo-names", "192.0.2.1=[192.0.2.x]", "or an address in brackets"),
        ("smtp-helo-names", "192.0.2.1=[2001:db8::1]", "or an address in brackets"),
        ("smtp-default-ips", "0.0.0.0", "expected an IP address of a host"),
        ("db-uri", "mysql://x/y", "expected postgresql://"),
    ],
)
def test_settings_that_are_wrong(setting: str, value: str, told: str) -> None:
    with pytest.raises(BadSetting, match=f"^{setting}: ") as caught:
        load(ServiceSettings, options={setting: value})
    assert told in str(caught.value)


def test_helo_names_as_they_are_written(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('[smtp-helo-names]\n"192.0.2.1" = "a.example"\n"2001:DB8::0:1" = "b.example"\n')
    assert load(ServiceSettings, config=config).settings.smtp_helo_names == {"192.0.2.1": "a.example", "2001:db8::1": "b.example"}
    assert load(ServiceSettings, options={"smtp-helo-names": ""}).settings.smtp_helo_names == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[pool.a]\nips = ]", "at line 2"),
        ("[pool.a]\nips = []", "pool.a.ips: []: expected 1 to 256 IP addresses"),
        ("[pool.a]\nhelo = 'a.example'", "pool.a.ips: missing: expected 1 to 256 IP addresses"),
        ("[pool.a]\nips = ['192.0.2.300']", "pool.a.ips: '192.0.2.300': expected an IP address of a host"),
        ("[pool.a]\nips = [7]", "pool.a.ips: 7: expected an IP address of a host"),
        ("[pool.a]\nips = ['2001:db8::1', '2001:DB8:0::1']", "pool.a.ips: '2001:DB8:0::1': expected each address once"),
        ("[pool.a]\nips = ['::']", "pool.a.ips: '::': expected an IP address of a host"),
        ("[pool.a]\nips = ['192.0.2.1']\nhelo = 'a\\nb'", "pool.a.helo: 'a\\\\nb': expected a host name"),
        ("[pool.a]\nips = ['192.0.2.1']\nhelo = 7", "pool.a.helo: 7: expected a host name"),
        ("[pool.a.ips]\n'192.0.2.1' = 'a..b'", "pool.a.ips: 'a..b': expected a host name"),
        ("[pool.a]\nips = ['192.0.2.1']\nspeed = 7", "pool.a.speed: unknown; expected ips and helo"),
        ("pool = 7", "pool: expected tables"),
        ("pool.a = 7", "pool: expected tables"),
        ("[pools.a]\nips = ['192.0.2.1']", "pools: unknown; expected tables"),
    ],
)
def test_a_file_that_is_wrong_from_the_start(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "pools.toml"
    path.write_text(text)
    with pytest.raises(BadSetting, match=r"^pools-file: '.*pools\.toml': ") as caught:
        PoolBook(ServiceSettings(pools_file=str(path)))
    assert told in str(caught.value)


def test_a_file_that_is_missing_from_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^pools-file: .*No such file"):
        PoolBook(ServiceSettings(pools_file=str(tmp_path / "missing.toml")))


async def test_a_file_that_changes(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "pools.toml"
    path.write_text("[pool.a]\nips = ['192.0.2.1']\n")
    book = PoolBook(ServiceSettings(pools_file=str(path)), clock=lambda: now)

    async def names() -> list[str]:
        return [name for name in ("a", "b") if await book.find(name)]

    path.write_text("[pool.b]\nips = ['192.0.2.2', '192.0.2.3']\n")
    now = 9.9
    assert await names() == ["a"]
    now = 10.0
    assert await names() == ["b"]
    path.write_text("[pool.a]\nips = 7\n")
    now = 20.0
    assert await names() == ["b"]
    path.unlink()
    now = 30.0
    assert (await names(), book.count) == (["b"], 1)
    path.write_text("[pool.a]\nips = ['192.0.2.1']\n")
    book.reload()
    assert await names() == ["a"]


async def test_no_pools_at_all() -> None:
    book = PoolBook(ServiceSettings())
    book.reload()
    assert (await book.find("x"), book.count, book.followed) == (None, 0, [])
