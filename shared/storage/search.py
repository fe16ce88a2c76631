"""Pages of mails that were asked for: final ones, those under way, and archived ones when wanted. ``GET /v1/messages``.

Newest first, by the moment of the last thing that happened to a mail: accepted, deferred, or final. A cursor is the place
(moment, id) at which the next page begins, the same for all tables, so rows that come in above it move nothing.

No question is slow. Each table is walked along one index that is chosen here (``choose_walk``) and by no statistics, and a page looks
at no more than ``WALK`` rows of it; what the index does not know is compared row by row. So a page may have fewer mails than its
limit, or none, and still a cursor: there the walk goes on.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from shared.storage.asked import (
    BadParameter,
    Party,
    check_names,
    parse_choice,
    parse_class,
    parse_domain,
    parse_flag,
    parse_moment,
    parse_number,
    parse_party,
)
from shared.storage.database import Connection
from shared.storage.status import fetch_under_way, render_final

WALK = 4_000
"""Rows of final mail, or of deferred mail, that one page looks at."""
WALK_SUBMISSIONS = 1_000
"""The same of submissions, each with all its recipients."""
WALK_SENDERS = 500
"""The same of deferred mail when a sender is asked for: the sender stands in another table."""
MOST = 500
DEFAULT_LIMIT = 50
STATUSES = ("accepted", "deferred", "delivered", "failed")
PARAMETERS = (
    "recipient", "sender", "status", "class", "destination", "since", "until", "archived", "limit", "cursor",
)  # fmt: skip

Place = tuple[int, str]
"""(unix seconds, id) of a mail in the order of the pages; "" as id comes after all mails of that second."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked for; what is None or () makes no difference."""

    recipient: Party | None = None
    sender: Party | None = None
    status: str | None = None
    bounce_class: str | None = None
    destination: tuple[str, ...] = ()
    """A domain in every spelling."""
    since: int = 0
    """Unix seconds; this one counts."""
    until: int | None = None
    """Unix seconds; this one does not count."""
    archived: bool = False
    """Look into the archive, too."""
    limit: int = DEFAULT_LIMIT
    after: Place | None = None
    """Where the last page ended."""

    @property
    def destinations(self) -> tuple[str, ...]:
        """The domain of the recipients, however it was asked for."""
        return self.destination or (self.recipient.domain if self.recipient else ())


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    messages: list[dict[str, Any]]
    """As ``shared.storage.status.find_message`` tells them."""
    next: str | None
    """Cursor of the next page; None: there is none."""


@dataclass(slots=True)
class Walk:
    """One index of one table, walked from the newest row down."""

    table: str
    moment: str = "updated_at"
    key: str = ""
    """Expression of the index's first column; "" for one that has only the moment."""
    values: tuple[str, ...] = ()
    """What the key is; each is a walk of its own."""
    where: list[str] = field(default_factory=list)
    """What the index is restricted to."""
    rest: list[str] = field(default_factory=list)
    """What is compared row by row."""
    most: int = WALK


@dataclass(frozen=True, slots=True)
class Found:
    """A row that a walk came to."""

    place: Place
    table: str
    row: dict[str, Any]


def parse_search(given: Mapping[str, str], now: datetime) -> Search:
    """A search from its parameters as texts. Raises BadParameter, which names the one that is wrong."""
    check_names(given, PARAMETERS)
    search = Search(
        recipient=parse_party("recipient", given["recipient"]) if "recipient" in given else None,
        sender=parse_party("sender", given["sender"]) if "sender" in given else None,
        status=parse_choice("status", given["status"], STATUSES) if "status" in given else None,
        bounce_class=parse_class("class", given["class"]) if "class" in given else None,
        destination=parse_domain("destination", given["destination"]) if "destination" in given else (),
        since=parse_moment("since", given["since"], now) if "since" in given else 0,
        until=parse_moment("until", given["until"], now) if "until" in given else None,
        archived=parse_flag("archived", given["archived"]) if "archived" in given else False,
        limit=parse_number("limit", given["limit"], MOST) if "limit" in given else DEFAULT_LIMIT,
        after=parse_cursor(given["cursor"]) if given.get("cursor") else None,
    )
    if search.destination and search.recipient and search.recipient.domain and search.recipient.domain != search.destination:
        raise BadParameter("destination", given["destination"], "the domain of recipient, or one of the two alone")
    if search.until is not None and search.until <= search.since:
        raise BadParameter("until", given["until"], "a time after since")
    if search.bounce_class and search.status == "accepted":
        raise BadParameter("class", given["class"], "no class together with status=accepted: nothing was attempted yet")
    return search


