"""Which TLS policy applies to a host: DANE before MTA-STS (RFC 7672, RFC 8461 2), and neither ever lowers what was asked for. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import Counter

from services.smtp_sender.dane import Dane, Found, decide_requirement
from services.smtp_sender.mta_sts import Mode, StsPolicy
from shared.wire.instructions import Security

FAILURES = Counter("smtp_tls_policy_failures", "Hosts that did not fulfil the TLS policy of their domain", ["policy"])
for _policy in ("DANE", "MTA-STS", "MTA-STS testing"):
    FAILURES.labels(_policy)
_LEVELS = (Security.OPTIONAL, Security.OPPORTUNISTIC, Security.REQUIRED, Security.VERIFIED)


class Basis(StrEnum):
    """Who says so."""

    DANE = "DANE"
    MTA_STS = "MTA-STS"
    MTA_STS_TESTING = "MTA-STS testing"
    """What fails is told to the operator, and nothing more."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What TLS to one host must be at least."""

    basis: Basis
    security: Security
    dane: Dane | None = None
    """What the certificate must match, instead of being valid."""
    is_named: bool = False
    """MTA-STS names the host: it is known to be a next hop of the domain, whatever DNS says."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The policy rules the host out."""

    text: str


def decide_policy(host: str, domain: str, found: Found | None, sts: StsPolicy | None) -> Policy | Forbidden | None:
    """The policy for ``host``, a next hop for ``domain``; None: there is none.

    ``found``: the host's validated TLSA records. ``sts``: the domain's MTA-STS policy.
    """
    floor: Policy | None = None
    if found is not None:
        requirement = decide_requirement(found, host, domain)
        if requirement is not None:
            return Policy(Basis.DANE, Security.REQUIRED, requirement)
        # Records that cannot be used say all the same that the host has TLS (RFC 7672 2.2).
        floor = Policy(Basis.DANE, Security.REQUIRED)
    if sts is None or sts.mode is Mode.NONE:
        return floor
    is_named = sts.names(host)
    if sts.mode is Mode.TESTING:
        return floor or Policy(Basis.MTA_STS_TESTING, Security.OPTIONAL, is_named=is_named)
    if not is_named:
        return Forbidden(
            f"{host} is none of the hosts that the MTA-STS policy of {domain} names: {', '.join(sts.patterns)[:200]}"
        )
    return Policy(Basis.MTA_STS, Security.VERIFIED, is_named=True)


def raise_security(asked: Security, policy: Policy | None) -> Security:
    """What was asked for, or what the policy demands, whichever is more. ``optional`` is an order, which no policy overrules."""
    if policy is None or asked is Security.OPTIONAL:
        return asked
    return max(asked, policy.security, key=_LEVELS.index)
