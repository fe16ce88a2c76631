"""Where batches wait: queues of their own that may be full, and endpoints that are known in Postgres but not here yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.webhook.batch import Batch, parse_batch
from services.webhook.book import SKEW, Snapshot
from services.webhook.gathering import Gatherer
from services.webhook.metrics import DROPPED
from services.webhook.settings import ServiceSettings
from services.webhook.waiting import put_aside
from shared.amqp.frame import Frame
from shared.amqp.publisher import Publisher
from shared.delivery.webhooks import parse_endpoint
from shared.storage.snapshot import Follower
from shared.wire.publication import Publication, Step
from tests.support.queues import Queues
from tests.support.record_frames import make_frame, make_mail, make_result, success

NOW = datetime.now(UTC)
BATCHES = "webhook.batches"


@pytest.fixture
async def publisher(vhost: str) -> AsyncIterator[Publisher]:
    """With a wait queue that is soon full, one that is not, and one exchange that leads nowhere."""

    async def declare(channel: Any) -> None:
        for name, most in (("webhook.wait.5s", 1000), ("webhook.wait.30s", 10_000_000)):
            arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length-bytes": most}
            await channel.exchange_declare(name, exchange_type="fanout", durable=True)
            await channel.queue_declare(name, durable=True, arguments=arguments)
            await channel.queue_bind(name, name)
        await channel.exchange_declare("webhook.wait.5m", exchange_type="fanout", durable=True)

    await Queues(vhost).run_now(declare)
    publisher = await Publisher.open(ServiceSettings(rabbitmq_address=vhost), name="test", patience=5)
    yield publisher
    await publisher.close()


def dropped(endpoint: str, reason: str) -> float:
    [metric] = DROPPED.collect()
    samples = (one for one in metric.samples if one.name.endswith("_total"))
    return sum(one.value for one in samples if one.labels == {"endpoint": endpoint, "reason": reason})


def waiting(endpoint: str, seconds: int) -> Publication:
    events = [{"id": f"e{number}", "data": "x" * 300} for number in range(3)]
    return Batch(endpoint, events, NOW).render_wait(BATCHES, NOW + timedelta(seconds=seconds), NOW)


async def put(publisher: Publisher, publications: Sequence[Publication]) -> Step:
    async def handle(_: Frame) -> Step:
        return Step(tuple(publications))

    return await put_aside(handle, publisher.publish_each, make_frame(b"{}", None))


async def test_a_full_wait_queue_drops_and_counts_and_the_others_take(publisher: Publisher, vhost: str) -> None:
    for _ in range(20):
        # RabbitMQ looks at the size a moment later: the first few beyond it are taken.
        if dropped("full", "full"):
            break
        assert await put(publisher, [waiting("full", 5), waiting("other", 30)]) == Step()
    assert dropped("full", "full") == 3
    assert dropped("other", "full") == 0
    queues = Queues(vhost)
    assert await queues.count_now("webhook.wait.5s") < await queues.count_now("webhook.wait.30s")


async def test_a_wait_queue_that_is_gone_is_left_to_the_loop(publisher: Publisher) -> None:
    """It publishes until it is back: nobody has decided that the events are too many."""
    gone, fine = waiting("gone", 300), waiting("fine", 30)
    assert await put(publisher, [gone, fine]) == Step((gone,))
    assert dropped("gone", "full") == 0


async def test_endpoints_are_known_as_of_the_last_reading(database: str, tmp_path: Path) -> None:
    settings = ServiceSettings(db_uri=database, webhook_snapshot=tmp_path / "webhooks.json")
    snapshot = Snapshot(settings)
    assert not snapshot.knows(NOW - timedelta(days=1))
    before = datetime.now(UTC)
    await Follower(settings, [snapshot], name="webhook", refresh=settings.webhook_refresh).load()
    assert snapshot.knows(before - SKEW)
    # A batch that was made just now, for an endpoint that its maker has seen: the notice may be on its way here.
    assert not snapshot.knows(datetime.now(UTC))
    away = settings.model_copy(update={"db_uri": "postgresql://nobody@127.0.0.1:1/nothing"})
    restarted = Snapshot(away)
    await Follower(away, [restarted], name="webhook", refresh=settings.webhook_refresh).load()
    assert restarted.is_known
    assert not restarted.knows(NOW - timedelta(days=1))


async def test_events_for_one_that_may_be_enabled_again_are_kept() -> None:
    """Nothing is given up on the word of an old list: the batch waits until the list is fresh."""
    endpoint = replace(parse_endpoint({"name": "weary", "url": "https://x.example/"}), is_enabled=False)
    published: list[Publication] = []

    async def publish(publications: Any) -> None:
        published.extend(publications)

    is_fresh = False
    gatherer = Gatherer(ServiceSettings(), lambda: {"weary": endpoint}, publish, is_fresh=lambda: is_fresh)
    frame = success(make_mail(), make_result())
    assert await gatherer.handle_batch([frame]) == {}
    [kept] = published
    assert parse_batch(make_frame(kept.body, "batch")).endpoint == "weary"
    assert orjson.loads(kept.body)["events"][0]["type"] == "delivered"
    is_fresh = True
    await gatherer.handle_batch([frame])
    assert len(published) == 1
    assert dropped("weary", "disabled") == 1
