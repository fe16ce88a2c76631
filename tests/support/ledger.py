"""The ledger: every mail that a sink accepted, on disk before the sink replied, so that lost and doubled mail can be counted.

A folder with one append-only file per writing process. One record is one write(2): ``MWL1``, the lengths of the JSON
and of the content (two big-endian 32-bit numbers), the JSON, the content. What write(2) took survives kill -9 of the
writer (a crash of the kernel is out of scope: no fsync). A record cut off at the end of a file was never acknowledged
and is not counted. A mail with several recipients is one record and one ``Mail`` per recipient.

``python -m tests.support.ledger DIR`` prints a table.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import re
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

MAGIC = b"MWL1"
HEAD = struct.Struct(">4sII")
TOKEN_HEADER = "X-Token"
_PEEK = 2048  # one read usually brings the head and the JSON of a record
_HEADER_LIMIT = 65536
_NAMED = re.compile(rb"^(x-token|message-id):[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Session:
    """What the mails of one connection have in common."""

    helo: str = ""
    tls: str | None = None
    """TLS version, ``TLSv1.3``; None in clear."""
    peer: str = ""
    """The client, ``host:port``."""
    listener: str = ""
    """The sink's own address, ``host:port``."""
    hostname: str = ""
    """The sink's name in its greeting."""
    connection: int = 0
    """Number of the connection in its process, from 1."""
    auth_user: str | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """One accepted mail for one recipient."""

    reverse_path: str
    recipient: str
    size: int
    sha256: str
    """Of the content after dot-unstuffing, hexadecimal."""
    time: datetime
    token: str | None
    """The mail's header ``X-Token``."""
    message_id: str | None
    session: Session
    mail_parameters: Mapping[str, str]
    """Of MAIL FROM (RFC 5321 4.1.1.11): keyword in upper case to value, as sent."""
    rcpt_parameters: Mapping[str, str]
    extra: Mapping[str, Any]
    """What the sink added (the seal service: id and idempotency key)."""
    writer: str
    """The file's name: one per process that wrote."""
    has_content: bool
    _path: Path = field(repr=False)
    _offset: int = field(repr=False)

    @property
    def identity(self) -> str:
        """By what a mail is recognized: its token, else the hash of its content."""
        return self.token or self.sha256

    @property
    def content(self) -> bytes:
        """The exact bytes, read from disk. LookupError if the ledger was written without contents."""
        if not self.has_content:
            raise LookupError(f"the ledger {self._path} was written without contents (envelope only)")
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return file.read(self.size)