def render_cursor(place: Place) -> str:
    """The place as an opaque text."""
    return base64.urlsafe_b64encode(f"1 {place[0]} {place[1]}".encode()).decode().rstrip("=")


def parse_cursor(text: str) -> Place:
    """The place. Raises BadParameter unless ``render_cursor`` made it."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, moment, ident = raw.decode().split(" ", 2)
        place = int(moment), ident
        if version == "1" and 0 <= place[0] < 2**62 and (ident.isprintable()) and render_cursor(place) == text:
            return place
    except (binascii.Error, ValueError):
        pass
    raise BadParameter("cursor", text, "the text that the last page gave as `next`")


async def find_page(connection: Connection, search: Search, *, most: int = WALK) -> Page:
    """One page, for which no walk looks at more than ``most`` rows. Raises psycopg's errors (see ``Database.connection``)."""
    async with connection.transaction():
        await connection.execute(_BEGIN, prepare=False)
        found: list[Found] = []
        stops: list[Place] = []
        for walk in choose_walks(search):
            walk.most = min(walk.most, most)
            for value in walk.values or ("",):
                rows, stop = await _go(connection, search, walk, value)
                found += rows
                stops += [stop] if stop else []
        return await _render_page(connection, search, found, stops)


def choose_walks(search: Search) -> list[Walk]:
    """The tables that may have such mails, each with the index along which it is walked."""
    walks: list[Walk] = []
    if search.status in (None, "accepted") and search.bounce_class is None:
        walks.append(_walk_submissions(search))
    if search.status in (None, "deferred"):
        walks.append(_walk_deferred(search))
    if search.status in (None, "delivered", "failed"):
        walks.append(choose_walk(search))
        if search.archived:
            walks.append(choose_walk(search, archive=True))
    return walks


def choose_walk(search: Search, *, archive: bool = False) -> Walk:
    """How final mail is walked: the index whose first column promises the fewest rows; failed mail has indexes of its own.

    Every column after the first is a condition of the row. The archive has an index of recipients and one of times alone.
    """
    recipient, sender = (party.spellings if party else () for party in (search.recipient, search.sender))
    walk = Walk("message_status_archive" if archive else "message_status")
    conditions = {
        "recipient": ('lower(recipient COLLATE "C")', recipient),
        "destination": ('destination COLLATE "C"', search.destinations),
        "sender": ('lower(sender COLLATE "C")', sender),
        "class": ('class COLLATE "C"', (search.bounce_class,) if search.bounce_class else ()),
    }
    usable = ("recipient",) if archive else tuple(conditions)
    chosen = next((name for name in usable if conditions[name][1]), None)
    if chosen is not None:
        walk.key, walk.values = conditions[chosen]
    if chosen == "class":
        walk.where.append("class IS NOT NULL")
    if search.status is not None:
        # A literal: only then the indexes of failed mail are thought of.
        has_index = search.status == "failed" and chosen in (None, "destination", "sender") and not archive
        (walk.where if has_index else walk.rest).append(f"status = '{search.status}'")
    walk.rest += [f"{key} = ANY (%({name})s)" for name, (key, values) in conditions.items() if values and name != chosen]
    walk.rest += _ask_sender_domain(search)
    return walk


