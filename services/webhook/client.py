"""One request to an endpoint. What becomes of it is a value."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

import httpx

from services.webhook.guard import Forbidden, Guard, Lookup, Unresolved, look_up
from services.webhook.settings import ServiceSettings
from shared.delivery.webhooks import Endpoint, sign
from shared.trouble import BadSetting

MOST_OCTETS = 65_536
"""Of an answer's body that are read; nothing of it is used."""
BODY_PATIENCE = 2.0
"""Seconds for the body of an answer: the status line has decided already."""
USER_AGENT = "mailwarren-webhook/1"
GONE = 410
CONTENT = frozenset({400, 413, 422})
"""Answers that may be about one of the events: they are posted one by one then."""
TEXTS: Mapping[int, str] = {GONE: "410 Gone: it wants nothing any more"}


class Result(StrEnum):
    """What a request ended with."""

    TAKEN = "taken"
    REFUSED = "refused"
    """By an answer that may be about one of the events."""
    FAILED = "failed"
    """To be posted again as it is."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended."""

    result: Result
    reason: str = ""
    """In words; no text of the endpoint's own, and nothing of the path."""
    retry_after: timedelta | None = None
    """As the endpoint asked."""

    @property
    def is_taken(self) -> bool:
        """Did it say 2xx?"""
        return self.result is Result.TAKEN


class Client:
    """Makes requests; each on a connection of its own, so that no name is served over the connection of another."""

    def __init__(self, settings: ServiceSettings, lookup: Lookup = look_up) -> None:
        """Raises BadSetting."""
        self._guard = Guard(settings, lookup)
        self._limit = settings.webhook_timeout.total_seconds()
        self._timeout = httpx.Timeout(self._limit, connect=settings.webhook_connect_timeout.total_seconds())
        self._context = ssl.create_default_context()
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.webhook_ca_file:
            try:
                self._context.load_verify_locations(settings.webhook_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise BadSetting(f"webhook-ca-file: {settings.webhook_ca_file!r}: {error}") from None

    async def post(self, endpoint: Endpoint, ident: str, body: bytes) -> Answer:
        """Post ``body`` under the id ``ident``, signed now."""
        if not endpoint.secret:
            return Answer(Result.FAILED, "it has no secret to sign with")
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "webhook-id": ident,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(endpoint.secret, ident, timestamp, body),
        }
        try:
            async with asyncio.timeout(self._limit):
                return await self._post(httpx.URL(endpoint.url), headers, body)
        except (Forbidden, Unresolved) as error:
            return Answer(Result.FAILED, str(error))
        except (TimeoutError, httpx.TimeoutException):
            return Answer(Result.FAILED, "no answer in time")
        except httpx.InvalidURL:
            return Answer(Result.FAILED, "its URL cannot be used")
        except (httpx.HTTPError, OSError) as error:
            return Answer(Result.FAILED, f"{type(error).__name__}: {error}"[:200])

    async def _post(self, url: httpx.URL, headers: dict[str, str], body: bytes) -> Answer:
        addresses = await self._guard.find_addresses(str(url))
        for address in addresses:
            try:
                return await self._post_to(address, url, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise AssertionError("the guard finds at least one address")

    async def _post_to(self, address: str, url: httpx.URL, headers: dict[str, str], body: bytes) -> Answer:
        # A proxy named in the environment, and whatever is redirected to, would be reached unjudged.
        client = httpx.AsyncClient(verify=self._context, trust_env=False, follow_redirects=False, timeout=self._timeout)
        named = {**headers, "Host": url.netloc.decode("ascii")}
        async with (
            client,
            client.stream(
                "POST", url.copy_with(host=address), headers=named, content=body, extensions={"sni_hostname": url.host}
            ) as response,
        ):
            answer = decide_answer(response.status_code, response.headers.get("Retry-After"), datetime.now(UTC))
            await _skip_body(response)
            return answer


def decide_answer(status: int, retry_after: str | None, now: datetime) -> Answer:
    """What an answer means. Only 2xx is taken; a redirect is followed nowhere."""
    if 200 <= status < 300:
        return Answer(Result.TAKEN)
    if status == GONE:
        return Answer(Result.GONE, TEXTS[status])
    text = f"it answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
    result = Result.REFUSED if status in CONTENT else Result.FAILED
    return Answer(result, text, parse_retry_after(retry_after, now))


def parse_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """The header Retry-After, seconds or a date (RFC 9110 10.2.3); None when it says nothing that can be used."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), 10**8))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    left = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return max(left, timedelta(0))


async def _skip_body(response: httpx.Response) -> None:
    """Read a little: who answers should not see a connection that breaks off. What is read decides nothing any more."""
    size = 0
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            async for part in response.aiter_raw():
                size += len(part)
                if size > MOST_OCTETS:
                    return
    except (TimeoutError, httpx.HTTPError):
        return
