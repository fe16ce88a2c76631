"""A zone signed with DNSSEC beside the others of a ``ZoneServer``: positive answers, and proofs that there is none (RFC 4035 3.1).

    signed = SignedZone("secure.example", {"mx.secure.example": {"A": "127.0.0.1"}})
    async with SignedZoneServer(zone, signed) as dns: …           # signed.trust_anchor for a validating resolver

No wildcards and no delegations in a signed zone.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm

from tests.support.dns_zone import NEGATIVE_TTL, Description, Node, ZoneServer, parse_node

_LIFE = 86_400  # seconds that signatures are valid
Kind = dns.rdatatype.RdataType
NONE, CNAME, RRSIG, NSEC, SOA = (Kind.make(kind) for kind in ("NONE", "CNAME", "RRSIG", "NSEC", "SOA"))


class SignedZone:
    """A zone with one key (ECDSA P-256) and a chain of NSEC records."""

    def __init__(self, origin: str, description: Description, *, forged: Description | None = None) -> None:
        """``forged``: records put in place after signing, whose signatures are therefore wrong."""
        self.origin = dns.name.from_text(origin)
        self._zone = dns.zone.Zone(self.origin, relativize=False)
        key = ec.generate_private_key(ec.SECP256R1())
        dnskey = dns.dnssec.make_dnskey(key.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
        self.trust_anchor = f"{self.origin} 60 IN DNSKEY {dnskey.to_text()}"
        """As a line of a zone file."""
        soa = f"ns.{self.origin} nobody.{self.origin} 1 60 60 60 {NEGATIVE_TTL}"
        records = {origin: parse_node(origin, {"SOA": soa, "NS": [f"ns.{self.origin}"]})}
        for name, entry in description.items():
            node = parse_node(name, entry)
            records[name] = Node({**records[name].records, **node.records}, ttl=node.ttl) if name in records else node
        with self._zone.writer() as txn:
            for name, node in records.items():
                for rrset in _rrsets(name, node):
                    txn.replace(rrset)
        dns.dnssec.sign_zone(self._zone, keys=[(key, dnskey)], lifetime=_LIFE)
        with self._zone.writer() as txn:
            for name, entry in (forged or {}).items():
                for rrset in _rrsets(name, parse_node(name, entry)):
                    txn.replace(rrset)
        self._names = sorted(self._zone.nodes)

    def fill(self, response: dns.message.Message, name: dns.name.Name, kind: Kind, *, with_signatures: bool) -> None:
        """Answer the question."""
        for _ in range(8):
            if name not in self._zone.nodes:
                break
            if self._add(response.answer, name, kind, with_signatures=with_signatures):
                return
            if not self._add(response.answer, name, CNAME, with_signatures=with_signatures):
                break
            name = self._zone.find_rdataset(name, CNAME)[0].target
            if not name.is_subdomain(self.origin):
                return
        is_inner = any(other.is_subdomain(name) for other in self._names)
        if not is_inner:
            response.set_rcode(dns.rcode.NXDOMAIN)
        self._add(response.authority, self.origin, SOA, with_signatures=with_signatures)
        if with_signatures:
            # Nothing between two names, and no wildcard above.
            parent = name
            while parent not in self._zone.nodes:
                parent = parent.parent()
            wildcard = dns.name.Name((b"*", *parent.labels))
            for owner in sorted({self._before(one) for one in ((name,) if is_inner else (name, wildcard))}):
                self._add(response.authority, owner, NSEC, with_signatures=True)

    def _before(self, name: dns.name.Name) -> dns.name.Name:
        return self._names[bisect.bisect_right(self._names, name) - 1]

    def _add(self, section: list[dns.rrset.RRset], name: dns.name.Name, kind: Kind, *, with_signatures: bool) -> bool:
        rdataset = self._zone.get_rdataset(name, kind)
        if rdataset is None:
            return False
        section.append(dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset)))
        signatures = self._zone.get_rdataset(name, RRSIG, kind)
        if with_signatures and signatures is not None:
            section.append(dns.rrset.from_rdata_list(name, signatures.ttl, list(signatures)))
        return True


def _rrsets(name: str, node: Node) -> list[dns.rrset.RRset]:
    owner = dns.name.from_text(name)
    return [dns.rrset.from_rdata_list(owner, node.ttl, records) for records in node.records.values()]


class SignedZoneServer(ZoneServer):
    """A ``ZoneServer`` with signed zones beside the plain one."""

    def __init__(self, zone: Description, *signed: SignedZone, listen: Sequence[str] = ("127.0.0.1:0",)) -> None:
        super().__init__(zone, listen=listen)
        self._signed = signed
        self._wants_signatures = False

    def answer(self, wire: bytes) -> tuple[dns.message.Message | None, float]:
        """As a ``ZoneServer`` does, with signatures for who asks for them (DO)."""
        self._wants_signatures = bool(dns.message.from_wire(wire).ednsflags & dns.flags.DO)
        return super().answer(wire)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: Kind) -> tuple[dns.message.Message | None, float]:
        for zone in self._signed:
            if name.is_subdomain(zone.origin):
                zone.fill(response, name, kind, with_signatures=self._wants_signatures)
                self._follow(response, kind)
                return response, 0.0
        return super()._fill(response, name, kind)

    def _follow(self, response: dns.message.Message, kind: Kind) -> None:
        """An alias out of a signed zone leads on, into whatever there is."""
        last: Any = response.answer[0] if response.answer else None
        for rrset in response.answer:
            last = rrset if rrset.rdtype == CNAME else last
        if (
            last is None
            or last.rdtype != CNAME
            or kind == CNAME
            or response.authority
            or any(r.rdtype == kind for r in response.answer)
        ):
            return
        super()._fill(response, last[0].target, kind)
