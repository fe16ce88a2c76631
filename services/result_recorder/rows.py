"""Records that came together, merged: at most one row per key, because Postgres takes a key only once in an INSERT. Pure."""

from collections.abc import Iterable

import orjson

from services.result_recorder.handler import Record
from shared.storage.records import AttemptRow, Rows, StatusRow, SubmissionRow


def gather(records: Iterable[Record]) -> Rows:
    """One set of rows. The same rules as in Postgres: delivered outranks failed, the first of two equal attempts stays."""
    submissions: dict[str, SubmissionRow] = {}
    attempts: dict[tuple[str, int], AttemptRow] = {}
    statuses: dict[str, StatusRow] = {}
    kept: set[str] = set()
    whole: set[str] = set()
    """Submissions all of whose recipients are final here."""
    for record in records:
        if record.submission is not None:
            known = submissions.get(record.transaction)
            submissions[record.transaction] = _merge_submissions(known, record.submission) if known else record.submission
        for attempt in record.attempts:
            attempts.setdefault((attempt.id, attempt.attempt), attempt)
        if record.status is not None:
            verdict = statuses.get(record.id)
            statuses[record.id] = _merge_statuses(verdict, record.status) if verdict else record.status
        if record.kept:
            kept.add(record.kept)
        if record.status is not None and record.recipients_total == 1:
            # Accepted and final in one batch, without anything in the message store: its row would go at once.
            whole.add(record.transaction)
    under_way = [row for row in submissions.values() if row.transaction not in whole or row.datafile is not None]
    return Rows(under_way, _with_one_due(attempts), list(statuses.values()), kept)


def _merge_submissions(one: SubmissionRow, other: SubmissionRow) -> SubmissionRow:
    if one.recipients == other.recipients and one.status == other.status and one.datafile == other.datafile:
        return one
    ids = dict.fromkeys([*orjson.loads(one.ids), *orjson.loads(other.ids)])
    return one._replace(
        recipients=orjson.dumps(orjson.loads(one.recipients) | orjson.loads(other.recipients)).decode(),
        recipients_total=max(one.recipients_total, other.recipients_total),
        ids=orjson.dumps(list(ids)).decode(),
        status=max(one.status, other.status, key=("accepted", "routed", "deferred", "final").index),
        datafile=one.datafile or other.datafile,
        keepmime=max(one.keepmime, other.keepmime),
    )


def _merge_statuses(one: StatusRow, other: StatusRow) -> StatusRow:
    if one == other:
        return one
    better, worse = (other, one) if one.status == "failed" and other.status == "delivered" else (one, other)
    reports = {report["attempt"]: report for report in orjson.loads(worse.results)}
    reports |= {report["attempt"]: report for report in orjson.loads(better.results)}
    results = orjson.dumps([reports[number] for number in sorted(reports)]).decode()
    return better._replace(results=results, accepted_at=other.accepted_at if one.accepted_at is None else one.accepted_at)


def _with_one_due(attempts: dict[tuple[str, int], AttemptRow]) -> list[AttemptRow]:
    """Only the newest attempt of a mail says when the next one is due."""
    newest: dict[str, int] = {}
    for ident, number in attempts:
        newest[ident] = max(number, newest.get(ident, 0))
    return [
        row if row.next_attempt_at is None or row.attempt == newest[row.id] else row._replace(next_attempt_at=None)
        for row in attempts.values()
    ]
