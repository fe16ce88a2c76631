"""A small authoritative DNS server for the tests' "internet", on loopback, UDP and TCP.

    python -m tests.support.dns_zone --listen 127.0.0.1:5353 --zone FILE

or in a test ``async with ZoneServer(zone) as dns: … dns.address … dns.queries``. It answers for every name there is;
names that the zone does not know are NXDOMAIN. A zone is a mapping (or a JSON file, ``*.json``)::

    {"good.example": {"MX": [(10, "mx1.good.example"), (20, "mx2.good.example")], "TTL": 30},
     "mx1.good.example": {"A": "127.0.1.1", "AAAA": ["::1"]},
     "nullmx.example": {"MX": "0 ."},                # RFC 7505
     "alias.example": {"CNAME": "good.example"},     # followed inside the zone
     "*.many.example": {"MX": "10 mx1.good.example"},
     "broken.example": "SERVFAIL", "closed.example": "REFUSED", "silent.example": "SILENT",
     "half.example": {"MX": "SERVFAIL", "A": "127.0.1.1"}, "slow.example": {"DELAY": 0.5, "A": "127.0.1.1"}}

A value is one record or a list of them, a record is text as in a zone file, or (preference, exchange) for MX. The TTL
is 60 s unless given. Any other file is read as a zone file (RFC 1035 5.1) with absolute names, plus lines such as
``!SERVFAIL broken.example``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zonefile

from tests.support.addresses import parse_address, render_address
from tests.support.running import run_until_signal

DEFAULT_TTL = 60
NEGATIVE_TTL = 5  # of NXDOMAIN and "no such record" (RFC 2308), short so that tests need not wait
SILENT = "SILENT"
_RCODES = {"SERVFAIL": dns.rcode.SERVFAIL, "REFUSED": dns.rcode.REFUSED, "NXDOMAIN": dns.rcode.NXDOMAIN}
_TROUBLES = {*_RCODES, SILENT}
_CHAIN = 12  # CNAMEs followed in one answer

Description = Mapping[str, Any]
"""A zone as in the module's docstring."""


class NotAZone(ValueError):
    """A zone description that cannot be read; the text names the entry and what was expected."""


@dataclass(slots=True)
class Node:
    """What is known about one name."""

    records: dict[dns.rdatatype.RdataType, list[dns.rdata.Rdata]] = field(default_factory=dict)
    troubles: dict[dns.rdatatype.RdataType, str] = field(default_factory=dict)
    """Types that are answered with SERVFAIL, REFUSED, NXDOMAIN or not at all; ANY stands for every type."""
    ttl: int = DEFAULT_TTL
    delay: float = 0.0
    """Seconds before the answer."""


def parse_node(name: str, entry: object) -> Node:
    """One entry of a description. Raises NotAZone."""
    if isinstance(entry, str):
        if entry.upper() not in _TROUBLES:
            raise NotAZone(f"zone entry {name!r}: {entry!r} is none of {' '.join(sorted(_TROUBLES))}")
        return Node(troubles={dns.rdatatype.ANY: entry.upper()})
    if not isinstance(entry, Mapping):
        raise NotAZone(f"zone entry {name!r}: expected an object of record types, found {entry!r}")
    node = Node()
    for key, value in entry.items():
        try:
            if key == "TTL":
                node.ttl = int(value)
            elif key == "DELAY":
                node.delay = float(value)
            elif isinstance(value, str) and value.upper() in _TROUBLES:
                node.troubles[dns.rdatatype.from_text(key)] = value.upper()
            else:
                kind = dns.rdatatype.from_text(key)
                node.records[kind] = [dns.rdata.from_text("IN", kind, text) for text in _record_texts(kind, value)]
        except (dns.exception.DNSException, ValueError, TypeError) as error:
            raise NotAZone(f"zone entry {name!r}, {key} {value!r}: {type(error).__name__} {error}") from None
    return node


def _record_texts(kind: dns.rdatatype.RdataType, value: object) -> list[str]:
    one = isinstance(value, str) or (isinstance(value, Sequence) and bool(value) and isinstance(value[0], int))
    values = [value] if one else cast("Sequence[object]", value)
    texts = []
    for record in values:
        words = record.split() if isinstance(record, str) and kind is not dns.rdatatype.TXT else record
        if isinstance(words, str):
            texts.append(words)
            continue
        if not isinstance(words, Sequence):
            raise TypeError(f"{record!r} is no record")
        names = kind in (dns.rdatatype.MX, dns.rdatatype.CNAME, dns.rdatatype.NS, dns.rdatatype.PTR, dns.rdatatype.SRV)
        last = str(words[-1])
        texts.append(" ".join([*map(str, words[:-1]), last if not names or last.endswith(".") else last + "."]))
    return texts