class LedgerWriter:
    """Appends to a ledger. ``keep_content=False`` (for the bench) stores envelope, ids, hash and size only."""

    def __init__(self, folder: Path | str, *, keep_content: bool = True) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{time.time_ns()}-{os.getpid()}.ledger"
        self._keep_content = keep_content
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._end = 0

    def store(
        self,
        content: bytes,
        *,
        reverse_path: str,
        recipients: Sequence[tuple[str, Mapping[str, str]]],
        session: Session,
        mail_parameters: Mapping[str, str] = _NOTHING,
        extra: Mapping[str, Any] = _NOTHING,
    ) -> None:
        """Write one mail; it is on disk when this returns. Raises OSError (disk full, …): then nothing was stored."""
        named = {name.lower(): value for name, value in reversed(_NAMED.findall(content, 0, _header_end(content)))}
        record = {
            "reverse_path": reverse_path,
            "recipients": recipients,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "time": time.time(),
            "token": _text(named.get(b"x-token")),
            "message_id": _text(named.get(b"message-id")),
            "session": session,
            "mail_parameters": mail_parameters,
            "extra": extra,
        }
        body = orjson.dumps(record)
        kept = content if self._keep_content else b""
        head = HEAD.pack(MAGIC, len(body), len(kept))
        try:
            written = os.writev(self._fd, (head, body, kept))
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise
        if written != len(head) + len(body) + len(kept):
            os.ftruncate(self._fd, self._end)
            raise OSError(errno.ENOSPC, "the ledger took only a part of the record", str(self.path))
        self._end += written

    def close(self) -> None:
        """Close the file; a writer that stored nothing leaves no file behind."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if not self._end:
            self.path.unlink(missing_ok=True)


def _header_end(content: bytes) -> int:
    end = content.find(b"\r\n\r\n", 0, _HEADER_LIMIT)
    return end if end >= 0 else min(len(content), _HEADER_LIMIT)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace").strip()


class Ledger:
    """Reads a ledger, also while it is being written; each call sees what was stored until then.

    A folder that does not exist (yet) is an empty ledger. Reading goes on where the last call ended, so polling is cheap.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._mails: list[Mail] = []
        self._read_until: dict[Path, int] = {}

    def mails(self) -> list[Mail]:
        """Every mail so far, one entry per recipient; in order of storing per writing process."""
        for path in sorted(self.folder.glob("*.ledger")):
            self._read_on(path)
        return list(self._mails)

    def count(self) -> int:
        """Number of mails so far, one per recipient."""
        return len(self.mails())

    def by_recipient(self) -> dict[str, list[Mail]]:
        """Recipient to its mails."""
        return _grouped((mail.recipient, mail) for mail in self.mails())

    def by_token(self) -> dict[str, list[Mail]]:
        """Token to its mails; mails without a token are left out."""
        return _grouped((mail.token, mail) for mail in self.mails() if mail.token is not None)

    def lost(self, expected: Iterable[str]) -> set[str]:
        """Those of the expected tokens that never arrived."""
        return set(expected) - self.by_token().keys()

    def unexpected(self, expected: Iterable[str]) -> set[str]:
        """Identities (token, else hash) that arrived and are not among the expected ones."""
        return {mail.identity for mail in self.mails()} - set(expected)

    def duplicates(self) -> dict[tuple[str, str], int]:
        """(identity, recipient) to the number of *surplus* copies; only what came more than once."""
        counts = Counter((mail.identity, mail.recipient) for mail in self.mails())
        return {key: count - 1 for key, count in counts.items() if count > 1}

    def _read_on(self, path: Path) -> None:
        offset = self._read_until.get(path, 0)
        try:
            if path.stat().st_size == offset:
                return
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # an empty file goes when its writer closes
            return
        try:
            size = os.fstat(fd).st_size
            while (chunk := os.pread(fd, _PEEK, offset)) and len(chunk) >= HEAD.size:
                magic, body_size, content_size = HEAD.unpack_from(chunk)
                if magic != MAGIC:
                    raise ValueError(f"{path} at {offset}: not a ledger record")
                start = offset + HEAD.size
                if start + body_size + content_size > size:
                    break  # being written, or cut off by a kill: not acknowledged
                body = chunk[HEAD.size : HEAD.size + body_size]
                if len(body) < body_size:
                    body = os.pread(fd, body_size, start)
                self._mails.extend(_mails_of(orjson.loads(body), path, start + body_size, bool(content_size)))
                offset = start + body_size + content_size
        finally:
            os.close(fd)
            self._read_until[path] = offset


def _mails_of(record: dict[str, Any], path: Path, offset: int, has_content: bool) -> Iterator[Mail]:
    session = Session(**record["session"])
    for recipient, parameters in record["recipients"]:
        yield Mail(
            reverse_path=record["reverse_path"],
            recipient=recipient,
            size=record["size"],
            sha256=record["sha256"],
            time=datetime.fromtimestamp(record["time"], UTC),
            token=record["token"],
            message_id=record["message_id"],
            session=session,
            mail_parameters=record["mail_parameters"],
            rcpt_parameters=parameters,
            extra=record["extra"],
            writer=path.name,
            has_content=has_content or record["size"] == 0,
            _path=path,
            _offset=offset,
        )


def _grouped(pairs: Iterable[tuple[str, Mail]]) -> dict[str, list[Mail]]:
    groups: defaultdict[str, list[Mail]] = defaultdict(list)
    for key, mail in pairs:
        groups[key].append(mail)
    return dict(groups)


def render_table(mails: Sequence[Mail]) -> str:
    """The mails as an aligned text table with a closing line of sums."""
    rows = [("time (UTC)", "from", "to", "bytes", "sha256", "tls", "conn", "user", "token")]
    for mail in mails:
        session = mail.session
        rows.append(
            (
                mail.time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
                f"<{mail.reverse_path}>",
                mail.recipient,
                str(mail.size),
                mail.sha256[:12],
                session.tls or "-",
                str(session.connection),
                session.auth_user or "-",
                mail.token or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"{len(mails)} mails, {sum(mail.size for mail in mails)} bytes"])


def main() -> None:
    """Print a ledger as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.ledger", description="prints a ledger as a table")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    if not folder.is_dir():
        parser.error(f"{folder}: no such folder")
    print(render_table(Ledger(folder).mails()))


if __name__ == "__main__":
    main()
