"""Problem documents (RFC 9457)."""

import orjson

from services.json_inbox.problems import Problem, unavailable


def test_the_document() -> None:
    answer = Problem(422, "recipient: missing", field="recipient", more={"errors": [{"index": 0}]}).render()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert orjson.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "recipient: missing",
        "field": "recipient",
        "errors": [{"index": 0}],
    }


def test_when_to_come_back() -> None:
    answer = unavailable("not now").render()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
