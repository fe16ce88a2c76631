"""One mail to the seal service: ``POST {outbound-seal-addr}/v1/seal``. Returns a value that tells what happened.

The body is the message (``message/rfc822``); the headers X-Seal-Envelope, X-Seal-Recipient and Idempotency-Key (our id) say from whom,
to whom, and that the same id twice is the same mail. 2xx with ``{"id"}`` is acceptance.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from services.seal_sender.settings import ServiceSettings
from shared.tracing import current_hop
from shared.trouble import BadSetting, Unavailable
from shared.wire.result import Result, State
from shared.wire.trace import render_headers

MAX_ANSWER = 65536
"""Bytes of an answer that are read."""
KEEP_ALIVE = 2.0
"""Seconds an idle connection is kept: less than servers do (5 s), so that none is closed on us in mid-request."""
OUR_FAULT = frozenset({401, 403, 404, 405, 407})
"""Answers that say our settings are wrong, not the mail: held, with an alarm."""
PERMANENT: dict[int, tuple[int, str]] = {400: (554, "5.5.0"), 413: (552, "5.3.4"), 415: (554, "5.6.1"), 422: (554, "5.6.0")}
"""Refusals of this mail for good → the SMTP code and enhanced status (RFC 3463) they are told as."""
MAX_TOLD = 500


class Misconfigured(Unavailable):
    """The service refuses us, not the mail."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How far one request came."""

    state: State
    result: Result
    code: int | None = None
    status: str | None = None
    description: str | None = None
    local_ip: str | None = None
    remote_ip: str | None = None
    cipher: dict[str, Any] | None = None


class SealClient:
    """Connections to the seal service, reused."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Raises BadSetting when the address is missing or a PEM file cannot be used."""
        if not settings.outbound_seal_addr:
            raise BadSetting("outbound-seal-addr: missing; expected the address of the seal service, https://host[:port]")
        self._url = f"{settings.outbound_seal_addr}/v1/seal"
        self._limit = settings.outbound_seal_timeout.total_seconds()
        self._context = _open_context(settings)
        self._ciphers = {str(cipher["name"]): cipher for cipher in self._context.get_ciphers()}
        headers = {"Content-Type": "message/rfc822", "Accept": "application/json", "User-Agent": "mailwarren"}
        if token := settings.outbound_seal_token.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        if settings.outbound_seal_callback:
            headers["X-Seal-Callback"] = settings.outbound_seal_callback
        self._slots = asyncio.Semaphore(settings.outbound_seal_connections)
        self._client = httpx.AsyncClient(
            verify=self._context,
            headers=headers,
            timeout=httpx.Timeout(self._limit, connect=settings.outbound_seal_connect_timeout.total_seconds(), pool=None),
            limits=httpx.Limits(max_connections=settings.outbound_seal_connections, keepalive_expiry=KEEP_ALIVE),
            follow_redirects=False,
            # A proxy named in the environment would see the mail.
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, mime: bytes, *, envelope: str, recipient: str, ident: str) -> Ending:
        """Offer one mail. Raises Misconfigured."""
        headers = {
            b"X-Seal-Envelope": envelope.encode(),
            b"X-Seal-Recipient": recipient.encode(),
            b"Idempotency-Key": ident.encode(),
        }
        if (hop := current_hop()) is not None and hop.own is not None:
            headers |= {name.encode(): value.encode() for name, value in render_headers(hop.own).items()}
        request = self._client.build_request("POST", self._url, content=mime, headers=headers)
        # The clock starts when there is a connection to be had: waiting for our own turn is no attempt.
        async with self._slots:
            return await self._attempt(request)

    async def _attempt(self, request: httpx.Request) -> Ending:
        try:
            async with asyncio.timeout(self._limit + float(request.extensions["timeout"]["connect"])):
                return await self._exchange(request)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            return Ending(State.CONNECT, Result.TIMEOUT)
        except httpx.ConnectError as error:
            return Ending(State.CONNECT, Result.ERROR, description=_describe("cannot be reached", error))
        except httpx.WriteTimeout:
            return Ending(State.DATA, Result.TIMEOUT)
        except httpx.WriteError as error:
            return Ending(State.DATA, Result.LOST, description=_describe("Connection lost", error))
        except (httpx.TimeoutException, TimeoutError):
            return Ending(State.MESSAGE, Result.TIMEOUT)
        except httpx.RemoteProtocolError as error:
            is_closed = "disconnected" in str(error)
            return Ending(State.MESSAGE, Result.LOST if is_closed else Result.INVALID, description=_describe("No answer", error))
        except httpx.TransportError as error:
            return Ending(State.MESSAGE, Result.LOST, description=_describe("Connection lost", error))

    async def _exchange(self, request: httpx.Request) -> Ending:
        response = await self._client.send(request, stream=True)
        try:
            connection = self._describe_connection(response)
            answer = bytearray()
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > MAX_ANSWER:
                    break
        finally:
            await response.aclose()
        return decide_ending(response.status_code, bytes(answer[:MAX_ANSWER]), connection)

    def _describe_connection(self, response: httpx.Response) -> dict[str, Any]:
        stream = response.extensions.get("network_stream")
        if stream is None:
            return {}
        told: dict[str, Any] = {}
        for name, key in (("local_ip", "client_addr"), ("remote_ip", "server_addr")):
            address = stream.get_extra_info(key)
            told[name] = address[0] if isinstance(address, tuple) else None
        encrypted = stream.get_extra_info("ssl_object")
        if encrypted is not None and (current := encrypted.cipher()):
            name, version, bits = current
            known: Mapping[str, Any] = self._ciphers.get(name, {})
            told["cipher"] = {
                "name": name,
                "bits": bits,
                "algbits": known.get("alg_bits", bits),
                "version": encrypted.version() or version,
                "id": int(known.get("id", 0)) & 0xFFFF,
            }
        return told


