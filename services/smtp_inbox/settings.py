"""The settings of smtp-inbox: mxengine's names, and ours."""

import socket
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

from pydantic import Field, SecretStr

from services.smtp_inbox.content import BareNewlines
from services.smtp_inbox.relay import RelayPolicy, parse_relay_policy
from shared.amqp.settings import BrokerSettings
from shared.process import split_address
from shared.settings import Duration, Strings
from shared.storage.open_store import StorageSettings
from shared.trouble import BadSetting


class ServiceSettings(BrokerSettings, StorageSettings):
    """Everything that can be set."""

    inbound_smtp_listen: Strings = Field(
        default=(),
        description="a comma list of relay://host:port and smtps://host:port (TLS from the first octet); empty = one relay "
        "listener at inbound-smtp-host and -port; copies of the process share a port",
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
    inbound_smtp_tls: bool = Field(default=False, description="offer STARTTLS (TLS 1.2 and later)")
    inbound_smtp_tls_public_key: str = Field(
        default="", description="PEM certificate chain, or the file that holds it; read again on SIGHUP"
    )
    inbound_smtp_tls_private_key: SecretStr = Field(
        default=SecretStr(""), description="PEM private key, or the file that holds it; read again on SIGHUP"
    )
    inbound_smtp_auth: str = Field(default="", description="SMTP AUTH: not built yet, must be empty")
    smtp_range: Strings = Field(default=("127.0.0.0/8", "::1/128"), description="CIDRs of the clients that may send to everybody")
    local_domains: Strings = Field(default=(), description="domains of local recipients: not built yet, must be empty")
    local_addresses: Strings = Field(default=(), description="local recipients: not built yet, must be empty")
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


@dataclass(frozen=True, slots=True)
class Listener:
    """One address to listen on."""

    host: str
    port: int
    is_tls: bool
    """TLS from the first octet (``smtps``)."""


def parse_listeners(settings: ServiceSettings) -> list[Listener]:
    """Where to listen. Raises BadSetting."""
    if not settings.inbound_smtp_listen:
        return [Listener(settings.inbound_smtp_host, settings.inbound_smtp_port, False)]
    return [_parse_listener(text) for text in settings.inbound_smtp_listen]


def check(settings: ServiceSettings) -> None:
    """Refuse what is not built yet, and what would open a relay or serve nobody. Raises BadSetting."""
    for name in (
        "inbound_smtp_auth",
        "local_domains",
        "local_addresses",
        "rabbitmq_local",
        "rabbitmq_reports",
        "rabbitmq_refused",
    ):
        if getattr(settings, name):
            raise BadSetting(f"{name.replace('_', '-')}: {getattr(settings, name)!r}: not built yet; expected it to be empty")
    if not settings.rabbitmq_inbox or not settings.rabbitmq_record:
        raise BadSetting("rabbitmq-inbox, rabbitmq-record: expected a routing key; accepted mail must go somewhere")
    listeners = parse_listeners(settings)
    policy = settings.relay_policy()
    if policy.is_loopback_only:
        for listener in listeners:
            if not _is_loopback(listener.host):
                raise BadSetting(
                    f"smtp-range: holds no client beyond loopback, but {listener.host}:{listener.port} listens beyond it: "
                    "expected the CIDRs of the clients that may send, or a listener on loopback"
                )
    if any(listener.is_tls for listener in listeners) and not settings.inbound_smtp_tls:
        raise BadSetting("inbound-smtp-tls: expected true, because inbound-smtp-listen has an smtps:// address")


def _parse_listener(text: str) -> Listener:
    scheme, separator, address = text.partition("://")
    if scheme == "submission":
        raise BadSetting(f"inbound-smtp-listen: {text!r}: submission needs AUTH, which is not built yet")
    if not separator or scheme not in ("relay", "smtps"):
        raise BadSetting(f"inbound-smtp-listen: {text!r}: expected relay://host:port or smtps://host:port")
    host, port = split_address(address, "inbound-smtp-listen")
    if not host:
        raise BadSetting(f"inbound-smtp-listen: {text!r}: expected a host; 0.0.0.0 or [::] for all addresses")
    return Listener(host, port, scheme == "smtps")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
