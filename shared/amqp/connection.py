"""Connections to RabbitMQ. A lost connection ends the process (crash-only): the supervisor starts it again, and it waits here."""

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import aiormq
import aiormq.abc
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import AMQPError
from yarl import URL

from shared.amqp.tolerance import tolerate
from shared.log import get_logger
from shared.settings import mask_url
from shared.trouble import BadSetting, BrokerLost

log = get_logger()

HEARTBEAT = 15
"""Seconds. Without it a dead peer is noticed after three minutes."""
CONNECT_TIMEOUT = 10
OLDEST = (3, 10)
"""The oldest RabbitMQ that keeps the promises."""
REFUSED = (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError)


Wrap = Callable[[asyncio.StreamReader], asyncio.StreamReader]


class _Wrapping(TransportFactory):
    """Connects as the library does, and wraps what it reads from."""

    def __init__(self, inner: TransportFactory, wrap: Wrap) -> None:
        self._inner = inner
        self._wrap = wrap

    async def create(self, url: Any, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See ``TransportFactory``."""
        reader, writer = await self._inner.create(url, **kwargs)
        return self._wrap(reader), writer


async def connect_once(url: str, *, name: str, verify: bool = True, wrap: Wrap | None = None) -> aiormq.Connection:
    """One attempt. ``wrap`` gives the library something else to read from than the socket.

    Raises OSError or AMQPError when the broker is out of reach.
    """
    tolerate()
    target = URL(url.strip()).update_query(heartbeat=HEARTBEAT, name=name)
    context = None
    if target.scheme == "amqps" and not verify:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    factory = None
    if wrap is not None:
        factory = _Wrapping(TLSTransportFactory() if target.scheme == "amqps" else TCPTransportFactory(), wrap)
    connection = aiormq.Connection(target, context=context, transport_factory=factory)
    async with asyncio.timeout(CONNECT_TIMEOUT):
        await connection.connect({"connection_name": name, "product": "mailwarren"})
    version = connection.server_properties.get("version")
    if isinstance(version, str) and is_too_old(version):
        await connection.close()
        # Before it a quorum queue has no time to live: mail would never come back from a wait queue.
        raise BadSetting(f"rabbitmq-address {mask_url(url)}: RabbitMQ {version}: expected 3.10 or newer")
    return connection


def is_too_old(version: str) -> bool:
    """Is this RabbitMQ, ``3.9.13``, older than OLDEST? A version of another form is not."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and tuple(map(int, found.groups())) < OLDEST


async def connect(
    addresses: str, *, name: str, verify: bool = True, patience: float | None = None, wrap: Wrap | None = None
) -> aiormq.Connection:
    """Connect to the first of the comma-separated ``addresses`` that answers, and wait as long as none does.

    ``patience``: seconds after which BrokerLost is raised; None waits forever. ``wrap``: see ``connect_once``.
    Raises BadSetting when the broker refuses the user.
    """
    waited, pause, reason = 0.0, 0.5, ""
    while True:
        for url in addresses.split(","):
            try:
                return await connect_once(url, name=name, verify=verify, wrap=wrap)
            except REFUSED:
                raise BadSetting(f"rabbitmq-address {mask_url(url)}: RabbitMQ refused user or password") from None
            except (OSError, AMQPError, TimeoutError) as error:
                reason = _explain(error, url)
                log.warning("waiting for RabbitMQ", address=mask_url(url), reason=reason)
        if patience is not None and waited >= patience:
            raise BrokerLost(f"RabbitMQ does not answer at {mask_url(addresses)}: {reason}")
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, 5.0)


def _explain(error: Exception, url: str) -> str:
    if "Connection.OpenOk" in str(error):
        # RabbitMQ's 530 and 403 come out of aiormq without their text.
        return f"it refuses the virtual host {unquote(URL(url.strip()).raw_path[1:]) or '/'!r}"
    return str(error) or type(error).__name__


@contextmanager
def translating(when: str) -> Iterator[None]:
    """What the library raises becomes BrokerLost, which says ``when`` it happened."""
    try:
        yield
    except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
        raise BrokerLost(f"{when}: {error or type(error).__name__}") from error


def when_closed(owner: Any, callback: Callable[[str], None]) -> None:
    """Call back with a reason, once, when a connection or channel of aiormq is closed, by whomever."""

    def closed(future: "asyncio.Future[Any]") -> None:
        error = None if future.cancelled() else future.exception()
        callback(str(error or "") or "closed")

    owner.closing.add_done_callback(closed)
