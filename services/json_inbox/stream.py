"""A stream of mail: NDJSON with ``?partial=true``, of any length, in memory that does not grow with it.

Lines are read, checked and accepted in batches, each with one round of confirms. The answer, a line for each message, waits in a
temporary file until the stream has ended: most clients read nothing while they write. Its last line is the sum. What a batch has
confirmed stays accepted whatever comes later; when the stream breaks off, the status is that of the trouble, ``complete`` is false, and
``line`` is the first one whose result is not told: the client goes on from there. What was accepted of it all the same, ``Memory`` knows.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from dataclasses import field as default
from functools import partial
from http import HTTPStatus
from typing import IO, Any

import orjson
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from services.json_inbox.access import find_caller
from services.json_inbox.body import LONG_LINE, PIECE, iter_lines
from services.json_inbox.inbox import Inbox
from services.json_inbox.intake import InvalidItem, digest_body, parse_line, parse_submission
from services.json_inbox.problems import Problem
from shared.acceptance import Origin, Submission
from shared.log import get_logger

log = get_logger()

BATCH_BYTES = 1024 * 1024
"""Bytes of lines after which a batch is accepted even when it has fewer than ``http-max-messages`` messages."""
PATIENT_LINES = 20
"""Lines after which others get a turn."""
IN_MEMORY = 256 * 1024
"""Bytes of an answer that need no file."""
MEDIA_TYPE = "application/x-ndjson"


async def take_stream(request: Request, inbox: Inbox) -> Response:
    """Read, accept and answer. Raises Problem when no batch was accepted."""
    settings = inbox.settings
    stream = Stream(request, inbox)
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(inbox.room.hold(BATCH_BYTES + LONG_LINE))

            async def on_long() -> None:
                await stack.enter_async_context(inbox.room.hold(settings.http_max_size))

            lines = iter_lines(request, limit=settings.http_max_size, patience=settings.http_body_timeout, on_long=on_long)
            trouble = await stream.take(lines)
        if trouble is not None and not stream.accepted:
            raise trouble
        if not stream.accepted and not stream.rejected:
            raise Problem(422, "expected at least one message")
        return stream.answer(trouble)
    except BaseException:
        stream.results.close()
        raise


@dataclass
class Stream:
    """What has become of a stream so far."""

    request: Request
    inbox: Inbox
    accepted: int = 0
    """Messages."""
    rejected: int = 0
    """Lines."""
    number: int = 0
    """Of the line read last, from 1."""
    results: IO[bytes] = default(default_factory=partial(tempfile.SpooledTemporaryFile, max_size=IN_MEMORY))
    _batch: list[tuple[int, bytes]] = default(default_factory=list)

    async def take(self, lines: AsyncIterator[bytes]) -> Problem | None:
        """Accept them, batch by batch; what ended it too early. Raises ClientDisconnect."""
        size = 0
        try:
            async for line in lines:
                self.number += 1
                if not line.strip():
                    continue
                self._batch.append((self.number, line))
                size += len(line)
                if len(self._batch) >= self.inbox.settings.http_max_messages or size >= BATCH_BYTES:
                    await self._flush()
                    size = 0
            await self._flush()
        except Problem as problem:
            return problem
        except OSError as error:
            log.error("no room for the answer to a stream", reason=str(error))
            return Problem(503, "an error of ours; the log tells more")
        return None

    def answer(self, trouble: Problem | None) -> Response:
        """A line for each message, then the sum."""
        total: dict[str, Any] = {"accepted": self.accepted, "rejected": self.rejected, "complete": trouble is None}
        status, headers = 202 if self.accepted else 422, {}
        if trouble is not None:
            status, headers = trouble.status, dict(trouble.headers)
            # Of the lines that stand before it, every result is told.
            first = self._batch[0][0] if self._batch else self.number + 1
            total |= {"line": first, "status": status, "title": HTTPStatus(status).phrase, "detail": trouble.detail}
            if trouble.field is not None:
                total["field"] = trouble.field
        self._write([total])
        return StreamingResponse(_read(self.results), status, headers, media_type=MEDIA_TYPE)

    async def _flush(self) -> None:
        """Accept the batch; afterwards it is empty, or begins with the first line that was not accepted. Raises Problem."""
        caller = find_caller(self.request.scope)
        door = self.inbox.open_door(caller.remote_ip, caller=caller)
        most = self.inbox.settings.http_max_messages
        group: list[tuple[int, Submission | None]] = []
        results: list[dict[str, Any]] = []
        seen: Counter[str] = Counter()
        count = 0
        for place, (number, line) in enumerate(list(self._batch), 1):
            if place % PATIENT_LINES == 0:
                await asyncio.sleep(0)
            try:
                submission = parse_submission(parse_line(line), door, number)
                if len(submission.recipients) > most:
                    raise InvalidItem("recipients", f"recipients: more than http-max-messages, {most}")
                digest = digest_body(line)
            except InvalidItem as error:
                field = {} if error.field is None else {"field": error.field}
                results.append({"line": number, "status": error.status, **field, "reason": error.reason})
                group.append((number, None))
                continue
            if count + len(submission.recipients) > most:
                await self._accept(group, results)
                group, results, count = [], [], 0
                seen.clear()
            # Sent again from the first line of this group on, it is known again, under whatever number.
            origin = Origin(caller.identity, f"{digest}/{seen[digest]}")
            seen[digest] += 1
            group.append((number, replace(submission, origin=origin)))
            count += len(submission.recipients)
        await self._accept(group, results)

    async def _accept(self, group: Sequence[tuple[int, Submission | None]], results: list[dict[str, Any]]) -> None:
        mails = [(number, submission) for number, submission in group if submission is not None]
        if mails:
            accepted = await self.inbox.accept([submission for _, submission in mails], waits=True)
            for (number, _), group_accepted in zip(mails, accepted, strict=True):
                self.accepted += len(group_accepted)
                results += [
                    {"line": number, "message-id": one.message_id, "recipient": one.recipient, "id": one.id}
                    for one in group_accepted
                ]
            results.sort(key=_line_of)
        self.rejected += len(group) - len(mails)
        del self._batch[: len(group)]
        self._write(results)

    def _write(self, results: Sequence[dict[str, Any]]) -> None:
        self.results.writelines(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE) for result in results)


def _line_of(result: dict[str, Any]) -> int:
    return int(result["line"])


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece
