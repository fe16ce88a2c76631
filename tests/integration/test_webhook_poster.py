"""Batches for endpoints that are slow, down or enabled again, with real receivers and with Postgres out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.webhook.batch import BATCH, Batch, parse_batch
from services.webhook.book import Book
from services.webhook.client import Client
from services.webhook.handler import Poster
from services.webhook.settings import ServiceSettings
from shared.amqp.frame import Frame
from shared.delivery.webhooks import Endpoint, make_secret, parse_endpoint
from shared.storage.database import Database
from tests.support.record_frames import make_frame
from tests.support.waiting import until
from tests.support.webhook_receiver import Receiver

NOW = datetime.now(UTC)


@dataclass
class Desk:
    """A poster, a receiver and its endpoints."""

    poster: Poster
    receiver: Receiver
    endpoints: dict[str, Endpoint]
    is_stale: bool = False


@asynccontextmanager
async def opened(modes: Mapping[str, str], **settings: Any) -> AsyncIterator[Desk]:
    given = {
        "db_uri": "postgresql://nobody@127.0.0.1:1/nothing",
        "webhook_allow_http": True,
        "webhook_allow_private": "127.0.0.1/32",
        "webhook_retry_interval": "60",
    }
    made = ServiceSettings.model_validate(given | settings)
    database = Database(made)
    async with Receiver() as receiver:
        receiver.modes = {f"/{name}": mode for name, mode in modes.items()}
        endpoints = {
            name: parse_endpoint({"name": name, "url": f"{receiver.url}/{name}", "secret": make_secret()}) for name in modes
        }
        book = Book(database, patience=made.webhook_disable_after)
        poster = Poster(made, lambda: endpoints, Client(made), book, knows=lambda moment: not desk.is_stale)
        desk = Desk(poster, receiver, endpoints)
        yield desk
    await database.close()


def frame(endpoint: str, number: int = 0, **changes: Any) -> Frame:
    batch = replace(Batch(endpoint, [{"id": f"e{number}"}], NOW), **changes)
    return make_frame(batch.render("webhook.batches").body, BATCH)


async def test_one_that_is_slow_has_its_share_of_what_is_in_hand() -> None:
    async with opened({"slow": "slow", "good": "ok"}, webhook_batches_qos=8, webhook_connections=2) as desk:
        tasks = [asyncio.ensure_future(desk.poster.handle(frame("slow", number))) for number in range(8)]
        await until(lambda: len(desk.receiver.at("/slow")) == 2 and sum(task.done() for task in tasks) == 4)
        # Those beyond its share are in a wait queue by now, and another endpoint is served at once.
        assert {task.result().publications[0].exchange for task in tasks if task.done()} == {"webhook.wait.5s"}
        # One that was turned away again and again waits for long, and says so itself: no process needs to remember it.
        [again] = (await desk.poster.handle(frame("slow", 8, bounces=8))).publications
        assert again.exchange == "webhook.wait.5m"
        assert parse_batch(make_frame(again.body, BATCH)).bounces == 9
        assert (await desk.poster.handle(frame("good"))).publications == ()
        assert len(desk.receiver.at("/slow")) == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_that_is_down_rests_and_is_tried_again_at_once_when_it_is_enabled() -> None:
    async with opened({"down": "503"}) as desk:
        [failed] = (await desk.poster.handle(frame("down"))).publications
        [resting] = (await desk.poster.handle(frame("down", 1))).publications
        assert len(desk.receiver.posts) == 1
        assert {failed.exchange, resting.exchange} <= {"webhook.wait.30s"}
        desk.endpoints["down"] = replace(desk.endpoints["down"], failing_since=NOW)
        await desk.poster.handle(frame("down", 2))
        assert len(desk.receiver.posts) == 1
        desk.endpoints["down"] = replace(desk.endpoints["down"], failing_since=None)
        desk.receiver.modes["/down"] = "ok"
        assert (await desk.poster.handle(frame("down", 3))).publications == ()
        assert [post.ids for post in desk.receiver.posts] == [["e0"], ["e3"]]


async def test_what_an_endpoint_asks_for_is_obeyed_within_bounds() -> None:
    async with opened(
        {"soon": "429 Retry-After: 1", "later": "503 Retry-After: 700", "never": "503 Retry-After: 9999999"}
    ) as desk:
        waits = {}
        for name in desk.endpoints:
            [waiting] = (await desk.poster.handle(frame(name))).publications
            waits[name] = waiting.exchange
    assert [waits[name] for name in ("soon", "later", "never")] == ["webhook.wait.30s", "webhook.wait.5m", "webhook.wait.30m"]


async def test_nobody_is_waited_for_longer_than_the_setting_allows() -> None:
    async with opened({"never": "503 Retry-After: 9999999"}, webhook_retry_after_max="20") as desk:
        for number in range(2):
            # The first is refused, the second finds the endpoint at rest.
            [waiting] = (await desk.poster.handle(frame("never", number))).publications
            assert waiting.exchange == "webhook.wait.30s"
            due = parse_batch(make_frame(waiting.body, BATCH)).due
            assert due is not None
            assert due < datetime.now(UTC) + timedelta(minutes=5)
        assert len(desk.receiver.posts) == 1


async def test_what_is_not_posted() -> None:
    async with opened({"hook": "ok", "off": "ok"}) as desk:
        desk.endpoints["off"] = replace(desk.endpoints["off"], is_enabled=False)
        old = frame("hook", created=datetime.now(UTC) - timedelta(days=1))
        for given in (frame("off"), frame("removed"), old):
            assert (await desk.poster.handle(given)).publications == ()
        [early] = (await desk.poster.handle(frame("hook", due=datetime.now(UTC) + timedelta(minutes=3)))).publications
        assert early.exchange == "webhook.wait.30s"
        assert desk.receiver.posts == []


async def test_an_old_list_of_endpoints_is_no_reason_to_drop() -> None:
    """Another process has made the batch: it may know an endpoint that is new, or enabled again."""
    async with opened({"hook": "ok", "off": "ok"}) as desk:
        desk.endpoints["off"] = replace(desk.endpoints["off"], is_enabled=False)
        desk.is_stale = True
        for name in ("off", "new"):
            [waiting] = (await desk.poster.handle(frame(name, bounces=9))).publications
            assert waiting.exchange == "webhook.wait.5m"
        assert (await desk.poster.handle(frame("new", created=datetime.now(UTC) - timedelta(days=1)))).publications == ()
        # Those that are known are posted to as ever.
        assert (await desk.poster.handle(frame("hook"))).publications == ()
        assert [post.ids for post in desk.receiver.posts] == [["e0"]]
        desk.is_stale = False
        assert (await desk.poster.handle(frame("off"))).publications == ()
