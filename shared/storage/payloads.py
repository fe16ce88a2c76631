"""The message store: payloads under keys of ours, written once, read back unchanged. ``dir://`` or any S3."""

from typing import Protocol


class MissingPayload(Exception):
    """The store answers, and there is no object under the key."""


class Store(Protocol):
    """A message store. Every method raises ``Unavailable`` when the store is out of reach (our trouble, not the mail's)."""

    async def store(self, key: str, content: bytes) -> None:
        """Keep ``content`` durably (fsync) under ``key``."""

    async def fetch(self, key: str) -> bytes:
        """The content. Raises MissingPayload."""

    async def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error."""

    async def close(self) -> None:
        """Release threads and connections."""
