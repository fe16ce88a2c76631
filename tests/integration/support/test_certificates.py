"""The certificates are what their names say, to a client that checks."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import pytest

from tests.support.certificates import Certificates, Kind, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For a name, a wildcard and an address."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ["mx1.good.example", "*.wild.example", "127.0.0.1"])


def shake_hands(certificates: Certificates, kind: Kind, name: str) -> str | None:
    """A handshake in memory as a client that trusts the test CA only; the TLS version. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.server_context(kind).wrap_bio(to_server, to_client, server_side=True)
    client = certificates.client_context().wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version()


@pytest.mark.parametrize("name", ["mx1.good.example", "a.wild.example", "127.0.0.1"])
def test_good_is_good_for_every_name(certificates: Certificates, name: str) -> None:
    assert shake_hands(certificates, Kind.GOOD, name) == "TLSv1.3"


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (Kind.GOOD, "other.example", "Hostname mismatch"),
        (Kind.SELF_SIGNED, "mx1.good.example", "self.signed certificate"),
        (Kind.EXPIRED, "mx1.good.example", "certificate has expired"),
        (Kind.MISMATCH, "mx1.good.example", "Hostname mismatch"),
    ],
)
def test_bad_is_bad_for_its_own_reason(certificates: Certificates, kind: Kind, name: str, reason: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        shake_hands(certificates, kind, name)


def test_mismatch_has_nothing_wrong_but_the_name(certificates: Certificates) -> None:
    assert shake_hands(certificates, Kind.MISMATCH, "wrong.name.invalid") == "TLSv1.3"


def test_a_folder_is_filled_once_and_other_names_share_the_ca(tmp_path: Path) -> None:
    first = make_certificates(tmp_path, ["a.example"])
    before = first.certificate(Kind.GOOD).read_bytes()
    again, other = make_certificates(tmp_path, ["a.example"]), make_certificates(tmp_path, ["b.example"])
    assert again.certificate(Kind.GOOD).read_bytes() == before
    assert other.certificate(Kind.GOOD) != first.certificate(Kind.GOOD)
    assert other.ca == first.ca
    assert shake_hands(first, Kind.GOOD, "a.example")
    assert shake_hands(other, Kind.GOOD, "b.example")


async def test_processes_may_ask_at_once(tmp_path: Path) -> None:
    script = (
        f"from tests.support.certificates import *; print(make_certificates({str(tmp_path)!r}, ['a.example']).ca.read_text())"
    )
    runs = [await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE) for _ in range(3)]
    outputs = {(await run.communicate())[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(outputs) == 1
    assert shake_hands(make_certificates(tmp_path, ["a.example"]), Kind.GOOD, "a.example")


def test_no_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        make_certificates(tmp_path, [])
