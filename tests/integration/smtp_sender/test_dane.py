"""DANE with a real validating resolver (Unbound) over a zone signed for the test, obeyed by sessions to the scripted MX."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.smtp_sender.dane import Found, Tlsa
from services.smtp_sender.hops import Hops
from services.smtp_sender.policy import FAILURES
from services.smtp_sender.route import Host, Resolver
from services.smtp_sender.session import Ending
from services.smtp_sender.settings import ServiceSettings
from shared.wire.result import Result
from tests.integration.smtp_sender.peers import scripted
from tests.integration.smtp_sender.sending import LOOPBACK, Desk, desk, what
from tests.support.certificates import Certificates, Kind, make_certificates
from tests.support.mx import ScriptedMx
from tests.support.signed_zone import SignedZone, SignedZoneServer
from tests.support.unbound import Unbound

WRONG = "3 1 1 " + "ab" * 32
HOST = "mx.secure.example"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For the MX of secure.example."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), (HOST,))


def tlsa(made: Certificates, kind: Kind | None, usage: int = 3, selector: int = 1) -> str:
    """The record with SHA-256 for a certificate; None: for the authority's."""
    certificate = x509.load_pem_x509_certificate((made.certificate(kind) if kind else made.ca).read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(key if selector else certificate.public_bytes(Encoding.DER)).hexdigest()
    return f"{usage} {selector} 1 {digest}"


@asynccontextmanager
async def resolving(
    folder: Path,
    secure: Mapping[str, Any],
    *,
    forged: Mapping[str, Any] | None = None,
    plain: Mapping[str, Any] | None = None,
) -> AsyncIterator[tuple[Resolver, SignedZoneServer, str]]:
    """A resolver that believes Unbound, the name server behind it, and Unbound's address. ``secure``: names in secure.example."""
    signed = SignedZone("secure.example", secure, forged=forged)
    async with SignedZoneServer(plain or {}, signed) as dns:
        with Unbound(folder / "unbound", upstream=dns.address, trust_anchors=[signed.trust_anchor]) as unbound:
            yield Resolver((unbound.address,), 3.0, validates=True), dns, unbound.address


@asynccontextmanager
async def obeying(
    folder: Path,
    certificates: Certificates,
    records: str | list[str] | None,
    kind: Kind | None = Kind.GOOD,
    *,
    tls: ssl.SSLContext | None = None,
    more: Mapping[str, Any] | None = None,
    forged: str | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Desk, ScriptedMx]]:
    """A desk whose secure.example has an MX with these TLSA records, which shows such a certificate (None: no STARTTLS).

    insecure.example has the same MX and the same records under a name of its own, unsigned.
    """
    shown = certificates if kind is not None else None
    async with scripted(folder / "mx", certificates=shown, kind=kind or Kind.GOOD) as mx:
        mx.state.tls = tls or mx.state.tls
        port, at = mx.port, {"A": mx.host}
        secure: dict[str, Any] = {"secure.example": {"MX": f"10 {HOST}"}, HOST: at} | dict(more or {})
        plain: dict[str, Any] = {"insecure.example": {"MX": "10 mx.insecure.example"}, "mx.insecure.example": at}
        if records is not None:
            secure[f"_{port}._tcp.{HOST}"] = plain[f"_{port}._tcp.mx.insecure.example"] = {"TLSA": records}
        wrong = {f"_{port}._tcp.{HOST}": {"TLSA": forged}} if forged else None
        async with (
            resolving(folder, secure, forged=wrong, plain=plain) as (resolver, _, address),
            desk(mx=mx, ca=certificates.ca) as one,
        ):
            given = {"smtp_hostname": "me.example", "smtp_port": port, "smtp_allow_private": LOOPBACK, "smtp_mta_sts": False}
            checked = ServiceSettings.model_validate(given | settings)
            believed = resolver if checked.dns_validates else Resolver((address,), 3.0)
            one.courier._hops = Hops(checked, believed)
            yield one, mx


VALIDATES: dict[str, Any] = {"dns_validates": True}


# --- look-ups


ZONE: dict[str, Any] = {
    "secure.example": {"MX": "10 mx.secure.example"},
    "mx.secure.example": {"A": "192.0.2.1"},
    "_25._tcp.mx.secure.example": {"TLSA": WRONG},
    "alias.secure.example": {"MX": "10 name.secure.example"},
    "name.secure.example": {"CNAME": "mx.secure.example"},
    "half.secure.example": {"MX": "10 out.secure.example"},
    "out.secure.example": {"CNAME": "mx.plain.example"},
    "_25._tcp.out.secure.example": {"TLSA": "2 0 1 " + "cd" * 32},
    "bogus.secure.example": {"A": "192.0.2.3"},
    "_25._tcp.bogus.secure.example": {"TLSA": WRONG},
    "forged.secure.example": {"A": "192.0.2.4"},
    "without.secure.example": {"A": "192.0.2.5"},
    "mixed.secure.example": {"MX": "10 mx.plain.example"},
}
PLAIN: dict[str, Any] = {
    "plain.example": {"MX": "10 mx.plain.example"},
    "mx.plain.example": {"A": "192.0.2.2"},
    "_25._tcp.mx.plain.example": {"TLSA": WRONG},
    "towards.example": {"MX": "10 mx.secure.example"},
}
FORGED: dict[str, Any] = {
    "_25._tcp.bogus.secure.example": {"TLSA": "3 1 1 " + "00" * 32},
    "forged.secure.example": {"A": "198.51.100.66"},
}
FOUND = Found(HOST, (Tlsa(3, 1, 1, b"\xab" * 32),))


