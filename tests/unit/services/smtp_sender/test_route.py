"""Where a mail goes, as far as no name server is needed."""

from __future__ import annotations

import pytest

from services.smtp_sender.route import Resolver, decide_domain, parse_literal
from shared.mail.address import parse_mailbox
from shared.reachable import is_allowed, is_local
from shared.trouble import BadSetting


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        ("example.org", None),
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[ipv6:2001:DB8::1]", "2001:db8::1"),
        ("[IPV6:::1]", "::1"),
        ("[IPv6:::ffff:192.0.2.1]", "::ffff:c000:201"),
    ],
)
def test_literals(domain: str, address: str | None) -> None:
    """Every literal that the parser of addresses lets through can be read here."""
    recipient = parse_mailbox(f"a@{domain}")
    assert parse_literal(decide_domain(recipient)) == address


@pytest.mark.parametrize(
    ("recipient", "domain"), [("a@Example.ORG", "example.org"), ("a@münchen.example", "xn--mnchen-3ya.example")]
)
def test_domain(recipient: str, domain: str) -> None:
    assert decide_domain(parse_mailbox(recipient)) == domain


@pytest.mark.parametrize("address", ["8.8.8.8", "193.0.6.139", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_allowed(address, ())


PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1",
    "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::1", "fec0::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address: str) -> None:
    assert not is_allowed(address, ())
    assert not is_allowed(address, ("192.0.0.0/32", "2001:db8:1::/48"))


def test_private_addresses_that_are_allowed() -> None:
    allowed = ("127.0.0.0/8", "fd00::/8")
    assert is_allowed("127.0.0.1", allowed)
    assert is_allowed("::ffff:127.0.0.1", allowed)
    assert is_allowed("fd12::1", allowed)
    assert not is_allowed("10.0.0.1", allowed)
    assert not is_allowed("::1", allowed)


def test_local_addresses() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("203.0.113.77")
    assert not is_local("2001:db8::77")


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:5353"])
def test_resolvers(server: str) -> None:
    assert Resolver((server,), 1)


@pytest.mark.parametrize("server", ["localhost", "127.0.0.1:dns", "", "1.2.3", "[::1"])
def test_what_is_no_resolver(server: str) -> None:
    with pytest.raises(BadSetting, match=r"dns-servers: .* expected ip or ip:port"):
        Resolver((server,), 1)