def parse_zone_file(path: Path) -> dict[str, Node]:
    """A JSON description or a zone file with ``!SERVFAIL name`` lines. Raises NotAZone naming the file."""
    text = path.read_text("utf-8")
    try:
        if path.suffix == ".json":
            description = json.loads(text)
            if not isinstance(description, dict):
                raise NotAZone("expected an object: name to records")
            return {name: parse_node(name, entry) for name, entry in description.items()}
        return _parse_master(text)
    except (ValueError, dns.exception.DNSException) as error:
        raise NotAZone(f"zone {path}: {error}") from None


def _parse_master(text: str) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    lines = []
    for line in text.splitlines():
        if line.startswith("!"):
            trouble, _, name = line[1:].partition(" ")
            nodes[name.strip()] = parse_node(name.strip(), trouble)
        else:
            lines.append(line)
    master = "\n".join(lines)
    for rrset in dns.zonefile.read_rrsets(master, rdclass=None, origin=".", default_ttl=DEFAULT_TTL, relativize=False):
        node = nodes.setdefault(rrset.name.to_text(), Node())
        node.records[rrset.rdtype] = list(rrset)
        node.ttl = rrset.ttl
    return nodes


class Zone:
    """Names to nodes; look-ups as RFC 1034 4.3.2 has them."""

    def __init__(self, description: Description | None = None) -> None:
        self._nodes: dict[dns.name.Name, Node] = {}
        self._inner: Counter[dns.name.Name] = Counter()  # names that exist because names below them do (RFC 8020)
        for name, entry in (description or {}).items():
            self.put(name, entry if isinstance(entry, Node) else parse_node(name, entry))

    def put(self, name: str, node: Node) -> None:
        """Add a name or replace it."""
        key = _canonical(name)
        self.remove(name)
        self._nodes[key] = node
        self._inner.update(_ancestors(key))

    def remove(self, name: str) -> None:
        """Forget a name."""
        key = _canonical(name)
        if self._nodes.pop(key, None) is not None:
            self._inner.subtract(_ancestors(key))

    def find(self, name: dns.name.Name) -> Node | None:
        """The node of a name, or of the wildcard that covers it; an empty node inside the tree; None: no such name."""
        name = name.canonicalize()
        if name in self._nodes:
            return self._nodes[name]
        if self._inner[name] > 0:
            return Node()
        for parent in _ancestors(name):
            if (wild := dns.name.Name((b"*", *parent.labels))) in self._nodes:
                return self._nodes[wild]
            if parent in self._nodes or self._inner[parent] > 0:  # the closest encloser: no wildcard above it counts
                return None
        return None


def _canonical(name: str) -> dns.name.Name:
    try:
        return dns.name.from_text(name).canonicalize()
    except dns.exception.DNSException as error:
        raise NotAZone(f"name {name!r}: {error}") from None


def _ancestors(name: dns.name.Name) -> list[dns.name.Name]:
    return [dns.name.Name(name.labels[start:]) for start in range(1, len(name.labels))]


