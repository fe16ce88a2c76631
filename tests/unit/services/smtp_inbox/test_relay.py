"""Who may relay, and that no setting opens the relay."""

import pytest

from services.smtp_inbox.relay import parse_relay_policy
from shared.trouble import BadSetting


@pytest.mark.parametrize(
    ("ranges", "client", "allowed"),
    [
        (["127.0.0.0/8", "::1/128"], "127.0.0.1", True),
        (["127.0.0.0/8", "::1/128"], "127.9.9.9", True),
        (["127.0.0.0/8", "::1/128"], "::1", True),
        (["127.0.0.0/8", "::1/128"], "::ffff:127.0.0.1", True),
        (["127.0.0.0/8", "::1/128"], "192.0.2.1", False),
        (["127.0.0.0/8", "::1/128"], "::2", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["2001:db8::/32"], "2001:db8::5", True),
        (["2001:db8::/32"], "2001:db9::5", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["::ffff:192.0.2.0/120"], "192.0.2.9", True),
        ([], "127.0.0.1", False),
        (["127.0.0.0/8"], "no address", False),
        (["127.0.0.0/8"], "", False),
    ],
)
def test_may_relay(ranges: list[str], client: str, allowed: bool) -> None:
    assert parse_relay_policy(ranges).may_relay(client) is allowed


@pytest.mark.parametrize(
    "ranges",
    [
        ["0.0.0.0/0"],
        ["::/0"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["10.0.0.0/8", "0.0.0.0/0"],
        ["128.0.0.0/1"],
        [f"{first}.0.0.0/8" for first in range(256)],
        ["::ffff:0:0/96"],
        ["::/80"],
        ["2000::/3"],
        ["8000::/1", "::/1"],
        ["2000::/4"],
    ],
    ids=lambda ranges: " ".join(ranges[:3]),
)
def test_a_range_that_holds_the_internet_is_refused(ranges: list[str]) -> None:
    with pytest.raises(BadSetting, match=r"smtp-range: holds half of the Internet or more"):
        parse_relay_policy(ranges)


@pytest.mark.parametrize("text", ["192.0.2.1/24", "example.com", "1.2.3", "10.0.0.0/33", "*"])
def test_what_is_no_range_is_named(text: str) -> None:
    with pytest.raises(BadSetting, match=r"smtp-range: '.*': expected a CIDR") as error:
        parse_relay_policy([text])
    assert text in str(error.value)


def test_large_private_ranges_are_fine() -> None:
    policy = parse_relay_policy(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"])
    assert policy.may_relay("10.1.2.3")
    assert not policy.is_loopback_only
