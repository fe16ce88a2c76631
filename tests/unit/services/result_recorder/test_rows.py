"""Records that came together."""

import orjson

from services.result_recorder.handler import Record, parse_frame
from services.result_recorder.rows import gather
from shared.amqp.frame import Frame
from tests.support.record_frames import SEEN_UNIX, accepted, failure, make_mail, make_result, refused, retry, success


def parse(*frames: Frame) -> list[Record]:
    return [record for frame in frames for record in parse_frame(frame, now=SEEN_UNIX)[0]]


def test_recipients_of_one_submission_share_a_row() -> None:
    first = make_mail("a@example.net", recipients_total=2)
    first["key"] = f"v1/2026/11/23/{first['transaction']}"
    second = make_mail("b@example.net", recipients_total=2, transaction=first["transaction"])
    rows = gather(parse(accepted(second), accepted(first), accepted(second)))
    (row,) = rows.submissions
    assert {entry["recipient"] for entry in orjson.loads(row.recipients).values()} == {"a@example.net", "b@example.net"}
    assert {first["id"], second["id"]} < set(orjson.loads(row.ids))
    assert row.datafile == first["key"]


def test_a_late_accepted_does_not_lower_deferred() -> None:
    mail = make_mail()
    for frames in ((accepted(mail), retry(mail, refused())), (retry(mail, refused()), accepted(mail))):
        (row,) = gather(parse(*frames)).submissions
        assert row.status == "deferred"


def test_an_attempt_told_twice_is_one_row_and_one_is_due() -> None:
    mail = make_mail()
    rows = gather(parse(retry(mail, refused(1)), retry(mail, refused(1), refused(2)), retry(mail, refused(1))))
    assert [(row.attempt, row.next_attempt_at is None) for row in rows.attempts] == [(1, True), (2, False)]


def test_delivered_outranks_failed_in_any_order_and_attempts_are_united() -> None:
    mail = make_mail()
    good, bad = success(mail, refused(1), make_result(2)), failure(mail, refused(1), refused(2), refused(3))
    for frames in ((good, bad), (bad, good)):
        (row,) = gather(parse(*frames)).statuses
        assert row.status == "delivered"
        told = [(report["attempt"], report["result"]) for report in orjson.loads(row.results)]
        assert told == [(1, "error"), (2, "accepted"), (3, "error")]


def test_payloads_to_keep_are_gathered() -> None:
    mail = make_mail(keepmime=True)
    mail["key"] = f"v1/2026/11/23/{mail['transaction']}"
    assert gather(parse(accepted(mail), success(mail))).kept == {mail["key"]}
