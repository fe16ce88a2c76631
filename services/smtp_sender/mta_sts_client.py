"""Fetches the MTA-STS policies of domains (RFC 8461 3.3) and keeps them as long as they say."""

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import httpx
from prometheus_client import Counter

from services.smtp_sender.lookup import Coalesced
from services.smtp_sender.mta_sts import InvalidPolicy, StsPolicy, parse_policy, parse_record
from services.smtp_sender.route import Resolver
from services.smtp_sender.session import Ending
from shared.log import get_logger
from shared.reachable import is_allowed, is_own
from shared.trouble import BadSetting

FETCHES = Counter("smtp_mta_sts_fetches", "MTA-STS policies fetched, or not", ["result"])
for _result in ("fetched", "failed"):
    FETCHES.labels(_result)
PATIENCE = 10.0
"""Seconds for one fetch; the mail that asks first waits for it."""
CONNECT_PATIENCE = 3.0
"""Seconds for one address."""
MOST_OCTETS = 65_536
MOST_ADDRESSES = 3
MOST_POLICIES = 10_000
RETRY_AFTER = 300.0
"""Seconds before a fetch that failed is tried again (RFC 8461 3.3), and the least that a policy is kept."""
LEAST_INTERVAL = 60.0
"""Seconds between two fetches: a domain may give its policy a new id with every look-up."""
REFRESH_AFTER = 86_400.0
"""Seconds after which a policy in use is fetched anew, so that it need not run out (RFC 8461 3.3); half of max_age if that is less."""

log = get_logger()


@dataclass(slots=True)
class _Kept:
    """What is known about a domain. Times are those of the clock."""

    record_id: str | None = None
    """Of the last fetch, whatever came of it."""
    policy: StsPolicy | None = None
    expires: float = 0.0
    refresh_at: float = 0.0
    next_fetch: float = 0.0
    """Not before."""


class StsClient:
    """MTA-STS policies by domain."""

    def __init__(
        self,
        resolver: Resolver,
        allowed: tuple[str, ...] = (),
        ca_file: str = "",
        *,
        port: int = 443,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``allowed``: private networks that DNS may lead to. ``ca_file``: authorities trusted besides the system's.

        Raises BadSetting.
        """
        self._resolver = resolver
        self._allowed = allowed
        self._port = port
        self._clock = clock
        self._context = ssl.create_default_context()
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca_file:
            try:
                self._context.load_verify_locations(ca_file)
            except OSError as error:
                raise BadSetting(f"smtp-ca-file: {ca_file!r}: {error}") from None
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._fetching: Coalesced[str, None] = Coalesced()

    async def find(self, domain: str) -> StsPolicy | None:
        """The policy of a domain (lower case, ASCII). Raises Unavailable when no resolver can be reached.

        That there is none, cannot be read or cannot be had is the same, unless an older one is kept and holds.
        """
        texts = await self._resolver.find_texts(f"_mta-sts.{domain}")
        record_id = None if isinstance(texts, Ending) else parse_record(texts)
        kept = self._kept.get(domain)
        if kept is None and record_id is None:
            return None
        if kept is None:
            kept = self._kept[domain] = _Kept()
            if len(self._kept) > MOST_POLICIES:
                self._kept.popitem(last=False)
        now = self._clock()
        is_current = now < kept.expires
        if now >= kept.next_fetch:
            renew = partial(self._renew, domain, kept, record_id or kept.record_id)
            if record_id is not None and (record_id != kept.record_id or not is_current):
                await self._fetching.run(domain, renew)
            elif is_current and now >= kept.refresh_at:
                # Nobody waits for it: the old one holds.
                self._fetching.begin(domain, renew)
        return kept.policy if self._clock() < kept.expires else None

    async def _renew(self, domain: str, kept: _Kept, record_id: str | None) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                policy = await self._fetch(domain)
        except (InvalidPolicy, TimeoutError) as error:
            now = self._clock()
            kept.record_id, kept.next_fetch, kept.refresh_at = record_id, now + RETRY_AFTER, now + RETRY_AFTER
            FETCHES.labels("failed").inc()
            reason = str(error) or "no answer in time"
            log.warning("no MTA-STS policy", domain=domain, reason=reason, is_old_one_kept=now < kept.expires)
            return
        FETCHES.labels("fetched").inc()
        age, now = max(policy.max_age.total_seconds(), RETRY_AFTER), self._clock()
        kept.record_id, kept.policy, kept.expires = record_id, policy, now + age
        kept.next_fetch, kept.refresh_at = now + LEAST_INTERVAL, now + min(REFRESH_AFTER, age / 2)

    async def _fetch(self, domain: str) -> StsPolicy:
        """Raises InvalidPolicy; Unavailable when no resolver can be reached, which is no reason to do without a policy."""
        name = f"mta-sts.{domain}"
        hosts = await self._resolver.find_addresses(name)
        if isinstance(hosts, Ending):
            raise InvalidPolicy(hosts.text or "no address")
        # The address checked is the address connected to.
        addresses = [host.address for host in hosts if is_allowed(host.address, self._allowed) and not is_own(host.address)]
        if not addresses:
            raise InvalidPolicy(f"{name} has no address, or leads to private ones only")
        trouble = ""
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return parse_policy(await self._get(name, address))
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                trouble = f"{address}: {error or type(error).__name__}"
        raise InvalidPolicy(trouble)

    async def _get(self, name: str, address: str) -> bytes:
        """The policy file. Raises InvalidPolicy, and what httpx raises."""
        url = httpx.URL(scheme="https", host=address, port=self._port, path="/.well-known/mta-sts.txt")
        headers = {"Host": name, "Accept": "text/plain", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(PATIENCE, connect=CONNECT_PATIENCE)
        async with (
            httpx.AsyncClient(verify=self._context, trust_env=False, follow_redirects=False, timeout=timeout) as client,
            client.stream("GET", url, headers=headers, extensions={"sni_hostname": name}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise InvalidPolicy(f"https://{name} answered {response.status_code}")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if media_type != "text/plain":
                raise InvalidPolicy(f"https://{name} answered {media_type[:80] or 'without a type'}, expected text/plain")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MOST_OCTETS:
                    raise InvalidPolicy(f"https://{name} answered with more than {MOST_OCTETS} octets")
        return bytes(body)
