"""The settings of smtp-inbox: mxengine's names, and ours."""

import socket
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

from pydantic import Field, SecretStr

from services.smtp_inbox.keeping import BareNewlines
from services.smtp_inbox.local_settings import LocalSettings
from services.smtp_inbox.proxy import Proxies
from services.smtp_inbox.relay import RelayPolicy, parse_relay_policy
from shared.amqp.settings import BrokerSettings
from shared.process import split_address
from shared.settings import Duration, Strings, mask_url
from shared.storage.accepted_before import MemorySettings
from shared.storage.open_store import StorageSettings
from shared.trouble import BadSetting


class ServiceSettings(BrokerSettings, StorageSettings, LocalSettings, MemorySettings):
    """Everything that can be set."""

    inbound_smtp_listen: Strings = Field(
        default=(),
        description="a comma list of relay://host:port, smtps:// (the same with TLS from the first octet), submission:// (no mail "
        "before AUTH) and submissions:// (both); empty = one relay listener at inbound-smtp-host and -port; copies of the process "
        "share a port",
    )
    inbound_smtp_host: str = Field(default="127.0.0.1", description="host to listen on, when inbound-smtp-listen is empty")
    inbound_smtp_port: int = Field(
        default=1587, ge=0, le=65535, description="port to listen on, when inbound-smtp-listen is empty; 0 = any free one"
    )
    inbound_smtp_public_hostname: str = Field(
        default_factory=socket.gethostname, description="our name in the greeting and in Received headers", min_length=1
    )
    inbound_smtp_max_size: int = Field(default=20971520, ge=1024, description="octets of a mail at most (SIZE)")
    inbound_smtp_max_memory: int = Field(
        default=268435456,
        ge=1024,
        description="octets of content in memory at once, all connections together; more is answered 452",
    )
    inbound_smtp_max_spool: int = Field(
        default=8589934592,
        ge=1024,
        description="octets of large mails that are on the disk while they come in, all connections together; more is answered 452",
    )
    inbound_smtp_tls: bool = Field(default=False, description="offer STARTTLS (TLS 1.2 and later)")
    inbound_smtp_tls_public_key: str = Field(
        default="", description="PEM certificate chain, or the file that holds it; read again on SIGHUP"
    )
    inbound_smtp_tls_private_key: SecretStr = Field(
        default=SecretStr(""), description="PEM private key, or the file that holds it; read again on SIGHUP"
    )
    inbound_smtp_auth: str = Field(
        default="",
        description="who knows the passwords for AUTH, which is offered under TLS only: a users file (name:hash, see 'mailwarren "
        "users'; read again when it changes) or an http(s):// address that is asked with Basic authentication; empty = no AUTH",
    )
    inbound_smtp_auth_timeout: Duration = Field(
        default=timedelta(seconds=5),
        gt=timedelta(0),
        le=timedelta(seconds=60),
        description="seconds for the service behind inbound-smtp-auth to answer; later the client is told to try again (454)",
    )
    inbound_smtp_auth_delay: Duration = Field(
        default=timedelta(seconds=1),
        ge=timedelta(0),
        le=timedelta(seconds=30),
        description="seconds before a wrong login is answered; doubled with each failure of the client's address, up to 8 times",
    )
    inbound_smtp_auth_max_failures: int = Field(
        default=10, ge=1, description="wrong logins from one address (IPv6: one /64) within inbound-smtp-auth-window, then 421"
    )
    inbound_smtp_auth_max_failures_per_user: int = Field(
        default=30, ge=1, description="wrong logins of one name from addresses it never logged in from, then 454"
    )
    inbound_smtp_auth_window: Duration = Field(
        default=timedelta(seconds=600), gt=timedelta(0), description="seconds over which wrong logins are counted"
    )
    inbound_smtp_proxy_from: Strings = Field(
        default=(),
        description="CIDRs of the proxies that must begin each connection with a PROXY header (version 1 or 2), whose client then "
        "counts as ours; empty = none",
    )
    smtp_range: Strings = Field(default=("127.0.0.0/8", "::1/128"), description="CIDRs of the clients that may send to everybody")
    inbound_smtp_bare_newlines: BareNewlines = Field(
        default=BareNewlines.REFUSE, description="a CR or LF alone in the content: refuse (550 5.5.2) or normalize (to CRLF)"
    )
    inbound_smtp_max_recipients: int = Field(default=1000, ge=1, description="recipients of one mail; more are answered 452")
    inbound_smtp_max_connections: int = Field(default=1000, ge=1, description="connections at once, of this process")
    inbound_smtp_max_connections_per_address: int = Field(default=50, ge=1, description="connections at once from one IP address")
    inbound_smtp_max_command: int = Field(
        default=512, ge=512, description="octets of a command line, CRLF included (more where an extension says so)"
    )
    inbound_smtp_max_hops: int = Field(
        default=100, ge=1, description="Received headers from which on a mail is refused as a loop (554 5.4.6)"
    )
    inbound_smtp_max_errors: int = Field(default=20, ge=1, description="refused commands since the last accepted mail, then 421")
    inbound_smtp_max_junk: int = Field(
        default=100, ge=1, description="commands that lead to no mail (NOOP, RSET, VRFY …) since the last accepted mail, then 421"
    )
    inbound_smtp_greeting_delay: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(seconds=60),
        description="seconds before clients that may not relay are greeted; one that talks earlier is refused (554)",
    )
    inbound_smtp_command_timeout: Duration = Field(
        default=timedelta(seconds=300), description="seconds for a whole command line to come"
    )
    inbound_smtp_idle_timeout: Duration = Field(default=timedelta(seconds=300), description="seconds without an octet in DATA")
    inbound_smtp_min_rate: int = Field(
        default=500, ge=0, description="octets per second of DATA at least, over each 60 s; 0 = any"
    )
    data_processing_timeout: Duration = Field(
        default=timedelta(seconds=60), description="seconds for storing a mail after its last octet; later it is answered 451"
    )

    def relay_policy(self) -> RelayPolicy:
        """Who may relay. Raises BadSetting."""
        return parse_relay_policy(self.smtp_range)

    def proxies(self) -> Proxies:
        """Who must send a PROXY header. Raises BadSetting."""
        return Proxies(parse_relay_policy(self.inbound_smtp_proxy_from, "inbound-smtp-proxy-from"))


