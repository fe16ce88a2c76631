"""The local "internet": a DNS zone, mail hosts that accept, delay and refuse, and a seal service, on loopback, in a thread."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.demo.mails import MX_ADDRESSES, ZONE
from tests.support.background import Background
from tests.support.certificates import Kind, make_certificates
from tests.support.dns_zone import ZoneServer
from tests.support.ledger import Ledger
from tests.support.mx import ScriptedMx
from tests.support.seal_service import SealService
from tests.support.waiting import free_ports


class Internet:
    """Use as ``with``. ``settings``: what our processes must know to find it."""

    def __init__(self, folder: Path, *, notify: str) -> None:
        """``folder``: for the ledgers. ``notify``: the URL to which the seal service posts its notifications."""
        self._folder = folder
        self._notify = notify
        self._background = Background()
        self.settings: Mapping[str, str] = {}

    @property
    def delivered(self) -> Ledger:
        """What the mail hosts accepted."""
        return Ledger(self._folder / "mx")

    @property
    def sealed(self) -> Ledger:
        """What the seal service accepted."""
        return Ledger(self._folder / "seal")

    def __enter__(self) -> Self:
        """Start everything."""
        background = self._background.__enter__()
        # One free port on the first address: the same number is free on the others, which nobody else uses.
        (port,) = free_ports(1, MX_ADDRESSES[0])
        listen = [f"{address}:{port}" for address in MX_ADDRESSES]
        context = make_certificates(self._folder / "certificates").server_context(Kind.SELF_SIGNED)
        zone = background.enter(ZoneServer(ZONE))
        background.enter(ScriptedMx(self._folder / "mx", listen=listen, tls=context))
        seal = background.enter(SealService(self._folder / "seal", notify=self._notify))
        self.settings = {
            "DNS_SERVERS": zone.address,
            "SMTP_PORT": str(port),
            "SMTP_ALLOW_PRIVATE": "127.0.0.0/8",
            "OUTBOUND_SEAL_ADDR": seal.url,
        }
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop everything."""
        self._background.__exit__(kind, error, trace)
