"""MTA-STS: policies fetched from a real HTTPS server, kept, and obeyed by sessions to the scripted MX."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.smtp_sender import mta_sts_client
from services.smtp_sender.hops import Hops
from services.smtp_sender.mta_sts import Mode, StsPolicy
from services.smtp_sender.mta_sts_client import LEAST_INTERVAL, MOST_OCTETS, REFRESH_AFTER, RETRY_AFTER, StsClient
from services.smtp_sender.policy import FAILURES
from services.smtp_sender.route import Resolver
from services.smtp_sender.settings import ServiceSettings
from shared.trouble import BadSetting, Unavailable
from tests.integration.smtp_sender.peers import scripted
from tests.integration.smtp_sender.policy_host import PolicyHost, policy
from tests.integration.smtp_sender.sending import LOOPBACK, Desk, desk, what
from tests.support.certificates import Certificates, Kind, make_certificates
from tests.support.dns_zone import ZoneServer
from tests.support.mx import ScriptedMx
from tests.support.waiting import until

DAY = 86_400


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For the policy host of x.example and its MX."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("mta-sts.x.example", "mx.example"))


def zone(record: str = "v=STSv1; id=1;", address: str = "127.0.0.1") -> dict[str, Any]:
    return {"_mta-sts.x.example": {"TXT": f'"{record}"'}, "mta-sts.x.example": {"A": address}}


class Bench:
    """A client, its name server and its policy host."""

    def __init__(self, dns: ZoneServer, host: PolicyHost, certificates: Certificates, allowed: tuple[str, ...]) -> None:
        self.dns, self.host, self.now = dns, host, 1000.0
        resolver = Resolver((dns.address,), 1.0, clock=lambda: self.now)
        self.client = StsClient(resolver, allowed, str(certificates.ca), port=host.port, clock=lambda: self.now)

    async def find(self) -> StsPolicy | None:
        return await self.client.find("x.example")

    def put_record(self, record: str) -> None:
        """A new TXT record, seen at once."""
        self.dns.put("_mta-sts.x.example", {"TXT": f'"{record}"'})
        self.now += LEAST_INTERVAL + 1


@asynccontextmanager
async def bench(
    certificates: Certificates,
    kind: Kind = Kind.GOOD,
    *,
    records: dict[str, Any] | None = None,
    allowed: tuple[str, ...] = (LOOPBACK,),
    **answer: Any,
) -> AsyncIterator[Bench]:
    async with PolicyHost(certificates.server_context(kind), **answer) as host, ZoneServer(records or zone()) as dns:
        yield Bench(dns, host, certificates, allowed)


async def test_a_policy_is_fetched_once_and_kept(certificates: Certificates) -> None:
    async with bench(certificates) as one:
        found = await asyncio.gather(*(one.find() for _ in range(100)))
        assert {policy and policy.mode for policy in found} == {Mode.ENFORCE}
        one.now += 3600
        assert await one.find() == found[0]
        assert one.host.requests == ["GET /.well-known/mta-sts.txt HTTP/1.1 Host: mta-sts.x.example"]
        assert one.host.server_names == ["mta-sts.x.example"]


async def test_without_a_record_nothing_is_fetched(certificates: Certificates) -> None:
    for records in (
        {"mta-sts.x.example": {"A": "127.0.0.1"}},
        zone("v=spf1 -all"),
        zone() | {"_mta-sts.x.example": "SERVFAIL"},
        zone() | {"_mta-sts.x.example": {"TXT": ['"v=STSv1; id=1;"', '"v=STSv1; id=2;"']}},
    ):
        async with bench(certificates, records=records) as one:
            assert await one.find() is None
            assert one.host.connections == 0


async def test_it_holds_until_max_age_though_the_record_goes(certificates: Certificates) -> None:
    """Whoever can take the record away must not be able to take the policy away (RFC 8461 3.3)."""
    async with bench(certificates, body=policy(max_age=1000)) as one:
        assert await one.find()
        one.dns.put("_mta-sts.x.example", "SERVFAIL")
        one.host.status = "404 Not Found"
        one.now += 900
        assert await one.find()
        one.now += 101
        assert await one.find() is None


async def test_a_new_id_means_a_new_policy(certificates: Certificates) -> None:
    async with bench(certificates) as one:
        assert await one.find()
        one.host.body = policy("none", max_age=DAY)
        one.put_record("v=STSv1; id=2;")
        found = await one.find()
        assert found is not None
        assert found.mode is Mode.NONE
        assert len(one.host.requests) == 2


async def test_the_old_policy_holds_when_the_new_one_cannot_be_had(certificates: Certificates) -> None:
    async with bench(certificates) as one:
        old = await one.find()
        one.host.status = "500 Internal Server Error"
        one.put_record("v=STSv1; id=2;")
        assert await one.find() == old
        one.now += RETRY_AFTER - 1
        assert await one.find() == old
        assert len(one.host.requests) == 2
        one.host.status, one.host.body = "200 OK", policy("testing")
        one.now += 2
        assert await one.find() == old, "nobody waits for it"
        await until(lambda: len(one.host.requests) == 3)
        await until(lambda: _mode(one.client) is Mode.TESTING)


def _mode(client: StsClient) -> Mode | None:
    kept = client._kept["x.example"].policy
    return kept.mode if kept else None


async def test_a_policy_in_use_is_fetched_anew_before_it_runs_out(certificates: Certificates) -> None:
    async with bench(certificates, body=policy(max_age=10 * DAY)) as one:
        assert await one.find()
        one.now += REFRESH_AFTER + 1
        one.host.body = policy("testing", max_age=10 * DAY)
        assert await one.find()
        await until(lambda: _mode(one.client) is Mode.TESTING)
        assert len(one.host.requests) == 2


async def test_ids_that_change_all_the_time_do_not_cost_a_fetch_per_mail(certificates: Certificates) -> None:
    async with bench(certificates, records=zone() | {"_mta-sts.x.example": {"TXT": '"v=STSv1; id=0;"', "TTL": 0}}) as one:
        for number in range(10):
            one.dns.put("_mta-sts.x.example", {"TXT": f'"v=STSv1; id={number};"', "TTL": 0})
            assert await one.find()
        assert len(one.host.requests) == 1


BAD: list[dict[str, Any]] = [
    {"status": "302 Found", "headers": "Location: https://mta-sts.x.example/other\r\nContent-Type: text/plain\r\n"},
    {"status": "404 Not Found"},
    {"status": "204 No Content", "body": b""},
    {"headers": "Content-Type: text/html\r\n"},
    {"headers": ""},
    {"body": policy() + b"x" * MOST_OCTETS},
    {"body": policy("ENFORCE")},
    {"body": b""},
    {"body": b"\xff\x00"},
    {"headers": "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", "body": b"\x1f\x8b\x08\x00"},
]


@pytest.mark.parametrize("answer", BAD)
async def test_what_is_no_policy_is_none_and_is_not_asked_for_again_soon(
    certificates: Certificates, answer: dict[str, Any]
) -> None:
    async with bench(certificates, **answer) as one:
        assert await one.find() is None
        assert await one.find() is None
        assert len(one.host.requests) == 1
        one.host.status, one.host.headers, one.host.body = "200 OK", "Content-Type: Text/Plain; charset=utf-8\r\n", policy()
        one.now += RETRY_AFTER
        assert await one.find()


@pytest.mark.parametrize("kind", [Kind.SELF_SIGNED, Kind.EXPIRED, Kind.MISMATCH])
async def test_the_policy_host_must_be_the_right_one(certificates: Certificates, kind: Kind) -> None:
    async with bench(certificates, kind) as one:
        assert await one.find() is None
        assert one.host.server_names == ["mta-sts.x.example"]
        assert one.host.requests == []


async def test_no_private_address_is_reached(certificates: Certificates) -> None:
    async with bench(certificates, allowed=()) as one:
        assert await one.find() is None
        assert one.host.connections == 0
        assert one.dns.queries["mta-sts.x.example", "A"] == 1


async def test_the_next_address_when_one_cannot_be_reached(certificates: Certificates) -> None:
    records = zone() | {"mta-sts.x.example": {"A": ["127.0.0.2", "127.0.0.3", "127.0.0.1"]}}
    async with bench(certificates, records=records) as one:
        assert await one.find()


async def test_a_policy_host_that_says_nothing(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mta_sts_client, "PATIENCE", 0.3)
    async with bench(certificates, is_silent=True) as one:
        assert await one.find() is None
        assert one.host.connections == 1


async def test_our_own_resolver_out_of_reach_is_no_reason_to_do_without(certificates: Certificates) -> None:
    async with bench(certificates) as one:
        await one.dns.close()
        with pytest.raises(Unavailable):
            await one.find()


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(BadSetting, match="smtp-ca-file"):
        StsClient(Resolver(("127.0.0.1",), 1.0), (), str(tmp_path / "ca.pem"))


# --- obeyed


@asynccontextmanager
async def obeying(
    folder: Path, certificates: Certificates, body: bytes, kind: Kind | None = Kind.GOOD, **settings: Any
) -> AsyncIterator[tuple[Desk, ScriptedMx]]:
    """A desk whose x.example has a policy, and an MX that shows a certificate of this kind (None: no STARTTLS)."""
    shown = certificates if kind is not None else None
    async with (
        scripted(folder, certificates=shown, kind=kind or Kind.GOOD) as mx,
        PolicyHost(certificates.server_context(), body) as host,
        desk(zone(), mx=mx, ca=certificates.ca) as one,
    ):
        given = {"smtp_hostname": "me.example", "smtp_port": mx.port, "smtp_allow_private": LOOPBACK} | settings
        checked = ServiceSettings.model_validate(given | {"smtp_ca_file": str(certificates.ca)})
        one.courier._hops = Hops(checked, Resolver((one.dns.address,), 1.0), https_port=host.port)
        yield one, mx


def failures(name: str) -> float:
    return float(FAILURES.labels(name)._value.get())


@pytest.mark.parametrize("security", [None, "opportunistic", "required", "verified"])
async def test_enforce_with_a_valid_certificate(tmp_path: Path, certificates: Certificates, security: str | None) -> None:
    """Also ``verified``: MTA-STS vouches for the name of the MX, which is not the recipient's domain."""
    async with obeying(tmp_path, certificates, policy()) as (one, _):
        result = await one.send("ok@x.example", **({"security": security} if security else {}))
        assert what(result) == ("message", "accepted")
        assert result["certificate"]["verified"] is True


