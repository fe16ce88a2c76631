"""Who may relay, and that no setting opens the relay."""

import pytest

from services.smtp_inbox.arguments import Refusal, parse_rcpt
from services.smtp_inbox.relay import decide_recipient, parse_relay_policy
from shared.delivery.local_patterns import index_patterns, parse_local_pattern
from shared.mail.address import parse_mailbox
from shared.trouble import BadSetting

RANGE = ["192.0.2.0/24"]
LOCAL = index_patterns(
    map(
        parse_local_pattern,
        ["local.example", "*.sub.example", "bounce-*@other.example", "/(a|b)@third\\.example/", "c@fourth.example"],
    )
)
ROUTED = "550 5.7.1 No routing by local parts"
NO_RELAY = "550 5.7.1 No relay for you"
RELAY_TABLE = [
    # forward-path, reply to a stranger, reply to a client that may relay ("": accepted; None: no such path, whoever asks)
    ("a@local.example", "", ""),
    ("A@LOCAL.Example", "", ""),
    ('"a b"@local.example', "", ""),
    ("a@x.sub.example", "", ""),
    ("bounce-1@other.example", "", ""),
    ("b@third.example", "", ""),
    ("C@fourth.example", "", ""),
    ("a@foreign.example", NO_RELAY, ""),
    ("a@sub.example", NO_RELAY, ""),
    ("a@local.example.foreign.example", NO_RELAY, ""),
    ("a@notlocal.example", NO_RELAY, ""),
    ("bounce@other.example", NO_RELAY, ""),
    ("d@fourth.example", NO_RELAY, ""),
    ("xa@third.example", NO_RELAY, ""),
    ('"a@local.example"@foreign.example', NO_RELAY, ""),
    ("a%local.example@foreign.example", NO_RELAY, ""),
    ("local.example!a@foreign.example", NO_RELAY, ""),
    ("a%foreign.example@local.example", ROUTED, ""),
    ('"a%foreign.example"@local.example', ROUTED, ""),
    ('"a@foreign.example"@local.example', ROUTED, ""),
    ('"a\\@foreign.example"@local.example', ROUTED, ""),
    ("foreign.example!a@local.example", ROUTED, ""),
    ("bounce-a%foreign.example@other.example", ROUTED, ""),
    ("a@[192.0.2.1]", NO_RELAY, ""),
    ("a@[127.0.0.1]", NO_RELAY, ""),
    ("a@[IPv6:::1]", NO_RELAY, ""),
    ("a%foreign.example@[127.0.0.1]", NO_RELAY, ""),
    ("a@localhost", NO_RELAY, ""),
    ("@local.example:a@foreign.example", None, None),
    ("@foreign.example:a@local.example", None, None),
    ("a@foreign.example@local.example", None, None),
    ("a@local.example@foreign.example", None, None),
    ("a@foreign.example, b@local.example", None, None),
    ("a(@foreign.example)@local.example", None, None),
    ("a@local.example(foreign.example)", None, None),
    ("a@", None, None),
    ("a", None, None),
    ("postmaster", None, None),
    ("", None, None),
]
"""The forms by which open relays are looked for."""


@pytest.mark.parametrize("client", ["192.0.2.9", "198.51.100.9", "2001:db8::1", "127.0.0.1"])
@pytest.mark.parametrize("user", [None, "", "jane"], ids=["no user", "empty user", "user"])
@pytest.mark.parametrize(("path", "to_stranger", "to_trusted"), RELAY_TABLE, ids=[row[0] for row in RELAY_TABLE])
def test_the_relay_table(path: str, to_stranger: str | None, to_trusted: str | None, user: str | None, client: str) -> None:
    may_relay = client == "192.0.2.9" or user == "jane"
    assert parse_relay_policy(RANGE).may_relay(client, user) is may_relay
    if to_stranger is None:
        with pytest.raises(Refusal, match=r"5[05]\d 5\.[15]\.\d "):
            parse_rcpt(f"TO:<{path}>", extended=True, smtputf8=True)
        return
    rcpt = parse_rcpt(f"TO:<{path}>", extended=True, smtputf8=True)
    is_local = LOCAL.hold(parse_mailbox(rcpt.recipient))
    reply = decide_recipient(may_relay=may_relay, is_local=is_local, is_routed=rcpt.is_routed)
    assert reply == (to_trusted if may_relay else to_stranger)
    assert rcpt.recipient == path


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
        ["32.0.0.0/3"],
        ["16.0.0.0/4", "64.0.0.0/4"],
        [f"{first}.0.0.0/8" for first in range(1, 64, 2)],
        ["2000::/6"],
        ["2000::/7", "2400::/7"],
        ["::ffff:64.0.0.0/99"],
    ],
    ids=lambda ranges: " ".join(ranges[:3]),
)
def test_a_range_that_holds_the_internet_is_refused(ranges: list[str]) -> None:
    with pytest.raises(
        BadSetting, match=r"smtp-range: holds an eighth of the Internet or more \(IPv[46]\): that would be an open relay"
    ):
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
    # Just below the eighth.
    assert parse_relay_policy(["16.0.0.0/4", "64.0.0.0/5", "2000::/7"]).may_relay("17.0.0.1")
