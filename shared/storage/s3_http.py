"""The connections to an S3: every request on them can be cut off (``shared.storage.errand``), whatever it waits for.

Importing this costs 15 MB; a process with a folder for its store need not.
"""

from datetime import timedelta
from typing import Any

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from shared.storage.errand import use_socket

CONNECT_TIMEOUT = timedelta(seconds=5)
"""For connecting, the TLS handshake, and each piece that is sent."""
RETRIES = 2


def open_pool(connections: int, read_timeout: timedelta) -> urllib3.PoolManager:
    """Keeps up to so many connections; opens none. ``read_timeout``: how long the peer may be silent within an answer."""
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT.total_seconds(), read=read_timeout.total_seconds()),
        # The server's Retry-After is not obeyed: it could hold a thread for an hour.
        retries=urllib3.Retry(
            total=RETRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504], respect_retry_after_header=False
        ),
        maxsize=connections,
        cert_reqs="CERT_REQUIRED",
        ca_certs=certifi.where(),
    )
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _SafePool}
    return pool


class _Connection(HTTPConnection):
    def connect(self) -> None:
        use_socket(None)
        super().connect()
        use_socket(self.sock)

    def request(self, *args: Any, **options: Any) -> None:
        # One that was kept is connected already.
        use_socket(self.sock)
        super().request(*args, **options)


class _SafeConnection(HTTPSConnection):
    def connect(self) -> None:
        use_socket(None)
        super().connect()
        use_socket(self.sock)

    def request(self, *args: Any, **options: Any) -> None:
        use_socket(self.sock)
        super().request(*args, **options)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SafePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SafeConnection
