"""What a broker has. AMQP itself tells only whether an exchange or a queue exists; all else needs the management API."""

import asyncio
import base64
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import aiormq
import orjson
from aiormq.exceptions import AMQPError, ChannelClosed, ChannelLockedResource, ChannelNotFoundEntity

from shared.amqp.topology.objects import Binding, Exchange, Queue, TopologyObject
from shared.settings import mask_url
from shared.trouble import BadSetting, BrokerLost, Unavailable

ANSWER_WITHIN = 10
"""Seconds for one question."""


async def find_missing(connection: aiormq.Connection, items: Iterable[Exchange | Queue]) -> list[Exchange | Queue]:
    """Those of ``items`` that the broker does not have, asked by passive declaration. Raises BadSetting or BrokerLost."""
    missing = []
    channel = await connection.channel(publisher_confirms=False)
    for item in items:
        try:
            await _declare_passively(channel, item)
        except ChannelNotFoundEntity:
            missing.append(item)
        except ChannelLockedResource:
            pass  # somebody's exclusive queue: it exists
        except ChannelClosed as error:
            raise BadSetting(f"RabbitMQ does not let us look at {item}: {error}") from None
        except (AMQPError, OSError, TimeoutError) as error:
            raise BrokerLost(f"while looking for {item}: {error or type(error).__name__}") from error
        else:
            continue
        # A refusal closes the channel.
        channel = await connection.channel(publisher_confirms=False)
    await channel.close()
    return missing


async def fetch_objects(api: str, vhost: str, *, verify: bool = True) -> list[TopologyObject]:
    """All exchanges, queues and bindings of a virtual host, from the management API at ``api``.

    Without the broker's own (``amq.*``, the default exchange) and without exclusive queues, which live only as long as their
    connection. Raises BadSetting when the API refuses us, Unavailable when it does not answer.
    """
    path = quote(vhost, safe="")
    exchanges, queues, bindings = [
        await asyncio.to_thread(_get, api, f"/api/{kind}/{path}", verify) for kind in ("exchanges", "queues", "bindings")
    ]
    temporary = {one["name"] for one in queues if one.get("exclusive")}
    objects: list[TopologyObject] = [_to_exchange(one) for one in exchanges if _is_users(one["name"])]
    objects += [_to_queue(one) for one in queues if one["name"] not in temporary]
    objects += [
        _to_binding(one)
        for one in bindings
        if one["source"] and not (one["destination_type"] == "queue" and one["destination"] in temporary)
    ]
    return objects


def parse_vhost(address: str) -> str:
    """The virtual host of an ``amqp://`` URL (of the first of a comma list), as aiormq reads it: none is ``/``."""
    return unquote(urlsplit(address.split(",")[0].strip()).path[1:]) or "/"


def _is_users(name: str) -> bool:
    return bool(name) and not name.startswith("amq.")


def _to_exchange(one: dict[str, Any]) -> Exchange:
    return Exchange(
        one["name"], one["type"], one["durable"], one.get("auto_delete", False), one.get("internal", False), one["arguments"]
    )


def _to_queue(one: dict[str, Any]) -> Queue:
    return Queue(one["name"], one["durable"], one["arguments"])


def _to_binding(one: dict[str, Any]) -> Binding:
    to_exchange = one["destination_type"] == "exchange"
    return Binding(one["source"], one["destination"], one["routing_key"], to_exchange, one["arguments"])


async def _declare_passively(channel: Any, item: Exchange | Queue) -> None:
    if isinstance(item, Exchange):
        await channel.exchange_declare(item.name, passive=True, timeout=ANSWER_WITHIN)
    else:
        await channel.queue_declare(item.name, passive=True, timeout=ANSWER_WITHIN)


def _get(api: str, path: str, verify: bool) -> Any:
    """The standard library's client: every process would pay 10 MB for a better one."""
    parts = urlsplit(api.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSetting(f"rabbitmq-api: {mask_url(api)!r}: expected http[s]://user:password@host:port")
    login = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
    netloc = parts.netloc.rpartition("@")[2]
    url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/") + path, "", ""))
    token = base64.b64encode(login.encode()).decode("ascii")
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})  # noqa: S310 - scheme checked
    context = None
    if parts.scheme == "https" and not verify:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN, context=context) as answer:  # noqa: S310
            return orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise BadSetting(f"rabbitmq-api {mask_url(api)}: {path}: {error.code} {error.reason}") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise Unavailable(f"rabbitmq-api {mask_url(api)} does not answer: {error}") from None
