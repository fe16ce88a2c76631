"""One pipeline for all clients."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.places import ROOT, free_ports, make_short_folder
from deploy.stack.stack import mailwarren
from tests.pipeline.clients.line import HOSTNAME, PASSWORD, SERVICES, USER, Line
from tests.stack import Stack
from tests.support.background import Background
from tests.support.certificates import Kind, make_certificates
from tests.support.mx import ScriptedMx


@pytest.fixture(scope="package")
def folder() -> Iterator[Path]:
    """A folder that other users may enter, which those of pytest are not."""
    made = make_short_folder()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="package")
def line(servers: Stack, database_template: str, folder: Path) -> Iterator[Line]:
    """The processes from smtp-inbox and json-inbox to result-recorder, on the shared servers."""
    certificates = make_certificates(folder / "certificates")
    port, smtps_port, submission_port = free_ports(3)
    name = f"clients_{uuid.uuid4().hex[:12]}"
    with Background() as background:
        sink = background.enter(ScriptedMx(folder / "ledger"))
        settings = {
            "RABBITMQ_ADDRESS": servers.rabbitmq.create_vhost(name),
            "RABBITMQ_API": servers.rabbitmq.api,
            "DB_URI": servers.postgres.create_database(name, template=database_template),
            "SMTP_SINK_ADDRESS": sink.address,
            "INBOUND_SMTP_LISTEN": ",".join(
                (f"relay://127.0.0.1:{port}", f"smtps://127.0.0.1:{smtps_port}", f"submission://127.0.0.1:{submission_port}")
            ),
            "INBOUND_SMTP_AUTH": str(add_user(folder / "users")),
            "INBOUND_SMTP_AUTH_DELAY": "0",
            "INBOUND_SMTP_PUBLIC_HOSTNAME": HOSTNAME,
            "INBOUND_SMTP_TLS": "true",
            "INBOUND_SMTP_TLS_PUBLIC_KEY": str(certificates.certificate(Kind.GOOD)),
            "INBOUND_SMTP_TLS_PRIVATE_KEY": str(certificates.key(Kind.GOOD)),
        }
        with Stack(settings, services=SERVICES) as stack:
            yield Line(stack, sink.ledger, certificates, port, smtps_port, submission_port)
    servers.rabbitmq.drop_vhost(name)
    servers.postgres.drop_database(name)


def add_user(file: Path) -> Path:
    """A users file with ``USER``, made as an operator makes it."""
    subprocess.run(mailwarren("users", "add", USER, "--file", str(file)), input=f"{PASSWORD}\n", text=True, check=True, cwd=ROOT)
    return file
