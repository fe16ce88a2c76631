"""Reading the body of a request: bounded in size and time, gzip'ed or not."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from starlette.requests import Request

from services.json_inbox.problems import Problem
from shared.wire.document import WireError, decompress

PIECE = 64 * 1024
"""Bytes that are decompressed at once."""
LONG_LINE = 1024 * 1024
"""Bytes of a line in a stream beyond which it needs room of its own."""
JSON = "application/json"
LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})


async def read_body(request: Request, *, limit: int, patience: timedelta) -> bytes:
    """The whole body, decompressed, of at most ``limit`` bytes. Raises Problem."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(patience.total_seconds()):
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {patience.total_seconds():g} s") from None
    body = b"".join(chunks)
    del chunks
    return _inflate(body, limit) if is_packed(request) else body


async def iter_lines(
    request: Request, *, limit: int, patience: timedelta, on_long: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """The lines of a body of any length, without their ends, decompressed; no line of more than ``limit`` bytes. Raises Problem.

    ``patience``: for each piece that the client sends. ``on_long`` is awaited once when a line is longer than ``LONG_LINE``. A line is
    given when its end has come, or the end of a whole body: what a client that breaks off had begun to say is never given.
    """
    rest = bytearray()
    was_long = False
    async for piece in _iter_pieces(request, patience):
        start = len(rest)
        rest += piece
        end = rest.rfind(b"\n", start)
        if end >= 0:
            block = bytes(memoryview(rest)[:end])
            del rest[: end + 1]
            for line in block.split(b"\n"):
                if len(line) > limit:
                    raise _too_long(limit)
                yield line
            del block
        if len(rest) > limit:
            raise _too_long(limit)
        if len(rest) > LONG_LINE and not was_long:
            was_long = True
            await on_long()
    if rest:
        yield bytes(rest)


async def _iter_pieces(request: Request, patience: timedelta) -> AsyncIterator[bytes]:
    """The body piece by piece, decompressed: no piece is much larger than ``PIECE``, whatever gzip makes of it."""
    inflater = zlib.decompressobj(wbits=31) if is_packed(request) else None
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(patience.total_seconds()):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise Problem(408, f"nothing came for {patience.total_seconds():g} s") from None
        if inflater is None:
            yield chunk
            continue
        while chunk:
            try:
                piece = inflater.decompress(chunk, PIECE)
            except zlib.error as error:
                raise Problem(400, f"body is not gzip: {error}") from None
            chunk = inflater.unconsumed_tail
            if inflater.unused_data:
                raise Problem(400, "body is not one whole gzip stream")
            yield piece
    if inflater is not None and not inflater.eof:
        raise Problem(400, "body is not one whole gzip stream: it ends too early")


def find_size(request: Request, limit: int) -> int:
    """How many bytes a body may have once it is read: what it says when it is not packed, else ``limit``."""
    declared = request.headers.get("content-length", "")
    return min(int(declared[:20]), limit) if declared.isdigit() and not is_packed(request) else limit


def is_packed(request: Request) -> bool:
    """Is the body gzip'ed? Raises Problem when it is encoded in another way."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return False
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(415, f"{encoding!r}: expected gzip or none", field="Content-Encoding")
    return True


def is_lines(request: Request) -> bool:
    """Is the body NDJSON? Raises Problem when it is neither that nor JSON."""
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind in LINES:
        return True
    if kind == JSON or kind.endswith("+json"):
        return False
    raise Problem(415, f"{kind!r}: expected application/json or application/x-ndjson", field="Content-Type")


def _inflate(body: bytes, limit: int) -> bytes:
    try:
        return decompress(body, limit)
    except WireError as error:
        if "larger than" in str(error):
            raise _too_large(limit) from None
        raise Problem(400, str(error)) from None


def _too_long(limit: int) -> Problem:
    return Problem(413, f"a line is longer than http-max-size, {limit} bytes", headers={"Connection": "close"})


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than http-max-size, {limit} bytes", headers={"Connection": "close"})
