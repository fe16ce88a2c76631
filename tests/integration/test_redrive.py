"""Redriving with a real RabbitMQ: to the origin alone, confirmed, nothing copied that the broker would trip over."""

from collections.abc import Mapping
from typing import Any

import pytest

from shared.amqp.redrive import Parked, redrive
from shared.amqp.settings import BrokerSettings
from shared.trouble import Unavailable
from tests.stack import Stack
from tests.support.queues import Queues
from tests.support.waiting import until


@pytest.fixture
def queues(servers: Stack, vhost: str) -> Queues:
    """A virtual host with our topology."""
    servers.declare_topology(vhost)
    return Queues(vhost)


@pytest.fixture
def settings(vhost: str) -> BrokerSettings:
    return BrokerSettings(rabbitmq_address=vhost)


def parked(origin: str | None, reason: str = "why") -> Mapping[str, Any]:
    told = {"reason": reason, "time": "2026-11-23T12:00:00+00:00"}
    return told if origin is None else told | {"origin-queue": origin}


async def test_each_goes_to_its_origin_with_what_belongs_to_it(queues: Queues, settings: BrokerSettings) -> None:
    forged = {"x-death": "forged", "x-first-death-queue": "outbox", "other": 1, "event": "success"}
    await queues.publish_now(b"a result", key="dead", headers={**parked("records"), **forged}, app_id="mailwarren")
    await queues.publish_now(b"a mail", key="dead", headers=parked("outbox"), app_id="somebody")
    seen: list[tuple[Parked, str]] = []

    assert await redrive(settings, progress=lambda one, outcome: seen.append((one, outcome))) == 2

    [record] = await queues.take_now("records")
    assert (record.body, record.app_id) == (b"a result", "mailwarren")
    assert {name: value for name, value in record.headers.items() if name != "x-delivery-count"} == {"event": "success"}
    [mail] = await queues.take_now("outbox")
    assert (mail.body, mail.app_id) == (b"a mail", "somebody")
    assert set(mail.headers) <= {"x-delivery-count"}
    assert await queues.take_now("dead") == []
    assert [outcome for _, outcome in seen] == ["redriven", "redriven"]
    assert seen[0][0] == Parked("records", "why", "2026-11-23T12:00:00+00:00", len(b"a result"))


async def test_a_message_that_the_broker_dead_lettered_goes_back_too(queues: Queues, settings: BrokerSettings) -> None:
    async def reject(channel: Any) -> None:
        message = await channel.basic_get("inbox")
        await channel.basic_reject(message.delivery.delivery_tag, requeue=False)

    await queues.publish_now(b"poison", key="inbox")
    await queues.run_now(reject)
    await until(lambda: _is(queues, "dead", 1), what="the broker to dead-letter it")
    seen: list[Parked] = []
    assert await redrive(settings, progress=lambda one, _: seen.append(one)) == 1
    assert seen[0].reason == "RabbitMQ: rejected"
    [back] = await queues.take_now("inbox")
    assert "x-death" not in back.headers


@pytest.mark.parametrize("origin", [None, "wait.30s", "dead", "gone"])
async def test_what_has_no_way_back_is_left_and_said(queues: Queues, settings: BrokerSettings, origin: str | None) -> None:
    await queues.publish_now(b"x", key="dead", headers=parked(origin))
    seen: list[str] = []
    assert await redrive(settings, progress=lambda _, outcome: seen.append(outcome)) == 0
    assert [outcome.partition(":")[0] for outcome in seen] == ["left"]
    await until(lambda: _is(queues, "dead", 1), what="it to lie in dead again")
    assert await queues.count_now("wait.30s") == 0


async def test_limit_reason_and_dry_run(queues: Queues, settings: BrokerSettings) -> None:
    for number in range(250):
        await queues.publish_now(b"%d" % number, key="dead", headers=parked("success", f"reason {number % 2}"))
    assert await redrive(settings, dry_run=True) == 250
    await until(lambda: _is(queues, "dead", 250), what="a dry run to leave all")
    assert await redrive(settings, reason="reason 1", limit=3) == 3
    moved = [int(got.body) for got in await queues.take_now("success")]
    assert [number % 2 for number in moved] == [1, 1, 1]
    await until(lambda: _is(queues, "dead", 247), what="the others to stay")
    assert await redrive(settings) == 247
    assert await queues.count_now("success") == 247
    assert await queues.count_now("dead") == 0


async def test_what_is_parked_again_meanwhile_is_not_moved_in_circles(queues: Queues, settings: BrokerSettings) -> None:
    # A queue whose messages come straight back into dead: a consumer that parks them again at once.
    async def bounce(channel: Any) -> None:
        back = {"x-message-ttl": 0, "x-dead-letter-exchange": "mailwarren", "x-dead-letter-routing-key": "dead"}
        await channel.queue_declare("bounce", durable=True, arguments=back)

    await queues.run_now(bounce)
    for _ in range(5):
        await queues.publish_now(b"x", key="dead", headers=parked("bounce"))
    assert await redrive(settings) == 5
    await until(lambda: _is(queues, "dead", 5), what="all to be parked again")


async def test_no_dead_queue_and_no_broker_are_said(vhost: str) -> None:
    with pytest.raises(Unavailable, match="no queue 'dead'"):
        await redrive(BrokerSettings(rabbitmq_address=vhost))


async def _is(queues: Queues, queue: str, count: int) -> bool:
    return await queues.count_now(queue) == count
