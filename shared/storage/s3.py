"""The message store in a bucket of any S3, by the ``minio`` client.

The client blocks, so it runs in threads of the store's own, with time limits of ours: its defaults hold a thread for 30 minutes, and
a server that sends a byte now and then holds it for ever. So every operation has a deadline, at which its connection is shut down
under it. Uploads carry their MD5: what is changed on the way is refused, not kept.
"""

import asyncio
import hashlib
import io
import re
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar, cast
from xml.etree.ElementTree import ParseError

from shared.storage.errand import Errand
from shared.storage.file_upload import FileUpload
from shared.storage.keys import InvalidKey, check_key, list_batches
from shared.storage.payloads import MissingPayload, to_trouble
from shared.storage.threads import Threads
from shared.trouble import Unavailable

if TYPE_CHECKING:
    from minio import Minio
    from urllib3 import PoolManager

T = TypeVar("T")

THREADS = 8
"""Requests at once; also the number of connections kept."""
READ_TIMEOUT = timedelta(seconds=20)
"""How long the peer may be silent within an answer."""
PATIENCE = timedelta(seconds=60)
"""How long one operation may take, retries included, before the store counts as out of reach."""
SIGNED_FOR = timedelta(minutes=15)
"""How long the signature of an upload is good, by the server's clock: as the signatures of all other requests are. So far our clock
may be behind."""
PREFIX = "v1/"
"""Where the keys that we make begin; nothing else is ever listed."""
_PIECE = 64 * 1024
_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")
_PAGE = 1000
"""Keys in a request: the most that S3 lists or removes at once."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the bucket is and how to get in."""

    name: str
    hostname: str
    """``host`` or ``host:port``."""
    access_key: str
    secret_key: str
    region: str
    """Given, because the client asks the server for it otherwise, before every first request."""
    secure: bool = True