async def test_what_is_secure(tmp_path: Path) -> None:
    async with resolving(tmp_path, ZONE, forged=FORGED, plain=PLAIN) as (resolver, _, address):

        async def find(domain: str) -> tuple[Host, Found | Ending | None]:
            hosts = await resolver.find_hosts(domain)
            assert isinstance(hosts, list), hosts
            return hosts[0], await resolver.find_tlsa(hosts[0], 25)

        assert await find("secure.example") == (Host(HOST, "192.0.2.1", is_proven=True, is_secure=True), FOUND)
        host, found = await find("alias.secure.example")
        assert (host.name, host.alias_of, host.is_proven, host.is_secure) == ("name.secure.example", HOST, True, True)
        assert found == FOUND
        host, found = await find("half.secure.example")
        assert (host.alias_of, host.is_proven, host.is_secure) == ("mx.plain.example", True, False)
        assert found == Found("out.secure.example", (Tlsa(2, 0, 1, b"\xcd" * 32),))
        assert await find("plain.example") == (Host("mx.plain.example", "192.0.2.2"), None)
        assert await find("mixed.secure.example") == (Host("mx.plain.example", "192.0.2.2", is_proven=True), None)
        assert await find("towards.example") == (Host(HOST, "192.0.2.1", is_secure=True), FOUND)
        assert await find("without.secure.example") == (
            Host("without.secure.example", "192.0.2.5", is_proven=True, is_secure=True),
            None,
        )
        host, found = await find("bogus.secure.example")
        assert host.is_secure
        assert isinstance(found, Ending)
        assert found.result is Result.TIMEOUT
        forged = await resolver.find_hosts("forged.secure.example")
        assert isinstance(forged, Ending)
        assert forged.result is Result.TIMEOUT
        # The same resolver, not believed.
        assert await Resolver((address,), 3.0).find_hosts("secure.example") == [Host(HOST, "192.0.2.1")]


# --- obeyed


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("security", ["opportunistic", "required", "verified"])
async def test_a_certificate_that_matches(tmp_path: Path, certificates: Certificates, kind: Kind, security: str) -> None:
    """Its dates, names and issuer do not matter: the zone vouches for its key, for ``verified`` too."""
    async with obeying(tmp_path, certificates, [WRONG, tlsa(certificates, kind)], kind, **VALIDATES) as (one, mx):
        result = await one.send("ok@secure.example", security=security)
        assert what(result) == ("message", "accepted")
        assert (result["certificate"]["verified"], result["certificate"]["result"]) == (True, "ok")
        assert mx.state.connections == 1


@pytest.mark.parametrize("security", ["opportunistic", "verified"])
async def test_a_certificate_that_does_not_match(tmp_path: Path, certificates: Certificates, security: str) -> None:
    """However valid it is."""
    async with obeying(tmp_path, certificates, WRONG, smtp_ca_file=str(certificates.ca), **VALIDATES) as (one, mx):
        before = FAILURES.labels("DANE")._value.get()
        result = await one.send("ok@secure.example", security=security)
        assert what(result) == ("starttls", "invalid")
        assert result["description"] == (
            f"The certificate of {HOST} was not accepted by its DANE policy: matches no TLSA record of {HOST}"
        )
        assert (mx.state.connections, mx.state.commands["MAIL"]) == (1, 0)
        assert FAILURES.labels("DANE")._value.get() == before + 1


async def test_no_starttls(tmp_path: Path, certificates: Certificates) -> None:
    async with obeying(tmp_path, certificates, WRONG, None, **VALIDATES) as (one, mx):
        result = await one.send("ok@secure.example")
        assert what(result) == ("starttls", "error")
        assert result["description"] == "The host offers no TLS, which its DANE policy demands"
        assert (mx.state.connections, mx.state.commands["MAIL"]) == (1, 0)


def with_chain(certificates: Certificates, folder: Path, kind: Kind) -> ssl.SSLContext:
    """A server that shows its authority too."""
    chain = folder / "chain.pem"
    chain.write_bytes(certificates.certificate(kind).read_bytes() + certificates.ca.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, certificates.key(kind))
    return context


