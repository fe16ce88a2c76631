"""The operator's signing keys: the file of the setting ``dkim-keys`` (TOML, ``docs/signing.md``).

Strict: whatever is not understood is a BadSetting.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.mail.signing import FIELDS, SigningRequest, parse_signing_request
from shared.mail.signing_keys import MAX_PEM
from shared.trouble import BadSetting

KEYS = (*FIELDS, "key_file")
"""Every key of an entry."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""What a change shows in: name, inode, size and time of the file and of every key file."""


@dataclass(frozen=True, slots=True)
class SigningFile:
    """The keys of one file."""

    by_domain: Mapping[str, Sequence[SigningRequest]]
    stamp: Stamp


def load_signing_file(path: Path) -> SigningFile:
    """Read the file and the key files that it names, relative to it. Raises BadSetting: file, entry, field, what was expected."""
    stamp = [_stamp(path)]
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"dkim-keys: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadSetting(f"dkim-keys: {path}: byte {error.start + 1}: not UTF-8") from None
    except RecursionError:
        raise BadSetting(f"dkim-keys: {path}: nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"dkim-keys: {path}: {error}") from None
    if unknown := set(document) - {"key"}:
        raise BadSetting(f"dkim-keys: {path}: {min(unknown)!r:.80}: unknown; expected only [[key]]")
    entries = document.get("key", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadSetting(f"dkim-keys: {path}: key: expected [[key]], a table for every key")
    by_domain: dict[str, list[SigningRequest]] = {}
    for number, entry in enumerate(entries, start=1):
        key_file, request = _parse_entry(entry, path, number)
        if key_file is not None:
            stamp.append(_stamp(key_file))
        known = by_domain.setdefault(request.domain, [])
        if any(one.selector.lower() == request.selector.lower() for one in known):
            raise BadSetting(
                f"dkim-keys: {path}, key {number}: selector: {request.selector!r} is given twice for {request.domain}"
            )
        known.append(request)
    return SigningFile(by_domain, tuple(stamp))


def read_stamp(of: Stamp) -> Stamp:
    """The stamp of the same files as they are now."""
    return tuple(_stamp(Path(name)) for name, *_ in of)


def _parse_entry(entry: Mapping[str, Any], path: Path, number: int) -> tuple[Path | None, SigningRequest]:
    where = f"{path}, key {number}"
    for key in entry:
        if key not in KEYS:
            raise BadSetting(f"dkim-keys: {where}: {key!r:.80}: unknown; expected one of {', '.join(KEYS)}")
    key_file = None
    if "key_file" in entry:
        if "key" in entry:
            raise BadSetting(f"dkim-keys: {where}: key_file: expected either key or key_file, not both")
        key_file, pem = _read_key(entry["key_file"], path, where)
        entry = {**entry, "key": pem}
    try:
        return key_file, parse_signing_request(entry, "key", is_trusted=True)
    except ValueError as error:
        sentence = str(error).removeprefix("key.")
        if key_file is not None and sentence.startswith("key: "):
            sentence = f"key_file: {key_file}: {sentence.removeprefix('key: ')}"
        raise BadSetting(f"dkim-keys: {where}: {sentence}") from None


def _read_key(value: Any, path: Path, where: str) -> tuple[Path, str]:
    if not isinstance(value, str) or not value or "\0" in value:
        raise BadSetting(f"dkim-keys: {where}: key_file: expected the path of a PEM file")
    key_file = path.parent / value
    try:
        with key_file.open("rb") as file:
            octets = file.read(MAX_PEM + 1)
        return key_file, octets.decode("ascii")
    except OSError as error:
        raise BadSetting(f"dkim-keys: {where}: key_file: {key_file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadSetting(f"dkim-keys: {where}: key_file: {key_file}: expected a private key in PEM form") from None


def _stamp(path: Path) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (str(path), 0, 0, 0)
    return (str(path), found.st_ino, found.st_size, found.st_mtime_ns)
