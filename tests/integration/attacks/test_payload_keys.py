"""Keys of the message store that clients name: nobody reads, sends or overwrites what is not his."""

import pytest

from tests.integration.attacks.targets import Target
from tests.integration.json_inbox_process import Inbox as Web
from tests.integration.smtp_inbox_process import CONTENT

KEYS = [
    "", "v1/2026/01/01/x", "/etc/passwd", "../../../../etc/passwd", "mine", "mine/", "mine/..", "mine/../v1/x", "mine/./x", "mine//x",
    "mine/a/../../v1/x", "mine/..%2fv1", "mine\\..\\v1", "MINE/x", " mine/x", "mine/x\0", "mine/x\n", "mine/\u2025/x", "mine/" + "x" * 5000,
    "file:///etc/passwd", "http://169.254.169.254/", "s3://bucket/mine/x", "mine/~", "mine/.tmp",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_over_http(web: Web, key: str) -> None:
    """``client-key-prefix`` is mine/ here."""
    answer = web.http.post("/v1/messages", json={"recipient": "b@example.org", "key": key})
    if answer.status_code == 202:
        (got,) = web.queues.take("inbox")
        assert got.document["key"] == key
        assert key.startswith("mine/")
        assert ".." not in key.split("/")
        assert not {"", "."} & set(key.split("/"))
        assert key.isascii()
        return
    assert (answer.status_code, answer.json()["field"]) == (422, "key")
    assert web.queues.take("inbox") == []


@pytest.mark.parametrize("name", ["id", "size", "results", "received", "hostname", "connection", "http", "extracted"])
def test_what_only_we_write_is_dropped(web: Web, name: str) -> None:
    body = {"recipient": "b@example.org", "mime": CONTENT.decode(), name: "forged"}
    assert web.http.post("/v1/messages", json=body).status_code == 202
    (got,) = web.queues.take("inbox")
    assert got.document.get(name) != "forged"


@pytest.mark.parametrize("name", ["Key", "Mime", "Mime64", "Id", "Results", "Recipient", "Connection", "Http", "Received"])
def test_over_smtp(refusing: Target, name: str) -> None:
    with refusing.inbox.hello().begin() as client:
        client.send(f"X-MQ-{name}: v1/somebody/elses\r\n".encode() + CONTENT + b".\r\n")
        assert client.reply() == f"550 5.5.2 X-MQ-{name}: not a header that sets a property"
    assert refusing.take() == []
