"""The settings of smtp-sender."""

import ipaddress
import socket
from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from shared.amqp.settings import BrokerSettings
from shared.delivery.pools import check_helo_name, parse_source_address
from shared.delivery.settings import RetrySettings
from shared.settings import Duration, Pairs, Strings
from shared.storage.open_store import StorageSettings
from shared.storage.stop_book import StopSettings
from shared.wire.instructions import Security


class ServiceSettings(BrokerSettings, RetrySettings, StorageSettings, StopSettings):
    """Every knob of smtp-sender."""

    rabbitmq_queue: str = Field(default="outbox", description="the one queue consumed")
    rabbitmq_qos: int = Field(default=200, ge=1, le=65535, description="prefetch: messages in hand at once")
    metrics_addr: str = Field(
        default="127.0.0.1:9103",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    smtp_hostname: str = Field(default_factory=socket.getfqdn, description="the name we say in EHLO")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="port of the MX hosts")
    smtp_security: Security = Field(
        default=Security.OPPORTUNISTIC, description="STARTTLS: optional (never), opportunistic, required, verified"
    )
    smtp_ca_file: str = Field(default="", description="PEM file of further certification authorities to trust")
    dkim_keys: str = Field(
        default="", description="TOML file of the keys that sign mail (DKIM, ARC), docs/signing.md; empty = none"
    )
    authserv_id: str = Field(
        default="", description="our name in Authentication-Results, which an ARC seal repeats; empty = smtp-hostname"
    )
    smtp_mta_sts: bool = Field(default=True, description="obey the MTA-STS policies of domains (RFC 8461)")
    smtp_dane: bool = Field(default=True, description="obey the TLSA records of hosts (DANE, RFC 7672); needs dns-validates")
    smtp_allow_private: Strings = Field(
        default=(), description="CIDRs of private addresses that DNS and a message's smarthost may lead to (inner relays, tests)"
    )
    smtp_default_ips: Strings = Field(default=(), description="local addresses to send from; empty = the system chooses")
    smtp_helo_names: Pairs = Field(
        default={},
        description="name for EHLO by local address: 192.0.2.1=mail1.example,192.0.2.2=mail2.example; else smtp-hostname",
    )
    pools_file: str = Field(
        default="", description="TOML file of pools of source addresses; a change is noticed within 10 s, or at once on SIGHUP"
    )
    pools_snapshot: Path = Field(
        default=Path("/var/lib/mailwarren/pools.json"),
        description="file that keeps the last pools seen in Postgres, so that a restart works while it is down",
    )
    pools_refresh: Duration = Field(
        default=timedelta(seconds=60),
        description="seconds after which pools, suppressions, pauses and forced errors are read again even when nothing was notified",
    )
    db_uri: str = Field(
        default="",
        description="postgresql://user:password@host:port/database with pools, suppressions, pauses and forced errors; empty = "
        "none of them, only the pools in pools-file",
    )
    smtp_connect_timeout: Duration = Field(default=timedelta(seconds=30), description="seconds to wait for a connection")
    smtp_connections: int = Field(default=20, ge=1, description="connections to one host at once, per process")
    connection_maxmessages: int = Field(default=100, ge=1, description="messages on one connection before it is closed")
    connection_idle: Duration = Field(default=timedelta(seconds=5), description="seconds an idle connection is kept for reuse")
    host_rest: Duration = Field(
        default=timedelta(minutes=5), description="seconds a host that could not be reached is left alone; 0 = not at all"
    )
    smarthost: str = Field(default="", description="send everything through this host instead of looking up MX")
    smarthost_port: int = Field(default=25, ge=1, le=65535, description="port of the smarthost")
    smarthost_username: str = Field(default="", description="user for AUTH at the smarthost")
    smarthost_password: SecretStr = Field(default=SecretStr(""), description="password for AUTH at the smarthost")
    fallback_smarthost: str = Field(
        default="", description="host that gets the mail when a response pattern with fallback matches the refusal of its MX"
    )
    fallback_smarthost_port: int = Field(default=25, ge=1, le=65535, description="port of the fallback smarthost")
    smtp_auth_clear: bool = Field(default=False, description="allow AUTH on a connection without TLS")
    smtp_sink_address: str = Field(
        default="", description="host:port that gets every mail instead of its real next hop (tests and benchmarks)"
    )
    dns_servers: Strings = Field(default=(), description="resolvers, ip or ip:port; empty = those of /etc/resolv.conf")
    dns_validates: bool = Field(
        default=False,
        description="the resolvers validate DNSSEC and nobody can tamper with their answers on the way (loopback): believe their AD bit",
    )
    dns_timeout: Duration = Field(default=timedelta(seconds=10), description="seconds for one look-up, all resolvers together")

    @field_validator("smtp_allow_private")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("smtp_default_ips")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(parse_source_address(address) for address in value))

    @field_validator("smtp_helo_names")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        return {parse_source_address(address): check_helo_name(name) for address, name in value.items()}
