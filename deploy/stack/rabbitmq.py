"""A private RabbitMQ node: its files, its two programs (epmd and the node), and questions to its management API."""

import base64
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.stack.places import HOST, StackError, find_program, write_private
from deploy.stack.supervisor import Program

_DROP = ("RABBITMQ_", "ERL_", "ERLANG_", "NOTIFY_SOCKET", "CONF_ENV_FILE")
"""What the caller's environment says of *his* broker must not reach ours."""

_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"


@dataclass(frozen=True)
class RabbitMQ:
    """One node on loopback. All that identifies it is given, so that the same data can be started again."""

    folder: Path
    node: str
    port: int
    api_port: int
    metrics_port: int
    distribution_port: int
    epmd_port: int
    user: str
    password: str
    cookie: str

    def prepare(self) -> None:
        """Write the node's configuration."""
        self.folder.mkdir(exist_ok=True)
        for name in ("home", "data", "log", "generated", "conf.d"):
            (self.folder / name).mkdir(exist_ok=True)
        write_private(self.folder / "rabbitmq.conf", self._render_configuration())
        (self.folder / "rabbitmq-env.conf").write_text("")
        (self.folder / "advanced.config").write_text("[].\n")
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management, rabbitmq_prometheus].\n")
        cookie = self.folder / "home" / ".erlang.cookie"
        write_private(cookie, self.cookie)
        cookie.chmod(0o400)

    def programs(self) -> list[Program]:
        """epmd in the foreground (otherwise the node starts one that outlives it), then the node."""
        epmd = find_program("epmd", "/usr/lib/erlang/erts-*/bin/epmd")
        # Not /usr/sbin/rabbitmq-server: that one switches to the user rabbitmq and the machine's own node.
        server = find_program("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server")
        return [
            Program(
                "epmd",
                [str(epmd), "-address", HOST, "-port", str(self.epmd_port)],
                drop=_DROP,
                priority=10,
                port=self.epmd_port,
            ),
            Program(
                "rabbitmq",
                [str(server)],
                settings=self._environment(),
                drop=_DROP,
                cwd=self.folder / "home",
                # The script takes SIGTERM and ends its child in order; both at once would end twice.
                stop_as_group=False,
                priority=20,
                port=self.port,
            ),
        ]

    def address(self, vhost: str = "/") -> str:
        """The ``amqp://`` URL of a virtual host."""
        return f"amqp://{self.user}:{self.password}@{HOST}:{self.port}/{quote(vhost, safe='')}"

    @property
    def api(self) -> str:
        """The management API's URL, with user and password."""
        return f"http://{self.user}:{self.password}@{HOST}:{self.api_port}"

    @property
    def metrics(self) -> str:
        """``host:port`` of its own metrics for Prometheus."""
        return f"{HOST}:{self.metrics_port}"

    def find_trouble(self) -> str | None:
        """Why the node cannot be used yet; None when it can. Asks AMQP and the management API."""
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as connection:
                connection.sendall(_AMQP_HEADER)
                if connection.recv(1) != _METHOD_FRAME:
                    return "AMQP port answers, but not with a greeting"
            self.call_api("GET", "/api/overview")
        except (OSError, StackError) as error:
            return str(error)
        return None

    def call_api(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """One call of the management API; its JSON answer (None when empty), ``StackError`` when refused."""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        connection = HTTPConnection(HOST, self.api_port, timeout=30)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException) as error:
            raise StackError(f"management API: {method} {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise StackError(f"management API: {method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def create_vhost(self, name: str) -> str:
        """Make a virtual host that our user may use; its ``amqp://`` URL."""
        self.call_api("PUT", f"/api/vhosts/{quote(name, safe='')}", {})
        permissions = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call_api("PUT", f"/api/permissions/{quote(name, safe='')}/{quote(self.user, safe='')}", permissions)
        return self.address(name)

    def drop_vhost(self, name: str) -> None:
        """Delete a virtual host with all its queues; whoever is connected to it is cut off."""
        self.call_api("DELETE", f"/api/vhosts/{quote(name, safe='')}")

    def _render_configuration(self) -> str:
        return (
            f"listeners.tcp.1 = {HOST}:{self.port}\n"
            f"management.tcp.ip = {HOST}\nmanagement.tcp.port = {self.api_port}\n"
            f"prometheus.tcp.ip = {HOST}\nprometheus.tcp.port = {self.metrics_port}\n"
            f"default_user = {self.user}\ndefault_pass = {self.password}\n"
            "disk_free_limit.absolute = 50MB\n"
            # The default of 512 MiB costs a small machine two thirds of the node's memory at the same rate.
            "raft.wal_max_size_bytes = 67108864\n"
            "log.console = true\nlog.console.level = info\nlog.file = false\n"
        )

    def _environment(self) -> dict[str, str]:
        """Every path that the scripts would otherwise take from /etc and /var, and loopback for every listener."""
        folder = self.folder
        return {
            "HOME": str(folder / "home"),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP": str(folder / "log" / "erl_crash.dump"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