@pytest.mark.parametrize("kind", [Kind.SELF_SIGNED, Kind.EXPIRED, Kind.MISMATCH])
async def test_enforce_with_a_bad_certificate(tmp_path: Path, certificates: Certificates, kind: Kind) -> None:
    async with obeying(tmp_path, certificates, policy(), kind) as (one, mx):
        before = failures("MTA-STS")
        result = await one.send("ok@x.example", security="opportunistic")
        assert what(result) == ("starttls", "invalid")
        assert "not accepted by its MTA-STS policy" in result["description"]
        assert result["certificate"]["verified"] is False
        assert (mx.state.connections, mx.state.commands["MAIL"]) == (1, 0)
        assert failures("MTA-STS") == before + 1


async def test_enforce_without_starttls(tmp_path: Path, certificates: Certificates) -> None:
    async with obeying(tmp_path, certificates, policy(), None) as (one, mx):
        result = await one.send("ok@x.example")
        assert what(result) == ("starttls", "error")
        assert result["description"] == "The host offers no TLS, which its MTA-STS policy demands"
        assert (mx.state.connections, mx.state.commands["MAIL"]) == (1, 0)


async def test_enforce_and_a_handshake_that_fails(tmp_path: Path, certificates: Certificates) -> None:
    async with obeying(tmp_path, certificates, policy()) as (one, mx):
        assert mx.state.tls is not None
        mx.state.tls.set_alpn_protocols([])
        mx.state.tls.sni_callback = lambda *_: 80  # handshake_failure is 40, internal_error 80
        result = await one.send("ok@x.example")
        assert what(result) == ("starttls", "invalid")
        assert (mx.state.connections, mx.state.commands["MAIL"]) == (1, 0)


