"""Puts a courier together from the settings; the process and its tests use the same one."""

from services.smtp_sender.content import Preparer
from services.smtp_sender.handler import Courier
from services.smtp_sender.hops import Hops
from services.smtp_sender.pool import Pool
from services.smtp_sender.pool_book import PoolBook
from services.smtp_sender.route import Resolver
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.signing import Signer
from services.smtp_sender.sources import Origin
from shared.delivery.patterns import Patterns
from shared.storage.contents import Contents


def make_courier(
    settings: ServiceSettings,
    pool: Pool,
    resolver: Resolver | None,
    contents: Contents,
    *,
    book: PoolBook,
    patterns: Patterns,
    https_port: int = 443,
) -> Courier:
    """A courier. ``resolver`` may be None only when everything goes to a sink. Raises BadSetting."""
    return Courier(
        settings,
        pool,
        Hops(settings, resolver, https_port=https_port),
        Origin(settings, book),
        contents,
        Preparer(Signer(settings.dkim_keys, settings.authserv_id or settings.smtp_hostname), resolver),
        patterns,
    )
