"""Requests with an ``Idempotency-Key`` and their answers (table ``idempotent_requests``), so that nothing is sent twice.

A request is claimed before anything of it is published, and answered afterwards. Between the two its process may die: after ``lease``
the next one with the same key takes the claim over, with the same ``began`` and so with the same ids, and publishes again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from psycopg.types.json import Jsonb

from shared.storage.database import Connection

LIFETIME = timedelta(hours=24)
"""How long an answer is kept."""
_SPACE = UUID("b8c1cf3e-5d0b-4c39-9a54-0d4e4a0f6d1d")
_SWEPT_AT_ONCE = 5000

_CLAIM = """
    INSERT INTO idempotent_requests AS known (token, key, digest, created_at, updated_at)
    VALUES (%(token)s, %(key)s, %(digest)s, %(now)s, %(now)s)
    ON CONFLICT (token, key) DO UPDATE
    SET digest = excluded.digest, status = NULL, answer = NULL, created_at = excluded.created_at, updated_at = excluded.updated_at
    WHERE known.created_at < %(old)s
    RETURNING created_at
"""
_LOOK = "SELECT digest, status, answer, created_at, updated_at FROM idempotent_requests WHERE token = %(token)s AND key = %(key)s"
_TAKE_OVER = """
    UPDATE idempotent_requests SET updated_at = %(now)s
    WHERE token = %(token)s AND key = %(key)s AND created_at = %(began)s AND updated_at = %(seen)s AND status IS NULL
"""
_OF_CLAIM = "WHERE token = %(token)s AND key = %(key)s AND created_at = %(began)s AND status IS NULL"
_ANSWER = f"UPDATE idempotent_requests SET status = %(status)s, answer = %(answer)s, updated_at = %(now)s {_OF_CLAIM}"  # noqa: S608
_HAND_BACK = f"UPDATE idempotent_requests SET updated_at = 0 {_OF_CLAIM}"  # noqa: S608 - fixed text
_WITHDRAW = f"DELETE FROM idempotent_requests {_OF_CLAIM}"  # noqa: S608 - fixed text


@dataclass(frozen=True, slots=True)
class Claim:
    """This request is ours to be done."""

    token: str
    """Name; "" = none."""
    key: str
    digest: str
    """Of the request, hex."""
    began: datetime
    """When the key was claimed first: the same for whoever takes the claim over."""

    @property
    def seed(self) -> UUID:
        """Ids made from it are the same for the same request, and others for the next one under the key, a day later."""
        return uuid5(_SPACE, "\0".join((self.token, self.key, self.digest, str(int(self.began.timestamp())))))


@dataclass(frozen=True, slots=True)
class Answered:
    """It was done; this was the answer."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class InWork:
    """Somebody is at it."""

    wait: int
    """Seconds until it is worth asking again."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The key belongs to another request."""


async def claim_request(
    connection: Connection, token: str, key: str, digest: str, *, now: datetime, lease: timedelta
) -> Claim | Answered | InWork | Taken:
    """What becomes of this request. Raises psycopg's errors (see ``Database.connection``)."""
    seconds = int(now.timestamp())
    values = {"token": token, "key": key, "digest": digest, "now": seconds, "old": seconds - int(LIFETIME.total_seconds())}
    row = await (await connection.execute(_CLAIM, values)).fetchone()
    if row is not None:
        return Claim(token, key, digest, datetime.fromtimestamp(row[0], UTC))
    found = await (await connection.execute(_LOOK, values)).fetchone()
    if found is None:
        # Withdrawn a moment ago.
        return InWork(1)
    other, status, answer, began, seen = found
    if other != digest:
        return Taken()
    if status is not None:
        return Answered(status, str(answer))
    wait = seen + int(lease.total_seconds()) - seconds
    if wait > 0:
        return InWork(wait)
    taken = await connection.execute(_TAKE_OVER, values | {"began": began, "seen": seen})
    return Claim(token, key, digest, datetime.fromtimestamp(began, UTC)) if taken.rowcount else InWork(1)


async def answer_request(connection: Connection, claim: Claim, status: int, body: str, *, now: datetime) -> None:
    """It is done: whoever asks again gets this, byte for byte."""
    values = {"status": status, "answer": Jsonb(body), "now": int(now.timestamp())}
    await connection.execute(_ANSWER, _of(claim) | values)


async def hand_back(connection: Connection, claim: Claim) -> None:
    """It could not be done now: the next one with the key does it at once, with the same ids, for some may have been published."""
    await connection.execute(_HAND_BACK, _of(claim))


async def withdraw(connection: Connection, claim: Claim) -> None:
    """It was refused before anything was done: the key is free."""
    await connection.execute(_WITHDRAW, _of(claim))


async def sweep_requests(connection: Connection, *, now: datetime) -> int:
    """Remove some of those that are older than ``LIFETIME``; how many."""
    cursor = await connection.execute(
        """
        DELETE FROM idempotent_requests WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM idempotent_requests WHERE created_at < %s LIMIT %s FOR UPDATE SKIP LOCKED
        ))
        """,
        [int((now - LIFETIME).timestamp()), _SWEPT_AT_ONCE],
    )
    return cursor.rowcount


def _of(claim: Claim) -> dict[str, object]:
    return {"token": claim.token, "key": claim.key, "began": int(claim.began.timestamp())}
