"""The command ``mailwarren`` against a real RabbitMQ and Postgres."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psycopg
import pytest

from services.cli.__main__ import call
from tests.stack import Stack
from tests.support.queues import Queues

ROOT = Path(__file__).resolve().parents[2]
TOPOLOGY = (ROOT / "topology.json").read_text()
Run = Callable[..., "Done"]


@pytest.fixture
def environment(servers: Stack, vhost: str, database: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    own = {"RABBITMQ_ADDRESS": vhost, "RABBITMQ_API": servers.rabbitmq.api, "DB_URI": database}
    return {**kept, **own, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(environment: Mapping[str, str]) -> Run:
    """``run("migrate", "--check", stdin="…", DB_URI="…")``: in this process, which is quicker; "" unsets a setting."""

    def call_here(*arguments: str, stdin: str = "", **settings: str) -> Done:
        wanted = {name: value for name, value in {**environment, **settings}.items() if value}
        out, err, given = io.StringIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO(stdin.encode()))
        with (
            mock.patch.dict(os.environ, wanted, clear=True),
            mock.patch("sys.stdin", given),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = call(arguments)
        return Done(code, out.getvalue(), err.getvalue())

    return call_here


def find_rows(database: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()


def test_amqpinit_declares_and_may_be_repeated(run: Run, vhost: str) -> None:
    for _ in range(2):
        done = run("amqpinit", vhost, stdin=TOPOLOGY)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("declared 11 exchanges, 19 queues, ")
    assert run("topology", "check").returncode == 0
    assert run("topology", "diff").stdout == ""


def test_amqpinit_is_a_program_of_its_own(environment: Mapping[str, str], vhost: str, run: Run) -> None:
    code = "from services.cli.topology import amqpinit_main; amqpinit_main()"
    command = [sys.executable, "-c", code, vhost]
    done = subprocess.run(command, input=TOPOLOGY, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert run("topology", "check").returncode == 0


def test_a_conflict_names_the_object_and_what_was_declared(run: Run, vhost: str) -> None:
    assert run("amqpinit", vhost, stdin='[{"type":"queue","name":"inbox","durable":false}]').returncode == 0
    done = run("amqpinit", vhost, stdin=TOPOLOGY)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith(
        "queue 'inbox' (line 14, column 3): it exists with other arguments: durable is false there, true wanted"
    )
    assert second.startswith("declared before it: exchange 'mailwarren', exchange 'outbox', ")
    assert second.endswith("exchange 'wait.2h'")


def test_a_wrong_file_declares_nothing(run: Run, vhost: str) -> None:
    done = run("amqpinit", vhost, stdin='[{"type":"queue","name":"a"},\n {"type":"queue","nmae":"b"}]')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mailwarren: standard input: line 2, column 18: queue: unknown key 'nmae'")
    assert done.stderr.count("\n") == 1
    assert "queue 'a'" not in run("topology", "diff").stdout


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (("guest:guest@", "http://"), 2, "mailwarren: rabbitmq-address: 'http://"),
        (("wrong:wrong@", ""), 2, "mailwarren: rabbitmq-address amqp://wrong:********@"),
        (("", "nowhere"), 1, "mailwarren: RabbitMQ does not answer at amqp://"),
    ],
)
def test_a_wrong_address_is_one_line(run: Run, vhost: str, change: tuple[str, str], code: int, told: str) -> None:
    login, rest = change
    scheme, _, host = vhost.partition("://")
    user, _, place = host.partition("@")
    address = f"{scheme}://{login or user + '@'}{place}"
    if rest == "http://":
        address = address.replace("amqp://", rest)
    elif rest:
        address = address.rpartition("/")[0] + "/" + rest
    done = run("amqpinit", address, stdin=TOPOLOGY)
    assert done.returncode == code
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


def test_check_and_diff(run: Run, vhost: str) -> None:
    missing = run("topology", "check", RABBITMQ_API="")
    assert missing.returncode == 1
    assert "missing: queue 'outbox'\n" in missing.stdout
    assert "not seen without rabbitmq-api: bindings" in missing.stdout
    run("amqpinit", vhost, stdin=TOPOLOGY)
    assert run("topology", "check", RABBITMQ_API="").returncode == 0
    run(
        "amqpinit",
        vhost,
        stdin='[{"type":"queue","name":"retry"},{"type":"binding","exchange":"mailwarren","queue":"retry","routingkey":"retries"}]',
    )
    assert run("topology", "check").returncode == 0
    differing = run("topology", "diff")
    assert differing.returncode == 1
    assert differing.stdout.splitlines() == [
        "+ binding of exchange 'mailwarren' to queue 'retry' with key 'retries'",
        "+ queue 'retry'",
    ]
    assert run("topology", "diff", RABBITMQ_API="").returncode == 2


def test_check_fails_when_results_would_be_taken_for_mail(run: Run, vhost: str) -> None:
    loop = '[{"type":"binding","exchange":"mailwarren","queue":"outbox","routingkey":"failure"}]'
    run("amqpinit", vhost, stdin=TOPOLOGY)
    run("amqpinit", vhost, stdin=loop)
    done = run("topology", "check")
    assert done.returncode == 1
    assert "rabbitmq-failure: key 'failure' leads into queue 'outbox'" in done.stdout


def test_a_users_file_completed_is_as_processes_need_it(run: Run, vhost: str, tmp_path: Path) -> None:
    users = tmp_path / "mine.json"
    users.write_text('[{"type":"queue","name":"mine"},{"type":"exchange","name":"e","exchangetype":"fanout"}]')
    whole = run("topology", "complete", str(users)).stdout
    assert run("amqpinit", vhost, stdin=whole).returncode == 0
    (tmp_path / "whole.json").write_text(whole)
    assert run("topology", "diff", str(tmp_path / "whole.json")).stdout == ""
    shown = run("topology", "show", "--broker").stdout
    assert "exchange e (fanout)\n" in shown
    assert "queue mine " in shown


def test_migrate(run: Run, empty_database: str) -> None:
    pending = run("migrate", "--check", DB_URI=empty_database)
    assert pending.returncode == 1
    assert pending.stdout.startswith("pending: ")
    assert run("migrate", DB_URI=empty_database).stdout.startswith("applied: ")
    again = run("migrate", "--check", DB_URI=empty_database)
    assert (again.returncode, again.stdout) == (0, "the database is up to date\n")


def test_rules_from_first_to_last(run: Run, database: str) -> None:
    assert run("rules", "list").stdout == "no rules: every mail goes the way of router-default\n"
    added = run("rules", "add", "clinic", "--priority", "10", "--param", "recipient_domain=clinic.example", "--outbound", "seal")
    assert (added.returncode, added.stdout) == (0, "added rule 'clinic'\n")
    assert run("rules", "test", "--to", "a@clinic.example").stdout.endswith("goes to seal: rule clinic\n")
    raw = run("rules", "list", "--raw").stdout
    assert json.loads(raw)[0]["configuration"] == {"params": {"recipient_domain": ["clinic.example"]}, "outbound": ["seal"]}
    assert run("rules", "add", "--file", "-", stdin=raw).stdout == "replaced rule 'clinic'\n"
    assert run("rules", "remove", "clinic").returncode == 0
    gone = run("rules", "remove", "clinic")
    assert (gone.returncode, gone.stderr) == (1, "no rule 'clinic'\n")
    assert find_rows(database, "SELECT name FROM delivery_configurations") == []


def test_a_list_of_rules_is_added_whole_or_not_at_all(run: Run) -> None:
    rule = {"name": "a", "priority": 1, "configuration": {"params": {}, "outbound": ["smtp"]}}
    done = run("rules", "add", "--file", "-", stdin=json.dumps([rule, {**rule, "name": ""}]))
    assert done.returncode == 2
    assert "standard input: rule 2: name: ''" in done.stderr
    assert run("rules", "list", "--raw").stdout == "[]\n"


def test_archive_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "payloads").mkdir()
    done = run("archive", "--once", "--dry-run", STORAGE_URL=f"dir://{tmp_path}/payloads")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("verdicts would be moved to the archive: 0\n")


def test_redrive(run: Run, vhost: str) -> None:
    run("amqpinit", vhost, stdin=TOPOLOGY)
    queues = Queues(vhost)
    for reason in ("one", "two", "two"):
        queues.publish(reason.encode(), key="dead", headers={"origin-queue": "records", "reason": reason, "time": "now"})
    assert run("redrive", "--dry-run").stdout.endswith("3 would be redriven\n")
    assert queues.count("dead") == 3
    assert run("redrive", "--reason", "two", "--limit", "1").stdout.splitlines() == [
        "redriven: records  now  3 bytes  two",
        "1 redriven",
    ]
    assert [got.body for got in queues.take("records")] == [b"two"]
    queues.publish(b"lost", key="dead")
    rest = run("redrive")
    assert rest.returncode == 1
    assert rest.stdout.endswith("2 redriven, 1 left\n")


def test_amqp_mail_is_an_applications(run: Run, vhost: str) -> None:
    run("amqpinit", vhost, stdin=TOPOLOGY)
    done = run(
        "send", "--via", "amqp", "--from", "me@example.com", "--to", "a@example.org", "--to", "b@example.org", "--text", "x"
    )
    assert (done.returncode, done.stderr) == (0, "")
    got = Queues(vhost).take("outbox")
    assert [one.document["recipient"] for one in got] == ["a@example.org", "b@example.org"]
    assert {one.app_id for one in got} == {None}
    assert got[0].document["message-id"] in done.stdout
    nowhere = run("send", "--via", "amqp", "--exchange", "actionz", "--to", "a@example.org", "--text", "x")
    assert nowhere.returncode == 1
    assert "no exchange 'actionz'" in nowhere.stderr
