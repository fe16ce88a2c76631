"""Who may talk to the HTTP interface, and do what."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.json_inbox.access import ALL, Access, Caller
from services.json_inbox.guesses import BURST
from services.json_inbox.problems import Problem
from services.json_inbox.scopes import find_scope
from services.json_inbox.settings import ServiceSettings
from services.json_inbox.tokens import TokenBook
from shared.storage.tokens import SCOPES, digest_token, make_token
from shared.trouble import Unavailable

FAR, HERE = "192.0.2.7", "127.0.0.1"
SENDER, READER, OLD = make_token(), make_token(), make_token()


@pytest.fixture
def book(tmp_path: Path) -> TokenBook:
    """Three tokens, one of them expired, and a row that somebody broke."""
    book = TokenBook(ServiceSettings(tokens_snapshot=tmp_path / "tokens.json"))
    book.take(
        [
            {"name": "sender", "digest": digest_token(SENDER), "scopes": ["send", "route"]},
            {"name": "reader", "digest": digest_token(READER), "scopes": ["read"], "expires": "2999-01-01 00:00:00"},
            {"name": "old", "digest": digest_token(OLD), "scopes": ["send"], "expires": "2020-01-01 00:00:00"},
            {"name": "broken", "digest": "secret", "scopes": ["send"]},
        ]
    )
    return book


@pytest.fixture
def access(book: TokenBook) -> Access:
    """With these tokens."""
    return Access(book, always=False)


def scope(peer: str | None, call: str = "POST /v1/messages", **headers: str) -> dict[str, Any]:
    method, _, path = call.partition(" ")
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"method": method, "path": path, "client": (peer, 50000) if peer else None, "headers": raw}


def bearer(token: str) -> str:
    return f"Bearer {token}"


@pytest.mark.parametrize("peer", [HERE, "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8100", "localhost", "LOCALHOST:1", "[::1]:8100", "127.8.9.1"])
def test_a_local_request_may_do_all(access: Access, peer: str, host: str) -> None:
    assert access.admit(scope(peer, host=host)) == Caller(peer, None, ALL)
    assert access.admit(scope(peer, host=host, origin=f"http://{host}")) == Caller(peer, None, ALL)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "rebound.example:8100"}, 421),
        ({"host": "192.0.2.1"}, 421),
        ({"host": "127.0.0.1.example"}, 421),
        ({"host": "127.0.0.1:8100", "origin": "https://evil.example"}, 403),
        ({"host": "127.0.0.1:8100", "origin": "http://127.0.0.1:9999"}, 403),
        ({"host": "127.0.0.1:8100", "origin": "null"}, 403),
        ({"host": "localhost", "x_forwarded_for": "127.0.0.1"}, 401),
        ({"host": "localhost", "forwarded": "for=127.0.0.1"}, 401),
        ({"host": "localhost", "via": "1.1 proxy"}, 401),
        ({"host": "localhost", "x_real_ip": "127.0.0.1"}, 401),
    ],
)
def test_a_web_page_and_a_proxy_are_not_local(access: Access, headers: dict[str, str], status: int) -> None:
    with pytest.raises(Problem) as refused:
        access.admit(scope(HERE, **headers))
    assert refused.value.status == status


@pytest.mark.parametrize("peer", [FAR, "2001:db8::1", "::ffff:192.0.2.1", "10.0.0.1", None, "unix"])
@pytest.mark.parametrize("pretence", [{}, {"x_forwarded_for": "127.0.0.1"}, {"host": "localhost"}])
def test_from_elsewhere_a_token_is_needed(access: Access, peer: str | None, pretence: dict[str, str]) -> None:
    with pytest.raises(Problem) as refused:
        access.admit(scope(peer, **pretence))
    assert (refused.value.status, refused.value.field) == (401, "Authorization")
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")


def test_with_a_token_any_host_may_be_named(access: Access) -> None:
    caller = access.admit(scope(FAR, host="mail.example", authorization=bearer(SENDER)))
    assert caller == Caller(FAR, "sender", frozenset(["send", "route"]))
    assert access.admit(scope(HERE, host="mail.example", via="x", authorization=f"bearer  {SENDER} ")).token == "sender"
    with pytest.raises(Problem) as refused:
        access.admit(scope(FAR, host="mail.example", origin="https://evil.example", authorization=bearer(SENDER)))
    assert refused.value.status == 403


@pytest.mark.parametrize("peer", [FAR, HERE])
@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer x", bearer(OLD), bearer(SENDER[:-1]), bearer(SENDER + "x"), "Bearer secret"],
    ids=["empty", "bare", "blank", "basic", "unknown", "expired", "cut", "longer", "of-a-broken-row"],
)
@pytest.mark.parametrize("call", ["POST /v1/messages", "GET /metrics", "GET /openapi.json", "GET /nowhere"])
def test_a_bad_token_is_refused_everywhere(access: Access, peer: str, given: str, call: str) -> None:
    with pytest.raises(Problem) as refused:
        access.admit(scope(peer, call, host="localhost", authorization=given))
    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert SENDER not in refused.value.detail


def test_two_authorizations_are_not_one(access: Access) -> None:
    request = scope(FAR, authorization=bearer(SENDER))
    request["headers"] *= 2
    with pytest.raises(Problem) as refused:
        access.admit(request)
    assert (refused.value.status, refused.value.field) == (400, "Authorization")


def test_a_missing_scope_is_named(access: Access) -> None:
    with pytest.raises(Problem) as refused:
        access.admit(scope(FAR, authorization=bearer(READER)))
    assert refused.value.status == 403
    assert "'send'" in refused.value.detail
    assert 'scope="send"' in refused.value.headers["WWW-Authenticate"]
    assert access.admit(scope(FAR, "GET /v1/messages/x", authorization=bearer(READER))).token == "reader"


@pytest.mark.parametrize("call", ["GET /liveness", "GET /readiness", "GET /openapi.json", "GET /swagger/", "HEAD /swagger"])
def test_what_is_open_to_all(access: Access, call: str) -> None:
    assert access.admit(scope(FAR, call, host="10.0.0.3:8100")).scopes == frozenset()


def test_a_setting_asks_for_tokens_here_too(book: TokenBook) -> None:
    access = Access(book, always=True)
    with pytest.raises(Problem) as refused:
        access.admit(scope(HERE, host="localhost"))
    assert refused.value.status == 401
    assert access.admit(scope(HERE, host="localhost", authorization=bearer(SENDER))).token == "sender"
    assert access.admit(scope(HERE, "GET /liveness")).scopes == frozenset()


def test_guessing_ends_in_429(access: Access) -> None:
    access.admit(scope(FAR, authorization=bearer(SENDER)))
    statuses = []
    for number in range(BURST + 2):
        with pytest.raises(Problem) as refused:
            access.admit(scope(FAR, authorization=bearer(f"mw_{number}")))
        statuses.append(refused.value.status)
    assert statuses == [401] * BURST + [429] * 2
    assert int(refused.value.headers["Retry-After"]) > 0
    assert access.admit(scope(FAR, authorization=bearer(SENDER))).token == "sender"
    with pytest.raises(Problem) as refused:
        access.admit(scope(FAR, authorization=bearer(READER)))
    assert refused.value.status == 429
    assert access.admit(scope("192.0.2.8", "GET /metrics", authorization=bearer(READER))).token == "reader"


def test_tokens_that_were_never_seen_are_no_verdict(tmp_path: Path) -> None:
    access = Access(TokenBook(ServiceSettings(tokens_snapshot=tmp_path / "none.json")), always=False)
    with pytest.raises(Unavailable, match="the tokens were never seen"):
        access.admit(scope(FAR, authorization=bearer(SENDER)))
    assert access.admit(scope(HERE, host="localhost")).scopes == ALL


def test_the_snapshot_on_disk_keeps_digests_only(book: TokenBook, tmp_path: Path) -> None:
    text = (tmp_path / "tokens.json").read_text()
    assert SENDER not in text
    again = TokenBook(ServiceSettings(tokens_snapshot=tmp_path / "tokens.json"))
    again.restore()
    assert again.items == book.items
    found = again.find(READER, now=datetime(2998, 1, 1, tzinfo=UTC))
    assert found is not None
    assert found.expires is not None
    assert again.find(READER, now=found.expires - timedelta(seconds=1)) == found
    assert again.find(READER, now=found.expires) is None


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        ("POST /v1/messages", "send"),
        ("POST /v1/inject", "send"),
        ("POST /v1/actions", "send"),
        ("GET /v1/messages/x", "read"),
        ("GET /v1/config", "read"),
        ("HEAD /v1/config", "read"),
        ("POST /v1/config", "rules"),
        ("PUT /v1/config/x", "rules"),
        ("DELETE /v1/config/x", "rules"),
        ("POST /v1/config/test", "read"),
        ("PUT /v1/config/test", "rules"),
        ("POST /v1/suppressions", "rules"),
        ("DELETE /v1/pauses/x", "rules"),
        ("POST /v1/errors", "rules"),
        ("PUT /v1/pools/x", "rules"),
        ("POST /v1/locals", "rules"),
        ("GET /metrics", "read"),
        ("POST /v1/messages/", "rules"),
        ("POST /swagger/", "rules"),
        ("POST /whatever/comes", "rules"),
        ("GET /whatever/comes", "read"),
        ("GET /swagger/", None),
        ("GET /openapi.json", None),
    ],
)
def test_which_call_needs_which_scope(call: str, needed: str | None) -> None:
    method, _, path = call.partition(" ")
    assert find_scope(method, path) == needed
    assert needed is None or needed in SCOPES
