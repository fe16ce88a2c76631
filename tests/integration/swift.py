"""OpenStack Swift with its S3 interface, from Debian's packages, as a private service: a real S3 API for tests.

Four processes and memcached (for the tokens of tempauth) on free ports of 127.0.0.1, one device, one replica, everything in one folder.
"""

import getpass
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from shared.storage.s3 import Bucket
from tests.support.waiting import free_ports, wait_until

PACKAGES = "swift-proxy swift-account swift-container swift-object memcached"
ACCESS_KEY = "test:tester"
SECRET_KEY = "testing"
REGION = "us-east-1"

_COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_level = WARNING
"""
_STORAGE = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """\
[pipeline:main]
pipeline = catch_errors healthcheck cache s3api tempauth proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
auth_pipeline_check = false
"""


class Swift:
    """The running service; ``with Swift(folder) as swift: … swift.bucket("name")``."""

    def __init__(self, folder: Path) -> None:
        """``folder`` must be on a file system with extended attributes (ext4, xfs, tmpfs of Linux ≥ 6.6, overlay on these)."""
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()
        names = ("account", "container", "object", "proxy", "memcached")
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def address(self) -> str:
        """``host:port`` of the S3 interface."""
        return f"127.0.0.1:{self._ports['proxy']}"

    @property
    def proxy(self) -> psutil.Process:
        """The process that speaks S3, to be frozen or killed."""
        return psutil.Process(self._processes["proxy"].pid)

    @property
    def pids(self) -> list[int]:
        """The process ids of all its servers."""
        return [process.pid for process in self._processes.values()]

    def bucket(self, name: str, *, secret_key: str = SECRET_KEY) -> Bucket:
        """How to get into a bucket; ``make_bucket`` makes it."""
        return Bucket(name, self.address, ACCESS_KEY, secret_key, REGION, secure=False)

    def make_bucket(self, name: str) -> Bucket:
        """A new bucket."""
        from minio import Minio

        Minio(self.address, ACCESS_KEY, SECRET_KEY, secure=False, region=REGION).make_bucket(name)
        return self.bucket(name)

    def empty_bucket(self, name: str) -> None:
        """Nothing is in the bucket any more."""
        from minio import Minio

        client = Minio(self.address, ACCESS_KEY, SECRET_KEY, secure=False, region=REGION)
        for item in client.list_objects(name, recursive=True):
            client.remove_object(name, item.object_name or "")

    def __enter__(self) -> Self:
        self._prepare()
        with self._stack:
            self._start(
                "memcached", ["memcached", "-u", getpass.getuser(), "-l", "127.0.0.1", "-p", str(self._ports["memcached"])]
            )
            for kind in ("account", "container", "object", "proxy"):
                self._start(kind, [f"swift-{kind}-server", f"{self._folder}/{kind}-server.conf"])
            wait_until(self._is_up, within=90, what="Swift's S3 interface", tolerating=(httpx.TransportError,))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _is_up(self) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended: {(self._folder / f'{name}.log').read_text(errors='replace')[-2000:]}")
        return httpx.get(f"http://{self.address}/healthcheck", timeout=2).status_code == 200

    def _prepare(self) -> None:
        device = self._folder / "devices" / "d1"
        device.mkdir(parents=True)
        (self._folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n")
        for kind in ("account", "container", "object"):
            port = self._ports[kind]
            self._configure(kind, _STORAGE.format(kind=kind))
            builder = self._folder / f"{kind}.builder"
            self._run("swift-ring-builder", str(builder), "create", "4", "1", "0")
            self._run("swift-ring-builder", str(builder), "add", f"r1z1-127.0.0.1:{port}/d1", "1")
            self._run("swift-ring-builder", str(builder), "rebalance")
        self._configure("proxy", _PROXY.format(memcached=self._ports["memcached"]))

    def _configure(self, kind: str, sections: str) -> None:
        common = _COMMON.format(port=self._ports[kind], user=getpass.getuser(), folder=self._folder)
        (self._folder / f"{kind}-server.conf").write_text(common + sections)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode > 1:  # 1 is a warning
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _start(self, name: str, command: list[str]) -> None:
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder)
        except FileNotFoundError:
            raise AssertionError(f"{command[0]} is missing: apt-get install --no-install-recommends {PACKAGES}") from None
        self._processes[name] = process
        self._stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # a stopped process too; nothing in it is worth a graceful end
    process.wait(10)
