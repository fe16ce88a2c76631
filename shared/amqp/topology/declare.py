"""Applies a topology to a broker, object by object, in order. What is there already, with the same arguments, is left alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiormq
from aiormq.exceptions import AMQPError, ChannelClosed, ChannelPreconditionFailed, ConnectionClosed

from shared.amqp.topology.objects import Binding, Exchange, Topology, TopologyObject
from shared.trouble import BrokerLost

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<name>[^']*)' for (?:exchange|queue) .*?: received (?P<ours>.*?) but current is (?P<theirs>.*)",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:the value )?'(?P<value>.*?)'(?: of type '\w+')?", re.DOTALL)
ANSWER_WITHIN = 30
"""Seconds for one declaration. Electing the leader of a quorum queue may take some."""


@dataclass(frozen=True, slots=True)
class Declared:
    """How far it came."""

    done: tuple[TopologyObject, ...]
    """Applied, in order."""
    refused: TopologyObject | None = None
    """The object that the broker refused; nothing after it was applied."""
    reason: str = ""


async def declare(
    connection: aiormq.Connection, topology: Topology, progress: Callable[[TopologyObject], None] = lambda _: None
) -> Declared:
    """Apply every object in order, as far as the broker takes it. Idempotent.

    A refusal of the broker is a value. Raises BrokerLost.
    """
    done: list[TopologyObject] = []
    channel = await connection.channel(publisher_confirms=False)
    for item in topology:
        try:
            await _declare_one(channel, item)
        except ChannelPreconditionFailed as error:
            return Declared(tuple(done), item, explain_precondition(str(error)))
        except (ChannelClosed, ConnectionClosed) as error:
            return Declared(tuple(done), item, clean_refusal(str(error)))
        except AMQPError as error:
            # The reply that closes a whole connection (an unknown type of exchange) reaches the call under other names.
            if closing := _find_refusal(connection, error):
                return Declared(tuple(done), item, closing)
            raise BrokerLost(f"while declaring {item}: {error or type(error).__name__}") from error
        except (OSError, TimeoutError) as error:
            raise BrokerLost(f"while declaring {item}: {error or type(error).__name__}") from error
        done.append(item)
        progress(item)
    await channel.close()
    return Declared(tuple(done))


def explain_precondition(reply: str) -> str:
    """RabbitMQ's 406 in our words, with both values: ``x-delivery-limit is 10 there, 20 wanted``."""
    match = _INEQUIVALENT.search(reply)
    if match is None:
        return clean_refusal(reply)
    return f"it exists with other arguments: {match['name']} is {_value(match['theirs'])} there, {_value(match['ours'])} wanted"


def clean_refusal(reply: str) -> str:
    """The broker's words without its code names, in one line."""
    return " ".join(re.sub(r"^[A-Z_]+ - ", "", reply).split())


def _value(text: str) -> str:
    match = _VALUE.fullmatch(text.strip())
    if match is None:
        return "not set" if text.strip() == "none" else text.strip()
    return match["value"] or "''"


def _find_refusal(connection: aiormq.Connection, error: Exception) -> str:
    for cause in (error, error.__cause__, error.__context__, _closing_exception(connection)):
        if isinstance(cause, ConnectionClosed) or (cause is not None and "COMMAND_INVALID" in str(cause)):
            return clean_refusal(str(cause))
    return ""


def _closing_exception(connection: aiormq.Connection) -> BaseException | None:
    future = connection.closing
    return future.exception() if future.done() and not future.cancelled() else None


async def _declare_one(channel: Any, item: TopologyObject) -> None:
    arguments = dict(item.arguments) or None
    if isinstance(item, Exchange):
        await channel.exchange_declare(
            item.name,
            exchange_type=item.kind,
            durable=item.durable,
            auto_delete=item.auto_delete,
            internal=item.internal,
            arguments=arguments,
            timeout=ANSWER_WITHIN,
        )
    elif isinstance(item, Binding):
        if item.to_exchange:
            await channel.exchange_bind(
                item.destination, item.exchange, item.routing_key, arguments=arguments, timeout=ANSWER_WITHIN
            )
        else:
            await channel.queue_bind(
                item.destination, item.exchange, item.routing_key, arguments=arguments, timeout=ANSWER_WITHIN
            )
    else:
        await channel.queue_declare(item.name, durable=item.durable, arguments=arguments, timeout=ANSWER_WITHIN)
