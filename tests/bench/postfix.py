"""Debian's Postfix as a private instance: own configuration, queue, data and port; nothing of the machine's own one.

It relays everything to the sink, durably, as Postfix does, and gets its best: no name look-ups, no TLS, no limit per
client, connections to the sink cached, as many deliveries at once as help, its own log daemon.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.stack.places import StackError, find_program

HOST = "127.0.0.1"
CONCURRENCY = 50
"""Deliveries to the sink at once (Postfix's own default is 20)."""
_MASTER = ("/usr/lib/postfix/sbin/master", "/usr/libexec/postfix/master")
_GUARD = 'trap "kill \\$!" TERM INT; "$@" & wait $!; wait $!'
"""Ends the master when we die. The master itself cannot be told to: changing users, it forgets (prctl(2))."""
_SERVICES = (
    "pickup unix n - n 60 1 pickup",
    "cleanup unix n - n - 0 cleanup",
    "qmgr unix n - n 300 1 qmgr",
    "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce",
    "defer unix - - n - 0 bounce",
    "trace unix - - n - 0 bounce",
    "smtp unix - - n - - smtp",
    "error unix - - n - - error",
    "retry unix - - n - - error",
    "proxymap unix - - n - - proxymap",
    "anvil unix - - n - 1 anvil",
    "scache unix - - n - 1 scache",
    "postlog unix-dgram n - n - 1 postlogd",
)


class Postfix:
    """Use as ``with``; must be root."""

    def __init__(self, folder: Path, *, port: int, sink: str, holds: bool = False) -> None:
        """``folder``: a new one, that others may enter. ``port``: to listen on. ``sink``: host:port of the next hop.

        ``holds``: accepted mail stays in the queue ``hold``; nothing is delivered.
        """
        self._holds = holds
        self._folder = folder
        self._port = port
        self._sink = sink
        self._guard: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """All its processes descend from this one."""
        return self._guard.pid

    @property
    def address(self) -> str:
        """host:port where it takes mail."""
        return f"{HOST}:{self._port}"

    def __enter__(self) -> Self:
        etc = self._prepare()
        subprocess.run(["postfix", "-c", str(etc), "check"], check=True)  # makes the queue's folders
        master = [str(find_program("master", *_MASTER)), "-c", str(etc), "-s"]
        argv = ["setpriv", "--pdeathsig", "TERM", "--", "sh", "-c", _GUARD, "postfix", *master]
        nowhere = subprocess.DEVNULL  # it has a log; the shell would tell that it ended the master
        self._guard = subprocess.Popen(argv, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._guard.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise StackError(f"Postfix does not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._guard.terminate()
        try:
            self._guard.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._folder / "log" / "mail.log"

    def count_queued(self) -> int:
        """Mails that it still has."""
        folders = ("maildrop", "incoming", "active", "deferred", "corrupt", "hold")
        return sum(len(files) for folder in folders for _, _, files in os.walk(self._folder / "queue" / folder))

    def delete_held(self) -> None:
        """Forget the mail on hold."""
        argv = ["postsuper", "-c", str(self._folder / "etc"), "-d", "ALL", "hold"]
        subprocess.run(argv, check=True, capture_output=True)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), timeout=5) as connection:
                return connection.recv(3) == b"220"
        except OSError:
            return False

    def _prepare(self) -> Path:
        """Write the configuration."""
        for name in ("etc", "queue", "data", "log"):
            (self._folder / name).mkdir(parents=True)
        shutil.chown(self._folder / "data", "postfix")
        self.log.touch()
        etc = self._folder / "etc"
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in self._settings().items()))
        (etc / "master.cf").write_text("\n".join([f"{self.address} inet n - n - - smtpd", *_SERVICES, ""]))
        return etc

    def _settings(self) -> dict[str, str | int]:
        next_hop = f"[{self._sink.rpartition(':')[0]}]:{self._sink.rpartition(':')[2]}"
        own = ("command_directory", "daemon_directory", "meta_directory", "shlib_directory", "mail_owner", "setgid_group")
        given = subprocess.run(["postconf", "-d", *own], check=True, capture_output=True, text=True).stdout
        return {
            **dict(line.split(" = ", 1) for line in given.splitlines()),
            "compatibility_level": "3.6",
            "queue_directory": str(self._folder / "queue"),
            "data_directory": str(self._folder / "data"),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(self._folder),
            "myhostname": "bench.example",
            "mydestination": "",
            "local_recipient_maps": "",
            "local_transport": "error:there is no local mail here",
            "alias_maps": "",
            "alias_database": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": HOST,
            "inet_protocols": "ipv4",
            "relayhost": next_hop,
            "message_size_limit": 52428800,
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            **({"smtpd_recipient_restrictions": "check_recipient_access static:HOLD, permit"} if self._holds else {}),
            # From here on: what helps it.
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no",
            "smtpd_tls_security_level": "",
            "smtp_tls_security_level": "",
            "smtpd_client_connection_count_limit": 0,
            "default_process_limit": 200,
            "default_destination_concurrency_limit": CONCURRENCY,
            "initial_destination_concurrency": CONCURRENCY,
            "smtp_connection_cache_destinations": next_hop,
            "in_flow_delay": 0,
        }
