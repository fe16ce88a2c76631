"""The keys of payloads: paths that mean the same in a folder and in any S3, and that can never lead out of the store."""

import re
from collections.abc import Collection, Iterator
from contextlib import suppress

from shared.storage.payloads import MissingPayload

MAX_KEY = 512
"""Characters of a key; every S3 takes 1,024 octets."""
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class InvalidKey(MissingPayload, ValueError):
    """Not a key, so nothing can be there either: whoever fetches may treat it as a missing payload."""


class KeyTaken(Exception):
    """Other content is stored under the key already.

    Keys are made from new UUIDs: this is a bug, or somebody else writes here.
    """


def check_key(key: str) -> str:
    """``key`` itself when it is one: relative, parts of ``A-Za-z0-9._-`` joined by ``/``, none empty or starting with a dot.

    Raises InvalidKey.
    """
    parts = key.split("/")
    if len(key) > MAX_KEY or len(parts) < 2 or not all(_PART.fullmatch(part) for part in parts):
        shown = ascii(key[:80])
        raise InvalidKey(f"{shown} is no key of the message store: expected a relative path such as v1/2026/11/23/NAME")
    return key


def list_batches(keys: Collection[str], most: int) -> Iterator[list[str]]:
    """``keys`` in batches of at most ``most``, each key once, without what is no key: nothing can be there."""
    batch: list[str] = []
    for key in dict.fromkeys(keys):
        with suppress(InvalidKey):
            batch.append(check_key(key))
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch
