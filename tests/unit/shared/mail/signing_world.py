"""Keys, their DNS, a mail, and a verifier of DKIM written from the RFC's text alone: slow, by lines, sharing nothing with ours."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import dkim  # type: ignore[import-untyped]
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

from shared.mail.signing import SigningRequest, parse_signing

NOW = datetime.now(UTC).replace(microsecond=0)
"""dkimpy refuses signatures from the future, so this is the real time."""
DOMAIN = "example.com"

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - the least that may sign
ED25519 = ed25519.Ed25519PrivateKey.generate()

MAIL = (
    b"Return-Path: <bounces@example.com>\r\n"
    b"Received: from a.example\r\n\tby b.example; Mon, 23 Nov 2026 04:32:00 +0000\r\n"
    b'From: "Doe,  Jane" <jane@example.com>\r\n'
    b"To: Joe <joe@example.org>,\r\n\tbob@example.net  \r\n"
    b"Subject:   odd \t spacing \r\n"
    b"Date: Mon, 23 Nov 2026 04:32:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n"
    b"X-Raw: \xfc\xff\xc3\x28\r\n"
    b"\r\n"
    b"Hello  there,\t friend \r\n"
    b"\xe4\xff\r\n"
    b"\r\n"
    b" \t\r\n"
    b"\r\n"
)


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    """The private key as text."""
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def record(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """The TXT record of the key."""
    public = key.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public.public_bytes_raw())
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


KEYS: dict[str, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = {"r": RSA, "small": OTHER_RSA, "e": ED25519}
RECORDS = {f"{selector}._domainkey.{DOMAIN}": record(key) for selector, key in KEYS.items()}


def request(selector: str = "r", **more: Any) -> SigningRequest:
    """A request with one of the KEYS."""
    return parse_signing({"domain": DOMAIN, "selector": selector, "key": pem(KEYS[selector]), **more})[0]


def dns(name: bytes, timeout: int = 5) -> bytes | None:
    """What dkimpy asks for keys."""
    return RECORDS.get(name.decode("latin-1").rstrip("."))


async def fetch_txt(name: str) -> bytes | None:
    """What we ask for keys."""
    return RECORDS.get(name)


def dkimpy_verifies(content: bytes, number: int = 0) -> bool:
    """What dkimpy says about the signature that is ``number`` from the top."""
    try:
        verified: bool = dkim.DKIM(content).verify(number, dnsfunc=dns)
    except dkim.DKIMException:
        return False
    return verified


def verify_by_the_book(content: bytes, number: int = 0) -> bool:
    """RFC 6376 section 6.1.3, read aloud."""
    header, body = _divide(content)
    fields = [field for field in _fields(header) if re.match(rb"[!-9;-~]+[ \t]*:", field)]
    signatures = [field for field in fields if field.lower().startswith(b"dkim-signature:")]
    signature = signatures[number]
    tags = _tags(signature)
    header_form, _, body_form = tags[b"c"].partition(b"/")
    if base64.b64decode(tags[b"bh"]) != hashlib.sha256(_body(body, body_form)).digest():
        return False
    unused = list(fields)
    hashed = b""
    for name in tags[b"h"].split(b":"):
        for place in range(len(unused) - 1, -1, -1):
            if unused[place].split(b":", 1)[0].rstrip(b" \t").lower() == name.lower():
                hashed += _field(unused.pop(place), header_form) + b"\r\n"
                break
    hashed += _field(_emptied(signature), header_form)
    return _holds(hashed, tags)


def seal_holds_by_the_book(content: bytes, instance: int, *, alone: bool = False) -> bool:
    """RFC 8617 5.1.1: the seal of ``instance`` over all sets up to it, or over its own set alone (5.1.2)."""
    fields = _fields(_divide(content)[0])
    hashed = b""
    for number in range(instance if alone else 1, instance + 1):
        for kind in (b"arc-authentication-results", b"arc-message-signature", b"arc-seal"):
            (field,) = [one for one in fields if re.match(kind + rb": i=%d;" % number, one, re.IGNORECASE)]
            if number < instance or kind != b"arc-seal":
                hashed += _field(field, b"relaxed") + b"\r\n"
    return _holds(hashed + _field(_emptied(field), b"relaxed"), _tags(field))


def _tags(signature: bytes) -> dict[bytes, bytes]:
    tags = {}
    for tag in signature.split(b":", 1)[1].split(b";"):
        name, _, value = tag.partition(b"=")
        tags[name.strip()] = re.sub(rb"[ \t\r\n]", b"", value)
    return tags


def _emptied(signature: bytes) -> bytes:
    return re.sub(rb"(;\s*b=)[^;]*\Z", rb"\1", signature)


def _holds(hashed: bytes, tags: dict[bytes, bytes]) -> bool:
    key_record = RECORDS[f"{tags[b's'].decode()}._domainkey.{tags[b'd'].decode()}"]
    public = base64.b64decode(key_record.split(b"p=")[1])
    try:
        if tags[b"a"] == b"ed25519-sha256":
            key = ed25519.Ed25519PublicKey.from_public_bytes(public)
            key.verify(base64.b64decode(tags[b"b"]), hashlib.sha256(hashed).digest())
        else:
            rsa_key = load_der_public_key(public)
            assert isinstance(rsa_key, rsa.RSAPublicKey)
            rsa_key.verify(base64.b64decode(tags[b"b"]), hashed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _divide(content: bytes) -> tuple[list[bytes], list[bytes]]:
    """Header lines and body lines; DATA always ends with CRLF."""
    lines = content.split(b"\r\n")
    if lines[-1] == b"":
        lines.pop()
    if b"" not in lines:
        return lines, []
    end = lines.index(b"")
    return lines[:end], lines[end + 1 :]


def _fields(lines: list[bytes]) -> list[bytes]:
    fields: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += b"\r\n" + line
        else:
            fields.append(line)
    return fields


def _field(field: bytes, form: bytes) -> bytes:
    if form == b"simple":
        return field
    name, _, value = field.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b""))
    return name.rstrip(b" \t").lower() + b":" + value.strip(b" \t")


def _body(lines: list[bytes], form: bytes) -> bytes:
    if form == b"relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and lines[-1] == b"":
        lines = lines[:-1]
    text = b"".join(line + b"\r\n" for line in lines)
    return b"\r\n" if form == b"simple" and not lines else text
