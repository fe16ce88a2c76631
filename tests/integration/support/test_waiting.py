"""Waiting tells what it waited for; free ports are free and different."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.addresses import parse_address, render_address
from tests.support.waiting import NotInTime, free_ports, until, wait_until


async def test_until_returns_the_first_truthy_value_of_a_plain_or_async_condition() -> None:
    values = iter([0, "", "found"])
    assert await until(lambda: next(values), every=0.001) == "found"
    numbers = iter([0, 0, 7])

    async def condition() -> int:
        return next(numbers)

    assert await until(condition, every=0.001) == 7


async def test_until_fails_telling_what_was_wanted_and_what_was_seen() -> None:
    with pytest.raises(NotInTime, match=r"not within 0\.02 s \(\d+ tries\): three mails; last seen: \[\]"):
        await until(lambda: [1, 2][:0], within=0.02, every=0.005, what="three mails")
    with pytest.raises(NotInTime, match="None is not None"):
        await until(lambda: None is not None, within=0.01, every=0.005)


async def test_until_cuts_off_a_condition_that_hangs() -> None:
    async def hanging() -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(NotInTime, match="an answer"):
        await until(hanging, within=0.05, every=0.01, what="an answer")


async def test_until_tolerates_only_the_named_exceptions() -> None:
    calls: list[int] = []

    def condition() -> bool:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("not yet")
        return True

    assert await until(condition, every=0.001, tolerating=(ConnectionError,))
    calls.clear()
    with pytest.raises(ConnectionError):
        await until(condition, every=0.001)


def test_wait_until_does_the_same_without_a_loop() -> None:
    values = iter([None, 5])
    assert wait_until(lambda: next(values), every=0.001) == 5
    with pytest.raises(NotInTime, match="the end"):
        wait_until(lambda: False, within=0.01, every=0.005, what="the end")
    with pytest.raises(NotInTime, match="last seen: ZeroDivisionError"):
        wait_until(lambda: 1 // 0, within=0.01, every=0.005, tolerating=(ZeroDivisionError,))


def test_free_ports_are_different_and_can_be_bound() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


@pytest.mark.parametrize(("text", "address"), [("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:0", ("::1", 0))])
def test_addresses_go_both_ways(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert render_address(address) == text


@pytest.mark.parametrize("text", ["", "25", ":25", "host:", "host:x", "host:65536", "host:-1"])
def test_an_address_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        parse_address(text)