def decide_ending(code: int, answer: bytes, connection: dict[str, Any]) -> Ending:
    """What an HTTP answer means. Raises Misconfigured."""
    if code in OUR_FAULT:
        raise Misconfigured(
            f"the seal service answers {code} ({_detail(answer)}): outbound-seal-addr, token or certificate is wrong"
        )
    if 200 <= code < 300:
        ident = _member(answer, "id")
        if ident:
            return Ending(State.MESSAGE, Result.ACCEPTED, 250, "2.0.0", f"sealed as {ident}", **connection)
        return Ending(State.MESSAGE, Result.INVALID, description=f"HTTP {code} without an id in the answer", **connection)
    smtp, status = PERMANENT.get(code, (451, "4.3.0"))
    return Ending(State.MESSAGE, Result.ERROR, smtp, status, f"HTTP {code}: {_detail(answer)}", **connection)


def _detail(answer: bytes) -> str:
    return _member(answer, "detail") or answer[:MAX_TOLD].decode(errors="replace").strip() or "no explanation"


def _member(answer: bytes, name: str) -> str:
    try:
        document = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return ""
    value = document.get(name) if isinstance(document, dict) else None
    return value[:MAX_TOLD] if isinstance(value, str) else ""


def _describe(what: str, error: Exception) -> str:
    return f"The seal service: {what}: {str(error)[:MAX_TOLD] or type(error).__name__}"


def _open_context(settings: ServiceSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.outbound_seal_ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(f"outbound-seal-ca-file: {settings.outbound_seal_ca_file!r}: {error}") from None
    if settings.outbound_seal_certificate:
        try:
            context.load_cert_chain(settings.outbound_seal_certificate, settings.outbound_seal_key or None)
        except (OSError, ssl.SSLError) as error:
            raise BadSetting(f"outbound-seal-certificate: {settings.outbound_seal_certificate!r}: {error}") from None
    return context
