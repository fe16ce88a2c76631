"""Debian's Postfix as private instances: an MX that delivers into maildirs, a relay that hands on. Its master is root, by design."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.stack.places import StackError, find_program
from tests.support.certificates import Certificates, Kind
from tests.support.peers.maildir import Maildirs
from tests.support.peers.process import PeerProcess, other_user

SIZE_LIMIT = 300_000
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
    "virtual unix - n n - - virtual",
    "error unix - - n - - error",
    "retry unix - - n - - error",
    "tlsmgr unix - - n 1000? 1 tlsmgr",
    "proxymap unix - - n - - proxymap",
    "anvil unix - - n - 1 anvil",
    "scache unix - - n - 1 scache",
    "postlog unix-dgram n - n - 1 postlogd",
)
_RECIPIENTS = """
/^(good|ok|r|j.*rgen|grey|policy)(\\+[^@]*)?@/ inbox/
"""
_POLICY = """
/^grey/ DEFER 4.7.1 Greylisted, come back later
/^policy/ REJECT 5.7.1 Not from you
"""


class _PrivatePostfix(PeerProcess):
    """What all instances share."""

    @property
    def log(self) -> str:
        """Its mail log."""
        return super().log + (self.folder / "log" / "mail.log").read_text(errors="replace")

    @property
    def etc(self) -> Path:
        """The folder of its configuration, for Postfix's own commands (``-c``)."""
        return self.folder / "etc"

    def prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Write the configuration. Raises StackError when we are not root."""
        if os.geteuid() != 0:
            raise StackError("Postfix can only be started by root: run the tests as root")
        for name in ("etc", "queue", "data", "log"):
            (self.folder / name).mkdir(parents=True)
        shutil.chown(self.folder / "data", "postfix")
        (self.folder / "log" / "mail.log").touch()
        lines = (f"{name} = {value}\n" for name, value in {**self._common(), **self.settings()}.items())
        (self.etc / "main.cf").write_text("".join(lines))
        (self.etc / "master.cf").write_text("\n".join([f"{self.address} inet n - n - - smtpd", *_SERVICES, ""]))
        subprocess.run(["postfix", "-c", str(self.etc), "check"], check=True)  # makes the queue's folders
        master = [str(find_program("master", *_MASTER)), "-c", str(self.etc), "-s"]
        return ["sh", "-c", _GUARD, "postfix", *master], {}

    @abstractmethod
    def settings(self) -> Mapping[str, str | int]:
        """What main.cf has besides."""

    def _common(self) -> dict[str, str | int]:
        own = ("command_directory", "daemon_directory", "meta_directory", "shlib_directory", "mail_owner", "setgid_group")
        given = subprocess.run(["postconf", "-d", *own], check=True, capture_output=True, text=True).stdout
        return {
            **dict(line.split(" = ", 1) for line in given.splitlines()),
            "compatibility_level": "3.6",
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "data"),
            "maillog_file": str(self.folder / "log" / "mail.log"),
            "maillog_file_prefixes": str(self.folder),
            "myhostname": "postfix.example",
            "mydestination": "",
            "local_recipient_maps": "",
            "local_transport": "error:there is no local mail here",
            "alias_maps": "",
            "alias_database": "",
            "inet_interfaces": self.host,
            "inet_protocols": "ipv4",
            "smtpd_peername_lookup": "no",
            "local_header_rewrite_clients": "",
            "smtputf8_enable": "yes",
            "smtpd_client_connection_count_limit": 0,
            "smtpd_error_sleep_time": 0,
        }


class Postfix(_PrivatePostfix):
    """Takes mail for x.example and a.example; ``mail`` is what it delivered.

    Recipients are ``good``, ``ok``, ``r`` and ``jürgen`` (with any ``+extension``); ``grey`` is deferred, ``policy`` refused, others
    are unknown.
    """

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder)
        self.mail = Maildirs(folder / "mail")
        self._certificates = certificates

    def settings(self) -> Mapping[str, str | int]:
        """Its mailboxes, its policy, its certificate."""
        (self.folder / "mail").mkdir()
        shutil.chown(self.folder / "mail", other_user().pw_uid)
        shutil.copy(self._certificates.key(Kind.GOOD), self.etc / "key.pem")
        shutil.copy(self._certificates.certificate(Kind.GOOD), self.etc / "certificate.pem")
        (self.etc / "recipients").write_text(_RECIPIENTS)
        (self.etc / "policy").write_text(_POLICY)
        return {
            "mynetworks": "192.0.2.0/24",
            "message_size_limit": SIZE_LIMIT,
            "virtual_mailbox_limit": 0,
            "virtual_mailbox_domains": "x.example, a.example",
            "virtual_mailbox_base": str(self.folder / "mail"),
            "virtual_mailbox_maps": f"regexp:{self.etc / 'recipients'}",
            "virtual_uid_maps": f"static:{other_user().pw_uid}",
            "virtual_gid_maps": f"static:{other_user().pw_gid}",
            "virtual_transport": "virtual",
            "recipient_delimiter": "",
            "smtpd_recipient_restrictions": f"check_recipient_access regexp:{self.etc / 'policy'}, reject_unauth_destination",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(self.etc / "certificate.pem"),
            "smtpd_tls_key_file": str(self.etc / "key.pem"),
            "smtpd_tls_received_header": "yes",
        }


class RelayingPostfix(_PrivatePostfix):
    """Takes any mail from this host and hands it to its ``relayhost``."""

    def __init__(self, folder: Path, given: Mapping[str, str]) -> None:
        """``given``: lines of main.cf, ``relayhost`` among them."""
        super().__init__(folder)
        self._given = given

    def settings(self) -> Mapping[str, str | int]:
        """As patient as a test, and its log tells every command that it sends."""
        return {
            "mynetworks": "127.0.0.0/8",
            "message_size_limit": 52428800,
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "debug_peer_list": self.host,
            "debug_peer_level": 1,
            "default_transport": "smtp",
            **self._given,
        }

    def flush(self) -> None:
        """Try everything that waits in its queue now (``postqueue -f``)."""
        subprocess.run(["postqueue", "-c", str(self.etc), "-f"], check=True)

    def count_deferred(self) -> int:
        """Mails that wait for another attempt."""
        return sum(len(files) for _, _, files in os.walk(self.folder / "queue" / "deferred"))
