"""msmtp, a sendmail that has no queue: what its user's programs are told is what we told it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.peers.contents import BODIES, render
from tests.pipeline.clients.line import SENDER, Line, fresh, run_client

EX_UNAVAILABLE, EX_TEMPFAIL = 69, 75
"""sysexits.h"""


def configure(folder: Path, line: Line, **settings: str) -> Path:
    """A configuration that adds no header of its own."""
    given = {
        "host": line.host,
        "port": str(line.port),
        "domain": "client.example",
        "from": SENDER,
        "set_date_header": "off",
        "set_msgid_header": "off",
        **settings,
    }
    path = folder / "msmtprc"
    path.write_text("".join(f"{name} {value}\n" for name, value in {"account": "default", **given}.items()))
    return path


def msmtp(configuration: Path, recipients: list[str], content: bytes, *, exits: int = 0) -> str:
    """Send a mail."""
    return run_client(["msmtp", "-C", str(configuration), "--", *recipients], stdin=content, exits=exits)


def test_bodies(line: Line, tmp_path: Path) -> None:
    sent, configuration = {}, configure(tmp_path, line)
    for name, body in BODIES.items():
        recipient, content = fresh(), render(name, body)
        msmtp(configuration, [recipient], content.replace(b"\r\n", b"\n"))  # what programs give to sendmail
        sent[recipient] = content if content.endswith(b"\r\n") else content + b"\r\n"
    line.check_bytes(sent)


@pytest.mark.parametrize("starttls", ["on", "off"], ids=["STARTTLS", "TLS from the first octet"])
def test_tls(line: Line, tmp_path: Path, starttls: str) -> None:
    recipients, content = [fresh() for _ in range(3)], render("msmtp", b"sealed\r\n")
    port = line.port if starttls == "on" else line.smtps_port
    msmtp(configure(tmp_path, line, tls="on", tls_starttls=starttls, tls_trust_file=line.ca, port=str(port)), recipients, content)
    arrived = line.check_bytes(dict.fromkeys(recipients, content))
    assert all("with ESMTPS id" in one.received for one in arrived.values())


def test_refused_for_good(line: Line, tmp_path: Path) -> None:
    said = msmtp(configure(tmp_path, line), [fresh()], render("nul", b"\0\r\n"), exits=EX_UNAVAILABLE)
    assert "550 5.5.2" in said


def test_nobody_there(line: Line, tmp_path: Path) -> None:
    msmtp(configure(tmp_path, line, port="1"), [fresh()], render("nobody", b"x\r\n"), exits=EX_TEMPFAIL)