def _walk_deferred(search: Search) -> Walk:
    walk = Walk("delivery_attempts", "created_at", where=["next_attempt_at IS NOT NULL"])
    recipient = search.recipient.spellings if search.recipient else ()
    # The index of destinations serves recipients as well: their domain is known.
    domains = search.destinations or tuple(dict.fromkeys(spelling.rpartition("@")[2].lower() for spelling in recipient))
    if domains:
        walk.key, walk.values = 'destination COLLATE "C"', domains
    if recipient:
        walk.rest.append('lower(recipient COLLATE "C") = ANY (%(recipient)s)')
    if search.bounce_class:
        walk.rest.append("class = ANY (%(class)s)")
    if search.sender:
        walk.most = WALK_SENDERS
        walk.rest.append(
            f"""id = ANY (ARRAY(
                SELECT k FROM messages m, jsonb_object_keys(m.recipients) AS k
                WHERE m.ids && ARRAY(SELECT id FROM walked) AND {" AND ".join(_ask_sender(search))}
            ))"""  # noqa: S608
        )
    # OFFSET 0 in these: looked up for each row that is shown, never joined with a whole table.
    walk.rest.append("NOT EXISTS (SELECT FROM message_status s WHERE s.id = walked.id OFFSET 0)")
    return walk


def _walk_submissions(search: Search) -> Walk:
    walk = Walk("messages", "created_at", most=WALK_SUBMISSIONS)
    if search.status is not None:
        # Nobody publishes it; where it stands in a row, it is told, and nothing else is claimed.
        walk.rest.append("status <> 'routed'")
    walk.rest.append("(status <> 'deferred' OR recipients_total > 1)")
    if search.recipient and search.recipient.spellings:
        walk.rest.append("""lower((value ->> 'recipient') COLLATE "C") = ANY (%(recipient)s)""")
    domain = "lower(regexp_replace(value ->> 'recipient', '^.*@', ''))"
    walk.rest += [f"{domain} = ANY (%(destination)s)"] if search.destinations else []
    walk.rest += _ask_sender(search)
    walk.rest.append("NOT EXISTS (SELECT FROM delivery_attempts d WHERE d.id = key OFFSET 0)")
    walk.rest.append("NOT EXISTS (SELECT FROM message_status s WHERE s.id = key OFFSET 0)")
    return walk


def _ask_sender(search: Search) -> list[str]:
    named = search.sender is not None and search.sender.spellings
    return ['lower(sender COLLATE "C") = ANY (%(sender)s)'] if named else _ask_sender_domain(search)


def _ask_sender_domain(search: Search) -> list[str]:
    """No index knows it: most senders share few domains, so the walk along something else soon has a page."""
    named = search.sender is not None and search.sender.domain
    return ["""lower(regexp_replace(sender, '^.*@', '')) = ANY (%(sender_domain)s)"""] if named else []


# One moment for all tables: a mail that moves from one to another meanwhile is in exactly one of them. And the index that was chosen is
# taken, also where a scan of the whole table looks nearly as good.
_BEGIN = b"""
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
    SET LOCAL enable_seqscan = off;
    SET LOCAL random_page_cost = 1.1
"""


# Statements are put together from the texts of this file alone; whatever was asked is a parameter.


