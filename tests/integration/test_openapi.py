"""json-inbox does what its openapi.json says: its examples as they stand there, and requests made from its schemas (schemathesis)."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from services.cli.__main__ import call
from services.result_recorder.recorder import Recorder
from shared.storage.database import DatabaseSettings
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables
from tests.integration.json_inbox_process import Inbox, run_inbox
from tests.stack import Stack
from tests.support.record_frames import accepted, make_mail, make_result, success
from tests.support.waiting import wait_until

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
KEY = "Idempotency-Key"
ORDER = ("post", "put", "get", "delete")
"""What is shown was made before, and what is removed is needed no more."""


@pytest.fixture(scope="module")
def inbox(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """One process for the whole module."""
    with run_inbox(servers, database_template, tmp_path_factory.mktemp("payloads")) as running:
        yield running


@pytest.fixture(scope="module")
def document(inbox: Inbox) -> dict[str, Any]:
    """openapi.json."""
    told: dict[str, Any] = inbox.http.get("/openapi.json").json()
    return told


def operations_of(document: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every call, those that add first and those that remove last."""
    calls = [(method, path, told) for path, methods in document["paths"].items() for method, told in methods.items()]
    return sorted(calls, key=lambda one: ORDER.index(one[0]))


def examples_of(described: Mapping[str, Any]) -> dict[str, Any]:
    return {title: example["value"] for title, example in described.get("examples", {}).items()}


def check_valid(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any, where: str) -> None:
    try:
        jsonschema_rs.validator_for({**schema, "components": document["components"]}).validate(value)
    except jsonschema_rs.ValidationError as error:
        raise AssertionError(f"{where}: {error}") from None


def check_answer(document: Mapping[str, Any], told: Mapping[str, Any], answer: httpx.Response, where: str) -> None:
    """Is it one of the answers that are documented?"""
    where = f"{where}: {answer.status_code} {answer.text[:300]}"
    assert str(answer.status_code) in told["responses"], where
    content = told["responses"][str(answer.status_code)].get("content", {})
    if not content:
        assert answer.content == b"", where
        return
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in content, where
    if kind.endswith("json"):
        check_valid(document, content[kind]["schema"], answer.json(), where)


def test_every_call_is_described(document: dict[str, Any]) -> None:
    summaries = Counter(told["summary"] for _, _, told in operations_of(document))
    assert set(summaries.values()) == {1}
    assert list(document["components"]["schemas"]) == ["Problem"]
    check_valid(
        document, document["components"]["schemas"]["Problem"], document["components"]["schemas"]["Problem"]["example"], ""
    )
    for method, path, told in operations_of(document):
        where = f"{method} {path}"
        assert told["description"], where
        if "security" in told:
            assert "Scope of a token: `" in told["description"], where
            assert {"401", "403", "429"} <= set(told["responses"]), where
        else:
            assert path in ("/liveness", "/readiness")
        if "requestBody" in told:
            assert {"400", "413", "415", "422", "503"} <= set(told["responses"]), where
        for kind, media in told.get("requestBody", {}).get("content", {}).items():
            assert examples_of(media), f"{where}: no example of {kind}"
            for title, value in examples_of(media).items():
                check_valid(document, media["schema"], value, f"{where} {title}")
        for code, answer in told["responses"].items():
            assert answer["description"], f"{where} {code}"
            for kind, media in answer.get("content", {}).items():
                assert "schema" in media, f"{where} {code} {kind}"
                if code < "300":
                    check_valid(document, media["schema"], media["example"], f"{where} {code} {kind}")