async def test_enforce_and_a_host_that_is_not_named(tmp_path: Path, certificates: Certificates) -> None:
    async with obeying(tmp_path, certificates, policy(mx="*.mx.example")) as (one, mx):
        result = await one.send("ok@x.example")
        assert (*what(result), result["code"], result["status"]) == ("starttls", "invalid", 451, "4.7.5")
        assert "mx.example is none of the hosts that the MTA-STS policy of x.example names" in result["description"]
        assert mx.state.connections == 0


async def test_only_hosts_that_are_named_are_used(tmp_path: Path, certificates: Certificates) -> None:
    async with obeying(tmp_path, certificates, policy()) as (one, mx):
        one.dns.put("x.example", {"MX": [(5, "evil.example"), (10, "mx.example")]})
        one.dns.put("evil.example", {"A": mx.host})
        result = await one.send("ok@x.example")
        assert what(result) == ("message", "accepted")
        assert mx.state.connections == 1
        assert result["certificate"]["verified"] is True


@pytest.mark.parametrize(
    ("kind", "mx_name", "counted"),
    [(Kind.GOOD, "mx.example", 0), (Kind.SELF_SIGNED, "mx.example", 1), (None, "mx.example", 1), (Kind.GOOD, "other.example", 1)],
)
async def test_testing_tells_and_sends(
    tmp_path: Path, certificates: Certificates, kind: Kind | None, mx_name: str, counted: int
) -> None:
    async with obeying(tmp_path, certificates, policy("testing", mx_name), kind) as (one, _):
        before = failures("MTA-STS testing")
        result = await one.send("ok@x.example")
        assert what(result) == ("message", "accepted")
        assert ("cipher" in result) is (kind is not None)
        assert failures("MTA-STS testing") == before + counted


@pytest.mark.parametrize(
    ("body", "settings", "properties"),
    [
        (policy("none"), {}, {}),
        (policy(), {"smtp_mta_sts": False}, {}),
        (policy(), {}, {"security": "optional"}),
        (policy(), {"smtp_security": "optional"}, {}),
    ],
)
async def test_what_is_not_bound_by_the_policy(
    tmp_path: Path, certificates: Certificates, body: bytes, settings: dict[str, Any], properties: dict[str, Any]
) -> None:
    async with obeying(tmp_path, certificates, body, None, **settings) as (one, _):
        assert what(await one.send("ok@x.example", **properties)) == ("message", "accepted")


async def test_a_smarthost_is_not_bound_by_the_recipients_policy(tmp_path: Path, certificates: Certificates) -> None:
    async with obeying(tmp_path, certificates, policy(), None) as (one, mx):
        result = await one.send("ok@x.example", smarthost={"hostname": "mx.example", "port": mx.port})
        assert what(result) == ("message", "accepted")
        assert ("_mta-sts.x.example", "TXT") not in one.dns.queries
