"""The back-end of AUTH that asks an HTTP service: Basic authentication (RFC 7617), 2xx is yes, 401 and 403 are no."""

import asyncio
from datetime import timedelta

import httpx

from shared.trouble import BadSetting, Unavailable

SLOTS = 20
"""Requests at once."""


def check_url(text: str) -> str:
    """The address of a service. Raises BadSetting."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise BadSetting(f"inbound-smtp-auth: expected http://host/path or https://host/path ({error})") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise BadSetting(f"inbound-smtp-auth: {text!r}: expected http://host/path or https://host/path")
    if url.userinfo or url.fragment:
        raise BadSetting("inbound-smtp-auth: expected no user and no fragment in the address: the client's own name is sent")
    return text


class AskingService:
    """Says what the service says."""

    slots = SLOTS

    def __init__(self, url: str, timeout: timedelta) -> None:
        """Raises BadSetting."""
        self._url = check_url(url)
        self._timeout = timeout.total_seconds()
        # Nothing from the environment (proxies, .netrc), and no redirects: passwords go to this address or nowhere.
        self._client = httpx.AsyncClient(
            timeout=self._timeout,
            follow_redirects=False,
            trust_env=False,
            verify=httpx.create_ssl_context(trust_env=False),
            limits=httpx.Limits(max_connections=SLOTS),
        )

    def knows(self, name: str) -> bool:
        """Nobody is known here."""
        return False

    async def verify(self, name: str, password: str) -> bool:
        """Whether the service says yes. Raises Unavailable when it says neither yes nor no in time."""
        if ":" in name:
            # RFC 7617 2: cannot be said; the service would read another name.
            return False
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("GET", self._url, auth=httpx.BasicAuth(name, password)) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            raise Unavailable(f"{self._url}: no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._url}: {type(error).__name__}: {error}") from None
        if 200 <= status < 300:
            return True
        if status in (401, 403):
            return False
        raise Unavailable(f"{self._url}: status {status}; expected 2xx, 401 or 403")

    def reload(self) -> None:
        """There is nothing to read again."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
