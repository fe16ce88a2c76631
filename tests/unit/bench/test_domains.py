"""(e): each domain has a host of its own, and what did not arrive is found."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.bench.domains import check_mails, count_tarpitted
from tests.bench.plan import Crowd
from tests.bench.zone import TARPIT, TARPITTED, LastingZone, describe_zone, find_host
from tests.support.ledger import Ledger, LedgerWriter, Mail, Session

WELL, TARPITTED_CROWD = (Crowd(3, 7, has_tarpit, octets=50) for has_tarpit in (False, True))


def recipients(crowd: Crowd) -> list[str]:
    return [f"r{number:07}@d{(number - 1) % 3:04}.{crowd.parent}" for number in range(1, 8)]


def store(folder: Path, addresses: Iterable[str], size: int = 100) -> list[Mail]:
    writer = LedgerWriter(folder, keep_content=False)
    for address in addresses:
        writer.store(b"x" * size, reverse_path="a@b.example", recipients=[(address, {})], session=Session())
    writer.close()
    return Ledger(folder).mails()


@pytest.mark.parametrize("has_tarpit", [False, True])
def test_every_domain_has_a_host_of_its_own_on_loopback(has_tarpit: bool) -> None:
    hosts = [find_host(index, has_tarpit=has_tarpit) for index in range(1000)]
    assert len(set(hosts)) == 1000
    assert all(ipaddress.ip_address(host).is_loopback for host in hosts)
    assert (hosts[TARPITTED] == TARPIT) is has_tarpit
    assert TARPIT not in hosts[TARPITTED + 1 :]


def test_the_zone_leads_from_a_domain_to_its_host() -> None:
    zone = LastingZone(describe_zone("e.example", 3, has_tarpit=True))

    def ask(name: str, kind: str) -> dns.message.Message:
        answer, delay = zone.answer(dns.message.make_query(name, kind).to_wire())
        assert answer is not None
        assert delay == 0
        return answer

    assert ask("d0002.e.example", "MX").answer[0].to_text().endswith("IN MX 10 mx.d0002.e.example.")
    assert ask("mx.d0002.e.example", "A").answer[0].to_text() == "mx.d0002.e.example. 3600 IN A 127.1.0.3"
    assert ask("mx.d0000.e.example", "A").answer[0].to_text().endswith(TARPIT)
    nothing = ask("_mta-sts.d0002.e.example", "TXT")
    assert nothing.rcode() == dns.rcode.NXDOMAIN
    assert nothing.authority[0].ttl == 3600


def test_all_mail_must_arrive_when_all_are_well(tmp_path: Path) -> None:
    mails = store(tmp_path, recipients(WELL))
    assert set(check_mails(WELL, mails).values()) == {0}
    assert check_mails(WELL, mails[1:])["mails lost"] == 1


def test_mail_to_the_tarpit_need_not_arrive(tmp_path: Path) -> None:
    assert count_tarpitted(TARPITTED_CROWD) == 3
    others = [one for one in recipients(TARPITTED_CROWD) if "@d0000." not in one]
    mails = store(tmp_path, others)
    assert len(mails) == 4
    assert set(check_mails(TARPITTED_CROWD, mails).values()) == {0}
    assert check_mails(TARPITTED_CROWD, mails[1:])["mails lost"] == 1


def test_doubled_strange_and_small_mail_is_found(tmp_path: Path) -> None:
    mails = store(tmp_path, [*recipients(WELL), recipients(WELL)[4], "r0000001@d0001.e-well.bench.example"], size=49)
    assert check_mails(WELL, mails) == {
        "mails lost": 0,
        "mails doubled": 1,
        "mails that nobody sent": 1,
        "mails too small": 9,
    }
