"""dnsmasq as the name server that the sender asks (`dns-servers`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.smtp_sender.pool import Limits
from tests.integration.peers.ending import ended, told
from tests.integration.smtp_sender.sending import LOOPBACK, Desk, desk
from tests.support.mx import ScriptedMx
from tests.support.peers.dnsmasq import Dnsmasq
from tests.support.waiting import free_ports

SENT = ("message", "accepted", "sent")
RECORDS = (
    "mx-host=x.example,second.x.example,20",
    "mx-host=x.example,first.x.example,10",
    "host-record=first.x.example,127.0.1.1",
    "host-record=second.x.example,127.0.1.2",
    "host-record=plain.example,127.0.1.1",
    "host-record=both.example,127.0.1.1,::1",
    "cname=alias.example,plain.example",
    "mx-host=aliased-mx.example,alias.example,10",
    "mx-host=null.example,.,0",
    "mx-host=nowhere.example,missing.example,10",
    "mx-host=half.example,missing.example,10",
    "mx-host=half.example,second.x.example,20",
    "txt-record=text.example,no mail here",
    "mx-host=xn--bcher-kva.example,first.x.example,10",
    "mx-host=loop.example,me.example,10",
    "host-record=me.example,127.0.1.1",
    "mx-host=private.example,inner.example,10",
    "host-record=inner.example,10.1.2.3",
)


@pytest.fixture(scope="module")
def dnsmasq(folder: Path) -> Iterator[Dnsmasq]:
    """One for all tests of this module."""
    with Dnsmasq(folder / "dnsmasq", RECORDS) as server:
        yield server


@asynccontextmanager
async def internet(dnsmasq: Dnsmasq, folder: Path, *hosts: str) -> AsyncIterator[Desk]:
    """A desk that asks dnsmasq, and MX hosts on these addresses."""
    port = free_ports(1, hosts[0] if hosts else "127.0.1.1")[0]
    given: dict[str, Any] = {"name_server": dnsmasq.address, "smtp_port": port, "smtp_allow_private": f"{LOOPBACK},::1/128"}
    async with (
        ScriptedMx(folder, listen=[f"{host}:{port}" for host in hosts]),
        desk(limits=Limits(20, 1, 5.0), **given) as one,
    ):
        yield one


async def test_mx_in_order(dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    async with internet(dnsmasq, tmp_path, "127.0.1.1", "127.0.1.2") as one:
        for _ in range(5):
            finished = await one.attempt("good@x.example")
            assert (ended(finished), told(finished)["to"]) == (SENT, "127.0.1.1")
    async with internet(dnsmasq, tmp_path, "127.0.1.2") as one:
        finished = await one.attempt("good@x.example")
        assert (ended(finished), told(finished)["to"]) == (SENT, "127.0.1.2")


async def test_answers_are_kept(dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    async with internet(dnsmasq, tmp_path, "127.0.1.1", "127.0.1.2") as one:
        before = dnsmasq.count_queries("MX", "x.example")
        for _ in range(5):
            assert ended(await one.attempt("good@x.example")) == SENT
        assert dnsmasq.count_queries("MX", "x.example") == before + 1


@pytest.mark.parametrize("domain", ["plain.example", "both.example", "alias.example", "aliased-mx.example", "bücher.example"])
async def test_addresses_and_aliases(dnsmasq: Dnsmasq, tmp_path: Path, domain: str) -> None:
    async with internet(dnsmasq, tmp_path, "127.0.1.1") as one:
        finished = await one.attempt(f"good@{domain}")
        assert (ended(finished), told(finished)["to"]) == (SENT, "127.0.1.1")


async def test_an_mx_without_an_address_is_left_out(dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    async with internet(dnsmasq, tmp_path, "127.0.1.2") as one:
        finished = await one.attempt("good@half.example")
        assert (ended(finished), told(finished)["to"]) == (SENT, "127.0.1.2")


@pytest.mark.parametrize(
    ("domain", "status"),
    [("missing.example", "5.1.2"), ("text.example", "5.1.2"), ("null.example", "5.1.10"), ("nowhere.example", "5.4.4")],
)
async def test_nowhere_to_go(dnsmasq: Dnsmasq, tmp_path: Path, domain: str, status: str) -> None:
    async with internet(dnsmasq, tmp_path) as one:
        finished = await one.attempt(f"good@{domain}")
        assert ended(finished) == ("dns", "error", "failed")
        assert told(finished)["status"] == status


async def test_back_to_us(dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    async with internet(dnsmasq, tmp_path) as one:
        finished = await one.attempt("good@loop.example")
        assert ended(finished) == ("dns", "error", "failed")
        assert told(finished)["status"] == "5.4.6"


async def test_private_addresses(dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    async with internet(dnsmasq, tmp_path) as one:
        finished = await one.attempt("good@private.example")
        assert ended(finished) == ("connect", "error", "retry")
        assert "10.1.2.3" in told(finished)["description"]


async def test_a_domain_that_it_refuses(dnsmasq: Dnsmasq, tmp_path: Path) -> None:
    """It knows no server to ask: REFUSED says nothing about the domain."""
    async with internet(dnsmasq, tmp_path) as one:
        assert ended(await one.attempt("good@elsewhere.invalid")) == ("dns", "timeout", "retry")
