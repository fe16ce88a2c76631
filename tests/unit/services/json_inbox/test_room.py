"""Room for bodies."""

import asyncio
from datetime import timedelta

import pytest

from services.json_inbox.problems import Problem
from services.json_inbox.room import Room


async def test_who_finds_no_room_waits_and_comes_in_turn() -> None:
    room = Room(10, timedelta(seconds=30))
    order: list[str] = []
    leave = asyncio.Event()

    async def visit(name: str, size: int) -> None:
        async with room.hold(size):
            order.append(name)
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(visit("first", 8))
        await asyncio.sleep(0)
        group.create_task(visit("large", 9))
        await asyncio.sleep(0)
        group.create_task(visit("small", 1))
        await asyncio.sleep(0)
        assert order == ["first"]
        leave.set()
    assert order == ["first", "large", "small"]


async def test_more_than_there_is_takes_all() -> None:
    room = Room(10, timedelta(seconds=30))
    async with room.hold(1_000_000):
        pass
    async with room.hold(10):
        pass


async def test_waiting_has_an_end_and_costs_nobody_else_room() -> None:
    room = Room(10, timedelta(seconds=0.01))
    async with room.hold(10):
        with pytest.raises(Problem) as refused:
            async with room.hold(1):
                pytest.fail("there was no room")
        assert refused.value.status == 503
    async with room.hold(10):
        pass


async def test_who_is_cut_off_gives_back_what_it_got() -> None:
    room = Room(10, timedelta(seconds=30))

    async def visit() -> None:
        async with room.hold(10):
            await asyncio.Event().wait()

    inside = asyncio.create_task(visit())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(visit())
    await asyncio.sleep(0)
    # Served and cut off in the same turn of the loop.
    inside.cancel()
    await asyncio.wait({inside})
    waiting.cancel()
    await asyncio.wait({waiting})
    async with room.hold(10):
        pass
