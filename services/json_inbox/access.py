"""Who may talk to us and do what: decided for every request before anything of it is read.

Loopback needs no token: whoever is there could also talk to RabbitMQ. A request that a proxy on this machine passed on comes from
loopback, too, but not from here: it says so in its headers, which are believed for nothing else, and needs a token like any other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from services.json_inbox.guesses import Guesses
from services.json_inbox.problems import Problem
from services.json_inbox.scopes import PROBES, find_scope
from services.json_inbox.tokens import TokenBook
from shared.log import get_logger
from shared.loopback import is_loopback
from shared.storage.tokens import SCOPES, digest_token

log = get_logger()

ALL = frozenset(SCOPES)
CALLER = "mailwarren.caller"
"""Where the ASGI scope holds the ``Caller``."""
RELAYED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"})
"""What proxies add."""
_LOOKED_AT = frozenset({b"host", b"origin", b"authorization"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="mailwarren"'}
_BAD_TOKEN = {"WWW-Authenticate": 'Bearer realm="mailwarren", error="invalid_token"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    remote_ip: str
    token: str | None = None
    """Name of the token; None: a local request without one."""
    scopes: frozenset[str] = ALL

    @property
    def identity(self) -> str:
        """By what it is known again."""
        return f"address {self.remote_ip}" if self.token is None else f"token {self.token}"


LOCAL = Caller("127.0.0.1")


def find_caller(scope: Mapping[str, Any]) -> Caller:
    """Who sent the request of this ASGI scope (``request.scope``)."""
    caller = scope[CALLER]
    assert isinstance(caller, Caller)  # noqa: S101 - the door has put it there
    return caller


class Access:
    """Lets requests in, or not."""

    def __init__(self, book: TokenBook, *, always: bool, guesses: Guesses | None = None) -> None:
        """``always``: loopback needs a token, too (``http-token-required``)."""
        self._book = book
        self._always = always
        self._guesses = guesses or Guesses()

    def admit(self, scope: Mapping[str, Any]) -> Caller:
        """Who sends this request (an ASGI scope), when it may. Raises Problem, or Unavailable when no tokens were ever seen."""
        method, path = scope["method"], scope["path"]
        remote_ip = scope["client"][0] if scope.get("client") else ""
        if path in PROBES:
            return Caller(remote_ip, scopes=frozenset())
        headers = _gather(scope["headers"])
        needed = find_scope(method, path)
        if b"authorization" in headers:
            caller = self._identify(headers[b"authorization"], remote_ip)
        elif needed is None:
            return Caller(remote_ip, scopes=frozenset())
        else:
            caller = self._trust(remote_ip, scope["headers"], headers)
        _check_origin(headers)
        if needed is not None and needed not in caller.scopes:
            challenge = f'Bearer realm="mailwarren", error="insufficient_scope", scope="{needed}"'
            text = f"the token {caller.token!r} has not the scope {needed!r}, which {method} {path[:200]} needs"
            raise Problem(403, text, field="Authorization", headers={"WWW-Authenticate": challenge})
        return caller

    def _identify(self, given: bytes, remote_ip: str) -> Caller:
        scheme, _, text = given.decode("latin-1").strip().partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise Problem(401, "expected one token: Bearer TOKEN", field="Authorization", headers=_CHALLENGE)
        text = text.strip()
        digest = digest_token(text)
        if wait := self._guesses.wait(remote_ip, digest):
            detail = "too many bad tokens came from this address: none is looked at for now"
            raise Problem(429, detail, field="Authorization", headers={"Retry-After": str(wait)})
        token = self._book.find(text)
        if token is None:
            self._guesses.count(remote_ip, digest)
            log.warning("a bad token", remote_ip=remote_ip)
            raise Problem(401, "the token is unknown or has expired", field="Authorization", headers=_BAD_TOKEN)
        self._guesses.trust(remote_ip, digest)
        return Caller(remote_ip, token.name, token.scopes)

    def _trust(self, remote_ip: str, raw: Iterable[tuple[bytes, bytes]], headers: Mapping[bytes, bytes]) -> Caller:
        if self._always or not is_here(remote_ip) or any(name in RELAYED for name, _ in raw):
            text = "a token is needed: Authorization: Bearer TOKEN"
            if is_here(remote_ip) and not self._always:
                text += " (a request that a proxy has passed on is not a local one)"
            raise Problem(401, text, field="Authorization", headers=_CHALLENGE)
        _check_host(headers)
        return Caller(remote_ip)


def is_here(remote_ip: str) -> bool:
    """Does this address of a peer mean this machine?"""
    try:
        address = ip_address(remote_ip)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _gather(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in _LOOKED_AT:
            if name in headers:
                shown = name.decode().title()
                # Two readers may take different ones.
                raise Problem(400, f"{shown}: expected it once", field=shown)
            headers[name] = value
    return headers


def _check_host(headers: Mapping[bytes, bytes]) -> None:
    """Without a token: a name that an attacker points to 127.0.0.1 (DNS rebinding) lets a web page in a local browser ask us."""
    host = headers.get(b"host", b"").decode("latin-1")
    if host and not is_loopback(_strip_port(host)):
        raise Problem(421, f"{host[:80]!r}: without a token, expected a loopback address or localhost", field="Host")


def _check_origin(headers: Mapping[bytes, bytes]) -> None:
    """A page of another origin in a local browser: it could do what the machine may do."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and origin.partition("://")[2] != headers.get(b"host", b"").decode("latin-1"):
        raise Problem(403, f"{origin[:80]!r}: requests from web pages elsewhere are refused", field="Origin")


def _strip_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
