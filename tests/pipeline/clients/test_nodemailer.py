"""nodemailer, the mail client of Node's programs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.peers.contents import BODIES, render
from tests.pipeline.clients.line import SENDER, Line, fresh
from tests.support.node_programs import run_node

SCRIPT = Path(__file__).resolve().parents[2] / "support" / "node" / "send.mjs"


def send(line: Line, folder: Path, mails: Sequence[Mapping[str, Any]], **transport: Any) -> list[dict[str, Any]]:
    """Send mails, all at once; what nodemailer says of each."""
    options = {"host": line.host, "port": line.port, "name": "client.example", "tls": {"ca": Path(line.ca).read_text()}}
    job = {"transport": {**options, **transport}, "mails": mails}
    told: list[dict[str, Any]] = orjson.loads(run_node(SCRIPT, folder, stdin=orjson.dumps(job).decode()))
    return told


def render_raw(recipient: str, content: bytes) -> dict[str, Any]:
    """A mail whose content nodemailer takes as it is."""
    return {"envelope": {"from": SENDER, "to": [recipient]}, "raw": {"base64": base64.b64encode(content).decode()}}


def compose(*recipients: str, **more: Any) -> dict[str, Any]:
    """A mail that nodemailer composes, the same each time."""
    return {
        "from": {"name": "Zoë", "address": SENDER},
        "to": list(recipients),
        "subject": "Grüße aus Köln",
        "text": ".\n..\nGrüße\n" + "x" * 1200 + "\n",
        "html": '<p>Grüße <img src="cid:logo"></p>',
        "date": "2026-03-01T12:00:00Z",
        "messageId": f"<{recipients[0].encode().hex()}@shop.example>",
        "baseBoundary": "b",
        "newline": "windows",
        **more,
    }


def content_of(told: Mapping[str, Any]) -> bytes:
    """What was sent."""
    return base64.b64decode(told["composed"])


def test_bodies(line: Line, tmp_path: Path) -> None:
    sent = {fresh(): render(name, body) for name, body in BODIES.items()}
    told = send(line, tmp_path, [render_raw(recipient, content) for recipient, content in sent.items()], pool=True)
    assert [one["rejected"] for one in told] == [[]] * len(sent)
    line.check_bytes({to: content if content.endswith(b"\r\n") else content + b"\r\n" for to, content in sent.items()})


def test_attachments(line: Line, tmp_path: Path) -> None:
    recipients = [fresh() for _ in range(3)]
    photo = {"base64": base64.b64encode(bytes(range(256)) * 400).decode()}
    attachments = [
        {"filename": "Köln.bin", "content": photo},
        {"filename": "logo.png", "content": photo, "cid": "logo", "contentType": "image/png"},
        {"filename": "notes.txt", "content": "a\n.\nb\n"},
    ]
    [told] = send(line, tmp_path, [compose(*recipients, attachments=attachments)])
    assert (told["accepted"], told["response"][:9]) == (recipients, "250-2.0.0")
    arrived = line.check_bytes(dict.fromkeys(recipients, content_of(told)))
    assert {one.row["subject"] for one in arrived.values()} == {"Grüße aus Köln"}


def test_smtputf8(line: Line, tmp_path: Path) -> None:
    recipient = fresh("ok+jürgen")
    [told] = send(line, tmp_path, [compose(recipient, envelope={"from": "zoë@shop.example", "to": [recipient]})])
    assert told.get("accepted") == [recipient], told
    arrived = line.check_bytes({recipient: content_of(told)})[recipient]
    assert arrived.mail.reverse_path == "zoë@shop.example"
    assert "SMTPUTF8" in arrived.mail.mail_parameters


def test_pool(line: Line, tmp_path: Path) -> None:
    recipients = [fresh() for _ in range(40)]
    line.take_results()
    told = send(line, tmp_path, [compose(to) for to in recipients], pool=True, maxConnections=4, maxMessages=5)
    line.check_bytes({recipient: content_of(one) for recipient, one in zip(recipients, told, strict=True)})
    results = line.take_results()
    ports = [results[recipient]["connection"]["remote-port"] for recipient in recipients]
    assert len(set(ports)) == 8, "five mails over each connection"
    assert max(map(ports.count, ports)) == 5


@pytest.mark.parametrize("is_implicit", [False, True], ids=["STARTTLS", "TLS from the first octet"])
def test_tls(line: Line, tmp_path: Path, *, is_implicit: bool) -> None:
    recipient = fresh()
    options = {"secure": True, "port": line.smtps_port} if is_implicit else {"requireTLS": True}
    [told] = send(line, tmp_path, [compose(recipient)], **options)
    assert "with ESMTPS id" in line.check_bytes({recipient: content_of(told)})[recipient].received


def test_dsn(line: Line, tmp_path: Path) -> None:
    recipient = fresh()
    dsn = {"id": "order+4711", "return": "headers", "notify": ["success", "failure"], "recipient": "someone@old.example"}
    [told] = send(line, tmp_path, [compose(recipient, dsn=dsn)])
    mail = line.check_bytes({recipient: content_of(told)})[recipient].mail
    assert (mail.mail_parameters["RET"], mail.mail_parameters["ENVID"]) == ("HDRS", "order+2B4711")
    assert mail.rcpt_parameters == {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;someone@old.example"}


def test_a_refused_recipient_among_good_ones(line: Line, tmp_path: Path) -> None:
    good, refused = fresh(), "x@[300.1.1.1]"
    [told] = send(line, tmp_path, [compose(good, envelope={"from": SENDER, "to": [good, refused]})])
    assert (told["accepted"], told["rejected"]) == ([good], [refused])
    line.check_bytes({good: content_of(told)})