@pytest.mark.parametrize(("kind", "is_sent"), [(Kind.GOOD, True), (Kind.EXPIRED, False), (Kind.MISMATCH, False)])
async def test_an_authority(tmp_path: Path, certificates: Certificates, kind: Kind, is_sent: bool) -> None:
    """DANE-TA: dates and names count."""
    tls = with_chain(certificates, tmp_path, kind)
    async with obeying(tmp_path, certificates, tlsa(certificates, None, 2, 0), tls=tls, **VALIDATES) as (one, _):
        result = await one.send("ok@secure.example")
        assert what(result) == (("message", "accepted") if is_sent else ("starttls", "invalid"))
        assert result["certificate"]["verified"] is is_sent


@pytest.mark.parametrize("records", ["1 1 1 " + "ab" * 32, "3 1 9 abcd", ["0 0 1 " + "ab" * 32, "3 2 1 " + "ab" * 32]])
async def test_records_that_cannot_be_used_demand_tls_all_the_same(
    tmp_path: Path, certificates: Certificates, records: str | list[str]
) -> None:
    async with obeying(tmp_path / "1", certificates, records, Kind.SELF_SIGNED, **VALIDATES) as (one, _):
        result = await one.send("ok@secure.example")
        assert what(result) == ("message", "accepted")
        assert result["certificate"]["verified"] is False
    async with obeying(tmp_path / "2", certificates, records, None, **VALIDATES) as (one, mx):
        assert what(await one.send("ok@secure.example")) == ("starttls", "error")
        assert mx.state.commands["MAIL"] == 0


async def test_forged_records_mean_another_time(tmp_path: Path, certificates: Certificates) -> None:
    good = tlsa(certificates, Kind.GOOD)
    async with obeying(tmp_path, certificates, WRONG, forged=good, **VALIDATES) as (one, mx):
        result = await one.send("ok@secure.example")
        assert (*what(result), result["description"]) == (
            "dns",
            "timeout",
            f"The TLSA records of {HOST} cannot be had. "
            f"_{mx.port}._tcp.{HOST}: the name servers answer with a failure (SERVFAIL)",
        )
        assert mx.state.connections == 0


async def test_the_next_host_when_the_records_of_one_are_forged(tmp_path: Path, certificates: Certificates) -> None:
    more = {
        "secure.example": {"MX": [(10, HOST), (20, "mx2.secure.example")]},
        "mx2.secure.example": {"A": "127.0.0.1"},
    }
    good = tlsa(certificates, Kind.GOOD)
    async with obeying(tmp_path, certificates, WRONG, forged=good, more=more, **VALIDATES) as (one, mx):
        assert what(await one.send("ok@secure.example")) == ("message", "accepted")
        assert mx.state.connections == 1


async def test_what_is_not_bound_by_records(tmp_path: Path, certificates: Certificates) -> None:
    """Records in a zone that is not signed, a resolver that is not believed, DANE switched off, and an order not to use TLS."""
    async with obeying(tmp_path / "1", certificates, WRONG, Kind.SELF_SIGNED, **VALIDATES) as (one, _):
        result = await one.send("ok@insecure.example")
        assert (*what(result), result["certificate"]["verified"]) == ("message", "accepted", False)
        result = await one.send("ok@secure.example", security="optional")
        assert what(result) == ("message", "accepted")
        assert "cipher" not in result
    for number, settings in enumerate((dict[str, Any](), VALIDATES | {"smtp_dane": False})):
        async with obeying(tmp_path / f"2{number}", certificates, WRONG, None, **settings) as (one, _):
            assert what(await one.send("ok@secure.example")) == ("message", "accepted")


@pytest.mark.parametrize(("settings", "is_sent"), [(VALIDATES, True), ({}, False)])
async def test_verified_by_the_name_of_an_mx_from_a_signed_zone(
    tmp_path: Path, certificates: Certificates, settings: dict[str, Any], is_sent: bool
) -> None:
    """Without TLSA records; from plain DNS only a certificate for the recipient's domain would do."""
    async with obeying(tmp_path, certificates, None, **settings) as (one, _):
        result = await one.send("ok@secure.example", security="verified")
        assert what(result) == (("message", "accepted") if is_sent else ("starttls", "invalid"))


async def test_the_name_behind_an_alias_is_said_in_sni(tmp_path: Path, certificates: Certificates) -> None:
    more = {"secure.example": {"MX": "10 name.secure.example"}, "name.secure.example": {"CNAME": HOST}}
    tls = certificates.server_context()
    said: list[str | None] = []
    tls.sni_callback = lambda _, name, __: said.append(name)
    good = tlsa(certificates, Kind.GOOD)
    async with obeying(tmp_path, certificates, good, tls=tls, more=more, **VALIDATES) as (one, _):
        assert what(await one.send("ok@secure.example")) == ("message", "accepted")
    assert said == [HOST]


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_smarthost_with_records(tmp_path: Path, certificates: Certificates, is_right: bool) -> None:
    records = tlsa(certificates, Kind.SELF_SIGNED) if is_right else WRONG
    async with obeying(tmp_path, certificates, records, Kind.SELF_SIGNED, **VALIDATES) as (one, mx):
        result = await one.send("ok@elsewhere.example", smarthost={"hostname": HOST, "port": mx.port})
        assert what(result) == (("message", "accepted") if is_right else ("starttls", "invalid"))
