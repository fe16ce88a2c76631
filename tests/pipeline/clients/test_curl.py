"""curl: smtp:// and smtps://."""

from __future__ import annotations

from pathlib import Path

from tests.integration.peers.contents import BODIES, render
from tests.pipeline.clients.line import SENDER, Line, fresh, run_client


def curl(url: str, recipients: list[str], file: Path, *options: str, exits: int = 0) -> str:
    """Send a file."""
    wanted = [option for recipient in recipients for option in ("--mail-rcpt", recipient)]
    usual = ("--silent", "--show-error", "--max-time", "30", "--mail-from", SENDER)
    return run_client(["curl", *usual, *wanted, "--upload-file", str(file), *options, url], exits=exits)


def test_bodies(line: Line, tmp_path: Path) -> None:
    sent = {}
    for name, body in BODIES.items():
        recipient, content = fresh(), render(name, body)
        (tmp_path / name).write_bytes(content)
        curl(f"smtp://{line.address}/client.example", [recipient], tmp_path / name)
        sent[recipient] = content if content.endswith(b"\r\n") else content + b"\r\n"
    line.check_bytes(sent)


def test_line_ends_of_a_text_file(line: Line, tmp_path: Path) -> None:
    recipient, content = fresh(), render("lf", b"one\r\n.\r\ntwo\r\n")
    (tmp_path / "lf").write_bytes(content.replace(b"\r\n", b"\n"))
    said = curl(f"smtp://{line.address}/client.example", [recipient], tmp_path / "lf", "--verbose", exits=8)
    assert "550 5.5.2" in said, "a LF alone is refused"
    curl(f"smtp://{line.address}/client.example", [recipient], tmp_path / "lf", "--crlf")
    line.check_bytes({recipient: content})


def test_several_recipients_under_tls(line: Line, tmp_path: Path) -> None:
    recipients, content = [fresh() for _ in range(5)], render("curl", b"to all\r\n")
    (tmp_path / "mail").write_bytes(content)
    curl(f"smtp://{line.address}/client.example", recipients, tmp_path / "mail", "--ssl-reqd", "--cacert", line.ca)
    arrived = line.check_bytes(dict.fromkeys(recipients, content))
    assert all("with ESMTPS id" in one.received for one in arrived.values())
    assert len({one.row["transaction"] for one in arrived.values()}) == 1


def test_smtps(line: Line, tmp_path: Path) -> None:
    recipient, content = fresh(), render("curl", b"sealed\r\n")
    (tmp_path / "mail").write_bytes(content)
    curl(f"smtps://{line.host}:{line.smtps_port}/client.example", [recipient], tmp_path / "mail", "--cacert", line.ca)
    line.check_bytes({recipient: content})


def test_smtputf8(line: Line, tmp_path: Path) -> None:
    recipient, content = fresh("ok+jürgen"), render("curl", "Grüße\r\n".encode())
    (tmp_path / "mail").write_bytes(content)
    curl(f"smtp://{line.address}/client.example", [recipient], tmp_path / "mail")
    arrived = line.check_bytes({recipient: content})[recipient]
    assert "with UTF8SMTP id" in arrived.received


def test_a_form_with_a_file(line: Line, tmp_path: Path) -> None:
    recipient, data = fresh(), bytes(range(256)) * 4
    (tmp_path / "photo.bin").write_bytes(data)
    form = ("--form", "=Hello there;type=text/plain", "--form", f"file=@{tmp_path / 'photo.bin'};encoder=base64")
    url = f"smtp://{line.address}/client.example"
    usual = ("--silent", "--show-error", "--trace", str(tmp_path / "trace"), "--mail-from", SENDER, "--mail-rcpt", recipient)
    run_client(["curl", *usual, *form, "--header", f"From: <{SENDER}>", url])
    line.check_bytes({recipient: read_trace((tmp_path / "trace").read_text())})


def read_trace(trace: str) -> bytes:
    """The octets that curl says it sent as data."""
    octets, is_ours = bytearray(), False
    for row in trace.splitlines():
        if row.startswith(("=>", "<=", "==")):
            is_ours = row.startswith("=> Send data")
        elif is_ours:
            octets += bytes.fromhex(row[6:54])
    return bytes(octets)
