"""Which message store: the settings, and the store that they name."""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr

from shared.settings import Settings
from shared.storage.counted import CountedStore
from shared.storage.directory import DirectoryStore
from shared.storage.payloads import UploadStore
from shared.storage.s3 import Bucket, S3Store
from shared.trouble import BadSetting

CARRIED = 1024 * 1024
"""With the policy ``out``: octets of content that inboxes publish in the message. What is larger is stored at once."""


class Policy(StrEnum):
    """When content goes to the store."""

    IN = "in"
    ALL = "all"
    OUT = "out"
    NONE = "none"


class SweptStore(UploadStore, Protocol):
    """A store that can tell what is in it, for whoever sweeps it."""

    def iter_keys(self, older_than: datetime) -> AsyncIterator[str]:
        """The keys of all payloads written before ``older_than``. Raises Unavailable."""

    async def tidy(self, older_than: datetime) -> int:
        """Remove the remains of writers that died before ``older_than``; how many there were. Raises Unavailable."""


class StorageSettings(Settings):
    """Where payloads are kept. A mixin for the settings of every process that stores, fetches or deletes them."""

    storage_url: str = Field(
        default="dir:///var/lib/mailwarren/payloads",
        description="the message store: dir:///path or s3://bucket (s3:// alone takes s3-bucket-name)",
    )
    storage_policy: Policy = Field(
        default=Policy.IN,
        description="in: what comes in by SMTP or HTTP is stored at once; out: content is stored when a mail has to wait for a later "
        "attempt (what is larger than 1 MiB at once); all: both, so also mail that applications publish; none: nothing, everything "
        "rides in the message",
    )
    storage_max_message: int = Field(
        default=16777216,
        ge=65536,
        description="octets that RabbitMQ takes in one message; mail that is not stored is refused when its message would be larger "
        "(552, 413)",
    )
    storage_threshold: int = Field(
        default=131072, ge=0, description="payloads of up to this many bytes ride in the message itself, larger ones are stored"
    )
    storage_spool: str = Field(
        default="/var/tmp",  # noqa: S108 - the files there have no names
        description="folder on a disk for large mail on its way to s3://; a dir:// store has room for it in its own folder",
    )
    client_key_prefix: str = Field(
        default="", description="keys that a publisher may name itself begin with this; empty = none are allowed"
    )
    s3_hostname: str = Field(default="", description="host or host:port of the S3 service")
    s3_access_key: str = Field(default="", description="access key of the S3 service")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="secret key of the S3 service")
    s3_secure: bool = Field(default=True, description="talk TLS to the S3 service")
    s3_bucket_name: str = Field(default="", description="the bucket, when storage-url does not name it")
    s3_region: str = Field(default="us-east-1", min_length=1, description="region of the bucket")

    @property
    def inbox_threshold(self) -> int | None:
        """Content of more octets is stored by the inbox that takes it; None: never."""
        if self.storage_policy is Policy.NONE:
            return None
        return max(CARRIED, self.storage_threshold) if self.storage_policy is Policy.OUT else self.storage_threshold

    @property
    def sender_threshold(self) -> int | None:
        """Content of more octets is stored by a sender when the mail has to wait; None: never."""
        return self.storage_threshold if self.storage_policy in (Policy.OUT, Policy.ALL) else None


def open_store(settings: StorageSettings) -> SweptStore:
    """The store that the settings name, counted. Opens no connection; makes the folder of a ``dir://``. Raises BadSetting."""
    return CountedStore(_open_store(settings))


def _open_store(settings: StorageSettings) -> SweptStore:
    url = settings.storage_url
    parts = urlsplit(url)
    if parts.scheme not in ("dir", "s3") or parts.query or parts.fragment:
        raise BadSetting(f"storage-url: {url!r}: expected dir:///path or s3://bucket")
    if parts.scheme == "s3":
        return _open_bucket(settings, parts.netloc, parts.path)
    path = Path(unquote(parts.path))
    if parts.netloc or not path.is_absolute() or path == Path("/"):
        raise BadSetting(
            f"storage-url: {url!r}: expected dir:// and an absolute path, such as dir:///var/lib/mailwarren/payloads"
        )
    try:
        return DirectoryStore(path)
    except OSError as error:
        raise BadSetting(f"storage-url: {url!r}: the folder cannot be used: {error.strerror}") from None


def _open_bucket(settings: StorageSettings, netloc: str, path: str) -> S3Store:
    name = netloc or settings.s3_bucket_name
    if path.strip("/") or "@" in name or ":" in name:
        raise BadSetting(f"storage-url: {settings.storage_url!r}: expected s3://bucket and nothing more")
    if not name:
        raise BadSetting("s3-bucket-name: missing, and storage-url does not name the bucket either")
    if not settings.s3_hostname:
        raise BadSetting("s3-hostname: missing; expected host or host:port of the S3 service")
    secret = settings.s3_secret_key.get_secret_value()
    if bool(settings.s3_access_key) != bool(secret):
        raise BadSetting("s3-access-key and s3-secret-key: expected both or neither")
    bucket = Bucket(name, settings.s3_hostname, settings.s3_access_key, secret, settings.s3_region, settings.s3_secure)
    try:
        return S3Store(bucket, spool=_check_spool(settings.storage_spool))
    except ValueError as error:
        raise BadSetting(f"s3-hostname {settings.s3_hostname!r}, bucket {name!r}: {error}") from None


def _check_spool(folder: str) -> Path:
    if not os.path.isabs(folder) or not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise BadSetting(f"storage-spool: {folder!r}: expected the absolute path of a folder that can be written to")
    return Path(folder)
