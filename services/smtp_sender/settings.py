"""The settings of smtp-sender."""

import ipaddress
import socket
from datetime import timedelta

from pydantic import Field, SecretStr, field_validator

from shared.amqp.settings import BrokerSettings
from shared.delivery.settings import RetrySettings
from shared.settings import Duration, Strings
from shared.storage.open_store import StorageSettings
from shared.wire.instructions import Security


class ServiceSettings(BrokerSettings, RetrySettings, StorageSettings):
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
    smtp_allow_private: Strings = Field(
        default=(), description="CIDRs of private addresses that DNS and a message's smarthost may lead to (inner relays, tests)"
    )
    smtp_default_ips: Strings = Field(default=(), description="local addresses to send from; empty = the system chooses")
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
    smtp_auth_clear: bool = Field(default=False, description="allow AUTH on a connection without TLS")
    smtp_sink_address: str = Field(
        default="", description="host:port that gets every mail instead of its real next hop (tests and benchmarks)"
    )
    dns_servers: Strings = Field(default=(), description="resolvers, ip or ip:port; empty = those of /etc/resolv.conf")
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
        return tuple(str(ipaddress.ip_address(address)) for address in value)
