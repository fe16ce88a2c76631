"""What a client says stays inside of one line of the log, and makes no labels of metrics."""

import json
from collections.abc import Iterable
from urllib.parse import quote

import pytest

from tests.integration.attacks.targets import Target
from tests.integration.json_inbox_process import Inbox as Web
from tests.integration.json_inbox_process import message
from tests.integration.smtp_inbox_process import CONTENT
from tests.support.waiting import wait_until

FORGED = '{"event":"forged","level":"info"}'
EVIL = ["\r\n", "\n", "\r", "\x1b[2J\x1b[31m", "\x07", "\0", "\x85", "\u2028", "\\n", "%0d%0a", '"', '","event":"forged","x":"']


def check_log(log: str) -> None:
    """Every line is one of ours: JSON with its fixed members, with no control character of ASCII."""
    lines = log.removesuffix("\n").split("\n")
    assert lines
    for line in lines:
        entry = json.loads(line)
        assert {"event", "level", "timestamp", "service"} <= set(entry)
        assert entry["event"] != "forged"
        assert not [octet for octet in line if octet < " " or "\x7f" <= octet <= "\x9f" or octet in "\u2028\u2029"]


def labels_of(page: str) -> set[str]:
    """The names and labels of all metrics."""
    return {line.rpartition(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}


def commands(evil: str) -> Iterable[str]:
    for text in (f"x{evil}{FORGED}", f"{evil}{FORGED}{evil}"):
        yield f"EHLO {text}"
        yield f"{text} x"
        yield f"MAIL FROM:<{text}@example.com> SMTPUTF8"
        yield f'MAIL FROM:<"{text}"@example.com> SMTPUTF8'
        yield f"MAIL FROM:<a@{text}.example> {text}=1"
        yield f"RCPT TO:<{text}@example.org>"
        yield f"AUTH {text}"
        yield f"VRFY {text}"
        yield f"BDAT {text}"


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_smtp(refusing: Target, evil: str) -> None:
    for command in commands(evil):
        with refusing.inbox.hello() as client:
            client.send(command.encode() + b"\r\n")
            assert client.reply().isprintable() or client.reply().startswith("250-")
    with refusing.secure() as client:
        assert client.ask("AUTH LOGIN").startswith("334 ")
    with refusing.inbox.hello().begin() as client:
        client.send(f"X-MQ-MaxAttempts: x{evil}{FORGED}\r\n".encode() + CONTENT + b".\r\n")
        assert client.reply()[:3] in ("550", "250")
    refusing.take()
    check_log(refusing.inbox.log())


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_http(web: Web, evil: str) -> None:
    text = f"x{evil}{FORGED}"
    body = message(tags=[text], pool=text, queues={"success": f"none{text}"[:80]}, application={text: text})
    web.http.post("/v1/messages", json=body)
    web.http.post("/v1/messages", json=message(f"{text}@example.org"))
    web.http.post("/v1/messages", json=message(), params={"partial": text})
    web.http.get("/" + quote(text))
    before = web.process.log.count('"redriven"')
    web.queues.publish({"action": text}, exchange="", key="actions")
    web.queues.publish({"action": "redrive", "dry-run": True, "reason": text}, exchange="", key="actions")
    wait_until(lambda: web.queues.count("dead") == 1)
    wait_until(lambda: web.process.log.count('"redriven"') > before)
    web.queues.take("inbox")
    check_log(web.process.log)


def test_labels_of_smtp_inbox(refusing: Target) -> None:
    def attack(word: str) -> None:
        with refusing.inbox.connect() as client:
            client.reply()
            for command in (
                f"EHLO {word}.example",
                f"{word} x",
                f"MAIL FROM:<{word}@example.com>",
                f"RCPT TO:<{word}@example.org>",
            ):
                client.ask(command)
            client.ask(f"RCPT TO:<{word}@@>")
            client.ask(f"AUTH {word}")

    for first in ("one", 'a"}', "b\\n"):
        attack(first)
    before = labels_of(refusing.inbox.fetch("/metrics")[1])
    for number in range(100):
        attack(f"word{number}")
    after = labels_of(refusing.inbox.fetch("/metrics")[1])
    assert after == before
    assert not [label for label in after if "word" in label]


def test_labels_of_json_inbox(web: Web) -> None:
    def attack(word: str) -> None:
        for method, path in (
            ("GET", f"/{word}"),
            ("GET", f"/v1/messages/{word}"),
            ("GET", f"/v1/config/{word}"),
            ("DELETE", f"/v1/config/{word}"),
            ("POST", f"/v1/messages?{word}={word}"),
            (word.upper(), "/v1/messages"),
        ):
            web.http.request(method, path, content=b"{}", headers={"User-Agent": word, "X-Word": word})

    attack("one")
    before = labels_of(web.http.get("/metrics").text)
    for number in range(30):
        attack(f"word{number}")
    # The first look at the metrics is a request itself.
    after = {label for label in labels_of(web.http.get("/metrics").text) - before if 'operation="metrics"' not in label}
    assert after == set()
