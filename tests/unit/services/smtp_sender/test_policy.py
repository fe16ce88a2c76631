"""Which TLS policy applies: DANE before MTA-STS, and nothing that was asked for is ever lowered."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.smtp_sender.dane import Dane, Found, Tlsa
from services.smtp_sender.mta_sts import Mode, StsPolicy
from services.smtp_sender.policy import Basis, Forbidden, Policy, decide_policy, raise_security
from shared.wire.instructions import Security

HOST, DOMAIN = "mx.example", "x.example"
RECORD = Tlsa(3, 1, 1, b"\1" * 32)
USABLE, UNUSABLE = Found(HOST, (RECORD,)), Found(HOST, (Tlsa(1, 1, 1, b"\1" * 32),))
DANE = Policy(Basis.DANE, Security.REQUIRED, Dane(HOST, (RECORD,)))
DANE_UNVERIFIED = Policy(Basis.DANE, Security.REQUIRED)
ENFORCED = Policy(Basis.MTA_STS, Security.VERIFIED, is_named=True)


def sts(mode: Mode, *patterns: str) -> StsPolicy:
    return StsPolicy(mode, timedelta(days=1), patterns or (HOST,))


@pytest.mark.parametrize(
    ("found", "policy", "expected"),
    [
        (None, None, None),
        (None, sts(Mode.NONE), None),
        (None, sts(Mode.ENFORCE), ENFORCED),
        (None, sts(Mode.TESTING), Policy(Basis.MTA_STS_TESTING, Security.OPTIONAL, is_named=True)),
        (None, sts(Mode.TESTING, "other.example"), Policy(Basis.MTA_STS_TESTING, Security.OPTIONAL)),
        (USABLE, None, DANE),
        (USABLE, sts(Mode.ENFORCE), DANE),
        (USABLE, sts(Mode.ENFORCE, "other.example"), DANE),
        (USABLE, sts(Mode.TESTING, "other.example"), DANE),
        (UNUSABLE, None, DANE_UNVERIFIED),
        (UNUSABLE, sts(Mode.NONE), DANE_UNVERIFIED),
        (UNUSABLE, sts(Mode.TESTING), DANE_UNVERIFIED),
        (UNUSABLE, sts(Mode.ENFORCE), ENFORCED),
    ],
)
def test_which_policy(found: Found | None, policy: StsPolicy | None, expected: Policy | None) -> None:
    assert decide_policy(HOST, DOMAIN, found, policy) == expected


@pytest.mark.parametrize("found", [None, UNUSABLE])
def test_a_host_that_the_policy_does_not_name(found: Found | None) -> None:
    forbidden = decide_policy(HOST, DOMAIN, found, sts(Mode.ENFORCE, "other.example", "*.x.example"))
    assert forbidden == Forbidden(
        "mx.example is none of the hosts that the MTA-STS policy of x.example names: other.example, *.x.example"
    )


@pytest.mark.parametrize(
    ("asked", "unverified", "enforced"),
    [
        (Security.OPTIONAL, Security.OPTIONAL, Security.OPTIONAL),
        (Security.OPPORTUNISTIC, Security.REQUIRED, Security.VERIFIED),
        (Security.REQUIRED, Security.REQUIRED, Security.VERIFIED),
        (Security.VERIFIED, Security.VERIFIED, Security.VERIFIED),
    ],
)
def test_the_security_is_raised(asked: Security, unverified: Security, enforced: Security) -> None:
    assert raise_security(asked, None) is asked
    assert raise_security(asked, Policy(Basis.MTA_STS_TESTING, Security.OPTIONAL)) is asked
    assert raise_security(asked, DANE) is unverified
    assert raise_security(asked, DANE_UNVERIFIED) is unverified
    assert raise_security(asked, ENFORCED) is enforced