class ZoneServer:
    """Serves a zone on loopback; use as ``async with``."""

    def __init__(self, zone: Description | None = None, *, listen: Sequence[str] = ("127.0.0.1:0",), log: bool = False) -> None:
        self.zone = Zone(zone)
        self.queries: Counter[tuple[str, str]] = Counter()
        """(name without the final dot, type) to the number of questions, ``("good.example", "MX")``."""
        self.addresses: list[str] = []
        """``host:port`` of each listener; the same for UDP and TCP."""
        self._listen = [parse_address(address) for address in listen]
        self._log = log
        self._udp: list[asyncio.DatagramTransport] = []
        self._tcp: list[asyncio.Server] = []
        self._tcp_clients: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        """The first listener, ``host:port``."""
        return self.addresses[0]

    @property
    def host(self) -> str:
        """The first listener's host."""
        return parse_address(self.address)[0]

    @property
    def port(self) -> int:
        """The first listener's port."""
        return parse_address(self.address)[1]

    @property
    def query_count(self) -> int:
        """Questions so far."""
        return self.queries.total()

    def put(self, name: str, entry: object) -> None:
        """Add or replace a name while running, in the form of a description's value."""
        self.zone.put(name, parse_node(name, entry))

    def remove(self, name: str) -> None:
        """From now on this name does not exist."""
        self.zone.remove(name)

    async def __aenter__(self) -> Self:
        try:
            for host, port in self._listen:
                await self._open(host, port)
        except OSError:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _open(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        for attempt in range(20):
            tcp = await asyncio.start_server(self._serve_tcp, host, port)
            address = tcp.sockets[0].getsockname()
            try:
                udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=address[:2])
            except OSError:  # that port is free for TCP only
                tcp.close()
                await tcp.wait_closed()
                if port or attempt == 19:
                    raise
                continue
            self._tcp.append(tcp)
            self._udp.append(udp)
            self.addresses.append(render_address(address))
            return

    async def close(self) -> None:
        """Stop listening and cut the TCP clients."""
        for udp in self._udp:
            udp.close()
        for tcp in self._tcp:
            tcp.close()
        for client in list(self._tcp_clients):
            client.close()
        for tcp in self._tcp:
            await tcp.wait_closed()
        self._udp.clear()
        self._tcp.clear()

    def answer(self, wire: bytes) -> tuple[dns.message.Message | None, float]:
        """The response to one question (None: silence) and the seconds to wait before it is sent."""
        query = dns.message.from_wire(wire)
        if query.flags & dns.flags.QR:  # never answer an answer
            return None, 0.0
        response = dns.message.make_response(query)
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP)
            return response, 0.0
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries[name, dns.rdatatype.to_text(question.rdtype)] += 1
        if self._log:
            print(f"{name} {dns.rdatatype.to_text(question.rdtype)}", flush=True)
        response.flags |= dns.flags.AA
        return self._fill(response, question.name, question.rdtype)

    def _fill(
        self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> tuple[dns.message.Message | None, float]:
        delay = 0.0
        for _ in range(_CHAIN):
            node = self.zone.find(name)
            if node is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            delay += node.delay
            trouble = node.troubles.get(kind) or node.troubles.get(dns.rdatatype.ANY)
            if trouble == SILENT:
                return None, delay
            if trouble is not None:
                response.set_rcode(_RCODES[trouble])
                break
            if kind in node.records:
                response.answer.append(dns.rrset.from_rdata_list(name, node.ttl, node.records[kind]))
                return response, delay
            if dns.rdatatype.CNAME not in node.records:
                break
            target = node.records[dns.rdatatype.CNAME]
            response.answer.append(dns.rrset.from_rdata_list(name, node.ttl, target))
            name = cast("Any", target[0]).target
        if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            response.authority.append(_SOA)
        return response, delay

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tcp_clients.add(writer)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                response, delay = self.answer(await reader.readexactly(size))
                if response is None:
                    continue
                await asyncio.sleep(delay)
                wire = response.to_wire(max_size=65535)
                writer.write(len(wire).to_bytes(2, "big") + wire)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, dns.exception.DNSException):
            pass  # the client is done, or speaks no DNS
        finally:
            self._tcp_clients.discard(writer)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: ZoneServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        try:
            response, delay = self._server.answer(data)
        except dns.exception.DNSException:
            return  # no DNS: no answer
        if response is None:
            return
        # make_response carries the client's EDNS size in request_payload; without EDNS it is 512 (RFC 6891 6.2.3)
        wire = response.to_wire(max_size=response.request_payload or 512, prefer_truncation=True)
        asyncio.get_running_loop().call_later(delay, self._send, wire, addr)

    def _send(self, wire: bytes, addr: tuple[str | Any, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(wire, addr)


_SOA = dns.rrset.from_text(".", NEGATIVE_TTL, "IN", "SOA", f"ns.invalid. nobody.invalid. 1 60 60 60 {NEGATIVE_TTL}")


def main() -> None:
    """Serve a zone file until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.dns_zone",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", action="append", required=True, metavar="HOST:PORT", help="repeatable")
    parser.add_argument("--zone", type=Path, required=True, metavar="FILE")
    parser.add_argument("--log", action="store_true", help="print every question")
    given = parser.parse_args()
    try:
        server = ZoneServer(parse_zone_file(given.zone), listen=given.listen, log=given.log)
    except (ValueError, OSError) as error:
        raise SystemExit(f"tests.support.dns_zone: {error}") from None
    run_until_signal("dns", server)


if __name__ == "__main__":
    main()
