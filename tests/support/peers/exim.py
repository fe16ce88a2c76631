"""Debian's Exim as private instances: an MX that is also a smarthost with one AUTH mechanism on each of three ports, and a relay.

The package is not installed, because it would replace Postfix: `make test` unpacks it into .run. Its program insists on the user
Debian-exim, which exists for it alone (nss_wrapper(1)).
"""

from __future__ import annotations

import grp
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from deploy.stack.places import ROOT, StackError
from tests.support.certificates import Certificates, Kind
from tests.support.peers.maildir import Maildirs
from tests.support.peers.process import PATIENCE, PeerProcess, as_other_user, make_folder, other_user
from tests.support.waiting import free_ports, wait_until

PROGRAM = ROOT / ".run" / "packages" / "exim4"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")
USER, PASSWORD = "user@exim.example", "sécret pass"
SIZE_LIMIT = 300_000

_COMMON = """
exim_path = {folder}/exim
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/log/exim.pid
keep_environment = LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
primary_hostname = exim.example
local_interfaces = <; {host}
daemon_smtp_ports = <; {ports}
deliver_drop_privilege = true
rfc1413_query_timeout = 0s
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
pipelining_advertise_hosts = *
chunking_advertise_hosts = *
prdr_enable = false
"""

_MX = """
message_size_limit = {size}
tls_certificate = {certificate}
tls_privatekey = {key}
tls_advertise_hosts = *
acl_smtp_rcpt = recipients
acl_smtp_data = contents

begin acl
recipients:
  deny   message = 530 5.7.0 Authentication required
         condition = ${{if !={{$received_port}}{{{port}}}}}
        !authenticated = *
  deny   message = 550 5.1.1 No such user here
         local_parts = ^unknown
  defer  message = 451 4.7.1 Greylisted, come back later
         local_parts = ^grey
  accept
contents:
  deny   message = 554 5.7.1 Refused for its content
         condition = ${{if match{{$h_subject:}}{{refuse-me}}}}
  accept

begin routers
everything:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
  create_directory
  envelope_to_add
  return_path_add
  user = Debian-exim

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${{if and{{{{={{$received_port}}{{{plain}}}}}{{def:tls_in_cipher}}}}}}
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_advertise_condition = ${{if and{{{{={{$received_port}}{{{login}}}}}{{def:tls_in_cipher}}}}}}
  server_prompts = <| Username: | Password:
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_advertise_condition = ${{if ={{$received_port}}{{{cram}}}}}
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
  server_set_id = $auth1
"""


_RELAY = """
message_size_limit = 50M
smtp_accept_queue_per_connection = 0
tls_advertise_hosts =
acl_smtp_rcpt = recipients

begin acl
recipients:
  accept hosts = 127.0.0.1

begin retry
*  *  F,1h,1s
"""


class _PrivateExim(PeerProcess):
    """What all instances share: they run unprivileged."""

    @property
    def log(self) -> str:
        """Its main log, rejections and panics included."""
        logs = sorted((self.folder / "log").glob("*log"))
        return super().log + "".join(path.read_text(errors="replace") for path in logs)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it; what it is delivering is waited for."""
        super().__exit__(kind, error, trace)
        wait_until(lambda: not self._deliveries(), within=PATIENCE, every=0.02, what="Exim's deliveries to be over")

    def _deliveries(self) -> list[int]:
        """Its processes, which do not descend from the daemon any more: by the program, a copy that is nobody else's."""
        program = str(self.folder / "exim")
        return [process.pid for process in psutil.process_iter(["exe"]) if process.info["exe"] == program]

    def prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Write the configuration and the users it sees. Raises StackError when the package was not unpacked."""
        if not PROGRAM.exists():
            raise StackError(f"{PROGRAM} is missing: run `sh deploy/bootstrap.sh test`")
        for name in ("spool", "log"):
            make_folder(self.folder / name)
        # A checkout may be where another user cannot get.
        shutil.copy(PROGRAM, self.folder / "exim")
        (self.folder / "exim").chmod(0o755)
        user = other_user()
        if user.pw_uid == 0:
            raise StackError("Exim refuses to run as root")
        group = grp.getgrgid(user.pw_gid).gr_name
        passwd, groups, configuration = self.folder / "passwd", self.folder / "group", self.folder / "exim.conf"
        entry = f"x:{user.pw_uid}:{user.pw_gid}::/:/bin/false"
        passwd.write_text(f"root:x:0:0::/:/bin/false\n{user.pw_name}:{entry}\nDebian-exim:{entry}\n")
        groups.write_text(f"root:x:0:\n{group}:x:{user.pw_gid}:\nDebian-exim:x:{user.pw_gid}:\n")
        ports = " ; ".join(map(str, self.listens()))
        configuration.write_text(_COMMON.format(folder=self.folder, host=self.host, ports=ports) + self.configuration())
        configuration.chmod(0o644)
        environment = {
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": str(passwd),
            "NSS_WRAPPER_GROUP": str(groups),
        }
        return [*as_other_user(), str(self.folder / "exim"), "-C", str(configuration), "-bdf"], environment

    def listens(self) -> Sequence[int]:
        """The ports that it listens on."""
        return [self.port]

    @abstractmethod
    def configuration(self) -> str:
        """What the configuration has besides."""


class Exim(_PrivateExim):
    """The MX and smarthost; ``mail`` is what it delivered."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder)
        self.ports = dict(zip(MECHANISMS, free_ports(len(MECHANISMS)), strict=True))
        """AUTH mechanism to the port that offers it, and it alone."""
        self.mail = Maildirs(folder / "mail")
        self._certificates = certificates

    def listens(self) -> Sequence[int]:
        """The MX's, and one per mechanism."""
        return [self.port, *self.ports.values()]

    def configuration(self) -> str:
        """Mailboxes for everybody, and AUTH."""
        make_folder(self.folder / "mail")
        key = self.folder / "log" / "key.pem"
        shutil.copy(self._certificates.key(Kind.GOOD), key)
        shutil.copy(self._certificates.certificate(Kind.GOOD), self.folder / "certificate.pem")
        shutil.chown(key, other_user().pw_uid)
        return _MX.format(
            folder=self.folder,
            port=self.port,
            plain=self.ports["PLAIN"],
            login=self.ports["LOGIN"],
            cram=self.ports["CRAM-MD5"],
            size=SIZE_LIMIT,
            certificate=self.folder / "certificate.pem",
            key=key,
            user=USER,
            password=PASSWORD,
        )


class RelayingExim(_PrivateExim):
    """Takes any mail from this host and hands it to a smarthost."""

    def __init__(self, folder: Path, given: str) -> None:
        """``given``: the sections with its router and its transport, as in Exim's configuration."""
        super().__init__(folder)
        self.given = given

    def configuration(self) -> str:
        """One rule, and a new attempt each second."""
        return _RELAY + self.given