async def _go(connection: Connection, search: Search, walk: Walk, value: str) -> tuple[list[Found], Place | None]:
    """Mails found on one walk, newest first, one more than the limit at most; and where it stopped before its end."""
    # A bitmap would gather all rows of a key to sort them. The index of ids in messages is nothing without one.
    bitmaps = (
        b"SET LOCAL enable_bitmapscan = off" if walk.table.startswith("message_status") else b"SET LOCAL enable_bitmapscan = on"
    )
    await connection.execute(bitmaps)
    values = _render_values(search) | {"key": [value], "wanted": search.limit + 1, "most": walk.most, "last": walk.most - 1}
    inner = _render_walk(search, walk)
    conditions = " AND ".join(walk.rest) or "true"
    if walk.table == "messages":
        # With ties: a second is looked at as a whole, because ids come from inside the rows.
        query = f"""
            SELECT walked.created_at AS moment, key AS id
            FROM ({inner} FETCH FIRST %(most)s ROWS WITH TIES) AS walked, jsonb_each(recipients) AS each (key, value)
            WHERE {_render_below("created_at", "key", search)} AND {conditions}
            ORDER BY walked.created_at DESC, key COLLATE "C" DESC LIMIT %(wanted)s
        """  # noqa: S608
    else:
        # Not sorted again: whatever filters a walk keeps its order, and sorting would need all of it.
        query = f"""
            WITH walked AS ({inner} LIMIT %(most)s)
            SELECT *, {walk.moment} AS moment FROM walked WHERE {conditions} LIMIT %(wanted)s
        """  # noqa: S608
    found = [Found((row["moment"], row["id"]), walk.table, row) for row in await _fetch(connection, query, values)]
    if len(found) > search.limit or (not walk.rest and walk.most > search.limit):
        return found, None
    stopped = await _fetch(connection, f"{inner} OFFSET %(last)s LIMIT 1", values)
    return found, (stopped[0][walk.moment], stopped[0].get("id", "")) if stopped else None


def _render_walk(search: Search, walk: Walk) -> str:
    """The statement that walks, without its limit."""
    ident = "" if walk.table == "messages" else "id"
    # ANY and the key in the order, though it is always the same: so no other index gives this order.
    conditions = [f"{walk.key} = ANY (%(key)s)"] if walk.key else []
    conditions += [*walk.where, _render_below(walk.moment, ident, search), f"{walk.moment} >= %(since)s"]
    if search.until is not None:
        conditions.append(f"{walk.moment} < %(until)s")
    order = [walk.key, walk.moment, ident and f'{ident} COLLATE "C"']
    return f"""
        SELECT * FROM {walk.table} WHERE {" AND ".join(conditions)}
        ORDER BY {", ".join(f"{column} DESC" for column in order if column)}
    """  # noqa: S608


def _render_below(moment: str, ident: str, search: Search) -> str:
    """Condition: what comes after the last page."""
    if search.after is None:
        return "true"
    if not ident:
        return f"{moment} {'<=' if search.after[1] else '<'} %(moment)s"
    return f"""{moment} <= %(moment)s AND ({moment} < %(moment)s OR {ident} COLLATE "C" < %(id)s)"""


def _render_values(search: Search) -> dict[str, Any]:
    recipient, sender = search.recipient or Party(), search.sender or Party()
    moment, ident = search.after or (0, "")
    return {
        "recipient": list(recipient.spellings),
        "sender": list(sender.spellings),
        "sender_domain": list(sender.domain),
        "destination": list(search.destinations),
        "class": [search.bounce_class],
        "since": search.since,
        "until": search.until,
        "moment": moment,
        "id": ident,
    }


async def _render_page(connection: Connection, search: Search, found: list[Found], stops: list[Place]) -> Page:
    """The first ``limit`` of what was found, down to where the first walk stopped."""
    end = max(stops, default=None)
    seen = sorted((one for one in found if end is None or one.place >= end), key=lambda one: one.place, reverse=True)
    shown = seen[: search.limit]
    under_way = [one.row["id"] for one in shown if one.table in ("messages", "delivery_attempts")]
    documents = {}
    if under_way:
        await connection.execute(b"SET LOCAL enable_bitmapscan = on")
        documents = await fetch_under_way(connection, under_way)
    following = shown[-1].place if len(seen) > search.limit else end
    # Each row as it is: a mail whose last result came after it was archived stands in two tables, at two places.
    told = [render_final(one.row) if one.table.startswith("message_status") else documents.get(one.row["id"]) for one in shown]
    messages = [document for document in told if document is not None]
    return Page(messages, render_cursor(following) if following else None)


async def _fetch(connection: Connection, query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        # Planned for these values: a plan for any value takes other indexes.
        await cursor.execute(query.encode(), values, prepare=False)
        return await cursor.fetchall()
