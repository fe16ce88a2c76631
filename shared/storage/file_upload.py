"""An upload that grows in a file: of the store's own folder, or on its way to a bucket."""

from collections.abc import Awaitable, Callable
from io import FileIO
from typing import Any, TypeVar

from shared.storage.keys import check_key
from shared.storage.payloads import to_trouble
from shared.trouble import Unavailable

T = TypeVar("T")


class FileUpload:
    """An ``Upload``. Writing goes to the page cache and is done at once; all that may take long is done in the store's threads."""

    def __init__(
        self,
        file: FileIO,
        where: str,
        *,
        run: Callable[..., Awaitable[Any]],
        submit: Callable[..., None],
        finish: Callable[[str, FileIO], None],
        drop: Callable[[FileIO], None],
    ) -> None:
        """``finish`` makes the file durable under a key, ``drop`` removes it; both close it. ``run`` has work done in a thread, and
        makes Unavailable of its errors; ``submit`` does so too, and waits for nothing."""
        self._file: FileIO | None = file
        self._where = where
        self._run = run
        self._submit = submit
        self._finish = finish
        self._drop = drop

    def write(self, piece: bytes | memoryview) -> None:
        """Add octets. Raises StoreFull or Unavailable."""
        file, rest = self._open(), memoryview(piece)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise to_trouble(self._where, error) from error

    async def read(self) -> bytes:
        """All that was written so far. Raises Unavailable."""
        content: bytes = await self._run(_read, self._open())
        return content

    async def commit(self, key: str) -> None:
        """Keep it durably under ``key``. Raises StoreFull, Unavailable or InvalidKey."""
        await self._run(self._commit, check_key(key), self._open())

    def discard(self) -> None:
        """Forget it. Safe to repeat."""
        file, self._file = self._file, None
        if file is not None:
            self._submit(self._drop, file)

    def _commit(self, key: str, file: FileIO) -> None:
        # From here on the thread owns the file: whoever gives up waiting for it must not close what it still uses.
        self._file = None
        self._finish(key, file)

    def _open(self) -> FileIO:
        if self._file is None:
            raise Unavailable(f"{self._where}: the upload has ended")
        return self._file


def _read(file: FileIO) -> bytes:
    file.seek(0)
    return file.readall()