@dataclass(frozen=True, slots=True)
class Listener:
    """One address to listen on."""

    host: str
    port: int
    is_tls: bool
    """TLS from the first octet (``smtps``, ``submissions``; RFC 8314 3.3)."""
    needs_auth: bool = False
    """No mail without AUTH (``submission``, ``submissions``; RFC 6409 4.3)."""

    @property
    def url(self) -> str:
        """As it is written in ``inbound-smtp-listen``."""
        scheme = next(name for name, kind in SCHEMES.items() if kind == (self.is_tls, self.needs_auth))
        return f"{scheme}://[{self.host}]:{self.port}" if ":" in self.host else f"{scheme}://{self.host}:{self.port}"


SCHEMES = {"relay": (False, False), "smtps": (True, False), "submission": (False, True), "submissions": (True, True)}
"""TLS from the first octet, no mail without AUTH."""


def parse_listeners(settings: ServiceSettings) -> list[Listener]:
    """Where to listen. Raises BadSetting."""
    if not settings.inbound_smtp_listen:
        return [Listener(settings.inbound_smtp_host, settings.inbound_smtp_port, False)]
    return [_parse_listener(text) for text in settings.inbound_smtp_listen]


def check(settings: ServiceSettings) -> None:
    """Refuse what would open a relay or serve nobody. Raises BadSetting. What needs a look elsewhere: ``guard``."""
    if not settings.rabbitmq_inbox or not settings.rabbitmq_record:
        raise BadSetting("rabbitmq-inbox, rabbitmq-record: expected a routing key; accepted mail must go somewhere")
    listeners = parse_listeners(settings)
    for listener in listeners:
        _check_listener(listener, settings)
    if not _serves_others(settings):
        for listener in listeners:
            if not _is_loopback(listener.host):
                raise BadSetting(
                    f"smtp-range: holds no client beyond loopback, but {listener.url} listens beyond it: expected the CIDRs of the "
                    "clients that may send, inbound-smtp-auth, local-domains or local-addresses, or a listener on loopback"
                )
    settings.proxies()
    if settings.inbound_smtp_auth:
        _check_auth(settings)


def _serves_others(settings: ServiceSettings) -> bool:
    """Whether a client beyond this machine could send anything at all."""
    policy = settings.relay_policy()
    # With db-uri local recipients may be in Postgres: ``guard`` looks.
    may_be_local = settings.local_domains or settings.local_addresses or settings.db_uri
    return not policy.is_loopback_only or bool(settings.inbound_smtp_auth or may_be_local)


def _check_listener(listener: Listener, settings: ServiceSettings) -> None:
    if listener.needs_auth and not settings.inbound_smtp_auth:
        raise BadSetting(f"inbound-smtp-auth: expected a users file or an http(s):// address, because of {listener.url}")
    if (listener.is_tls or listener.needs_auth) and not settings.inbound_smtp_tls:
        raise BadSetting(f"inbound-smtp-tls: expected true, because of {listener.url}")


def _check_auth(settings: ServiceSettings) -> None:
    scheme, separator, _ = settings.inbound_smtp_auth.partition("://")
    if separator and scheme not in ("http", "https", "file"):
        raise BadSetting(
            f"inbound-smtp-auth: {mask_url(settings.inbound_smtp_auth)!r}: expected the path of a users file, or http(s)://host/path"
        )
    if not settings.inbound_smtp_tls:
        raise BadSetting("inbound-smtp-tls: expected true, because of inbound-smtp-auth: there is no AUTH without TLS")


def _parse_listener(text: str) -> Listener:
    scheme, separator, address = text.partition("://")
    if not separator or scheme not in SCHEMES:
        raise BadSetting(f"inbound-smtp-listen: {text!r}: expected {', '.join(SCHEMES)} and ://host:port")
    host, port = split_address(address, "inbound-smtp-listen")
    if not host:
        raise BadSetting(f"inbound-smtp-listen: {text!r}: expected a host; 0.0.0.0 or [::] for all addresses")
    is_tls, needs_auth = SCHEMES[scheme]
    return Listener(host, port, is_tls, needs_auth)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
