"""The message store: payloads under keys of ours, written once, read back unchanged. ``dir://`` or any S3."""

import errno
from collections.abc import Collection, Mapping
from typing import Protocol

from shared.trouble import Unavailable

_NO_ROOM = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG])


class MissingPayload(Exception):
    """The store answers, and there is no object under the key."""


class StoreFull(Unavailable):
    """There is no room for the payload."""


class Store(Protocol):
    """A message store. Every method raises ``Unavailable`` when the store is out of reach (our trouble, not the mail's)."""

    async def store(self, key: str, content: bytes) -> None:
        """Keep ``content`` durably (fsync) under ``key``."""

    async def fetch(self, key: str) -> bytes:
        """The content. Raises MissingPayload."""

    async def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error."""

    async def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        """Remove all objects; key -> why it could not be removed. A missing one, or a key that cannot exist, is no failure.

        Some may be removed when it raises Unavailable. Safe to repeat.
        """

    async def close(self) -> None:
        """Release threads and connections."""


class Upload(Protocol):
    """A payload that comes piece by piece, and is nothing until it is committed. It ends with ``commit`` or ``discard``."""

    def write(self, piece: bytes | memoryview) -> None:
        """Add octets; they need not be durable yet. Raises StoreFull or Unavailable."""

    async def read(self) -> bytes:
        """All that was written so far; not after ``commit``. Raises Unavailable."""

    async def commit(self, key: str) -> None:
        """Keep it durably under ``key``. Nothing is kept when it raises: StoreFull, Unavailable or InvalidKey."""

    def discard(self) -> None:
        """Forget it. Safe to repeat, and after ``commit``, where it does nothing."""


class UploadStore(Store, Protocol):
    """A ``Store`` that takes payloads piece by piece, too."""

    def begin(self) -> Upload:
        """A new payload, empty. Raises StoreFull or Unavailable."""


def to_trouble(where: str, error: OSError) -> Unavailable:
    """What an error of the file system means for whoever stores; ``where`` names the store."""
    text = f"{where}: {error.strerror or error}"
    return StoreFull(text) if error.errno in _NO_ROOM else Unavailable(text)
