"""How many mails became final: by destination, class, status and hour. ``GET /v1/counters`` and ``mailwarren counters``.

Triggers on ``message_status`` keep ``message_counts``: a mail counts in the hour in which its first verdict was recorded, under the
verdict that it has now; results that come twice count once, and what moves to the archive stays counted. Three levels of rows, so that
every question reads few: hours and days of each destination, and hours of all destinations together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import errors

from shared.storage.asked import BadParameter, check_names, parse_choice, parse_class, parse_domain, parse_moment, parse_number
from shared.storage.database import Connection
from shared.trouble import Unavailable
from shared.wire.times import render_time

HOUR = 3600
DAY = 86_400
MOST = 1000
DEFAULT_LIMIT = 100
DEFAULT_SINCE = timedelta(hours=24)
MOST_HOURS = timedelta(hours=48)
"""Up to here all destinations are counted by the hour, beyond by whole days (UTC)."""
MOST_GROUPS = timedelta(hours=24)
"""Up to here each hour of all destinations is told apart."""
MOST_DAYS = timedelta(days=31)
"""The longest time over which all destinations are told apart."""
LONGEST = timedelta(days=366)
BY = ("destination", "class", "status", "hour")
PARAMETERS = ("since", "until", "by", "destination", "class", "status", "limit")
_STATUSES = ("delivered", "failed")
_COLUMNS = {name: "start" if name == "hour" else name for name in BY}


class CountersMissing(Unavailable):
    """The database has not the table yet: ``mailwarren migrate`` makes it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be counted."""

    level: str
    since: int
    """Unix seconds, the beginning of an hour or, at level ``day``, of a day; this one counts."""
    until: int
    """The same; this one does not count."""
    by: tuple[str, ...]
    destination: tuple[str, ...] = ()
    """A domain in every spelling; () = all."""
    bounce_class: str | None = None
    status: str | None = None
    limit: int = DEFAULT_LIMIT


def parse_question(given: Mapping[str, str], now: datetime) -> Question:
    """A question from its parameters as texts; ``by`` with commas. Raises BadParameter, which names the one that is wrong."""
    check_names(given, PARAMETERS)
    by = tuple(dict.fromkeys(parse_choice("by", one.strip(), BY) for one in given.get("by", "destination").split(",")))
    destination = parse_domain("destination", given["destination"]) if "destination" in given else ()
    since = parse_moment("since", given["since"], now) if "since" in given else int((now - DEFAULT_SINCE).timestamp())
    until = parse_moment("until", given["until"], now) if "until" in given else max(int(now.timestamp()), since) + 1
    if until <= since:
        raise BadParameter("until", given.get("until", ""), "a time after since")
    level = "hour" if destination else "hour" if "destination" in by else "total"
    if "destination" in by and not destination and _round(since, until, HOUR, MOST_HOURS) is None:
        level = "day"
    apart = {"destination", "hour"} <= set(by) and not destination
    if apart and _round(since, until, HOUR, MOST_GROUPS) is None:
        raise BadParameter("by", given["by"], "destination and hour for at most 24 hours, or for one destination")
    span = DAY if level == "day" else HOUR
    longest = MOST_DAYS if level == "day" else LONGEST
    rounded = _round(since, until, span, longest)
    if rounded is None:
        text = f"at most {longest.days} days before until" + (", or by something else than destination" if level == "day" else "")
        raise BadParameter("since", given.get("since", ""), text)
    return Question(
        level,
        *rounded,
        by=by,
        destination=destination,
        bounce_class=parse_class("class", given["class"]) if "class" in given else None,
        status=parse_choice("status", given["status"], _STATUSES) if "status" in given else None,
        limit=parse_number("limit", given["limit"], MOST) if "limit" in given else DEFAULT_LIMIT,
    )


async def count_final(connection: Connection, question: Question) -> dict[str, Any]:
    """The answer: ``since``, ``until``, ``total``, and ``counters``, the largest first (by hour: the newest hour first).

    Raises CountersMissing, or psycopg's errors (see ``Database.connection``).
    """
    columns = [_COLUMNS[name] for name in question.by]
    # The level as a literal: an index is made of one level alone.
    conditions = [f"level = '{question.level}'", "start >= %(since)s", "start < %(until)s"]
    conditions += ["destination = ANY (%(destination)s)"] if question.destination else []
    conditions += ["class = %(class)s"] if question.bounce_class else []
    conditions += ["status = %(status)s"] if question.status else []
    order = [*(["start DESC"] if "hour" in question.by else []), "n DESC", *columns]
    query = f"""
        SELECT {", ".join(columns)}, sum(count)::bigint AS n, (sum(sum(count)) OVER ())::bigint FROM message_counts
        WHERE {" AND ".join(conditions)} GROUP BY {", ".join(columns)} HAVING sum(count) > 0
        ORDER BY {", ".join(order)} LIMIT %(limit)s
    """  # noqa: S608 - fixed texts
    values = {
        "since": question.since,
        "until": question.until,
        "destination": list(question.destination),
        "class": question.bounce_class,
        "status": question.status,
        "limit": question.limit,
    }
    try:
        async with connection.transaction():
            # A group for each destination and hour is more than the usual memory holds.
            await connection.execute("SET LOCAL work_mem = '64MB'")
            rows = await (await connection.execute(query.encode(), values, prepare=False)).fetchall()
    except errors.UndefinedTable:
        raise CountersMissing("Postgres: the table of counters is not there yet: run `mailwarren migrate`") from None
    counters = [dict(zip((*question.by, "count"), row[:-1], strict=True)) for row in rows]
    for counter in counters:
        if "hour" in counter:
            counter["hour"] = _render(counter["hour"])
        if "class" in counter:
            counter["class"] = counter["class"] or None
    return {
        "since": _render(question.since),
        "until": _render(question.until),
        "total": rows[0][-1] if rows else 0,
        "counters": counters,
    }


async def expire_counts(connection: Connection, *, before: int, most: int) -> int:
    """Delete at most ``most`` rows of hours and days that ended before ``before`` (unix seconds); how many were deleted.

    Safe beside others that do the same, and beside recorders.
    """
    done = await connection.execute(
        """
        WITH picked AS MATERIALIZED (
            SELECT level, start, destination, class, status, changed FROM message_counts
            WHERE level = ANY ('{hour,day,total}') AND start <= %(before)s - CASE level WHEN 'day' THEN 86400 ELSE 3600 END
              AND start < %(before)s
            LIMIT %(most)s FOR UPDATE SKIP LOCKED
        )
        DELETE FROM message_counts c USING picked p
        WHERE (c.level, c.start, c.destination, c.class, c.status, c.changed)
            = (p.level, p.start, p.destination, p.class, p.status, p.changed)
        """,
        {"before": before, "most": most},
    )
    return done.rowcount


async def count_expired_counts(connection: Connection, before: int) -> int:
    """How many rows ``expire_counts`` would delete in all."""
    cursor = await connection.execute(
        """
        SELECT count(*) FROM message_counts
        WHERE level = ANY ('{hour,day,total}') AND start <= %(before)s - CASE level WHEN 'day' THEN 86400 ELSE 3600 END
          AND start < %(before)s
        """,
        {"before": before},
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


def _round(since: int, until: int, span: int, longest: timedelta) -> tuple[int, int] | None:
    """Both at a boundary, nothing left out; None: that is longer than it may be (give or take one span)."""
    if until - since > longest.total_seconds() + span:
        return None
    return since - since % span, until + -until % span


def _render(seconds: int) -> str:
    return render_time(datetime.fromtimestamp(seconds, UTC))
