"""swaks, the Swiss army knife for SMTP."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.peers.contents import BODIES, render
from tests.pipeline.clients.line import SENDER, Line, fresh, run_client

_SENT = re.compile(r"^ (?:->|~>) ?(.*)$")
WHOLE = set(BODIES) - {
    "dots",  # a dot alone in the last line is the end for swaks: see test_what_swaks_composes
    "large",  # has the two characters \n, a line end for swaks
}


def swaks(line: Line, recipient: str, *options: str) -> str:
    """Send a mail; its transcript."""
    server = ("--server", line.host, "--port", str(line.port))
    usual = ("--helo", "client.example", "--from", SENDER, "--to", recipient)
    return run_client(["swaks", *server, *usual, *options])


def read_content(transcript: str) -> bytes:
    """What swaks says that it sent after DATA, its dots unstuffed."""
    lines = [found[1] for text in transcript.split("\n") if (found := _SENT.match(text.removesuffix("\r")))]
    content = lines[lines.index("DATA") + 1 : lines.index(".")]
    unstuffed = (text.removeprefix(".") for text in content)
    return "".join(f"{text}\r\n" for text in unstuffed).encode(errors="surrogateescape")


def test_bodies(line: Line, tmp_path: Path) -> None:
    sent = {}
    for name in sorted(WHOLE):
        recipient, content = fresh(), render(name, BODIES[name])
        (tmp_path / name).write_bytes(content)
        said = swaks(line, recipient, "--data", f"@{tmp_path / name}")
        sent[recipient] = content + b"\r\n"  # it ends a line before its dot, also where one has just ended
        assert read_content(said) == sent[recipient]
    line.check_bytes(sent)


def test_content_that_swaks_leaves_alone(line: Line, tmp_path: Path) -> None:
    recipient, content = fresh(), render("dots", BODIES["dots"])
    (tmp_path / "stuffed").write_bytes(content.replace(b"\r\n.", b"\r\n..") + b".")
    swaks(line, recipient, "--no-data-fixup", "--data", f"@{tmp_path / 'stuffed'}")
    line.check_bytes({recipient: content})


def test_what_swaks_composes(line: Line, tmp_path: Path) -> None:
    recipient = fresh()
    (tmp_path / "photo.bin").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "text").write_text(".\n..\n.x\nGrüße\n" + "." * 900 + "\n")
    said = swaks(
        line, recipient, "--header", "Subject: Grüße", "--body", f"@{tmp_path / 'text'}",
        "--attach-type", "image/png", "--attach-name", "photo.bin", "--attach", f"@{tmp_path / 'photo.bin'}",
    )  # fmt: skip
    content = read_content(said)
    assert b"\r\n.\r\n..\r\n.x\r\n" in content
    assert b'filename="photo.bin"' in content
    line.check_bytes({recipient: content})


@pytest.mark.parametrize(
    ("protocol", "word"), [("SMTP", "SMTP"), ("ESMTP", "ESMTP"), ("ESMTPS", "ESMTPS"), ("SSMTP", "ESMTPS")], ids=str
)
def test_protocols(line: Line, protocol: str, word: str) -> None:
    recipient = fresh()
    port = line.smtps_port if protocol == "SSMTP" else line.port
    said = swaks(line, recipient, "--protocol", protocol, "--port", str(port))
    assert f" with {word} id " in line.check_bytes({recipient: read_content(said)})[recipient].received


def test_tls_verified(line: Line) -> None:
    recipient = fresh()
    said = swaks(line, recipient, "--tls", "--tls-verify", "--tls-ca-path", line.ca)
    assert "=== TLS started with cipher TLSv1.3" in said
    line.check_bytes({recipient: read_content(said)})


def test_pipelining_and_several_recipients(line: Line) -> None:
    recipients = [fresh() for _ in range(10)]
    said = swaks(line, ",".join(recipients), "--pipeline")
    assert re.search(r"MAIL FROM.*\n(.*-> RCPT TO.*\n){10}.*-> DATA", said), "the commands of a mail go out in one group"
    line.check_bytes(dict.fromkeys(recipients, read_content(said)))
