"""Which addresses of an endpoint are connected to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.webhook.guard import Forbidden, Guard, Unresolved
from services.webhook.settings import ServiceSettings
from shared import reachable


def guard(*answers: str, error: OSError | None = None, **settings: Any) -> Guard:
    """With a resolver that says this of every name."""

    async def lookup(host: str, port: int) -> Sequence[str]:
        if error is not None:
            raise error
        return answers

    return Guard(ServiceSettings.model_validate(settings), lookup)


PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
    "192.0.0.8", "192.0.0.192", "168.63.129.16",
    "198.18.0.1", "203.0.113.5", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
    "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "fec0::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
async def test_what_is_not_public_is_not_connected_to(address: str) -> None:
    with pytest.raises(Forbidden):
        await guard(address).find_addresses("https://hook.example/x")
    if "%" not in address:
        literal = f"[{address}]" if ":" in address else address
        with pytest.raises(Forbidden):
            await guard("93.184.216.34").find_addresses(f"https://{literal}:8443/x")


async def test_those_that_are_public_are_tried_in_their_order() -> None:
    found = await guard("127.0.0.1", "93.184.216.34", "10.0.0.1", "2606:2800::1").find_addresses("https://hook.example/x")
    assert found == ["93.184.216.34", "2606:2800::1"]
    many = await guard(*(f"93.184.216.{number}" for number in range(9))).find_addresses("https://hook.example/")
    assert len(many) == 3


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "017700000001", "127.1", "localhost", "LOCALHOST."])
async def test_other_spellings_are_judged_by_what_the_system_makes_of_them(host: str) -> None:
    with pytest.raises((Forbidden, Unresolved)):
        await Guard(ServiceSettings()).find_addresses(f"https://{host}/")


async def test_networks_that_are_listed_are_fine_and_no_others() -> None:
    listed: dict[str, Any] = {"webhook_allow_private": "10.1.0.0/16,fd12::/16", "webhook_allow_http": True}
    assert await guard("10.1.2.3", "10.2.0.1", "fd12::1", "::1", **listed).find_addresses("http://in.example/") == [
        "10.1.2.3",
        "fd12::1",
    ]
    with pytest.raises(Forbidden, match="private"):
        await guard("10.2.0.1", **listed).find_addresses("http://in.example/")


async def test_a_public_address_of_this_host_is_not_connected_to_unless_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a host with a public address is told by its kernel; the one that tests run on has none.
    own, other = "93.184.217.7", "93.184.217.8"
    monkeypatch.setattr(reachable, "is_local", lambda address: address == own)
    assert await guard(own, other).find_addresses("https://hook.example/") == [other]
    with pytest.raises(Forbidden, match="or ours"):
        await guard(own).find_addresses("https://hook.example/")
    with pytest.raises(Forbidden, match="or ours"):
        await guard().find_addresses(f"https://{own}/")
    assert await guard(own, webhook_allow_private=f"{own}/32").find_addresses("https://hook.example/") == [own]


async def test_http_only_where_the_operator_says_so() -> None:
    with pytest.raises(Forbidden, match="webhook-allow-http"):
        await guard("93.184.216.34").find_addresses("http://hook.example/")
    assert await guard("93.184.216.34", webhook_allow_http=True).find_addresses("http://hook.example/")


async def test_a_name_that_is_not_found_may_be_found_later() -> None:
    with pytest.raises(Unresolved, match=r"hook\.example is not found: no such name"):
        await guard(error=OSError("no such name")).find_addresses("https://hook.example/")


def test_a_network_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.0/99': expected a network"):
        ServiceSettings.model_validate({"webhook_allow_private": "10.0.0.0/99"})
