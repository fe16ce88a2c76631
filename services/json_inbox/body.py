"""Reading the body of a request: bounded in size and time, gzip'ed or not."""

import asyncio
from datetime import timedelta

from starlette.requests import Request

from services.json_inbox.problems import Problem
from shared.wire.document import WireError, decompress

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
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(415, f"{encoding!r}: expected gzip or none", field="Content-Encoding")
    return _inflate(body, limit)


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


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than http-max-size, {limit} bytes", headers={"Connection": "close"})