class S3Store:
    """A ``Store`` in a bucket that exists. Keys are never used twice, so nothing is ever written over."""

    def __init__(
        self, bucket: Bucket, *, threads: int = THREADS, patience: timedelta = PATIENCE, spool: Path | None = None
    ) -> None:
        """Opens no connection. ``spool``: the folder for uploads under way; None: the system's for temporary files.

        Raises ValueError when the host or bucket name is impossible.
        """
        self._bucket = bucket.name
        self._where = f"message store s3://{bucket.name} at {bucket.hostname}"
        self._patience = patience.total_seconds()
        self._spool = spool
        self._http, self._client = _connect(bucket, threads, min(READ_TIMEOUT, patience))
        self._threads = Threads(threads, "s3")

    async def store(self, key: str, content: bytes) -> None:
        """Keep ``content`` durably under ``key``. Raises Unavailable or InvalidKey."""
        await self._run(self._store, check_key(key), content)

    def begin(self) -> FileUpload:
        """A payload that comes piece by piece, into a file without a name that ends with this process. Raises StoreFull or
        Unavailable."""
        where = f"{self._where}, file under way"
        try:
            # Closed by the upload.
            file = tempfile.TemporaryFile(dir=self._spool, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise to_trouble(where, error) from error
        return FileUpload(file, where, run=self._run, submit=self._threads.start, finish=self._upload, drop=FileIO.close)

    async def fetch(self, key: str) -> bytes:
        """The content. Raises MissingPayload (InvalidKey is one) or Unavailable."""
        return await self._run(self._fetch, check_key(key))

    async def delete(self, key: str) -> None:
        """Remove the payload; a missing one, or a key that cannot exist, is no error. Raises Unavailable."""
        with suppress(MissingPayload):
            await self._run(self._delete, check_key(key))

    async def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        """Remove all payloads, up to 1,000 with a request; key -> why the server did not remove it. A missing one, or a key that
        cannot exist, is no failure. Raises Unavailable."""
        failures: dict[str, str] = {}
        for batch in list_batches(keys, _PAGE):
            failures |= await self._run(self._delete_batch, batch)
        return failures

    async def iter_keys(self, older_than: datetime) -> AsyncIterator[str]:
        """The keys of all payloads below ``v1/`` written before ``older_than`` (by the server's clock). Raises Unavailable."""
        walk = self._walk(older_than)
        while keys := await self._run(_take, walk, _PAGE):
            for key in keys:
                yield key

    async def tidy(self, older_than: datetime) -> int:
        """A bucket has no folders and shows no half-written objects: nothing to do."""
        return 0

    async def close(self) -> None:
        """Nothing new is taken; what is under way gets a second."""
        await self._threads.close()

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        """``work`` in a thread of the store, as long as the store's patience and the caller's last; every failure but a missing object
        becomes Unavailable."""
        from minio.error import MinioException, S3Error
        from urllib3.exceptions import HTTPError

        errand = Errand()
        try:
            async with asyncio.timeout(self._patience):
                return await self._threads.run(errand.run, work, *args)
        except TimeoutError:
            raise Unavailable(f"{self._where}: no answer within {self._patience:g} s") from None
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise MissingPayload(f"no payload under {args[0]}") from None
            raise Unavailable(f"{self._where}: {error.code}: {error.message}") from error
        except OSError as error:
            raise to_trouble(self._where, error) from error
        except (MinioException, HTTPError) as error:
            raise Unavailable(f"{self._where}: {error}") from error
        except (ParseError, ValueError) as error:
            raise Unavailable(f"{self._where}: the answer is none of S3's: {error}") from error
        finally:
            # Nobody waits any more: a thread that is still at it gets free.
            errand.cut_off()

    def _store(self, key: str, content: bytes) -> None:
        # BytesIO hands the same object on, no copy.
        self._put(key, io.BytesIO(content))

    def _upload(self, key: str, file: FileIO) -> None:
        with file:
            self._put(key, file)

    def _put(self, key: str, content: io.BytesIO | FileIO) -> None:
        """One request, its body straight from where it lies: put_object reads whole parts into memory, and sends a body that is
        there as a whole within the time for connecting."""
        from urllib3.exceptions import HTTPError

        md5, size = _measure(content)
        url = self._client.get_presigned_url("PUT", self._bucket, key, expires=SIGNED_FOR)
        headers = {"Content-Length": str(size), "Content-Type": "message/rfc822", "Content-MD5": md5}
        try:
            response = self._http.request("PUT", url, body=cast(IO[bytes], content), headers=headers)
        except HTTPError as error:
            # The text of the error itself would show the URL, which lets in whoever reads it.
            raise Unavailable(f"{self._where}: {getattr(error, 'reason', None) or type(error).__name__}") from None
        if response.status != HTTPStatus.OK:
            code = _CODE.search(response.data)
            raise Unavailable(f"{self._where}: {code[1].decode() if code else f'HTTP status {response.status}'}")
        if "ETag" not in response.headers:
            raise Unavailable(f"{self._where}: the answer is none of S3's, it has no ETag")

    def _fetch(self, key: str) -> bytes:
        response = self._client.get_object(self._bucket, key)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def _delete(self, key: str) -> None:
        self._client.remove_object(self._bucket, key)

    def _delete_batch(self, keys: Sequence[str]) -> dict[str, str]:
        from minio.deleteobjects import DeleteObject

        failures = {}
        for error in self._client.remove_objects(self._bucket, map(DeleteObject, keys)):
            if error.name is None or error.name not in keys:
                # An error of the whole request, told with status 200: whether anything is removed is unknown.
                raise Unavailable(f"{self._where}: {error.code}: {error.message}")
            if error.code != "NoSuchKey":
                failures[error.name] = f"{error.code}: {error.message}"
        return failures

    def _walk(self, before: datetime) -> Iterator[str]:
        for item in self._client.list_objects(self._bucket, prefix=PREFIX, recursive=True):
            if item.object_name and item.last_modified and item.last_modified < before:
                with suppress(InvalidKey):
                    yield check_key(item.object_name)


def _measure(content: io.BytesIO | FileIO) -> tuple[str, int]:
    """Its checksum as the header Content-MD5 tells it (RFC 1864), and its octets."""
    content.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while piece := content.read(_PIECE):
        digest.update(piece)
    size = content.tell()
    content.seek(0)
    return b64encode(digest.digest()).decode("ascii"), size


def _connect(bucket: Bucket, threads: int, read_timeout: timedelta) -> "tuple[PoolManager, Minio]":
    # Imported here: a process with a folder for its store need not pay 15 MB for a client.
    from minio import Minio
    from minio.helpers import check_bucket_name

    from shared.storage.s3_http import open_pool

    check_bucket_name(bucket.name)
    pool = open_pool(threads, read_timeout)
    client = Minio(
        bucket.hostname,
        access_key=bucket.access_key or None,
        secret_key=bucket.secret_key or None,
        secure=bucket.secure,
        region=bucket.region,
        http_client=pool,
    )
    return pool, client


def _take(keys: Iterator[str], most: int) -> list[str]:
    return list(islice(keys, most))
