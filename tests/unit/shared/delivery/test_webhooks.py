"""What an endpoint may say, and its signature."""

from __future__ import annotations

from typing import Any

import pytest

from shared.delivery.webhooks import make_secret, parse_endpoint, sign

GIVEN: dict[str, Any] = {"name": "shop", "url": "https://shop.example/hook?k=1"}


def test_what_is_not_said() -> None:
    endpoint = parse_endpoint(GIVEN)
    assert endpoint.events == {"delivered", "failed"}
    assert (endpoint.tags, endpoint.secret, endpoint.is_enabled) == (frozenset(), "", None)
    assert parse_endpoint({"name": "shop", **endpoint.document}) == endpoint


def test_who_wants_what() -> None:
    every, tagged = parse_endpoint(GIVEN), parse_endpoint(GIVEN | {"events": ["failed"], "tags": ["a", "b"]})
    assert every.wants("delivered", ())
    assert not every.wants("deferred", ())
    assert tagged.wants("failed", ["x", "b"])
    assert not tagged.wants("failed", ["x", 7, ["a"]])
    assert not tagged.wants("delivered", ["a"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": None}, "name"),
        ({"url": None}, "url"),
        ({"url": "ftp://shop.example/"}, "url"),
        ({"url": "https:///x"}, "url"),
        ({"url": "https://user@shop.example/"}, "url"),
        ({"url": "https://user:pw@shop.example/"}, "url"),
        ({"url": "https://shop.example/#x"}, "url"),
        ({"url": "https://shop.example/#"}, "url"),
        ({"url": "https://shop.example:0/"}, "url"),
        ({"url": "https://shop.example:99999/"}, "url"),
        ({"url": "https://shop.example\\@evil.example/"}, "url"),
        ({"url": "https://shop.example/\r\nX: y"}, "url"),
        ({"url": "https://shop.example/ x"}, "url"),
        ({"url": "https://sh\u00f6p.example/"}, "url"),
        ({"url": "https://[::1/"}, "url"),
        ({"url": "https://shop.example/" + "x" * 2000}, "url"),
        ({"events": []}, "events"),
        ({"events": "failed"}, "events"),
        ({"events": ["opened"]}, "events"),
        ({"events": [["failed"]]}, "events"),
        ({"tags": [7]}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": ["a\0b"]}, "tags"),
        ({"tags": ["x"] * 101}, "tags"),
        ({"enabled": 1}, "enabled"),
        ({"secret": "hunter2"}, "secret"),
        ({"secret": "whsec_hunter2"}, "secret"),
        ({"secret": "whsec_" + "QUJD" * 7}, "secret"),
        ({"secret": "whsec_" + "QUJD" * 22}, "secret"),
        ({"failing_since": "yesterday"}, "failing_since"),
    ],
)
def test_what_is_wrong_is_told_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: ") as told:
        parse_endpoint(GIVEN | change)
    assert "hunter2" not in str(told.value)
    assert "pw" not in str(told.value)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """Computed with openssl: printf 'msg_1.1614265330.{"a":1}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:… -binary | base64."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert sign(secret, "msg_1", 1614265330, b'{"a":1}') == "v1,8WmO9OATkSvjxs+eEJolmK2V9ge32ryGE0kSd4GZiDY="


def test_secrets_are_never_shown_by_accident() -> None:
    secret = make_secret()
    assert parse_endpoint(GIVEN | {"secret": secret}).secret == secret
    assert secret not in repr(parse_endpoint(GIVEN | {"secret": secret}))
    assert make_secret() != secret