async def test_every_example_is_answered_as_documented(inbox: Inbox, document: dict[str, Any], tmp_path: Path) -> None:
    # A mail to look at; the others are made by the examples themselves.
    ident, message_id = examples_of(document["paths"]["/v1/messages/{ident}"]["get"]["parameters"][0]).values()
    mail = make_mail(id=ident, message_id=message_id)
    tables = RecordTables(DatabaseSettings(db_uri=inbox.database))
    await Recorder(tables, DirectoryStore(tmp_path)).handle_batch([accepted(mail), success(mail, make_result(1))])
    await tables.close()
    tried = Counter[str]()
    for method, path, told in operations_of(document):
        # One in the path is all that there is.
        named = [one for one in told.get("parameters", ()) if one["in"] == "path"]
        for name in examples_of(named[0]).values() if named else [""]:
            where = path.replace(f"{{{named[0]['name']}}}", quote(name, safe="")) if named else path
            bodies = [
                (kind, value)
                for kind, media in told.get("requestBody", {}).get("content", {}).items()
                for value in examples_of(media).values()
            ]
            for kind, value in bodies or [("", None)]:
                content = value if isinstance(value, str) else json.dumps(value)
                headers = {"Content-Type": kind} if kind else {}
                answer = inbox.http.request(method, where, content=content if kind else None, headers=headers)
                assert answer.is_success, f"{method} {where} {content}: {answer.text}"
                check_answer(document, told, answer, f"{method} {where} {content}")
                tried[f"{method} {path}"] += 1
        # Every parameter of a search alone, as its example says.
        for one in told.get("parameters", ()) if method == "get" else ():
            for value in examples_of(one).values() if one["in"] == "query" else ():
                answer = inbox.http.get(path, params={one["name"]: value})
                assert answer.is_success, f"{path} {one['name']}={value}: {answer.text}"
                check_answer(document, told, answer, f"{path} {one['name']}={value}")
    assert len(tried) == len(operations_of(document))


def ask_many(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, count: int) -> Counter[int]:
    """Requests of one call; how many got which status. Raises FailureGroup with the smallest that was not answered as documented."""
    codes: Counter[int] = Counter()
    with requests.Session() as session:

        @given(operation.as_strategy(mode))
        @settings(
            max_examples=count,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Case[Any]) -> None:
            if case.headers.get(KEY):
                # Other calls are asked with the same keys.
                case.headers[KEY] = f"{operation.path} {case.headers[KEY]}"[:255]
            answer = case.call(session=session)
            codes[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)

        ask()
    return codes


@pytest.mark.parametrize(
    ("mode", "count"),
    [(GenerationMode.POSITIVE, 20), (GenerationMode.NEGATIVE, 15)],
    ids=["by the schemas", "against the schemas"],
)
def test_whatever_is_asked_is_answered_as_documented(inbox: Inbox, mode: GenerationMode, count: int) -> None:
    api = schemathesis.openapi.from_url(f"{inbox.http.base_url}/openapi.json")
    for result in api.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and operation.method in ("get", "delete"):
            # Every text is a name, and there is nothing else to get wrong.
            continue
        codes = ask_many(operation, mode, count)
        if mode is GenerationMode.POSITIVE and operation.method == "post":
            # Not all of it ended at the door.
            assert any(200 <= code < 300 for code in codes), f"{operation.label}: {codes}"
    assert inbox.http.get("/readiness").status_code == 200
    assert "Traceback" not in inbox.process.log


def check_refused(inbox: Inbox, document: Mapping[str, Any], headers: dict[str, str], code: int) -> None:
    for method, path, told in operations_of(document):
        if "security" not in told:
            continue
        answer = inbox.http.request(method, path.replace("{name}", "x").replace("{ident}", "x"), headers=headers)
        assert answer.status_code == code, f"{method} {path}: {answer.text}"
        check_answer(document, told, answer, f"{method} {path}")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Authorization": "Bearer mw_wrong"}, 401),
        ({"Authorization": "Basic YTpi"}, 401),
        ({"X-Forwarded-For": "192.0.2.1"}, 401),
        ({"Host": "rebound.example"}, 421),
        ({"Origin": "https://elsewhere.example"}, 403),
    ],
    ids=["bad token", "no bearer", "passed on", "other host", "other origin"],
)
def test_whoever_may_not_ask_is_told_so_as_documented(
    inbox: Inbox, document: dict[str, Any], headers: dict[str, str], code: int
) -> None:
    check_refused(inbox, document, headers, code)


def test_a_token_without_the_scope_is_told_so_as_documented(
    inbox: Inbox, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["tokens", "add", "routes", "--scope", "route", "--db-uri", inbox.database]) == 0
    headers = {"Authorization": f"Bearer {capsys.readouterr().out.strip()}"}
    wait_until(lambda: inbox.http.get("/openapi.json", headers=headers).status_code == 200, what="the token to be known")
    check_refused(inbox, document, headers, 403)
