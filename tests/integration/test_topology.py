"""topology.json and a real RabbitMQ: declare, compare, verify, and what the broker then does with messages."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiormq
import pytest

from shared.amqp.connection import connect
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.apply import plan
from shared.amqp.topology.declare import declare
from shared.amqp.topology.default import WAITS, read_default_topology
from shared.amqp.topology.difference import Kind, find_differences
from shared.amqp.topology.inspect import fetch_objects, find_missing, parse_vhost
from shared.amqp.topology.objects import Exchange, Queue, Topology, TopologyObject
from shared.amqp.topology.parse import parse_topology
from shared.amqp.topology.verify import verify
from shared.trouble import BadSetting, Unavailable
from tests.stack import Stack
from tests.support.queues import Queues
from tests.support.waiting import until

KEYS = ("outbox", "retries", "success", "failure", "record", "dead", "")


@pytest.fixture
async def connection(vhost: str) -> AsyncIterator[aiormq.Connection]:
    opened = await connect(vhost, name="test", patience=0)
    yield opened
    await opened.close()


@pytest.fixture
def settings(servers: Stack, vhost: str) -> BrokerSettings:
    return BrokerSettings(rabbitmq_address=vhost, rabbitmq_api=servers.rabbitmq.api)


async def fetch(settings: BrokerSettings) -> list[TopologyObject]:
    return await fetch_objects(settings.rabbitmq_api, parse_vhost(settings.rabbitmq_address))


async def test_declared_twice_it_is_there_once_and_whole(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    topology = read_default_topology()
    told: list[TopologyObject] = []
    assert (await declare(connection, topology, told.append)).done == topology.objects
    assert told == list(topology)
    assert (await declare(connection, topology)).refused is None
    assert find_differences(topology, await fetch(settings)) == []
    assert await find_missing(connection, [*topology.exchanges, *topology.queues]) == []


async def test_every_difference_is_found(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    await declare(connection, read_default_topology())
    channel = await connection.channel()
    await channel.queue_unbind("outbox", "mailwarren", "dsn")
    await channel.queue_delete("refused")
    await channel.queue_delete("success")
    await channel.queue_declare("success", durable=True, arguments={"x-queue-type": "quorum"})
    await channel.queue_bind("success", "mailwarren", "success")
    await channel.queue_declare("mine")
    await channel.queue_declare(exclusive=True)
    assert [str(item) for item in find_differences(read_default_topology(), await fetch(settings))] == [
        "differs: queue 'success': x-delivery-limit is not set there, 1000000 wanted, x-max-length is not set there, 10000 wanted, "
        'x-overflow is not set there, "drop-head" wanted',
        "missing: queue 'refused'",
        "missing: binding of exchange 'mailwarren' to queue 'outbox' with key 'dsn'",
        "missing: binding of exchange 'mailwarren' to queue 'refused' with key 'refused'",
        "extra: queue 'mine'",
    ]


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (
            '{"type":"queue","name":"there","arguments":{"x-queue-type":"quorum","x-delivery-limit":20}}',
            "it exists with other arguments: x-delivery-limit is 10 there, 20 wanted",
        ),
        (
            '{"type":"queue","name":"there","durable":false}',
            "it exists with other arguments: durable is true there, false wanted",
        ),
        (
            '{"type":"exchange","name":"there","exchangetype":"fanout"}',
            "it exists with other arguments: type is direct there, fanout wanted",
        ),
        ('{"type":"exchange","name":"x","exchangetype":"x-nope"}', "x-nope"),
        ('{"type":"exchange","name":"amq.mine","exchangetype":"direct"}', "reserved prefix"),
        ('{"type":"binding","exchange":"nowhere","queue":"there"}', "no exchange 'nowhere'"),
        ('{"type":"binding","exchange":"there","queue":"nowhere"}', "no queue 'nowhere'"),
        ('{"type":"queue","name":"q","arguments":{"x-queue-type":"quorum","x-queue-mode":"lazy"}}', "x-queue-mode"),
        ('{"type":"queue","name":"q","arguments":{"x-message-ttl":"soon"}}', "x-message-ttl"),
    ],
)
async def test_what_the_broker_refuses_is_named_and_ends_it(
    connection: aiormq.Connection, vhost: str, refused: str, told: str
) -> None:
    before = (
        '[{"type":"exchange","name":"there","exchangetype":"direct"},'
        '{"type":"queue","name":"there","arguments":{"x-queue-type":"quorum","x-delivery-limit":10}}'
    )
    topology = parse_topology(f'{before},{refused},{{"type":"queue","name":"after"}}]')
    declared = await declare(connection, topology)
    assert declared.done == topology.objects[:2]
    assert declared.refused == topology.objects[2]
    assert told in declared.reason
    assert "\n" not in declared.reason
    again = await connect(vhost, name="test", patience=0)  # the refusal of an exchange's type ends the connection
    assert await find_missing(again, [Queue("there"), Queue("after")]) == [Queue("after")]
    await again.close()


async def test_exchanges_are_bound_to_exchanges(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    topology = parse_topology(
        '[{"type":"exchange","name":"a","exchangetype":"topic"},{"type":"exchange","name":"b","exchangetype":"headers","internal":true},'
        '{"type":"binding","exchange":"a","destination":"b","routingkey":"x.#"},{"type":"queue","name":"q"},'
        '{"type":"binding","exchange":"b","queue":"q","arguments":{"x-match":"all","n":1,"deep":{"list":[1,true,"x"]}}}]'
    )
    assert (await declare(connection, topology)).refused is None
    assert find_differences(topology, await fetch(settings)) == []


async def test_a_whole_topology_is_verified(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    await declare(connection, read_default_topology())
    await verify(settings, connection, "outbox", KEYS)
    await verify(settings, connection, "", ("inbox", "record"))


async def test_nothing_is_declared_unasked(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    with pytest.raises(BadSetting) as caught:
        await verify(settings, connection, "outbox", KEYS)
    assert "queue 'outbox' is missing" in str(caught.value)
    assert all(f"exchange '{name}' is missing" in str(caught.value) for name in ("mailwarren", *WAITS))
    assert await fetch(settings) == []


async def test_all_that_is_missing_is_named(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    await declare(connection, read_default_topology())
    channel = await connection.channel()
    await channel.queue_delete("outbox")
    await channel.exchange_delete("wait.1m")
    with pytest.raises(BadSetting) as caught:
        await verify(settings, connection, "outbox", KEYS)
    assert str(caught.value).startswith("queue 'outbox' is missing and exchange 'wait.1m' is missing at amqp://")
    assert "mailwarren amqpinit" in str(caught.value)
    await verify(settings.model_copy(update={"rabbitmq_api": ""}), connection, "", ("outbox",))


async def test_a_key_that_leads_nowhere_is_seen_with_the_api_alone(
    connection: aiormq.Connection, settings: BrokerSettings
) -> None:
    await declare(connection, read_default_topology())
    await (await connection.channel()).queue_unbind("outbox", "mailwarren", "retries")
    with pytest.raises(BadSetting, match="no queue is bound to exchange 'mailwarren' with key 'retries' at amqp://"):
        await verify(settings, connection, "outbox", KEYS)
    await verify(settings.model_copy(update={"rabbitmq_api": ""}), connection, "outbox", KEYS)
    # A management plugin that is down does not keep mail from leaving; a wrong password is a mistake.
    await verify(settings.model_copy(update={"rabbitmq_api": "http://127.0.0.1:1"}), connection, "outbox", KEYS)
    wrong = settings.model_copy(update={"rabbitmq_api": settings.rabbitmq_api.replace("@", "x@")})
    with pytest.raises(BadSetting, match="401"):
        await verify(wrong, connection, "outbox", KEYS)


async def test_on_the_default_exchange_every_key_is_a_queue(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    await declare(connection, read_default_topology())
    default = settings.model_copy(update={"rabbitmq_exchange": ""})
    await verify(default, connection, "outbox", ("inbox", "success"))
    with pytest.raises(BadSetting, match="queue 'retries' is missing"):
        await verify(default, connection, "outbox", ("inbox", "retries"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rabbitmq_exchange": "post", "rabbitmq_results": "results", "rabbitmq_queue": "mine"},
        {"rabbitmq_exchange": ""},
        {"rabbitmq_lazy": True},
        {"rabbitmq_maxpriority": 9},
        {"rabbitmq_durable": False},
    ],
    ids=str,
)
async def test_rabbitmq_declare_makes_all_that_verify_wants(
    connection: aiormq.Connection, settings: BrokerSettings, changes: dict[str, Any]
) -> None:
    asked = settings.model_copy(update={"rabbitmq_declare": True, **changes})
    keys = (asked.rabbitmq_outbox, asked.rabbitmq_retries, asked.rabbitmq_failure, asked.rabbitmq_results, asked.rabbitmq_record)
    await verify(asked, connection, asked.rabbitmq_queue or "outbox", keys)
    await verify(asked, connection, asked.rabbitmq_queue or "outbox", keys)
    assert find_differences(plan(asked, read_default_topology()), await fetch(asked)) == []


async def test_rabbitmq_declare_meets_a_queue_of_somebody_else(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    await (await connection.channel()).queue_declare("success")
    asked = settings.model_copy(update={"rabbitmq_declare": True})
    with pytest.raises(
        BadSetting, match="rabbitmq-declare: queue 'success': it exists with other arguments: durable is false there"
    ):
        await verify(asked, connection, "outbox", KEYS)


async def test_an_api_that_is_down_is_told(settings: BrokerSettings) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await fetch_objects("http://127.0.0.1:1", "/")
    with pytest.raises(BadSetting, match="expected http"):
        await fetch_objects("ftp://127.0.0.1", "/")


async def test_a_wait_queue_brings_mail_home_by_its_key(servers: Stack, vhost: str) -> None:
    servers.declare_topology(vhost)
    queues = Queues(vhost)
    for key in ("outbox", "seal"):
        await queues.publish_now(key.encode(), exchange="wait.5s", key=key)
    for key in ("outbox", "seal"):
        [got] = await until(partial(queues.take_now, key), within=10, what=f"{key} to come home")
        assert (got.body, got.key) == (key.encode(), key)


async def test_a_work_queue_leads_to_dead(servers: Stack, vhost: str) -> None:
    servers.declare_topology(vhost)
    queues = Queues(vhost)
    await queues.publish_now(b"x", exchange="outbox", key="any key")

    async def reject(channel: Any) -> None:
        await channel.basic_reject((await channel.basic_get("outbox")).delivery.delivery_tag, requeue=False)

    await queues.run_now(reject)
    [dead] = await until(lambda: queues.take_now("dead"), what="the broker to dead-letter it")
    assert dead.headers["x-death"][0]["queue"] == "outbox"


async def test_an_unroutable_key_is_returned(servers: Stack, vhost: str) -> None:
    """An alternate exchange on ``mailwarren`` would make RabbitMQ confirm it instead."""
    servers.declare_topology(vhost)
    with pytest.raises(aiormq.exceptions.PublishError):
        await Queues(vhost).publish_now(b"x", key="nowhere")


async def test_differences_of_a_smaller_file(connection: aiormq.Connection, settings: BrokerSettings) -> None:
    await declare(connection, Topology((Exchange("e", "topic"),)))
    found = find_differences(Topology((Exchange("e", "direct"),)), await fetch(settings))
    assert [(item.kind, item.detail) for item in found] == [(Kind.OTHER, 'exchangetype is "topic" there, "direct" wanted')]
