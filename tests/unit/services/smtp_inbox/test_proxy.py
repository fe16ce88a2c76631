"""PROXY headers on real sockets: what they say, and that not an octet behind them is read."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.smtp_inbox.proxy import MAX_V2, BadHeader, Proxies, Remote, read_header
from services.smtp_inbox.relay import parse_relay_policy

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BEHIND = b"\x16\x03\x01EHLO\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our side, and the proxy's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def read_from(octets: bytes) -> tuple[Remote | None, bytes]:
    """What a header says, and what is left behind it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(octets)
        theirs.shutdown(socket.SHUT_WR)
        remote = asyncio.run(read_header(ours))
        return remote, ours.recv(100_000)


def version_2(family: int, block: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


ports = st.integers(0, 65535)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.ip_addresses(), st.ip_addresses(), ports, ports, st.binary(max_size=500))
def test_both_versions_tell_the_client_and_leave_the_rest(
    source: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address, port: int, other_port: int, more: bytes
) -> None:
    target = other if other.version == source.version else source
    expected = Remote(str(source), port)
    line = f"PROXY TCP{source.version} {source} {target} {port} {other_port}\r\n".encode()
    assert read_from(line + BEHIND) == (expected, BEHIND)
    block = source.packed + target.packed + struct.pack("!HH", port, other_port) + more
    header = version_2(0x11 if source.version == 4 else 0x21, block)
    assert read_from(header + BEHIND) == (expected, BEHIND)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"PROXY UNKNOWN\r\n", id="unknown"),
        pytest.param(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", id="unknown with addresses"),
        pytest.param(version_2(0, b"", 0x20), id="local"),
        pytest.param(version_2(0x11, bytes(12), 0x20), id="local with addresses"),
        pytest.param(version_2(0, b"\x04\0\x01x"), id="unspecified"),
    ],
)
def test_a_proxy_that_speaks_for_itself(header: bytes) -> None:
    assert read_from(header + BEHIND) == (None, BEHIND)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"PROXY TCP4 192.0.2.1", id="cut off"),
        pytest.param(b"EHLO client.example\r\n", id="no header"),
        pytest.param(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", id="LF"),
        pytest.param(b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", id="a port is missing"),
        pytest.param(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", id="too much"),
        pytest.param(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", id="port"),
        pytest.param(b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", id="address"),
        pytest.param(b"PROXY TCP4 ::1 ::1 1 2\r\n", id="the other family"),
        pytest.param(b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", id="two spaces"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n", id="108 octets"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * 100_000, id="no end"),
        pytest.param(version_2(0x11, bytes(11)), id="v2: short block"),
        pytest.param(version_2(0x11, bytes(12), 0x11), id="v2: version 1"),
        pytest.param(version_2(0x11, bytes(12), 0x22), id="v2: command"),
        pytest.param(version_2(0x12, bytes(12)), id="v2: UDP"),
        pytest.param(version_2(0x31, bytes(216)), id="v2: a UNIX socket"),
        pytest.param(version_2(0x41, bytes(12)), id="v2: family"),
        pytest.param(version_2(0x11, bytes(12 + MAX_V2)), id="v2: too long"),
        pytest.param(version_2(0x11, bytes(12))[:-1], id="v2: cut off"),
    ],
)
def test_anything_else_is_no_header(octets: bytes) -> None:
    with pytest.raises(BadHeader):
        read_from(octets)


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: SIGNATURE + tail), st.binary().map(b"PROXY ".__add__)
    )
)
def test_no_octets_break_it(octets: bytes) -> None:
    try:
        remote, rest = read_from(octets)
    except BadHeader:
        return
    assert octets.endswith(rest)
    assert len(octets) - len(rest) <= MAX_V2
    assert remote is None or 0 <= remote.port <= 65535


async def test_a_header_in_pieces_is_waited_for_and_no_longer_than_so(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reading = asyncio.ensure_future(read_header(ours))
    for octet in b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n":
        theirs.send(bytes([octet]))
        await asyncio.sleep(0)
    assert await reading == Remote("192.0.2.1", 1)
    theirs.send(b"PROXY TCP4 192.0.2.1")
    with pytest.raises(BadHeader, match=r"no header within 0\.05 s"):
        await read_header(ours, timeout=0.05)


def test_only_listed_peers_are_proxies() -> None:
    proxies = Proxies(parse_relay_policy(["192.0.2.0/28", "2001:db8::1"]))
    assert ("192.0.2.15" in proxies, "2001:db8::1" in proxies, "::ffff:192.0.2.1" in proxies) == (True, True, True)
    assert ("192.0.2.16" in proxies, "127.0.0.1" in proxies, "" in proxies) == (False, False, False)
    assert not Proxies(parse_relay_policy([]))
