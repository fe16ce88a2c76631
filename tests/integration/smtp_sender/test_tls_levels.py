"""All levels of ``security`` with all kinds of certificates and versions of TLS: is the mail sent, how, and what is told?"""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path

import pytest

from services.smtp_sender.session import Ending
from shared.wire.instructions import Security
from shared.wire.result import Result, State
from tests.integration.smtp_sender.peers import CONTENT, envelope, open_to, scripted, target
from tests.support.certificates import Certificates, Kind, make_certificates

OLD, NEW, NEWEST = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
RESULTS = {
    Kind.GOOD: "ok",
    Kind.SELF_SIGNED: "self-signed",
    Kind.EXPIRED: "expired at",
    Kind.MISMATCH: "issued for wrong.name.invalid, not for mx.example",
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For mx.example."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("mx.example",))


@pytest.mark.parametrize(("version", "name"), [(NEW, "TLSv1.2"), (NEWEST, "TLSv1.3")])
@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("security", list(Security))
async def test_the_table(
    tmp_path: Path, certificates: Certificates, security: Security, kind: Kind, version: ssl.TLSVersion, name: str
) -> None:
    async with scripted(tmp_path, certificates=certificates, kind=kind) as mx:
        assert mx.state.tls is not None
        mx.state.tls.minimum_version = mx.state.tls.maximum_version = version
        session = await open_to(target(mx, security=security), ca=certificates.ca)
        if security is Security.VERIFIED and kind is not Kind.GOOD:
            assert isinstance(session, Ending)
            assert (session.state, session.result) == (State.STARTTLS, Result.INVALID)
            assert RESULTS[kind] in (session.text or "")
            assert session.session is not None
            told = session.session.tls
        else:
            assert not isinstance(session, Ending)
            assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
            await session.quit()
            told = session.tls
        assert mx.state.connections == 1
    if security is Security.OPTIONAL:
        assert told == {}
        return
    cipher, certificate = told["cipher"], told["certificate"]
    assert (cipher["version"], cipher["bits"] >= 128, cipher["algbits"] >= 128, cipher["id"] > 0) == (name, True, True, True)
    assert certificate["result"].startswith(RESULTS[kind])
    assert certificate["verified"] is (kind is Kind.GOOD)
    assert certificate["self-signed"] is (kind is Kind.SELF_SIGNED)


@pytest.mark.parametrize("security", [Security.OPPORTUNISTIC, Security.REQUIRED, Security.VERIFIED])
@pytest.mark.parametrize("version", OLD)
async def test_a_peer_that_knows_old_tls_only(
    tmp_path: Path, certificates: Certificates, version: ssl.TLSVersion, security: Security
) -> None:
    """TLS 1.0 and 1.1 are no TLS: opportunistic mail goes in clear on a new connection, other mail not at all."""
    async with scripted(tmp_path, certificates=certificates) as mx:
        assert mx.state.tls is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            mx.state.tls.minimum_version = mx.state.tls.maximum_version = version
        mx.state.tls.set_ciphers("ALL:@SECLEVEL=0")
        session = await open_to(target(mx, security=security), ca=certificates.ca)
        if security is Security.OPPORTUNISTIC:
            assert not isinstance(session, Ending)
            assert session.tls == {}
            assert (await session.transact(envelope(), CONTENT)).result is Result.ACCEPTED
            await session.quit()
            assert mx.ledger.mails()[0].session.connection == 2
        else:
            assert isinstance(session, Ending)
            assert (session.state, session.result) == (State.STARTTLS, Result.INVALID)
            assert (mx.state.connections, mx.state.commands["MAIL"]) == (1, 0)
